"""The tools that read the workspace, as they are; each call is a run on record in which no model took part."""

from __future__ import annotations

import json

from mcp_types import CallToolResult

from agent.errors import ApprenticeError
from agent.messages import Json, Message, Route
from agent.run import Run
from agent.serving.call import Call, result
from tools import registry
from tools.registry import Tool

FAMILY = "tools.files"


def offered(tools: dict[str, Tool]) -> list[Tool]:
    """Those of our file tools that only read; not a person's own, which say so of themselves."""
    return [found for found in tools.values() if found.origin == FAMILY and found.effect == "read"]


async def serve(call: Call, found: Tool, arguments: Json) -> CallToolResult:
    """Run one tool for the client.

    Raises:
        ApprenticeError: what the tool raises; it is on record too.
    """
    route = Route("", "client", "a client called the tool itself; no model took part")
    task = f"{found.name} {json.dumps(arguments, ensure_ascii=False)}"
    async with Run(call.session, task, route, tools=[found.schema]) as run:
        await run.add(Message("user", task))
        try:
            output = await registry.call(found, call.session.tool_context, arguments)
        except ApprenticeError as error:
            await run.add(Message("tool", error.in_one_line, name=found.name, is_error=True))
            raise
        await run.add(Message("tool", output, name=found.name))
        run.finish("success", "answer")
    return result(call, output, None)

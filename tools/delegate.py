"""The tool delegate: hand parts of a task to sub-agents. How they run is in agent/delegation.py."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent import delegation
from agent.delegation import SubTask
from agent.errors import ToolError
from tools.registry import ToolContext, tool

SubTasks = Annotated[list[SubTask], Field(min_length=1, max_length=8)]


@tool(effect="read")
async def delegate(context: ToolContext, tasks: SubTasks, parallel: bool = False) -> str:
    """Hand self-contained parts of the task to sub-agents: for long reading whose result is short, or parts that do
    not depend on each other. Do small things yourself.

    Args:
        tasks: one object a sub-agent, with `task`, and perhaps `model`, `tools`, `steps`.
        parallel: whether they work at once; only if none needs another's result or files.
    """
    if context.run is None:
        raise ToolError("sub-agents belong to a run, and there is none")
    results = await delegation.delegate(context.run, tasks, parallel)
    told = delegation.report(results, context.settings.tools.output_limit)
    if not any(result.ok for result in results):
        raise ToolError(told)
    return told

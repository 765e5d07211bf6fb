"""What other agents are offered over MCP: skills, tools that read, the skills' texts, and the runs that they began.

The SDK derives a tool from a Python function's signature; ours have their schemas already, so they are built from
their parts. Arguments that a tool does not know are refused, as everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp.server.mcpserver.prompts import Prompt
from mcp.server.mcpserver.resources import FunctionResource
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import CallToolResult, ToolAnnotations
from pydantic import BaseModel

from agent import __version__
from agent.export import messages_row
from agent.messages import Json
from agent.serving import annotation, file_tools, skill_tools
from agent.serving.call import RUNS, Call, Request, Service, checked, on_record, schema_of
from skills import registry as skills
from skills.registry import Skill
from tools import registry as tools_registry

SKILLS = "apprentice://skills/"
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
WORKS = ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=True)
"""A skill's tool asks a model, which may be elsewhere; with flags that allow it, it may write."""
Work = Callable[[Call, Json], Coroutine[Any, Any, CallToolResult]]
"""Does one call; it checks the arguments itself, so that what is wrong with them is told as the loop tells it."""


class AsGiven(FuncMetadata):
    """Hands a call's arguments to the tool as they came."""

    def validate_arguments(self, arguments_to_validate: Json) -> Json:
        return {"given": arguments_to_validate}


def make(service: Service) -> MCPServer[Any]:
    """The server, not yet connected to anything: see agent/serving/transport.py.

    Args:
        service: the session whose skills, tools and workspace are offered.
    """
    session = service.session
    texts = [skill for skill in session.skills.values() if skills.pipeline(skill) is None]
    tools = [_skill_tool(service, skill) for skill in texts]
    if "annotate" in session.skills:
        tools.insert(0, _annotate_tool(service, session.skills["annotate"]))
    tools += [_file_tool(service, found) for found in file_tools.offered(session.tools)]
    about = f"Paths are relative to the workspace {session.workspace.root}. Every call is put on record."
    server = begin("apprentice", about, tools)
    for skill in session.skills.values():
        _add_text(server, skill)
    for skill in texts:
        server.add_prompt(_prompt(skill))
    _add_runs(server, service)
    return server


def begin(name: str, instructions: str, tools: Sequence[Tool] = ()) -> MCPServer[Any]:
    """A server with these tools and nothing else; its log, on standard error, holds warnings only."""
    return MCPServer(name, instructions=instructions, version=__version__, tools=list(tools), log_level="WARNING")


def tool(
    service: Service,
    name: str,
    description: str,
    schema: Json,
    work: Work,
    *,
    output: type[BaseModel] | None = None,
    annotations: ToolAnnotations = WORKS,
    thoughts: bool = False,
) -> Tool:
    """A tool whose calls go through `on_record`.

    Args:
        service: what all calls share.
        name: of the tool.
        description: what a model reads.
        schema: the JSON schema of its arguments.
        work: does one call.
        output: what it returns as data; None for text alone.
        annotations: hints for the client.
        thoughts: as for `on_record`.
    """

    async def run(request: Request, given: Json) -> CallToolResult:
        return await on_record(service, request, lambda call: work(call, given), thoughts=thoughts)

    return Tool(
        fn=run,
        name=name,
        title=None,
        description=description,
        parameters=schema,
        fn_metadata=AsGiven(arg_model=ArgModelBase, output_model=output),
        is_async=True,
        context_kwarg="request",
        annotations=annotations,
    )


def _annotate_tool(service: Service, skill: Skill) -> Tool:
    async def work(call: Call, given: Json) -> CallToolResult:
        return await annotation.serve(call, checked("annotate", annotation.Arguments, given))

    made = partial(tool, output=annotation.Annotations, thoughts=True)
    return made(service, "annotate", skill.description, schema_of(annotation.Arguments), work)


def _skill_tool(service: Service, skill: Skill) -> Tool:
    async def work(call: Call, given: Json) -> CallToolResult:
        return await skill_tools.serve(call, skill, checked(skill.name, skill_tools.Arguments, given))

    schema = schema_of(skill_tools.Arguments)
    return tool(service, skill.name, skill.description, schema, work, output=skill_tools.Answer)


def _file_tool(service: Service, found: tools_registry.Tool) -> Tool:
    async def work(call: Call, given: Json) -> CallToolResult:
        return await file_tools.serve(call, found, given)

    schema = found.schema["function"]["parameters"]
    return tool(service, found.name, found.description, schema, work, annotations=READS)


def _add_text(server: MCPServer[Any], skill: Skill) -> None:
    """A skill's instructions as a resource: level two, which a client reads when it wants them."""
    resource = FunctionResource(
        uri=SKILLS + skill.name,
        name=skill.name,
        description=skill.description,
        mime_type="text/markdown",
        fn=partial(skills.body, skill),
    )
    server.add_resource(resource)


def _prompt(skill: Skill) -> Prompt:
    """A skill's instructions for the client's own model, which a person there picks by name."""

    def render(source: str) -> str:
        return f"{skills.body(skill)}\n\nThe source is: {source}"

    return Prompt.from_function(render, name=skill.name, description=skill.description)


def _add_runs(server: MCPServer[Any], service: Service) -> None:
    """The record of the runs that this server began, and of no other: what else is there may be from anywhere."""
    store = service.session.store

    @server.resource(f"{RUNS}{{run}}", name="run", description="One run on record.", mime_type="application/json")
    def record(run: str) -> str:
        if run not in service.served:
            raise ResourceNotFoundError(f"this server began no run {run}")
        store.flush()
        return json.dumps(messages_row(store.get(run)), ensure_ascii=False)

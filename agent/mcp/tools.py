"""The tools of all MCP servers as the agent's own: `SERVER__TOOL`, asked about, checked, capped, and from outside.

A run starts with the tools as they were approved, from the disk. A server is started when a tool of it is called, or
when nothing is known of it yet; then its list is compared with what was approved, and what differs is refused.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import ApprenticeError, ConsentDenied, ToolError, UsageError
from agent.mcp import approval, content
from agent.mcp.approval import Approval, Listed
from agent.mcp.config import Server
from agent.mcp.connection import Connection, Progress, every
from agent.mcp.elicitation import Person
from agent.mcp.schema import portable
from agent.messages import Event, Json
from agent.models.http import is_loopback
from tools.registry import Tool, ToolContext

if TYPE_CHECKING:
    from agent.run import Run
    from agent.session import Emit

LONGEST_NAME = 64
"""Characters that model servers allow in a tool's name."""
LONGEST_DESCRIPTION = 2000
PROGRESS_SECONDS = 0.5
"""Between two events of progress, so that a chatty server does not fill the screen."""
PROMPT = re.compile(r"/([A-Za-z0-9_-]+):([\w./-]+)(?:\s+|$)")
READ = "read_resource"
ONE_URI: Json = {
    "type": "object",
    "properties": {"uri": {"type": "string", "description": "the resource; empty lists what there is"}},
    "additionalProperties": False,
}


class Servers:
    """The MCP servers of one process: what they offer, and their connections.

    Args:
        servers: by name.
        data_dir: where approvals and tokens are kept.
        person: answers what servers ask.
        emit: where notices and progress go.
        local_only: no server at an address of another machine is reached.
        disabled: names of tools that are not offered, as the model would see them.
    """

    def __init__(
        self,
        servers: Mapping[str, Server],
        data_dir: Path,
        person: Person,
        emit: Emit,
        *,
        local_only: bool = False,
        disabled: Collection[str] = (),
    ) -> None:
        self.servers, self.data_dir, self.person, self.emit = servers, data_dir, person, emit
        self.local_only, self.disabled = local_only, disabled
        self._live: dict[str, Connection] = {}
        self._differing: dict[str, list[str]] = {}
        self._told: set[str] = set()
        self._locks = {name: asyncio.Lock() for name in servers}

    async def tools(self) -> dict[str, Tool]:
        """What the servers offer, by name. A server that cannot be used is told in a notice and left out."""
        offers = await asyncio.gather(*(self._offer(server) for server in self.servers.values()))
        return {tool.name: tool for offer in offers for tool in offer}

    async def _offer(self, server: Server) -> list[Tool]:
        try:
            self.check(server)
            known = approval.read(self.data_dir, server)
            live = self._live.get(server.name)
            if known is None:
                known = await self.listing(await self.connection(server))
                approval.write(self.data_dir, server, known)
            elif live is not None and live.alive and (live.changed or self._differing.get(server.name)):
                live.changed = True  # what differed may have been approved meanwhile
                await self.connection(server)
        except ApprenticeError as error:
            self._tell(error.in_one_line)
            return []
        return self._as_approved(server, known)

    def approved(self) -> dict[str, Tool]:
        """What is known to be offered, by name, without starting a server: the tools as they were approved."""
        found: dict[str, Tool] = {}
        for server in self.servers.values():
            try:
                self.check(server)
            except ConsentDenied:
                continue
            if known := approval.read(self.data_dir, server):
                found |= {tool.name: tool for tool in self._as_approved(server, known)}
        return found

    def _as_approved(self, server: Server, known: Approval) -> list[Tool]:
        names = tool_names(server.name, known.tools)
        differing = self._differing.get(server.name, ())
        tools = [self._tool(server, one, names[key]) for key, one in known.tools.items() if key not in differing]
        if known.resources and READ not in known.tools:
            tools.append(self._reader(server))
        return [tool for tool in tools if tool.name not in self.disabled]

    def check(self, server: Server) -> None:
        """Raise ConsentDenied if a server may not be used: a project's that nobody approved, or not on this machine."""
        if server.project and approval.read(self.data_dir, server) is None:
            raise ConsentDenied(
                f"the project's MCP server {server.name} is left out: nobody approved it",
                f"`apprentice mcp approve {server.name}` shows what it is.",
            )
        if self.local_only and server.definition.url and not is_loopback(server.definition.url):
            raise ConsentDenied(f"the MCP server {server.name} is not on this machine, and privacy is local-only")

    async def connection(self, server: Server, *, approving: bool = False) -> Connection:
        """The live connection to a server, opened if there is none, or the last one broke.

        Args:
            server: one of these.
            approving: a person is being asked about it right now.

        Raises:
            ConsentDenied: nobody approved it.
            ConfigError, ToolError: it cannot be reached.
        """
        if not approving:
            self.check(server)
        async with self._locks[server.name]:
            live = self._live.get(server.name)
            if live is None or not live.alive:
                if live is not None:
                    await live.close()
                live = self._live[server.name] = Connection(server, self.person, self.data_dir)
                await live.open()
                live.changed = True
            if live.changed and not approving and (known := approval.read(self.data_dir, server)) is not None:
                await self._compare(live, known)  # under the lock: no call goes out before it is done
        return live

    async def _compare(self, live: Connection, known: Approval) -> None:
        """Compare a server's list with what was approved, and tell what differs."""
        server = live.server
        self._differing[server.name] = known.differences((await self.listing(live)).tools)
        if differing := self._differing[server.name]:
            self._tell(
                f"the MCP server {server.name} lists tools that are new or described otherwise than when they were "
                f"approved, and they are left out: {', '.join(differing)} (`apprentice mcp approve {server.name}`)"
            )

    async def listing(self, live: Connection) -> Approval:
        """What a server offers right now. A tool whose schema is none is left out."""
        name = live.server.name
        live.changed = False

        async def everything(client: Any, tell: Progress) -> tuple[list[Any], bool]:
            capabilities = client.server_capabilities
            tools = await every(lambda cursor: client.list_tools(cursor=cursor), "tools") if capabilities.tools else []
            return tools, bool(capabilities.resources) and await _has_resources(client)

        listed, resources = await live.request(everything)
        tools: dict[str, Listed] = {}
        for one in listed:
            description = one.description or one.title or ""
            reads = bool(one.annotations and one.annotations.read_only_hint)
            try:
                digest = approval.tool_digest(one.name, description, one.input_schema)
                parameters = portable(one.input_schema, re.sub(r"\W", "_", f"{name}__{one.name}"))
                tools[one.name] = Listed(one.name, description, parameters, digest, reads)
            except (ValueError, RecursionError):
                self._tell(
                    f"the MCP server {name} describes its tool {one.name[:60]!r} in no usable form: it is left out"
                )
        return Approval(tools, resources)

    def _tool(self, server: Server, listed: Listed, name: str) -> Tool:
        async def run(context: ToolContext, /, **arguments: Any) -> str:
            await _require(context, server, name, arguments)
            live = await self.connection(server)
            if listed.name in self._differing.get(server.name, ()):
                raise ToolError(
                    f"{name} was not called: its description changed since it was approved",
                    "Do without it; the person can look at it with `apprentice mcp approve`.",
                )
            return await self.call(live, listed.name, arguments, name, context.run)

        description = listed.description[:LONGEST_DESCRIPTION]
        return Tool(name, description, listed.parameters, run, "mcp", listed.reads, f"mcp:{server.name}", outside=True)

    def _reader(self, server: Server) -> Tool:
        name = f"{server.name}__{READ}"

        async def run(context: ToolContext, /, uri: str = "") -> str:
            await _require(context, server, name, {"uri": uri})
            live = await self.connection(server)
            if not uri:
                return await live.request(_resources)
            return content.of_resource(await live.request(lambda client, tell: client.read_resource(uri)))

        description = f"Read a resource of the MCP server {server.name} by its URI, or list its resources."
        return Tool(name, description, ONE_URI, run, "mcp", True, f"mcp:{server.name}", outside=True)

    async def call(self, live: Connection, tool: str, arguments: Json, name: str, run: Run | None = None) -> str:
        """Call a tool of a server; its progress becomes events.

        Args:
            live: the connection.
            tool: the server's name for the tool.
            arguments: as its schema wants them.
            name: what the events call it.
            run: whose call it is; None where a person calls the tool.

        Raises:
            ToolError: the tool failed, or the server did.
        """
        last = 0.0

        async def tell(progress: float, total: float | None, message: str | None) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= PROGRESS_SECONDS or progress == total:
                last = now
                data = {"name": name, "progress": progress, "total": total, "message": message or ""}
                if run:
                    run.emit("progress", **data)
                else:
                    self.emit(Event("progress", "", data))

        result = await live.request(
            lambda client, told: client.call_tool(tool, arguments, progress_callback=told), tell
        )
        return content.of_result(result)

    async def prompt(self, words: str) -> str:
        """A task in which `/SERVER:PROMPT` at the start is replaced by what the server makes of it.

        Arguments follow as `name=value`, quoted where they hold blanks; a first one without a name is the first
        argument's. Other tasks come back as they are.

        Raises:
            UsageError: no such server or prompt, or an argument is missing.
        """
        match = PROMPT.match(words)
        if match is None:
            return words
        server = self.servers.get(match[1])
        if server is None:
            raise UsageError(f"there is no MCP server {match[1]!r}", f"There are: {', '.join(self.servers)}.")
        live = await self.connection(server)
        listed = await live.request(lambda client, tell: every(lambda at: client.list_prompts(cursor=at), "prompts"))
        found = {prompt.name: prompt for prompt in listed}
        if match[2] not in found:
            known = ", ".join(found) or "none"
            raise UsageError(f"the MCP server {server.name} has no prompt {match[2]!r}", f"There are: {known}.")
        arguments = _prompt_arguments(words[match.end() :], found[match[2]])
        result = await live.request(lambda client, tell: client.get_prompt(match[2], arguments))
        return content.of_prompt(result)

    async def close(self) -> None:
        """End every connection and every process that was started."""
        await asyncio.gather(*(live.close() for live in self._live.values()))

    def _tell(self, text: str) -> None:
        """A notice, once."""
        if text not in self._told:
            self._told.add(text)
            self.emit(Event("notice", "", {"text": text}))


def tool_names(server: str, tools: Iterable[str]) -> dict[str, str]:
    """For each of a server's tools the name that models use: letters, digits, - and _, and no two alike."""
    names: dict[str, str] = {}
    for tool in tools:
        name = f"{server}__{re.sub(r'[^A-Za-z0-9_-]', '_', tool)}"
        if len(name) > LONGEST_NAME or name in names.values():
            name = f"{name[: LONGEST_NAME - 7]}_{hashlib.sha256(tool.encode()).hexdigest()[:6]}"
        names[tool] = name
    return names


async def _require(context: ToolContext, server: Server, name: str, arguments: Json) -> None:
    text = json.dumps(arguments, ensure_ascii=False)
    await context.consent.require(f"mcp:{server.name}", f"call {name} {text if len(text) <= 300 else text[:299] + '…'}")


async def _has_resources(client: Any) -> bool:
    listed = await client.list_resources()
    return bool(listed.resources) or bool((await client.list_resource_templates()).resource_templates)


async def _resources(client: Any, tell: Progress) -> str:
    listed = await every(lambda cursor: client.list_resources(cursor=cursor), "resources")
    templates = await every(lambda cursor: client.list_resource_templates(cursor=cursor), "resource_templates")
    lines = [f"{one.uri} {one.description or one.name}" for one in listed]
    return "\n".join([*lines, *(f"{one.uri_template} {one.description or one.name}" for one in templates)])


def _prompt_arguments(text: str, prompt: Any) -> dict[str, str]:
    """Arguments as a person types them. Raises UsageError if one is unknown or missing."""
    import shlex

    known = {argument.name: bool(argument.required) for argument in prompt.arguments or []}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"the arguments of {prompt.name} cannot be read: {error}", "Close the quote.") from None
    given: dict[str, str] = {}
    loose: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in known:
            given[name] = value
        else:
            loose.append(word)
    if loose and known:
        given.setdefault(next(iter(known)), " ".join(loose))
    missing = [name for name, needed in known.items() if needed and name not in given]
    if missing or (loose and not known):
        form = " ".join(f"{name}=…" for name in known) or "none"
        raise UsageError(f"the prompt {prompt.name} takes these arguments: {form}")
    return given

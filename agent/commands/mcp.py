"""`apprentice mcp`: the MCP servers whose tools the agent may use: list, add, remove, approve, tools, call."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from agent import config
from agent.commands.mcp_serve import add_serve
from agent.errors import ConfigError, ConsentDenied, UsageError
from agent.messages import Event, Json
from agent.settings import MCP_NAME

if TYPE_CHECKING:
    from agent.mcp.approval import Approval
    from agent.mcp.config import Server
    from agent.mcp.tools import Servers


def add_mcp(parser: argparse.ArgumentParser) -> None:
    parser.description = "MCP servers: yours (config.toml), and those of a project's .mcp.json, once you approve them."
    parser.set_defaults(run=show)
    commands = parser.add_subparsers(metavar="ACTION", title="actions")
    commands.add_parser("list", help="the servers, and what is approved of each").set_defaults(run=show)
    adder = commands.add_parser("add", help="write a server into your config.toml")
    adder.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="e.g. 'TOKEN=${TOKEN}'")
    adder.add_argument("--header", action="append", default=[], metavar="NAME=VALUE", help="for a server at a URL")
    adder.add_argument("--legacy", action="store_true", help="begin with the older handshake")
    adder.add_argument("server", metavar="NAME")
    adder.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND...", help="or a URL")
    adder.set_defaults(run=add)
    for name, run, about in (
        ("remove", remove, "take a server out of your config.toml"),
        ("approve", approve, "look at a server and its tools, and approve them as they are now"),
        ("tools", tools, "what a server offers right now"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("server", metavar="NAME")
        command.set_defaults(run=run)
        if name == "tools":
            command.add_argument("--json", action="store_true", help="their schemas, as models get them")
    caller = commands.add_parser("call", help="call a tool yourself")
    caller.add_argument("server", metavar="NAME")
    caller.add_argument("tool", metavar="TOOL")
    caller.add_argument("arguments", nargs="?", default="{}", metavar="JSON")
    caller.set_defaults(run=call)
    for command in {parser, *commands.choices.values()} - {adder, commands.choices["remove"]}:
        command.add_argument("--workspace", type=Path, default=Path("."), metavar="DIR")
    add_serve(commands.add_parser("serve", help="offer our skills and reading tools to other agents"))


async def show(options: argparse.Namespace) -> int:
    from agent.commands import task
    from agent.mcp import approval
    from agent.terminal import clean

    root = task.workspace_root(options.workspace)
    settings, _, notices = task.settings_for(root, options)
    servers, odd = task.mcp_servers(root, settings)
    for server in servers.values():
        known = approval.read(config.data_dir(settings), server)
        print(clean(f"{server.name} ({_state(server, known)})\n    {server.shown}"))
    if not servers:
        print("no MCP server is configured (`apprentice mcp add NAME COMMAND...`)")
    print("\n".join(clean(f"! {notice}") for notice in (*notices, *odd)), end="\n" if (notices or odd) else "")
    return 0


def _state(server: Server, known: Approval | None) -> str:
    whose = "the project's" if server.project else "yours"
    if known is None:
        return f"{whose}, not approved" if server.project else f"{whose}, not used yet"
    return f"{whose}, {len(known.tools)} tools approved"


async def add(options: argparse.Namespace) -> int:
    """Add a table to the end of the person's file; the rest of it stays as it is."""
    import tomllib

    from agent.commands import config as file

    name, words = options.server, [word for word in options.command if word != "--"]
    if not re.fullmatch(MCP_NAME, name):
        raise UsageError(f"{name!r} cannot be a server's name", "Up to 32 letters, digits, - and _.")
    if not words:
        raise UsageError(f"{name} needs a command or a URL", f"e.g. apprentice mcp add {name} npx some-server")
    target = config.config_dir() / "config.toml"
    text = file.read_text(target)
    if name in _servers_of(text, target):
        raise UsageError(f"there is an MCP server {name!r} already", f"`apprentice mcp remove {name}` takes it out.")
    lines = [*text.splitlines(), "", f"[mcp.servers.{name}]"] if text else [f"[mcp.servers.{name}]"]
    at_url = words[0].startswith(("http://", "https://"))
    if at_url and words[1:]:
        raise UsageError(f"{words[1]!r} is more than a URL", "A server at a URL takes no arguments.")
    lines += [f"url = {_toml(words[0])}"] if at_url else [f"command = {_toml(words[0])}", f"args = {_toml(words[1:])}"]
    lines += ["legacy = true"] if options.legacy else []
    for key, given in (("env", options.env), ("headers", options.header)):
        lines += [f"{key} = {{ {', '.join(_pair(one) for one in given)} }}"] if given else []
    changed = "\n".join(lines) + "\n"
    config.check(tomllib.loads(changed), str(target))
    file.replace(target, changed)
    print(f"{name} is in {target}; `apprentice mcp tools {name}` shows what it offers")
    return 0


async def remove(options: argparse.Namespace) -> int:
    import tomllib

    from agent.commands import config as file

    target = config.config_dir() / "config.toml"
    text = file.read_text(target)
    if options.server not in _servers_of(text, target):
        raise UsageError(f"there is no MCP server {options.server!r} in {target}", "`apprentice mcp list` shows them.")
    kept, inside = [], False
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            inside = bool(re.match(rf"\s*\[mcp\.servers\.{re.escape(options.server)}[].]", line))
        kept += [] if inside else [line]
    changed = "\n".join(kept).rstrip("\n") + "\n"
    if options.server in _servers_of(changed, target):
        raise ConfigError(f"{target} says {options.server} in a form that is not edited here", "Take it out by hand.")
    config.check(tomllib.loads(changed), str(target))
    file.replace(target, changed)
    print(f"{options.server} is no longer in {target}")
    return 0


def _servers_of(text: str, target: Path) -> Json:
    import tomllib

    try:
        found = tomllib.loads(text).get("mcp", {}).get("servers", {})
    except (tomllib.TOMLDecodeError, AttributeError) as error:
        raise ConfigError(f"{target} is not valid TOML: {error}", "Correct that file by hand.") from None
    return found if isinstance(found, dict) else {}


def _toml(value: str | list[str]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pair(text: str) -> str:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"{text!r} is not NAME=VALUE")
    return f"{_toml(name)} = {_toml(value)}"


@contextlib.asynccontextmanager
async def _opened(options: argparse.Namespace) -> AsyncIterator[tuple[Servers, Server]]:
    """The servers, and the one that is named; whatever was started is ended afterwards."""
    from agent.commands import task
    from agent.mcp.elicitation import Person
    from agent.mcp.tools import Servers
    from agent.terminal import summary

    root = task.workspace_root(options.workspace)
    settings, _, _ = task.settings_for(root, options)
    found, _ = task.mcp_servers(root, settings)
    if options.server not in found:
        raise UsageError(f"there is no MCP server {options.server!r}", f"There are: {', '.join(found) or 'none'}.")

    def emit(event: Event) -> None:
        print(summary(event))

    person = Person(*((task.ask_on_terminal, task.line_on_terminal) if task.at_terminal() else (None, None)))
    local_only = settings.privacy == "local-only"
    servers = Servers(found, config.data_dir(settings), person, emit, local_only=local_only)
    try:
        yield servers, found[options.server]
    finally:
        await servers.close()


async def approve(options: argparse.Namespace) -> int:
    """Show a server, start it if the person says so, show its tools, and remember a second yes."""
    from agent.mcp import approval

    async with _opened(options) as (servers, server):
        ask = servers.person.ask
        if ask is None:
            raise ConsentDenied(f"{server.name} can be approved only by a person at a terminal", "No flag does it.")
        whose = "the project's .mcp.json" if server.project else "your settings"
        if not await ask(f"{server.name}, from {whose}, is:\n  {server.shown}\nStart it, to see its tools?"):
            print(f"{server.name} is not approved")
            return 1
        now = await servers.listing(await servers.connection(server, approving=True))
        known = approval.read(servers.data_dir, server)
        listed = "\n".join(_marked(known, now))
        if not await ask(
            f"{server.name} offers {len(now.tools)} tools:\n{listed}\nApprove them, exactly as they are now?"
        ):
            print(f"{server.name}: nothing was changed")
            return 1
        approval.write(servers.data_dir, server, now)
    print(f"{server.name} is approved, with {len(now.tools)} tools")
    return 0


def _marked(known: Approval | None, now: Approval) -> list[str]:
    """A line for each tool, which says if it is new, or not as it was approved."""
    from agent.terminal import clean

    differing = known.differences(now.tools) if known else []
    lines = []
    for one in now.tools.values():
        mark = "" if one.name not in differing else "CHANGED " if known and one.name in known.tools else "NEW "
        lines.append(clean(f"  {mark}{one.name}: {' '.join(one.description.split())}"))
    return lines


async def tools(options: argparse.Namespace) -> int:
    """List what a server offers right now, and what of it is not as it was approved."""
    from agent.mcp import approval
    from agent.mcp.tools import tool_names

    async with _opened(options) as (servers, server):
        now = await servers.listing(await servers.connection(server))
        known = approval.read(servers.data_dir, server)
        if known is None:  # the person's own, whose first listing this is
            approval.write(servers.data_dir, server, now)
        names = tool_names(server.name, now.tools)
        if options.json:
            for one in now.tools.values():
                line = {"name": names[one.name], "description": one.description, "parameters": one.parameters}
                print(json.dumps(line, ensure_ascii=False))
        else:
            print("\n".join(_marked(known, now)))
    return 0


async def call(options: argparse.Namespace) -> int:
    """Call a tool that the person names, and print what it answers."""
    from agent.terminal import clean

    try:
        arguments = json.loads(options.arguments)
    except ValueError as error:
        raise UsageError(f"the arguments are not JSON: {error}", """e.g. '{"path": "a.txt"}'""") from None
    if not isinstance(arguments, dict):
        raise UsageError("the arguments are not a JSON object", """e.g. '{"path": "a.txt"}'""")
    async with _opened(options) as (servers, server):
        live = await servers.connection(server)
        print(clean(await servers.call(live, options.tool, arguments, options.tool)))
    return 0

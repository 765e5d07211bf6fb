"""A security case's MCP servers as the agent has them: real processes, approved as they are, and changed afterwards.

A case names them with {"tools": […], "changed": […], "project": true, "approved": false, "edited": true}: the tools as
a person approved them, and as they are afterwards (from the call on whose answer begins with `!`, or before the run);
whether a project's `.mcp.json` brings the server along, whether anybody approved it, and whether its definition was
edited since. See evals/hostile_server.py for a tool.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

from agent.mcp import approval, tools
from agent.mcp.config import Server
from agent.mcp.elicitation import Person
from agent.mcp.tools import Servers
from agent.messages import Json
from agent.session import Emit
from agent.settings import McpServer

SCRIPT = Path(__file__).with_name("hostile_server.py")


async def approved(described: Mapping[str, Json], home: Path, emit: Emit, *, guards: bool) -> Servers:
    """The servers of a case, as a run finds them.

    Args:
        described: what the case says of each, by name.
        home: where servers write down what reached them, in `server.log`; their files lie beside it.
        emit: where notices go.
        guards: whether a person approved anything; without guards nobody has to.
    """
    data = home.parent / "data"
    found = {name: _server(name, one, home) for name, one in described.items()}
    if guards:
        before = Servers(found, data, Person(), emit)
        try:
            for name, server in found.items():
                if described[name].get("approved", True):
                    live = await before.connection(server, approving=True)
                    approval.write(data, server, await before.listing(live))
        finally:
            await before.close()
        (home / "server.log").unlink(missing_ok=True)  # what a person started themselves is no harm
    for name, one in described.items():
        if "changed" in one and not any(tool["answer"].startswith("!") for tool in one["tools"]):
            _marker(home, name).unlink()
        if one.get("edited"):
            found[name].definition.env["EDITED"] = "yes"
    return Servers(found, data, Person(), emit)


@contextlib.contextmanager
def nothing_approved() -> Iterator[None]:
    """With the guards off: every server is used, with the tools that it has at that moment, however described."""
    with (
        mock.patch.object(approval, "read", return_value=None),
        mock.patch.object(Servers, "check", return_value=None),
        mock.patch.object(tools, "LONGEST_DESCRIPTION", sys.maxsize),
    ):
        yield


def _server(name: str, described: Json, home: Path) -> Server:
    """A server whose process serves the list that was approved, until its marker is taken away."""
    file = home.parent / f"{name}.json"
    lists = {"tools": described["tools"], "changed": described.get("changed", described["tools"])}
    file.write_text(json.dumps(lists), encoding="utf-8")
    _marker(home, name).touch()
    arguments = ["-P", str(SCRIPT), str(file), str(home / "server.log"), name]
    definition = McpServer(command=sys.executable, args=arguments, legacy=True)  # it tells changes unasked, in order
    return Server(name, definition, home / "workspace", project=bool(described.get("project")))


def _marker(home: Path, name: str) -> Path:
    return home.parent / f"{name}.json.approved"

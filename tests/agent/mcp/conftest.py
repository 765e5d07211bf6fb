"""A server that a test starts as a process, what it noted, and what it is said to offer."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.mcp.config import Server
from agent.mcp.elicitation import Person
from agent.mcp.tools import Servers
from agent.messages import Event, Json
from agent.settings import McpServer

SCRIPT = Path(__file__).resolve().parents[2] / "wire" / "mcp_server.py"


def described(name: str, description: str = "", **properties: Json) -> Json:
    """A tool as a server lists it."""
    schema = {"type": "object", "properties": properties}
    return {"name": name, "description": description or f"does {name}", "inputSchema": schema}


@dataclass
class Place:
    """Where the test server works: its tools can be changed while it runs."""

    folder: Path
    events: list[Event] = field(default_factory=list)

    @property
    def log(self) -> list[str]:
        """The server's notes, without process ids."""
        path = self.folder / "log"
        return [line.split()[0] if line.startswith("start") else line for line in path.read_text().splitlines()]

    @property
    def started(self) -> bool:
        return (self.folder / "log").exists()

    @property
    def process(self) -> int:
        """The id of the newest process."""
        lines = (self.folder / "log").read_text().splitlines()
        return int([line for line in lines if line.startswith("start")][-1].split()[1])

    def offer(self, *tools: str | Json) -> None:
        """What the server lists from now on."""
        listed = [described(tool) if isinstance(tool, str) else tool for tool in tools]
        (self.folder / "tools.json").write_text(json.dumps(listed))

    @property
    def definition(self) -> Json:
        arguments = ["-P", str(SCRIPT), str(self.folder / "log"), str(self.folder / "tools.json")]
        return {"command": sys.executable, "args": arguments}

    def server(self, *, project: bool = False, silent: bool = False, **more: Any) -> Server:
        definition = McpServer.model_validate(self.definition | more)
        if silent:
            definition.args.append("--silent")
        return Server("test", definition, self.folder, project=project)

    def servers(self, server: Server | None = None, person: Person | None = None, **more: Any) -> Servers:
        """The servers of a process; each call stands for another process."""
        server = server or self.server()
        return Servers({server.name: server}, self.folder / "data", person or Person(), self.events.append, **more)

    def told(self) -> str:
        """All notices."""
        return "\n".join(event.data["text"] for event in self.events if event.kind == "notice")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    made.offer("echo", "fail", "die", "slow", "announce")
    return made

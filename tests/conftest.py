"""Every test runs in folders of its own, with no secrets of the person's, and reaches nothing but loopback."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent.commands.task import known_tools
from agent.config import cache_dir
from agent.consent import Consent
from agent.messages import Event, Json
from agent.models.base import Capabilities
from agent.models.scripted import NATIVE, Scripted
from agent.redact import Redactor
from agent.session import Session
from agent.settings import Settings
from agent.traces import TraceStore
from skills import registry as skills_registry
from tools import registry as tools_registry
from tools.workspace import Workspace

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs that tests start: a shell that starts the tests with `&` has it ignored for all."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configuration, data and cache folders of one test; nothing of the person's is read or written."""
    home = tmp_path_factory.mktemp("home")
    for kind in ("CONFIG", "DATA", "CACHE"):
        monkeypatch.setenv(f"APPRENTICE_{kind}_DIR", str(home / kind.lower()))
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OLLAMA_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine, and every name that would have to be looked up."""
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOOPBACK:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    def guarded_lookup(host: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in (*LOOPBACK, None, "0.0.0.0"):
            raise AssertionError(f"a test tried to look up {name}")
        return lookup(host, *rest, **more)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_lookup)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty folder to work in."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


@dataclass
class Bench:
    """A session around a scripted model, on a real trace store, and every event that it emitted."""

    session: Session
    model: Scripted
    events: list[Event] = field(default_factory=list)

    def of(self, kind: str) -> list[Json]:
        """The data of the events of one kind, in order."""
        return [event.data for event in self.events if event.kind == kind]


@pytest.fixture
def bench(workspace: Path, tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    """Makes a Bench: `bench([{"content": "hello"}], settings={"budget": {"steps": 3}}, yes=True)`."""
    opened: list[Bench] = []

    def make(
        replies: list[Json],
        *,
        capabilities: Capabilities = NATIVE,
        settings: Json | None = None,
        store: TraceStore | None = None,
        **consent: Any,
    ) -> Bench:
        checked = Settings.model_validate(settings or {})
        redactor = Redactor({})
        sandbox = Workspace(workspace)
        permission = Consent(local_only=checked.privacy == "local-only", **consent)
        context = tools_registry.ToolContext(sandbox, permission, checked, redactor, tmp_path / "outputs", cache_dir())
        events: list[Event] = []
        known, _ = skills_registry.load(tmp_path / "no-skills", None)
        session = Session(
            settings=checked,
            store=store or TraceStore.open(tmp_path / "data" / f"traces{len(opened)}.db", redactor),
            emit=events.append,
            consent=permission,
            workspace=sandbox,
            tools=known_tools(workspace, checked, trusted=False),
            tool_context=context,
            skills=known,
            data_dir=tmp_path / "data",
        )
        made = Bench(session, Scripted(replies, capabilities), events)
        session.models["scripted"] = made.model
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.session.store.close()

"""A live connection: what goes over it, how it ends, and how it breaks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError, ToolError
from agent.mcp.config import Server
from agent.mcp.connection import Connection
from agent.mcp.elicitation import Person
from agent.settings import McpServer
from tests.agent.mcp.conftest import Place


def call(place: Place, tool: str, arguments: dict[str, Any] | None = None, **more: Any) -> str:
    """Start the server, call one tool, end it."""

    async def work() -> str:
        servers = place.servers(place.server(**more))
        try:
            live = await servers.connection(servers.servers["test"])
            return await servers.call(live, tool, arguments or {}, tool)
        finally:
            await servers.close()

    return asyncio.run(work())


async def until(true: Callable[[], bool]) -> None:
    """Wait for something that happens in another process."""
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


def gone(process: int) -> bool:
    """Whether a process has ended, waiting a little for it."""
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_call_goes_to_the_server_and_its_process_ends_with_the_connection(place: Place) -> None:
    assert call(place, "echo", {"a": [1, "ü"]}) == 'echo {"a": [1, "\\u00fc"]}'
    assert place.log == ["start", "call echo", "end"]
    assert gone(place.process)


def test_the_older_handshake_can_be_asked_for(place: Place) -> None:
    assert call(place, "echo", legacy=True).startswith("echo")


def test_an_error_of_the_tool_is_told_in_its_own_words(place: Place) -> None:
    with pytest.raises(ToolError, match=r"^it did not work$"):
        call(place, "fail")


def test_a_server_inherits_no_secrets_only_what_its_definition_says(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "for-nobody")
    monkeypatch.setenv("WANTED", "for-the-server")
    given = json.loads(call(place, "env", env={"GIVEN": "${WANTED}"}))
    assert "MY_TOKEN" not in given
    assert given["GIVEN"] == "for-the-server"


def test_a_call_that_takes_too_long_is_given_up_and_the_server_is_told(place: Place) -> None:
    with pytest.raises(ToolError, match=r"did not answer within 0.3 seconds") as caught:
        call(place, "hang", timeout=0.3)
    assert "mcp.servers.test.timeout" in caught.value.hint
    assert "cancelled" in place.log


def test_progress_becomes_events_and_begins_the_time_anew(place: Place) -> None:
    assert call(place, "slow", {"steps": 8}, timeout=0.5).startswith("echo")
    steps = [event.data for event in place.events if event.kind == "progress"]
    assert steps[0] == {"name": "slow", "progress": 1, "total": 100, "message": "working"}
    assert 1 <= len(steps) <= 3, "a chatty server must not fill the screen"


def test_cancelling_a_call_tells_the_server_and_leaves_the_connection_in_use(place: Place) -> None:
    async def work() -> str:
        servers = place.servers()
        try:
            live = await servers.connection(servers.servers["test"])
            running = asyncio.create_task(servers.call(live, "hang", {}, "hang"))
            await until(lambda: "call hang" in place.log)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            return await servers.call(live, "echo", {}, "echo")
        finally:
            await servers.close()

    assert asyncio.run(work()) == "echo {}"
    assert "cancelled" in place.log


def test_a_server_that_dies_in_a_call_is_told_of_and_the_next_call_starts_it_again(place: Place) -> None:
    async def work() -> str:
        servers = place.servers()
        server = servers.servers["test"]
        try:
            with pytest.raises(ToolError, match="it ended, or closed the connection") as caught:
                await servers.call(await servers.connection(server), "die", {}, "die")
            assert "the test server speaks" in caught.value.hint
            return await servers.call(await servers.connection(server), "echo", {}, "echo")
        finally:
            await servers.close()

    assert asyncio.run(work()) == "echo {}"
    assert place.log == ["start", "call die", "start", "call echo", "end"]


def test_a_server_that_is_killed_between_calls_is_started_again(place: Place) -> None:
    async def work() -> str:
        servers = place.servers()
        server = servers.servers["test"]
        try:
            first = await servers.connection(server)
            os.kill(place.process, signal.SIGKILL)
            await until(lambda: not first.alive)
            return await servers.call(await servers.connection(server), "echo", {}, "echo")
        finally:
            await servers.close()

    assert asyncio.run(work()) == "echo {}"


def test_a_server_of_the_newest_protocol_tells_that_its_tools_changed(place: Place) -> None:
    script = Path(__file__).resolve().parents[2] / "wire" / "mcp_sdk_server.py"
    definition = McpServer(command=sys.executable, args=["-P", str(script)])

    async def work() -> list[str]:
        server = Server("test", definition, place.folder)
        servers = place.servers(server)
        try:
            assert list(await servers.tools()) == ["test__grow"]
            live = await servers.connection(server)
            assert live.client is not None
            assert live.client.protocol_version >= "2026"
            await until(lambda: live.listening)
            assert await servers.call(live, "grow", {}, "grow") == "grown"
            await until(lambda: live.changed)
            return list(await servers.tools())
        finally:
            await servers.close()

    assert asyncio.run(work()) == ["test__grow"]
    assert "left out: new" in place.told()


@pytest.mark.parametrize(
    ("definition", "why"),
    [
        ({"command": "no-such-program", "args": []}, "there is no no-such-program"),
        ({"args": ["-c", "import sys; sys.exit('a reason')"]}, "a reason"),
        ({"command": "", "url": "http://127.0.0.1:9/mcp"}, "nothing answers at its address"),
        ({"cwd": "/nowhere/at/all"}, "there is no /nowhere/at/all"),
    ],
)
def test_a_server_that_does_not_start_is_told_in_a_sentence(
    place: Place, definition: dict[str, Any], why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ToolError) as caught:
        call(place, "echo", **definition)
    assert caught.value.message.startswith("the MCP server test failed: ")
    assert why in caught.value.in_one_line
    assert "Traceback" not in capfd.readouterr().err


def test_a_server_that_stays_silent_is_given_up_and_ended(place: Place) -> None:
    started = time.perf_counter()
    with pytest.raises(ToolError, match=r"not ready within 0.5 seconds"):
        call(place, "echo", silent=True, connect_timeout=0.5)
    assert time.perf_counter() - started < 4
    assert gone(place.process)


def test_a_variable_that_is_not_set_is_named_before_anything_starts(place: Place) -> None:
    with pytest.raises(ConfigError, match="NOT_SET_ANYWHERE"):
        call(place, "echo", env={"A": "${NOT_SET_ANYWHERE}"})
    assert not place.started


def test_closing_is_safe_before_and_after_and_twice(place: Place) -> None:
    async def work() -> None:
        live = Connection(place.server(), Person(), place.folder)
        await live.close()
        assert not live.alive
        live = Connection(place.server(), Person(), place.folder)
        await live.open()
        assert live.alive
        await live.close()
        await live.close()
        assert not live.alive
        with pytest.raises(ToolError, match="it is gone"):
            await live.request(lambda client, tell: client.list_tools())

    asyncio.run(work())


def test_opening_can_be_cancelled_and_leaves_no_process(place: Place) -> None:
    async def work() -> None:
        live = Connection(place.server(silent=True), Person(), place.folder)
        opening = asyncio.create_task(live.open())
        await until(lambda: place.started)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await live.close()

    asyncio.run(work())
    assert gone(place.process)


def ask(place: Place, schema: dict[str, Any], person: Person) -> dict[str, Any]:
    """What the server is answered when it asks for a form."""

    async def work() -> str:
        servers = place.servers(place.server(timeout=1), person)
        try:
            live = await servers.connection(servers.servers["test"])
            asked = {"message": "Who are\x1b you?", "requestedSchema": {"type": "object", **schema}}
            return await servers.call(live, "ask", asked, "ask")
        finally:
            await servers.close()

    answered: dict[str, Any] = json.loads(asyncio.run(work()))
    return answered


def test_a_question_of_the_server_is_put_to_the_person_and_no_time_runs_meanwhile(place: Place) -> None:
    asked: list[str] = []

    async def yes(question: str) -> bool:
        asked.append(question)
        await asyncio.sleep(1.3)
        return True

    async def read(question: str) -> str:
        asked.append(question)
        return {"name": "Ada", "count": "many"}.get(question.split()[0], "")

    schema = {"properties": {"name": {"type": "string"}, "n": {"type": "integer", "default": 3}}, "required": ["name"]}
    assert ask(place, schema, Person(yes, read)) == {"action": "accept", "content": {"name": "Ada", "n": 3}}
    assert asked[0].startswith("The MCP server test asks: Who are")
    assert asked[2] == "  n (integer) [3]:"


def test_where_nobody_is_there_a_question_is_declined(place: Place) -> None:
    assert ask(place, {"properties": {"n": {"type": "integer", "default": 3}}}, Person()) == {"action": "decline"}

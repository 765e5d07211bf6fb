"""`apprentice mcp serve` in a process of its own, over standard input and output and over HTTP on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp import Client, StdioServerParameters

from agent.redact import Redactor
from agent.serving import server, transport
from agent.serving.call import Service
from agent.traces import TraceStore
from tests.in_process import typed
from tests.program import ABSTRACTS, AGENT, annotation, calling, data_folder, hear_interrupts, record, refused, script

ABSTRACT = ABSTRACTS[0]["abstract"]
RIVERS = "We measured 12 rivers for 3 years. Salt rose by 4% where roads were near. We did not study lakes. "
FOLDERS = ("CONFIG", "DATA", "CACHE")
SHORT = {"APPRENTICE_ANNOTATE__RETRIES": "0", "APPRENTICE_ANNOTATE__MAX_MOVE_TOKENS": "24"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "by hand", "version": "1"},
    },
}


def over_stdio(workspace: Path, model: str, **environment: str) -> StdioServerParameters:
    """The command, with this test's folders: the SDK hands on a few variables only."""
    folders = {f"APPRENTICE_{kind}_DIR": os.environ[f"APPRENTICE_{kind}_DIR"] for kind in FOLDERS}
    return StdioServerParameters(
        command=AGENT[0],
        args=[*AGENT[1:], "mcp", "serve", "--model", model],
        cwd=workspace,
        env=folders | environment,
    )


def talk(target: Any, conversation: Callable[[Client], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        async with Client(target) as client:
            return await conversation(client)

    return asyncio.run(go())


@contextlib.contextmanager
def over_http(workspace: Path, model: str, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The server at a free port; its address and its process."""
    process = subprocess.Popen(
        [*AGENT, "mcp", "serve", "--http", "0", "--model", model],
        cwd=workspace,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        preexec_fn=hear_interrupts,
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/mcp", line)
        assert found, line + process.stderr.read()
        yield found[0], process
    finally:
        process.terminate()
        process.wait(timeout=20)
        process.stderr.close()


def test_a_client_lists_and_calls_over_standard_input_and_output(workspace: Path) -> None:
    model = script(workspace, [{"capabilities": {"json_schema": True}}, {"content": annotation(0)}])

    async def conversation(client: Client) -> tuple[list[str], Any]:
        names = [tool.name for tool in (await client.list_tools()).tools]
        return names, await client.call_tool("annotate", {"text": ABSTRACT})

    names, result = talk(over_stdio(workspace, model), conversation)
    assert {"annotate", "summarize", "read_file"} <= set(names)
    assert result.structured_content["papers"][0]["annotation"] == json.loads(annotation(0))
    assert record().labels["source"].startswith("mcp:")


def test_a_refusal_says_how_the_server_would_have_to_be_started(workspace: Path) -> None:
    model = script(workspace, [calling("fetch_url", url="http://127.0.0.1/"), {"content": "I may not."}])
    started = over_stdio(workspace, model)
    started.args += ["--allow", "net:example.org"]  # without any host the tool is not offered at all
    talk(started, lambda client: client.call_tool("summarize", {"text": "A long text."}))
    hint = "To allow it, start `apprentice mcp serve` with --allow-after-outside net:127.0.0.1."
    assert record().messages[3].content.endswith(hint)


def test_the_older_handshake_works_too(workspace: Path) -> None:
    async def go() -> tuple[str, int]:
        async with Client(over_stdio(workspace, script(workspace, [])), mode="legacy") as client:
            return client.protocol_version, len((await client.list_tools()).tools)

    assert asyncio.run(go()) == ("2025-11-25", 6)


def test_when_the_client_leaves_the_process_ends_and_its_run_is_closed(workspace: Path) -> None:
    model = script(workspace, [{"content": "One two.", "delay": 60}])

    async def leave(client: Client) -> None:
        with anyio.move_on_after(1):
            await client.session.call_tool("summarize", {"text": "A text."})

    started = time.monotonic()
    talk(over_stdio(workspace, model), leave)
    assert time.monotonic() - started < 20
    assert (record().outcome, record().reason) == ("unknown", "cancelled")


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_and_the_run_in_flight_is_closed(workspace: Path, sent: signal.Signals) -> None:
    model = script(workspace, [{"content": "One two.", "delay": 60}])
    process = subprocess.Popen(
        [*AGENT, "mcp", "serve", "--model", model],
        cwd=workspace,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_interrupts,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    wanted = {"name": "summarize", "arguments": {"text": "A text."}, "_meta": {"progressToken": "p"}}
    for message in (INITIALIZE, ready, {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": wanted}):
        process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()
    while "notifications/progress" not in process.stdout.readline():
        pass
    process.send_signal(sent)
    assert process.wait(timeout=20) == 130  # its standard input is still open
    _, errors = process.communicate()
    assert "Traceback" not in errors
    assert (record().outcome, record().reason) == ("unknown", "cancelled")


def test_clients_list_and_call_over_http_one_after_the_other_and_at_once(workspace: Path) -> None:
    (workspace / "notes.txt").write_text("hello\n")
    model = script(workspace, [calling("read_file", path="notes.txt"), {"content": "It says hello."}])
    with over_http(workspace, model) as (url, _):
        result = talk(url, lambda client: client.call_tool("summarize", {"path": "notes.txt"}))
        assert result.structured_content["answer"] == "It says hello."

        async def three() -> list[Any]:
            async def one() -> Any:
                async with Client(url) as client:
                    return await client.call_tool("read_file", {"path": "notes.txt"})

            return list(await asyncio.gather(one(), one(), one()))

        assert ["hello" in result.content[0].text for result in asyncio.run(three())] == [True] * 3


def test_a_call_cancelled_over_http_ends_its_run_and_the_server_goes_on(workspace: Path) -> None:
    model = script(
        workspace, [{"content": "One.", "delay": 60}, {"content": "Two.", "delay": 60}, {"content": "Three."}]
    )

    async def go(url: str) -> Any:
        for mode in ("auto", "legacy"):
            async with Client(url, mode=mode) as client:
                with anyio.move_on_after(0.7):
                    await client.call_tool("summarize", {"text": "A text."})
                    raise AssertionError("it was not cancelled")
        async with Client(url) as client:
            return await client.call_tool("summarize", {"text": "A text."})

    with over_http(workspace, model) as (url, _):
        assert asyncio.run(go(url)).structured_content["answer"] == "Three."
    store = TraceStore.open(data_folder() / "traces.db", Redactor({}))
    ends = [run.outcome for run in store.runs()]
    store.close()
    assert ends == ["success", "unknown", "unknown"]


@contextlib.contextmanager
def on_standard_input(*messages: dict[str, Any]) -> Iterator[None]:
    """These messages, and then the end, on this process's own standard input."""
    before = os.dup(0)
    reading, writing = os.pipe()
    os.write(writing, "".join(json.dumps(message) + "\n" for message in messages).encode())
    os.close(writing)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_what_comes_on_standard_input_is_answered_on_standard_output(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with on_standard_input(INITIALIZE):
        done = typed(capsys, "mcp", "serve", "--workspace", str(workspace))
    (answer,) = map(json.loads, done.stdout.splitlines())
    assert answer["result"]["serverInfo"]["name"] == "apprentice"
    assert (done.returncode, done.stderr) == (0, "")


def test_ending_the_http_server_ends_the_calls_first_and_tells_their_clients(
    bench: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    made = bench([{"content": "One two.", "delay": 60}])

    async def go() -> Any:
        service = Service(made.session, "scripted")
        serving = asyncio.create_task(transport.over_http(server.make(service), 0, service.end))
        address = ""
        while not address:
            await asyncio.sleep(0.05)
            address = "".join(re.findall(r"http://\S+/mcp", capsys.readouterr().err))

        async def end(progress: float, total: float | None, message: str | None) -> None:
            serving.cancel()

        async with Client(address) as client:
            told = await client.call_tool("summarize", {"text": "A text."}, progress_callback=end)
        with pytest.raises(asyncio.CancelledError):
            await serving
        return told

    told = asyncio.run(go())
    assert told.is_error
    assert "the server was told to end; the run is on record as cancelled" in told.content[0].text
    made.session.store.flush()
    (run,) = made.session.store.each()
    assert (run.outcome, run.reason) == ("unknown", "cancelled")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:{port}"}, 200),
        ({"Host": "attacker.example"}, 421),
        ({"Host": "attacker.example:{port}"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Origin": "http://attacker.example"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_only_requests_that_name_this_machine_are_answered(
    http_server: str, headers: dict[str, str], status: int
) -> None:
    port = http_server.rpartition(":")[2].removesuffix("/mcp")
    given = {name: text.replace("{port}", port) for name, text in headers.items()}
    accepts = {"Accept": "application/json, text/event-stream"}
    assert httpx.post(http_server, json=INITIALIZE, headers=accepts | given).status_code == status


@pytest.fixture(scope="module")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One server for the requests that it answers or refuses; it records nothing."""
    folder = tmp_path_factory.mktemp("served")
    folders = {f"APPRENTICE_{kind}_DIR": str(folder / kind) for kind in FOLDERS}
    with over_http(folder, script(folder, []), **folders) as (url, _):
        yield url


def test_http_listens_on_loopback_alone() -> None:
    with transport._listen(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_ctrl_c_ends_the_http_server_and_closes_the_run_in_flight(workspace: Path) -> None:
    model = script(workspace, [{"content": "One two.", "delay": 60}])
    with over_http(workspace, model) as (url, process):

        async def interrupted() -> None:
            async with Client(url) as client:
                with anyio.move_on_after(20):
                    await client.call_tool("summarize", {"text": "A text."}, progress_callback=interrupt)

        async def interrupt(progress: float, total: float | None, message: str | None) -> None:
            process.send_signal(signal.SIGINT)

        with contextlib.suppress(BaseException):  # whatever the SDK makes of a server that is gone
            asyncio.run(interrupted())
        assert process.wait(timeout=20) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
    assert (record().outcome, record().reason) == ("unknown", "cancelled")


def test_a_port_that_is_taken_is_told(workspace: Path, http_server: str, capsys: pytest.CaptureFixture[str]) -> None:
    port = http_server.rpartition(":")[2].removesuffix("/mcp")
    done = typed(capsys, "mcp", "serve", "--workspace", str(workspace), "--http", port)
    refused(done, 2, f"port {port} cannot be used", "0 takes any")


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_what_is_no_port_is_told(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(typed(capsys, "mcp", "serve", f"--http={port}"), 2, "is not a port")


def test_what_was_left_out_of_an_untrusted_folder_is_told_on_standard_error(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workspace / ".apprentice").mkdir()
    (workspace / ".apprentice" / "config.toml").write_text('[models]\ndefault = "openai:other"\n')
    with on_standard_input():
        done = typed(capsys, "mcp", "serve", "--workspace", str(workspace))
    assert done.returncode == 0
    assert "models.default is ignored until you trust this folder" in done.stderr
    assert done.stdout == ""


@pytest.mark.llama
def test_the_embedded_model_annotates_for_a_client(workspace: Path) -> None:
    """The real model, over both transports."""

    async def conversation(client: Client) -> Any:
        return await client.call_tool("annotate", {"text": RIVERS, "format": "json"})

    results = [talk(over_stdio(workspace, "local", **SHORT), conversation)]
    with over_http(workspace, "local", **SHORT) as (url, _):
        results.append(talk(url, conversation))
    for result in results:
        (paper,) = result.structured_content["papers"]
        assert paper["model"].startswith("SmolLM2-135M-Instruct")
        assert list(paper["annotation"]) == list(json.loads(annotation(0)))
        assert json.loads(result.content[0].text)["annotation"] == paper["annotation"]


def test_starting_it_imports_no_model_and_a_task_imports_no_mcp(workspace: Path) -> None:
    code = "import sys; import agent.commands.mcp, agent.commands.task, agent.session; print('mcp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"

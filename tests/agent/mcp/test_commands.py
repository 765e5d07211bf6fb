"""`apprentice mcp`, and the agent's own command line where servers are configured."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import config
from agent.commands import task
from tests import program
from tests.agent.mcp.conftest import Place, described
from tests.agent.mcp.test_connection import gone
from tests.in_process import typed
from tests.program import Done, Terminal, calling, record, script


@pytest.fixture
def apprentice(
    capsys: pytest.CaptureFixture[str], workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """A command, typed in the workspace."""
    monkeypatch.chdir(workspace)
    return lambda *words: typed(capsys, *words)


def added(place: Place, apprentice: Callable[..., Done]) -> None:
    """Add the test server as a person does."""
    done = apprentice("mcp", "add", "test", place.definition["command"], *place.definition["args"])
    assert done.returncode == 0, done.stderr


def brought(place: Place, workspace: Path) -> None:
    """Bring the test server along in the project's file."""
    (workspace / ".mcp.json").write_text(json.dumps({"mcpServers": {"test": place.definition}}))


def settings_file() -> Path:
    return config.config_dir() / "config.toml"


def test_a_server_is_added_listed_used_and_removed(place: Place, apprentice: Callable[..., Done]) -> None:
    assert "no MCP server is configured" in apprentice("mcp").stdout
    added(place, apprentice)
    assert "test (yours, not used yet)" in apprentice("mcp", "list").stdout
    assert "  echo: does echo" in apprentice("mcp", "tools", "test").stdout
    assert apprentice("mcp", "call", "test", "echo", '{"a": 1}').stdout == 'echo {"a": 1}\n'
    assert place.log[-1] == "end"
    assert apprentice("mcp", "remove", "test").returncode == 0
    assert "no MCP server is configured" in apprentice("mcp", "list").stdout


def test_adding_and_removing_leave_the_rest_of_the_file_as_it_is(apprentice: Callable[..., Done]) -> None:
    before = '# mine\nprivacy = "open"\n\n[budget]\nsteps = 7  # few\n'
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text(before)
    words = ("--env", "TOKEN=${TOKEN}", "--legacy", "one", "npx", "-y", "it's", "--flag=a b")
    assert apprentice("mcp", "add", *words).returncode == 0
    assert apprentice("mcp", "add", "--header", "X-Key=${KEY}", "two", "https://example.org/mcp").returncode == 0
    loaded, _ = config.load(Path("/nowhere"), trusted=False)
    one, two = loaded.mcp.servers["one"], loaded.mcp.servers["two"]
    assert (one.command, one.args, one.legacy) == ("npx", ["-y", "it's", "--flag=a b"], True)
    assert (one.env, two.url, two.headers) == ({"TOKEN": "${TOKEN}"}, "https://example.org/mcp", {"X-Key": "${KEY}"})
    assert settings_file().read_text().startswith(before)
    assert apprentice("mcp", "remove", "one").returncode == 0
    assert apprentice("mcp", "remove", "two").returncode == 0
    assert settings_file().read_text() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("add a__ü x", "cannot be a server's name"),
        ("add test", "needs a command or a URL"),
        ("add test https://x y", "more than a URL"),
        ("add --env A test x", "is not NAME=VALUE"),
        ("remove test", "there is no MCP server 'test'"),
        ("tools test", "There are: none."),
        ("call test echo [1]", "not a JSON object"),
        ("call test echo {", "not JSON"),
        ("frob", "has no action 'frob'"),
    ],
)
def test_wrong_use_is_told(apprentice: Callable[..., Done], words: str, said: str) -> None:
    done = apprentice("mcp", *shlex.split(words))
    assert done.returncode == 2
    assert said in done.stderr


def test_a_server_in_a_form_that_is_not_edited_is_left_alone(apprentice: Callable[..., Done]) -> None:
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text('mcp.servers.odd = { command = "x" }\n')
    assert "there is an MCP server 'odd' already" in apprentice("mcp", "add", "odd", "y").stderr
    assert "by hand" in apprentice("mcp", "remove", "odd").stderr
    assert settings_file().read_text() == 'mcp.servers.odd = { command = "x" }\n'


def test_no_flag_and_no_pipe_approves_a_projects_server(
    place: Place, apprentice: Callable[..., Done], workspace: Path
) -> None:
    brought(place, workspace)
    assert "test (the project's, not approved)" in apprentice("mcp", "list").stdout
    done = apprentice("mcp", "approve", "test")
    assert (done.returncode, "only by a person at a terminal" in done.stderr) == (3, True)
    model = script(workspace, [calling("test__echo"), {"content": "done"}])
    ran = program.run("do it", "--model", model, "--yes", "--allow", "mcp:test", cwd=workspace)
    assert "nobody approved it" in ran.stderr
    assert "There is no tool 'test__echo'" in ran.stderr
    assert not place.started


def test_a_person_approves_at_the_terminal_what_they_were_shown(
    place: Place, apprentice: Callable[..., Done], workspace: Path
) -> None:
    brought(place, workspace)
    place.offer(described("echo", "Says\x1b[2J it."))
    with Terminal("mcp", "approve", "test", cwd=workspace) as terminal:
        terminal.expect(str(place.folder / "log"))
        terminal.expect("Start it, to see its tools? [y/N]")
        assert not place.started
        terminal.type("y\r")
        assert "echo: Says[2J it." in terminal.expect("Approve them, exactly as they are now? [y/N]")
        terminal.type("y\r")
        terminal.expect("test is approved, with 1 tools")
        assert terminal.wait() == 0
    assert "test (the project's, 1 tools approved)" in apprentice("mcp", "list").stdout
    model = script(workspace, [calling("test__echo", a=1), {"content": "done"}])
    assert program.run("do it", "--model", model, "--allow", "mcp:test", cwd=workspace).returncode == 0
    place.offer(described("echo", "Says it, and more."), "new")
    shown = apprentice("mcp", "tools", "test").stdout
    assert "CHANGED echo: Says it, and more." in shown
    assert "NEW new" in shown


def test_a_change_is_shown_and_approved_again(
    place: Place, apprentice: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    added(place, apprentice)
    apprentice("mcp", "tools", "test")
    place.offer(described("echo", "Says more."), "fail")
    asked: list[str] = []

    async def yes(question: str) -> bool:
        asked.append(question)
        return True

    monkeypatch.setattr(task, "at_terminal", lambda: True)
    monkeypatch.setattr(task, "ask_on_terminal", yes)
    assert apprentice("mcp", "approve", "test").stdout == "test is approved, with 2 tools\n"
    assert "  CHANGED echo: Says more.\n  fail: does fail\n" in asked[1]
    assert "CHANGED" not in apprentice("mcp", "tools", "test").stdout
    listed = [json.loads(line) for line in apprentice("mcp", "tools", "test", "--json").stdout.splitlines()]
    assert [line["name"] for line in listed] == ["test__echo", "test__fail"]


def test_a_settings_file_that_does_not_parse_is_kept(apprentice: Callable[..., Done]) -> None:
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text("[mcp\n")
    done = apprentice("mcp", "add", "test", "x")
    assert (done.returncode, "not valid TOML" in done.stderr) == (2, True)
    assert settings_file().read_text() == "[mcp\n"


def test_a_no_at_the_terminal_starts_nothing(place: Place, apprentice: Callable[..., Done], workspace: Path) -> None:
    brought(place, workspace)
    with Terminal("mcp", "approve", "test", cwd=workspace) as terminal:
        terminal.expect("Start it, to see its tools? [y/N]")
        terminal.type("\r")
        terminal.expect("test is not approved")
        assert terminal.wait() == 1
    assert not place.started


def test_a_prompt_of_a_server_is_a_task(place: Place, apprentice: Callable[..., Done], workspace: Path) -> None:
    added(place, apprentice)
    model = script(workspace, [{"content": "an essay"}])
    assert program.run("/test:essay cats save to x.md", "--model", model, cwd=workspace).stdout == "an essay\n"
    said = next(message.content for message in record().messages if message.role == "user")
    assert said == 'Write about {"topic": "cats save to x.md"}'
    assert not (workspace / "x.md").exists()


def test_secrets_of_a_definition_never_reach_the_record(
    place: Place, apprentice: Callable[..., Done], workspace: Path
) -> None:
    place.offer("env")
    apprentice(
        "mcp", "add", "--env", "API_KEY=plain-and-long", "test", place.definition["command"], *place.definition["args"]
    )
    model = script(workspace, [calling("test__env"), {"content": "done"}])
    program.run("do it", "--model", model, "--allow", "mcp:test", cwd=workspace)
    observed = next(message.content for message in record().messages if message.role == "tool")
    assert "API_KEY" in observed
    assert "plain-and-long" not in observed


def test_a_run_that_calls_no_tool_starts_no_server(
    place: Place, apprentice: Callable[..., Done], workspace: Path
) -> None:
    added(place, apprentice)
    apprentice("mcp", "tools", "test")
    program.run("do it", "--model", script(workspace, [{"content": "done"}]), cwd=workspace)
    (place.folder / "log").unlink()
    assert program.run("do it", "--model", script(workspace, [{"content": "done"}]), cwd=workspace).stdout == "done\n"
    assert not place.started


def test_approved_tools_are_listed_with_their_server_and_none_is_started(
    place: Place, apprentice: Callable[..., Done], workspace: Path
) -> None:
    added(place, apprentice)
    before = apprentice("tools").stdout
    assert "test__echo" not in before
    assert "! of the MCP server test no tool is known: `apprentice mcp tools test` lists them" in before
    apprentice("mcp", "tools", "test")
    (place.folder / "log").unlink()
    listed = apprentice("tools").stdout
    assert "test__echo [mcp:test]\n    does echo\n" in listed
    assert "read_file [read, concurrent]" in listed
    assert "no tool is known" not in listed
    schemas = [json.loads(line) for line in apprentice("tools", "--json").stdout.splitlines()]
    assert "test__echo" in [schema["function"]["name"] for schema in schemas]
    apprentice("config", "set", "tools.disabled", "test__echo")
    assert "test__echo" not in apprentice("tools").stdout
    assert not place.started


def test_tools_of_a_project_are_listed_once_they_are_approved(
    place: Place, apprentice: Callable[..., Done], workspace: Path
) -> None:
    brought(place, workspace)
    listed = apprentice("tools").stdout
    assert "test__" not in listed
    assert "! of the MCP server test no tool is known: `apprentice mcp approve test` lists them" in listed
    assert not place.started


def test_tab_completes_the_name_of_an_approved_tool_anywhere_in_a_line(
    place: Place, apprentice: Callable[..., Done], workspace: Path
) -> None:
    added(place, apprentice)
    apprentice("mcp", "tools", "test")
    (place.folder / "log").unlink()
    with Terminal("chat", "--model", script(workspace, [{"content": "fine"}]), cwd=workspace) as terminal:
        terminal.expect("Ctrl-D leaves.")
        terminal.expect(">")
        terminal.type("use test__ann\t")
        terminal.expect("test__announce")
        terminal.type("\r")
        terminal.expect("■ success")
        terminal.expect("\n>")
        terminal.type("\x04")
        assert terminal.wait() == 0
    assert record().task == "use test__announce"
    assert not place.started


def test_ctrl_c_in_a_call_ends_the_server_and_keeps_the_record(
    place: Place, apprentice: Callable[..., Done], workspace: Path
) -> None:
    place.offer("hang")
    added(place, apprentice)
    model = script(workspace, [calling("test__hang"), {"content": "done"}])
    with Terminal("do it", "--model", model, "--allow", "mcp:test", cwd=workspace) as terminal:
        terminal.expect("→ test__hang")
        until = time.monotonic() + 20
        while not (place.started and "call hang" in place.log):
            assert time.monotonic() < until
            time.sleep(0.02)
        pressed = time.monotonic()
        terminal.type("\x03")
        terminal.expect("interrupted")
        assert terminal.wait() == 130
        assert time.monotonic() - pressed < 4
    assert gone(place.process)
    assert place.log[-2:] == ["cancelled", "end"]
    assert (record().outcome, record().reason) == ("unknown", "cancelled")


def test_a_killed_agent_leaves_no_server_behind(place: Place, apprentice: Callable[..., Done], workspace: Path) -> None:
    place.offer("hang")
    added(place, apprentice)
    model = script(workspace, [calling("test__hang"), {"content": "done"}])
    with Terminal("do it", "--model", model, "--allow", "mcp:test", cwd=workspace) as terminal:
        until = time.monotonic() + 20
        while not (place.started and "call hang" in place.log):
            assert time.monotonic() < until
            time.sleep(0.02)
        terminal.process.send_signal(signal.SIGKILL)
        terminal.process.wait()
    assert gone(place.process)


@pytest.mark.parametrize("configured", [False, True])
def test_the_sdk_is_imported_only_where_a_server_is_used(place: Place, workspace: Path, configured: bool) -> None:
    """Without a server nothing of MCP is loaded; with one whose tools are known, not the SDK either."""
    import os
    import subprocess

    if configured:
        settings_file().parent.mkdir(parents=True)
        definition = place.definition
        lines = ["[mcp.servers.test]", f"command = {json.dumps(definition['command'])}"]
        settings_file().write_text("\n".join([*lines, f"args = {json.dumps(definition['args'])}", ""]))
        assert program.run("mcp", "tools", "test", cwd=workspace).returncode == 0
        first = script(workspace, [{"content": "x"}])
        assert program.run("do it", "--model", first, cwd=workspace).returncode == 0
    model = script(workspace, [{"content": "done"}])
    command = [sys.executable, "-X", "importtime", *program.AGENT[1:], "do it", "--model", model]
    done = subprocess.run(command, cwd=workspace, capture_output=True, text=True, env=os.environ, check=True)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "pydantic" in loaded
    assert not {name for name in loaded if name.split(".")[0] in ("mcp", "mcp_types", "jsonschema", "anyio", "httpx2")}
    assert ("agent.mcp" in loaded) == configured

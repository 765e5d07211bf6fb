"""run_shell: consent, the command's surroundings, and that nothing it starts in its group outlives it."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConsentDenied, ToolError
from agent.redact import Redactor
from tests.tools.conftest import MakeContext
from tools import shell
from tools.registry import ToolContext, call
from tools.shell import run_shell, scrubbed


def run(context: ToolContext, command: str, **arguments: Any) -> str:
    return asyncio.run(call(run_shell, context, {"command": command, **arguments}))


@pytest.fixture
def context(make_context: MakeContext) -> ToolContext:
    return make_context(allowed={"shell"})


def alive(pid_file: Path) -> bool:
    """Whether the process whose id stands in the file runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{int(pid_file.read_text())}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(pid_file: Path) -> None:
    """Until the file holds something."""
    until = time.monotonic() + 10
    while time.monotonic() < until and not (pid_file.exists() and pid_file.read_text()):
        time.sleep(0.02)


def test_the_answer_has_the_exit_code_and_both_outputs_in_order(context: ToolContext) -> None:
    assert run(context, "echo one; echo two >&2; echo three; exit 3") == "exit code 3\none\ntwo\nthree\n"
    assert run(context, "true") == "exit code 0, no output"
    assert run(context, "kill -9 $$") == "ended by the signal SIGKILL, no output"


def test_the_command_runs_in_the_workspace_without_input(context: ToolContext, workspace: Path) -> None:
    assert run(context, "pwd; cat") == f"exit code 0\n{workspace}\n"


def test_the_question_shows_the_whole_command(make_context: MakeContext, workspace: Path) -> None:
    questions: list[str] = []

    async def ask(question: str) -> bool:
        questions.append(question)
        return False

    command = "echo a\necho \x1b[2K hidden " + "x" * 500
    with pytest.raises(ConsentDenied):
        run(make_context(ask=ask), command)
    assert questions == [f"Allow shell: run {command!r} in {workspace}?"]


@pytest.mark.parametrize("consent", [{}, {"yes": True}, {"allowed": {"net:example.org", "write"}}])
def test_nothing_runs_without_consent_for_the_shell(
    make_context: MakeContext, workspace: Path, consent: dict[str, Any]
) -> None:
    with pytest.raises(ConsentDenied) as caught:
        run(make_context(**consent), "touch ran")
    assert caught.value.hint == "To allow it, give --allow shell."
    assert list(workspace.iterdir()) == []


@pytest.mark.parametrize(("command", "seconds"), [("", None), (" \n", None), ("a\0b", None), ("true", 0), ("true", -1)])
def test_a_command_that_cannot_run_is_refused(context: ToolContext, command: str, seconds: float | None) -> None:
    with pytest.raises(ToolError, match="no command that can be run"):
        run(context, command, timeout=seconds)


def test_a_command_that_the_system_refuses_is_explained(context: ToolContext, workspace: Path) -> None:
    with pytest.raises(ToolError, match=r"could not be started: .*Argument list too long"):
        run(context, "true " + "x" * 3_000_000)
    workspace.rmdir()
    with pytest.raises(ToolError, match=r"could not be started: .*No such file"):
        run(context, "true")


def test_secrets_of_the_environment_are_not_handed_on(context: ToolContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "abcdefghij")
    monkeypatch.setenv("OPENAI_API_KEY", "something")
    monkeypatch.setenv("DATABASE_URL", "postgres://user:s3cretpass@db.example.org/x")
    monkeypatch.setenv("HARMLESS", "a value")
    names = {line.partition("=")[0] for line in run(context, "env").splitlines()}
    assert names & {"MY_SERVICE_TOKEN", "OPENAI_API_KEY", "DATABASE_URL"} == set()
    assert {"HARMLESS", "PATH", "HOME"} <= names


def test_scrubbing_keeps_what_programs_need() -> None:
    ordinary = {"PATH": "/usr/bin:/bin", "HOME": "/home/a", "LANG": "C.UTF-8", "TERM": "xterm", "PWD": "/x"}
    assert scrubbed({**ordinary, "AWS_SECRET_ACCESS_KEY": "x"}, Redactor({})) == {**ordinary, "PYTHONSAFEPATH": "1"}


def test_a_file_of_the_workspace_does_not_pose_as_a_module(context: ToolContext, workspace: Path) -> None:
    (workspace / "json.py").write_text("raise SystemExit('taken over')")
    assert run(context, "python3 -c 'import json; print(json.dumps(1))'") == "exit code 0\n1\n"


def test_a_secret_in_the_output_is_redacted(make_context: MakeContext) -> None:
    context = make_context(allowed={"shell"}, environment={"API_TOKEN": "correct-horse-battery"})
    answer = run(context, "printf 'correct-horse'; sleep 0.1; printf -- '-battery\\n'")
    assert answer == "exit code 0\n[redacted:environment-value]\n"


def test_the_time_out_ends_the_group_even_what_ignores_sigterm(context: ToolContext, workspace: Path) -> None:
    command = """
        trap '' TERM
        (trap '' TERM; echo $BASHPID > child; bash -c 'trap "" TERM; echo $$ > grandchild; while :; do sleep 1; done') &
        echo begun; while :; do sleep 1; done
    """
    started = time.monotonic()
    assert run(context, command, timeout=0.7) == "ended after 0.7 s, its time-out\nbegun\n"
    assert time.monotonic() - started < 2.5
    assert not alive(workspace / "child")
    assert not alive(workspace / "grandchild")


def test_a_group_that_heeds_sigterm_may_clean_up(context: ToolContext) -> None:
    answer = run(context, "trap 'echo cleaned; exit' TERM; while :; do sleep 0.05; done", timeout=0.4)
    assert answer.startswith("ended after 0.4 s, its time-out\n")
    assert "cleaned" in answer


def test_a_model_can_shorten_the_time_out_but_not_lengthen_it(make_context: MakeContext) -> None:
    context = make_context(allowed={"shell"}, shell_timeout=0.3)
    assert run(context, "sleep 20", timeout=60) == "ended after 0.3 s, its time-out, no output"
    assert run(context, "sleep 20") == "ended after 0.3 s, its time-out, no output"


def test_cancelling_ends_the_group_within_half_a_second(context: ToolContext, workspace: Path) -> None:
    async def cancelled() -> float:
        command = "trap '' TERM; echo $$ > pid; (trap '' TERM; echo $BASHPID > child; sleep 50) & sleep 50; sleep 50"
        running = asyncio.create_task(call(run_shell, context, {"command": command}))
        await asyncio.to_thread(wait_for, workspace / "child")
        started = time.monotonic()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return time.monotonic() - started

    assert asyncio.run(cancelled()) < 0.5
    assert not alive(workspace / "pid")
    assert not alive(workspace / "child")


def test_cancelling_twice_still_leaves_nothing_running(context: ToolContext, workspace: Path) -> None:
    async def cancelled() -> None:
        running = asyncio.create_task(call(run_shell, context, {"command": "trap '' TERM; echo $$ > pid; sleep 50"}))
        await asyncio.to_thread(wait_for, workspace / "pid")
        running.cancel()
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await asyncio.sleep(0.1)

    asyncio.run(cancelled())
    assert not alive(workspace / "pid")


def test_what_runs_in_the_background_ends_with_the_command(context: ToolContext, workspace: Path) -> None:
    started = time.monotonic()
    assert run(context, "sleep 50 & echo $! > pid; echo begun") == "exit code 0\nbegun\n"
    assert time.monotonic() - started < 2
    assert not alive(workspace / "pid")


def test_a_process_that_left_the_group_and_holds_the_pipe_does_not_hang_the_tool(
    context: ToolContext, workspace: Path
) -> None:
    """Such a process lives on, as the file's docstring says; the tool returns all the same."""
    started = time.monotonic()
    assert run(context, "setsid sleep 50 & echo $! > pid; sleep 0.2; echo begun") == "exit code 0\nbegun\n"
    assert time.monotonic() - started < 2
    os.kill(int((workspace / "pid").read_text()), 9)


def test_output_that_ends_before_the_command_does_not_end_it(context: ToolContext) -> None:
    assert run(context, "echo one; exec >&- 2>&-; sleep 0.2; exit 7") == "exit code 7\none\n"


@pytest.mark.parametrize("endless", ["yes", "tr '\\0' a < /dev/zero"])
def test_endless_output_is_ended_at_its_limit(
    context: ToolContext, monkeypatch: pytest.MonkeyPatch, endless: str
) -> None:
    monkeypatch.setattr(shell, "OUTPUT_LIMIT", 1_000_000)
    answer = run(context, endless)
    assert answer.startswith("ended after 1,000,000 bytes of output, which is the most\n")
    assert len(answer) < 9000
    (path,) = context.outputs.iterdir()
    assert 1_000_000 <= path.stat().st_size <= 1_100_000


def test_long_output_is_shown_in_part_and_whole_in_a_file(make_context: MakeContext) -> None:
    context = make_context(allowed={"shell"}, output_limit=400)
    answer = run(context, "seq 1 5000")
    (path,) = context.outputs.iterdir()
    assert path.read_text() == "".join(f"{number}\n" for number in range(1, 5001))
    assert answer.startswith("exit code 0\n1\n2\n")
    assert answer.endswith("4999\n5000\n")
    assert str(path) in answer


def test_output_that_is_no_utf_8_is_shown_with_marks(context: ToolContext) -> None:
    assert run(context, "printf 'caf\\351 gr\\303\\274n'") == "exit code 0\ncaf\ufffd grün"


def test_no_descriptor_is_left_open(context: ToolContext) -> None:
    run(context, "true")
    before = len(os.listdir("/proc/self/fd"))
    for command in ("true", "sleep 9", "yes | head -c 100000"):
        run(context, command, timeout=0.2)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_time_out_that_is_no_number_does_not_lift_the_limit(make_context: MakeContext) -> None:
    context = make_context(allowed={"shell"}, shell_timeout=0.3)
    started = time.monotonic()
    said = run(context, "sleep 5", timeout=float("nan"))
    assert time.monotonic() - started < 3
    assert said.startswith("ended after 0.3 s, its time-out")


def test_running_what_the_model_wrote_needs_the_network_too_if_it_uses_it(
    context: ToolContext, workspace: Path
) -> None:
    (workspace / "old.py").write_text("import socket\n")
    asyncio.run(asyncio.sleep(0.05))
    context.consent.taint.started = time.time()
    (workspace / "lib.py").write_text("import socket\n")
    (workspace / "made.sh").write_text("curl x\n")
    assert run(context, "python3 old.py").startswith("exit code 0")
    for command in ("python3 lib.py", "sh made.sh"):
        with pytest.raises(ConsentDenied, match="it uses the network"):
            run(context, command)
    assert run(context, "python3 -c 'import old'").startswith("exit code")
    context.consent.taint.written.add("lib.py")  # what the model wrote may be imported by anything
    with pytest.raises(ConsentDenied, match=r"'socket' in lib\.py"):
        run(context, "python3 -c 'import old'")
    assert run(context, "cat old.py").startswith("exit code 0")


def test_a_written_file_that_is_gone_or_no_text_is_passed_over(context: ToolContext, workspace: Path) -> None:
    (workspace / "data").write_bytes(b"\0")
    context.consent.taint.written.update({"gone.py", "data", "../up.py"})
    assert run(context, "python3 -c 1") == "exit code 0, no output"

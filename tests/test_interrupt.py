"""Ctrl-C: it ends a run within half a second, whatever the model is doing, and the record says so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.messages import Message, Route
from agent.run import Run
from tests.program import ABSTRACTS, AGENT, Terminal, annotation, calling, hear_interrupts, record, script

PATIENCE = 0.5
"""Seconds that a person waits after Ctrl-C."""


def alive(group: str) -> list[str]:
    """The processes of a group that have not ended."""
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            stats.append(path.read_text())
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return [" ".join(each) for each in fields if each[2] == group and each[0] != "Z"]


def interrupted(process: subprocess.Popen[bytes]) -> float:
    """Send SIGINT; the seconds until the process has ended."""
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(20)
    return time.monotonic() - started


@pytest.mark.llama
def test_ctrl_c_during_a_long_prompt_of_the_embedded_model_ends_it_within_half_a_second(workspace: Path) -> None:
    prompt = " ".join(entry["abstract"] for entry in ABSTRACTS)
    took = []
    for _ in range(3):  # the machine may be busy: what is measured is the fastest of three
        process = subprocess.Popen(
            [*AGENT, "sum this up: -", "--model", "local"],
            cwd=workspace,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"APPRENTICE_MODELS__THREADS": "1"},
            preexec_fn=hear_interrupts,
        )
        assert process.stdin
        assert process.stderr
        process.stdin.write(prompt.encode())
        process.stdin.close()
        assert "●".encode() in process.stderr.readline()
        time.sleep(1.5)  # the model is loaded, and its prompt of thousands of tokens is being evaluated
        assert process.poll() is None, "the prompt is long enough"
        took.append(interrupted(process))
        said = process.stderr.read().decode()
        process.stderr.close()
        assert process.stdout
        assert process.stdout.read() == b""
        process.stdout.close()
        assert process.returncode == 130
        assert "interrupted; what was done is on record" in said
        assert "Traceback" not in said
        entry = record()
        assert (entry.outcome, entry.reason) == ("unknown", "cancelled")
        assert entry.ended
        assert [message.role for message in entry.messages] == ["system", "user", "assistant"]
        assert (entry.messages[-1].content, entry.details[-1].error) == ("", "cancelled")
        if took[-1] <= PATIENCE:
            break
    assert min(took) <= PATIENCE, took


def test_ctrl_c_keeps_what_had_streamed_and_the_papers_that_were_finished(workspace: Path) -> None:
    rows = "".join(f'{{"abstract": "{ABSTRACTS[n]["abstract"]}"}}\n' for n in range(2))
    (workspace / "rows.jsonl").write_text(rows)
    model = script(workspace, [{"content": annotation(0)}, {"content": annotation(1), "delay": 60}])
    task = "/annotate rows.jsonl save to result.jsonl"
    with Terminal(task, "--model", model, cwd=workspace) as terminal:
        terminal.expect("[2/2]")
        until = time.monotonic() + 10
        while not record().task.endswith("rows.jsonl:2"):
            assert time.monotonic() < until
            time.sleep(0.05)
        terminal.type("\x03")
        started = time.monotonic()
        assert terminal.wait() == 130
        assert time.monotonic() - started < 5
    assert "kept in" in terminal.output
    assert len((workspace / "result.jsonl.partial").read_text().splitlines()) == 2
    assert not (workspace / "result.jsonl").exists()
    assert record().reason == "cancelled"


def test_ctrl_c_ends_a_shell_command_with_all_that_it_started(workspace: Path) -> None:
    command = "echo $$ > pid; (sleep 300 & sleep 300)"
    model = script(workspace, [calling("run_shell", command=command)])
    with Terminal("run it", "--allow", "shell", "--model", model, cwd=workspace) as terminal:
        terminal.expect("→ run_shell")
        until = time.monotonic() + 10
        while not (workspace / "pid").exists() or not (workspace / "pid").read_text():
            assert time.monotonic() < until
            time.sleep(0.02)
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert alive((workspace / "pid").read_text().strip()) == []
    assert record().reason == "cancelled"


def test_ctrl_c_at_a_question_is_no_yes(workspace: Path) -> None:
    model = script(workspace, [calling("run_shell", command="touch ran"), {"content": "done"}])
    with Terminal("run it", "--model", model, cwd=workspace) as terminal:
        terminal.expect("[y/N]")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert not (workspace / "ran").exists()
    assert record().reason == "cancelled"


def test_ctrl_c_while_a_run_is_being_opened_closes_its_record(bench: Callable[..., Any]) -> None:
    desk = bench([])

    async def cancelled_at_once() -> None:
        task = asyncio.ensure_future(opened())
        desk.session.emit = lambda event: task.cancel()
        await task

    async def opened() -> None:
        async with Run(desk.session, "a task", Route("scripted", "flag", "r"), messages=[Message("user", "a task")]):
            raise AssertionError("the cancellation comes before this")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled_at_once())
    desk.session.store.flush()
    [entry] = desk.session.store.runs()
    assert (entry.outcome, entry.reason, bool(entry.ended)) == ("unknown", "cancelled", True)

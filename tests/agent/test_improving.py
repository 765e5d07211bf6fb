"""`improve.every`: the agent starts an improvement by itself, in a process of its own, once, and says so."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import config, improving
from agent.redact import Redactor
from agent.settings import Settings
from agent.traces import TraceStore
from tests import program

STARTED = "good or corrected runs are new: improve annotate was started in the background"


def folder() -> Path:
    return config.data_dir(Settings()) / "improve" / "annotate"


def annotate(workspace: Path, number: int, **settings: str) -> program.Done:
    """One abstract, annotated by a scripted model in a process of its own, as a pipe would start it."""
    (workspace / "paper.txt").write_text(program.ABSTRACTS[number]["abstract"])
    model = program.script(workspace, [{"content": program.annotation(number)}])
    done = program.run("/annotate paper.txt", "--model", model, cwd=workspace, **settings)
    assert done.returncode == 0, done.stderr
    return done


def two_good_runs(workspace: Path) -> None:
    for number in range(2):
        assert STARTED not in annotate(workspace, number).stderr
        assert program.run("traces", "label", "last", "good", cwd=workspace).returncode == 0


def processes() -> Iterator[int]:
    """The improvements that this test's agent started: their data folder is this test's."""
    own = f"APPRENTICE_DATA_DIR={os.environ['APPRENTICE_DATA_DIR']}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, environment = (entry / "cmdline").read_bytes().split(b"\0"), (entry / "environ").read_bytes()
        except OSError:
            continue
        if own in environment.split(b"\0") and b"improve" in words:
            yield int(entry.name)


def log_with(text: str, seconds: float = 40) -> str:
    """The log, once it holds a text."""
    until = time.monotonic() + seconds
    while text not in (said := (folder() / "log").read_text() if (folder() / "log").exists() else ""):
        assert time.monotonic() < until, said
        time.sleep(0.05)
    return said


def test_it_is_off_unless_it_is_set(workspace: Path) -> None:
    two_good_runs(workspace)
    annotate(workspace, 2)
    assert not folder().exists()


def test_after_enough_good_runs_it_starts_once_in_the_background(workspace: Path) -> None:
    two_good_runs(workspace)
    every = {"APPRENTICE_IMPROVE__EVERY": "2"}
    done = annotate(workspace, 2, **every)
    assert f"2 {STARTED}; its log is {folder() / 'log'}" in done.stderr
    number = next(processes())
    assert os.getpriority(os.PRIO_PROCESS, number) == 10
    assert os.getsid(number) != os.getsid(0)
    said = log_with("not promoted: ")
    assert "40 are needed" in said
    assert json.loads((folder() / "last.json").read_text())["verified"] == 2
    assert STARTED not in annotate(workspace, 3, **every).stderr, "none of the runs since then is good"
    assert STARTED not in annotate(workspace, 3, APPRENTICE_IMPROVE__EVERY="1").stderr


def start(every: int) -> str:
    """What is told when a task has ended well, with this setting."""
    store = TraceStore.open(config.data_dir(Settings()) / "traces.db", Redactor({}))
    try:
        return improving.start_if_due(Settings.model_validate({"improve": {"every": every}}), store)
    finally:
        store.close()


def test_it_waits_for_enough_runs_and_for_one_that_is_at_work(workspace: Path) -> None:
    two_good_runs(workspace)
    assert start(0) == start(3) == ""
    folder().mkdir(parents=True)
    with (folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert start(1) == ""
    assert not (folder() / "log").exists()
    assert STARTED in start(1)
    log_with("not promoted: ")


def test_that_it_cannot_start_is_told(workspace: Path) -> None:
    two_good_runs(workspace)
    folder().parent.write_text("a file where the folder should be")
    assert start(1).startswith("improve could not be started: ")


def test_in_a_chat_it_starts_after_a_task_too(workspace: Path) -> None:
    two_good_runs(workspace)
    model = program.script(workspace, [{"content": "Two."}])
    piped = b"how many are there?\n"
    done = program.run("chat", "--model", model, cwd=workspace, stdin=piped, APPRENTICE_IMPROVE__EVERY="2")
    assert STARTED in done.stderr, done.stderr
    log_with("not promoted: ")


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"verified": "many"}'])
def test_an_unreadable_note_counts_as_none(workspace: Path, text: str) -> None:
    folder().mkdir(parents=True)
    (folder() / "last.json").write_text(text)
    assert improving._last(folder()) == 0

"""When the agent starts `apprentice improve` by itself: `improve.every` new good or corrected runs since the last time.

It runs in a process of its own at low priority, one at a time, and outlives the one that started it. Its output is in
DATA/improve/SKILL/log.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.config import data_dir
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.traces import RunSummary, TraceStore

SKILL = "annotate"
"""The one skill that `improve` knows how to measure."""
ROOT = Path(__file__).resolve().parent.parent
NICENESS = 10
PROGRAM = f"""
import os, sys
if os.fork():
    os._exit(0)
os.setsid()
os.nice({NICENESS})
sys.path.insert(0, {str(ROOT)!r})
from agent.cli import main
main()
"""
"""It leaves its parent at once, so that nobody has to wait for it."""


def start_if_due(settings: Settings, store: TraceStore) -> str:
    """Start `apprentice improve` in the background if it is due.

    Args:
        settings: `improve.every`; 0 is never.
        store: the record.

    Returns:
        A line for the person; empty if nothing was started.
    """
    folder = data_dir(settings) / "improve" / SKILL
    if not settings.improve.every or _at_work(folder):
        return ""
    now = verified(store.runs(limit=-1, skill=SKILL))
    new = now - _last(folder)
    if new < settings.improve.every:
        return ""
    try:
        log = _start(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"improve could not be started: {error}"
    return f"{new} good or corrected runs are new: improve {SKILL} was started in the background; its log is {log}"


def remember(folder: Path, settings: Settings) -> None:
    """Note, as an improvement begins, how many runs are verified: those that come after it count for the next one."""
    from agent import specialists
    from agent.redact import Redactor
    from agent.traces import TraceStore

    store = TraceStore.open(data_dir(settings) / "traces.db", Redactor())
    try:
        count = verified(store.runs(limit=-1, skill=SKILL))
    finally:
        store.close()
    specialists.write_json(folder / "last.json", {"time": specialists.now(), "verified": count})


def verified(runs: Sequence[RunSummary]) -> int:
    """How many runs a person corrected or called good."""
    return sum(run.corrected or run.labels.get("verdict") == "good" for run in runs)


def _last(folder: Path) -> int:
    try:
        return int(json.loads((folder / "last.json").read_text("utf-8"))["verified"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _at_work(folder: Path) -> bool:
    """Whether an improvement holds the lock."""
    with contextlib.suppress(OSError):
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
    return False


def _start(folder: Path) -> Path:
    """Start the process, its output appended to the log. `-P`: no file of the current folder poses as a module."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("a", encoding="utf-8") as output:
        output.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n")
        output.flush()
        command = [sys.executable, "-P", "-c", PROGRAM, "improve", SKILL]
        subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=True)
    return log

"""`apprentice traces correct` and `label`: what a person says about runs, beside what was recorded."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import correction
from agent.commands.record import OpenStore, resolve
from agent.errors import ApprenticeError, InputError, UsageError

if TYPE_CHECKING:
    from agent.messages import Trajectory
    from agent.traces import TraceStore


def add_actions(commands: Any) -> None:
    """Add `correct` and `label` to the actions of `traces`."""
    correct = commands.add_parser("correct", help="record what a run should have answered")
    correct.add_argument("id", nargs="?", default="", metavar="RUN")
    correct.add_argument(
        "file", nargs="?", default="", metavar="FILE", help="the annotation (JSON, or as saved), or the answer; - pipes"
    )
    correct.add_argument(
        "--batch", default="", metavar="FILE", help='many: a line each of {"run": ID, "annotation": {…} or "answer": …}'
    )
    correct.set_defaults(run=correct_runs)
    label = commands.add_parser("label", help="say that a run is good or bad")
    label.add_argument("id", metavar="RUN")
    label.add_argument("verdict", choices=("good", "bad", "none"), help="none takes a label away")
    label.set_defaults(run=label_run)


async def label_run(options: argparse.Namespace) -> int:
    with OpenStore() as store:
        run_id = resolve(store, options.id)
        store.label(run_id, verdict=None if options.verdict == "none" else options.verdict)
    said = "has no label any more" if options.verdict == "none" else f"is labelled {options.verdict}"
    print(f"run {run_id} {said}")
    return 0


async def correct_runs(options: argparse.Namespace) -> int:
    if bool(options.batch) == bool(options.id) or (options.id and not options.file):
        raise UsageError("say which run and which file", "traces correct RUN FILE, or traces correct --batch FILE.")
    text = await asyncio.to_thread(_text, options.batch or options.file)
    with OpenStore() as store:
        if options.batch:
            count = _correct_batch(store, text, options.batch)
            print(f"{count} correction{'' if count == 1 else 's'} recorded")
        else:
            run_id = resolve(store, options.id)
            _tell(run_id, _checked(store, run_id, text), store)
    return 0


def _tell(run_id: str, found: correction.Correction, store: TraceStore) -> None:
    store.correct([(run_id, found.answer)])
    for doubt in found.doubts:
        sys.stderr.write(f"! {doubt}\n")
    print(f"the correction of run {run_id} is recorded")


def _checked(store: TraceStore, run_id: str, text: str) -> correction.Correction:
    """A correction that fits its run. Raises InputError, also for a run that is made of others."""
    run = store.get(run_id)
    parts = store.runs(parent=run_id)
    if parts and not _answered(run):
        ids = ", ".join(part.id for part in reversed(parts))
        raise InputError(f"run {run_id} has no answer of its own: it is made of {len(parts)} runs", f"Correct {ids}.")
    return correction.check(run, text)


def _answered(run: Trajectory) -> bool:
    return any(message.role == "assistant" for message in run.messages)


def _correct_batch(store: TraceStore, text: str, name: str) -> int:
    """Record every line's correction, or none of them. Raises InputError that names the line."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            run_id, given = _entry(line)
            exact = store.resolve(run_id)
            found.append((exact, _checked(store, exact, given).answer))
        except ApprenticeError as error:
            hint = f"{error.hint} Nothing was recorded.".strip()
            raise InputError(f"line {number} of {name}: {error.message}", hint) from None
    if not found:
        raise InputError(f"{name} holds no correction")
    store.correct(found)
    return len(found)


def _entry(line: str) -> tuple[str, str]:
    """A run's id and its correction as text."""
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise InputError(f"it is not JSON: {error}") from None
    form = 'A line is {"run": ID, "annotation": {…}} or {"run": ID, "answer": "…"}.'
    if not isinstance(entry, dict) or not isinstance(entry.get("run"), str) or not entry["run"]:
        raise InputError("it names no run", form)
    if isinstance(entry.get("annotation"), dict):
        return entry["run"], json.dumps(entry["annotation"], ensure_ascii=False)
    if isinstance(entry.get("answer"), str):
        return entry["run"], entry["answer"]
    raise InputError("it holds neither an annotation nor an answer", form)


def _text(name: str) -> str:
    """The text of a file, or of standard input for `-`. Raises InputError."""
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = "standard input" if name == "-" else name
        raise InputError(f"{where} is not UTF-8 (byte {error.start})", "Convert it first, e.g. with iconv.") from None

"""Does the record survive SIGKILL? Processes run real tasks on one trace store and are killed at random moments.

`python -m evals.bench.kills [--kills 200] [--processes 4] [--seed 0]` starts the command line with a scripted model
that reads a file at every turn, kills each process at a random moment, and then checks that every step and every
observation whose line was finished on its output is in the store, unchanged, and that SQLite finds the file sound.
Exits 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from agent.messages import Json, Trajectory
from agent.redact import Redactor
from agent.traces import TraceStore

ROOT = Path(__file__).resolve().parents[2]
TURNS = 2000
LONGEST = 1.0
"""Seconds after its first line within which a process is killed."""
STARTING = 0.1
"""The share of processes that are killed while they start, before any line."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What one killed process had printed: whole lines only."""

    events: list[Json]
    signalled: bool


@dataclass(frozen=True, slots=True)
class Result:
    """What the experiment found. `lost` has a sentence for each printed line that is not on record."""

    processes: list[Killed]
    lost: list[str]
    problems: list[str]
    runs: int

    @property
    def steps(self) -> list[int]:
        """How many steps each process had printed."""
        return [sum(event["event"] == "step" for event in process.events) for process in self.processes]

    @property
    def sound(self) -> bool:
        return not self.lost and not self.problems and all(process.signalled for process in self.processes)


def experiment(folder: Path, kills: int, processes: int, seed: int) -> Result:
    """Kill so many processes, so many at once, and check the store.

    Args:
        folder: an empty folder for the store and the outputs.
        kills: how many processes are started and killed.
        processes: how many of them write at the same time.
        seed: of the random moments.
    """
    (folder / "notes.txt").write_text("".join(f"line {number}\n" for number in range(TURNS + 1)))
    (folder / "script.jsonl").write_text("".join(json.dumps(_turn(number)) + "\n" for number in range(1, TURNS + 1)))
    chance = random.Random(seed)
    moments = [chance.uniform(0, LONGEST) * (-1 if chance.random() < STARTING else 1) for _ in range(kills)]
    with ThreadPoolExecutor(processes) as pool:
        ended = list(pool.map(lambda job: _kill_one(folder, *job), enumerate(moments)))
    store = TraceStore.open(folder / "data" / "traces.db", Redactor())
    try:
        lost = [sentence for process in ended for sentence in _lost(store, process)]
        problems = store.verify() + ([store.notice] if store.notice else [])
        return Result(ended, lost, problems, store.count())
    finally:
        store.close()


def _turn(number: int) -> Json:
    """The model's turn: each reads another line, so that no two are alike."""
    call = {"name": "read_file", "arguments": {"path": "notes.txt", "start": number, "end": number}}
    return {"thought": f"turn {number}", "tool_calls": [call], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


def _kill_one(folder: Path, number: int, moment: float) -> Killed:
    """Start a process and kill it `moment` seconds after its first line; if that is negative, soon after its start."""
    printed = folder / f"printed-{number}.jsonl"
    command = [sys.executable, str(ROOT / "agent.py"), "read on", "--model", f"scripted:{folder / 'script.jsonl'}"]
    command += ["--json", "--workspace", str(folder), "--max-steps", str(TURNS)]
    environment = {**os.environ, "APPRENTICE_BUDGET__TOKENS": "100000000"}
    for kind in ("DATA", "CONFIG", "CACHE"):
        environment[f"APPRENTICE_{kind}_DIR"] = str(folder / kind.lower())
    with printed.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.DEVNULL, env=environment, cwd=folder)
        if moment < 0:
            time.sleep(-moment / 4)
        else:
            _wait_for_line(process, printed)
            time.sleep(moment)
        process.kill()
    signalled = process.wait() == -signal.SIGKILL
    whole = printed.read_bytes().rpartition(b"\n")[0].splitlines()
    return Killed([json.loads(line) for line in whole], signalled)


def _wait_for_line(process: subprocess.Popen[bytes], printed: Path) -> None:
    while process.poll() is None and not printed.stat().st_size:
        time.sleep(0.005)


def _lost(store: TraceStore, process: Killed) -> list[str]:
    """The printed steps and observations that are not on record as they were printed."""
    if not process.events:
        return []
    run = store.get(str(process.events[0]["run"]))
    turns = [message.thought for message in run.messages if message.role == "assistant"]
    lost = []
    for event in process.events:
        if event["event"] == "step" and turns[event["number"] - 1 : event["number"]] != [f"turn {event['number']}"]:
            lost.append(f"run {run.id}: step {event['number']} was printed and is not on record")
        if event["event"] == "observation" and not _observed(run, event):
            lost.append(f"run {run.id}: the observation of {event['id']} was printed and is not on record")
    return lost


def _observed(run: Trajectory, event: Json) -> bool:
    return any(
        message.role == "tool" and message.tool_call_id == event["id"] and message.content == event["content"]
        for message in run.messages
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="SIGKILL real runs at random moments and check the record.")
    parser.add_argument("--kills", type=int, default=200, help="processes to kill (default 200)")
    parser.add_argument("--processes", type=int, default=4, help="writing at once (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments (default 0)")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = experiment(Path(folder), options.kills, options.processes, options.seed)
    steps = result.steps
    observations = sum(event["event"] == "observation" for process in result.processes for event in process.events)
    print(f"{len(steps)} processes, {options.processes} at once, killed in {time.monotonic() - started:.0f} s")
    print(f"killed by SIGKILL: {sum(process.signalled for process in result.processes)}")
    print(
        f"runs on record: {result.runs}; killed before their first line: {sum(not p.events for p in result.processes)}"
    )
    print(f"printed: {sum(steps)} steps (median {median(steps):.0f} a process), {observations} observations")
    print(f"printed but not on record: {len(result.lost)}")
    print(f"integrity_check and hashes: {'ok' if not result.problems else '; '.join(result.problems[:5])}")
    for sentence in result.lost[:10]:
        print(f"  {sentence}")
    return 0 if result.sound else 1


if __name__ == "__main__":
    raise SystemExit(main())

"""Is every bead closed exactly once? Two workers share a job; one of them gets SIGKILL and is started again.

`python -m evals.bench.beads [--rounds 20] [--seed 0]` makes a job of 12 beads that depend on each other, starts
`apprentice work` twice on it, kills one of them at a random moment, starts it again, and waits for both. Then it
checks what the file said at every moment, what the workers printed, and what is on record. Exits 1 if anything is
wrong.
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
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from agent.messages import Json, Trajectory
from agent.redact import Redactor
from agent.traces import TraceStore

ROOT = Path(__file__).resolve().parents[2]
NEEDS = ((), (), (0,), (0, 1), (1,), (2,), (3,), (3, 4), (5, 6), (7,), (8, 9), (10,))
"""Which beads each of the twelve waits for, by number: at most places two can be done at once, at the ends one."""
REPLY = {"content": "It is done.", "delay": 0.1}
LONGEST = 1.5
"""Seconds after the first bead was begun within which one worker is killed."""
PATIENCE = 120.0
"""Seconds that a round may take."""


@dataclass
class Round:
    """What one round found. `problems` has a sentence for each thing that is wrong."""

    killed_holding: bool = False
    """The killed worker held a bead when it died."""
    begun: int = 0
    """Runs on record: more than 12 where a bead was begun anew."""
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


class Watch:
    """Reads the beads' file over and over, and keeps every state in which it saw each bead, in order."""

    def __init__(self, path: Path) -> None:
        self.path, self.states = path, dict[str, list[tuple[str, str, str]]]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        self._note()

    def _look(self) -> None:
        seen = 0
        while not self._over.wait(0.002):
            if (now := self.path.stat().st_ino) != seen:
                seen = now
                self._note()

    def _note(self) -> None:
        for entry in entries(self.path):
            state = (entry["status"], entry.get("assignee", ""), entry.get("closed_at") or "")
            states = self.states.setdefault(entry["id"], [])
            if state not in states[-1:]:
                states.append(state)


def entries(path: Path) -> list[Json]:
    """The beads of a file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def one_round(folder: Path, seed: int) -> Round:
    """Two workers on one job in a folder, one of them killed and started again.

    Args:
        folder: an empty folder.
        seed: of the victim and the moment.
    """
    chance, path, found = random.Random(seed), folder / ".beads" / "issues.jsonl", Round()
    path.parent.mkdir()
    path.write_text("".join(json.dumps(_bead(number)) + "\n" for number in range(len(NEEDS))))
    (folder / "replies.jsonl").write_text((json.dumps(REPLY) + "\n") * 50)
    started, watch = time.monotonic(), Watch(path)
    workers = [_start(folder, f"worker-{number}") for number in range(2)]
    _wait_until_begun(path, started)
    time.sleep(chance.uniform(0, LONGEST))
    victim = workers[chance.randrange(2)]
    victim.kill()
    died = time.time()
    if victim.wait() == -signal.SIGKILL:
        found.killed_holding = any(json.loads(file.read_text()).get("pid") == victim.pid for file in _holders(folder))
        workers.append(_start(folder, "worker-again"))
    for worker in workers:
        code = worker.wait(PATIENCE)
        if worker is not victim and code:
            found.problems.append(f"a worker ended with {code}")
    watch.end()
    found.seconds = time.monotonic() - started
    found.problems += _wrong_in_file(entries(path), watch.states, _holders(folder))
    found.problems += _printed_twice(folder)
    runs = _runs(folder)
    found.begun = len(runs)
    found.problems += _wrong_on_record(entries(path), runs, died)
    return found


def _bead(number: int) -> Json:
    name = f"job-{number}"
    links = [{"issue_id": name, "depends_on_id": f"job-{other}", "type": "blocks"} for other in NEEDS[number]]
    return {
        "_type": "issue",
        "id": name,
        "title": f"part {number}",
        "status": "open",
        "priority": 2,
        "dependencies": links,
    }


def _start(folder: Path, name: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "agent.py"), "work", "--json", "--model", "scripted:replies.jsonl"]
    places = {f"APPRENTICE_{kind}_DIR": str(folder / kind.lower()) for kind in ("DATA", "CONFIG", "CACHE")}
    environment = {**os.environ, **places, "APPRENTICE_BEADS__POLL": "0.05", "APPRENTICE_BEADS__BD": "false"}
    with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as complaints:
        return subprocess.Popen(command, cwd=folder, stdout=out, stderr=complaints, env=environment)


def _wait_until_begun(path: Path, started: float) -> None:
    while all(entry["status"] == "open" for entry in entries(path)):
        if time.monotonic() - started > PATIENCE:
            raise SystemExit("no worker began a bead")
        time.sleep(0.005)


def _holders(folder: Path) -> list[Path]:
    return list((folder / ".beads" / "apprentice").glob("*.json"))


def _wrong_in_file(
    beads: Sequence[Json], states: dict[str, list[tuple[str, str, str]]], holders: list[Path]
) -> list[str]:
    """What the file says at the end, and whether a closed bead ever changed again."""
    wrong = [f"{bead['id']} is {bead['status']}" for bead in beads if bead["status"] != "closed"]
    wrong += [f"{path.name} is left over" for path in holders]
    for name, seen in states.items():
        closed = [state for state in seen if state[0] == "closed"]
        if len(closed) != 1 or seen[-1] != closed[0]:
            wrong.append(f"{name} was seen as {seen}")
    return wrong


def _printed_twice(folder: Path) -> list[str]:
    """The beads that were said to be closed more than once, by any worker."""
    lines = [line for file in folder.glob("*.out") for line in file.read_text().splitlines() if line.endswith("}")]
    said = [event["text"] for line in lines if (event := json.loads(line))["event"] == "notice"]
    counts = Counter(text.removesuffix(" is closed") for text in said if text.endswith(" is closed"))
    return [f"{name} was closed {count} times" for name, count in counts.items() if count > 1]


def _runs(folder: Path) -> list[Trajectory]:
    store = TraceStore.open(folder / "data" / "traces.db", Redactor({}))
    try:
        return list(store.each())
    finally:
        store.close()


def _wrong_on_record(beads: Sequence[Json], runs: Sequence[Trajectory], died: float) -> list[str]:
    """Whether each bead has the run that closed it, no two runs had it at once, and none began before its time."""
    wrong = []
    closed = {
        bead["id"]: datetime.fromisoformat(bead["closed_at"]).timestamp() for bead in beads if bead.get("closed_at")
    }
    for number, bead in enumerate(beads):
        name = bead["id"]
        own = sorted((run for run in runs if run.labels.get("bead") == name), key=lambda run: run.started)
        by = [run for run in own if bead.get("close_reason") == f"done in run {run.id}"]
        if len(by) != 1 or by[0].outcome != "success":
            wrong.append(f"{name} has no run on record that closed it")
        ends = [run.ended or died for run in own]
        if any(later.started < end for later, end in zip(own[1:], ends[:-1], strict=True)):
            wrong.append(f"{name} was held by two at once")
        before = [closed.get(f"job-{other}", died) for other in NEEDS[number]]
        if any(run.started < end for run in own for end in before):
            wrong.append(f"{name} was begun before what it waits for was closed")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Two workers share a job of 12 beads, and one is killed.")
    parser.add_argument("--rounds", type=int, default=20, help="how often (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the first round's victim and moment (default 0)")
    options = parser.parse_args()
    rounds = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(one_round(Path(folder), options.seed + number))
        for problem in rounds[-1].problems:
            print(f"round {number}: {problem}", flush=True)
    wrong = sum(bool(each.problems) for each in rounds)
    print(f"{len(rounds)} rounds of {len(NEEDS)} beads, two workers, one killed: {wrong} with a problem")
    print(f"killed while it held a bead: {sum(each.killed_holding for each in rounds)}")
    print(f"beads begun anew: {sum(each.begun - len(NEEDS) for each in rounds)}")
    print(f"seconds a round: {sum(each.seconds for each in rounds) / max(1, len(rounds)):.1f}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Many runs at once in one process: what a step takes beside its model, what a run takes of memory, and the record.

`python -m evals.bench.concurrent [--runs 32] [--steps 20] [--delay 0.2]` starts that many runs of the loop at once,
each with a scripted model that takes `delay` seconds a reply and reads another line of a file at every turn. A step is
the time between two questions to the same model: its reply, the tool, and the record. Exits 1 if the record is not
complete, or a limit (5 ms a step at the 95th percentile beside the delay, 2 MiB a run) is not kept.

The runs begin at random moments within one delay: models that answer all at the same instant, step after step, are
what `--together` measures. Beside the steps it prints how late a bare `asyncio.sleep` wakes in as many tasks on the
same machine at the same time of day: that is in each step and is not ours.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import random
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from agent.consent import Consent
from agent.loop import Loop
from agent.messages import Event, Json, Message, Route
from agent.models.base import Delta, Reply
from agent.models.scripted import Scripted
from agent.redact import Redactor
from agent.run import Run
from agent.session import Session
from agent.settings import Settings
from agent.traces import TraceStore
from tools import registry
from tools.workspace import Workspace

LIMIT_MS = 5.0
LIMIT_MIB = 2.0
WATCHED = 0.05
"""Seconds between two looks at the memory."""


class Timed(Scripted):
    """A scripted model that notes when it is asked."""

    def __init__(self, replies: Sequence[Json]) -> None:
        super().__init__(replies)
        self.asked: list[float] = []

    async def chat(self, messages: Sequence[Message], **request: Any) -> AsyncIterator[Delta | Reply]:
        self.asked.append(time.perf_counter())
        async for piece in super().chat(messages, **request):
            yield piece


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured: milliseconds of each step beside the delay, MiB a run, and what is missing on record."""

    steps: list[float]
    memory: float
    missing: list[str]

    @property
    def p95(self) -> float:
        return quantiles(self.steps, n=20)[-1]


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(folder: Path, runs: int, steps: int, delay: float, *, together: bool = False) -> Measured:
    """Do the runs, after a short one that warms up.

    Args:
        folder: an empty folder.
        runs: how many at once.
        steps: calls of each, before its answer.
        delay: seconds that a reply takes.
        together: all begin at the same instant, not at random moments within one delay.
    """
    chance = random.Random(0)
    starts = [0.0 if together else chance.uniform(0, delay) for _ in range(runs)]
    (folder / "notes.txt").write_text("".join(f"line {number}\n" for number in range(1, steps + 1)))
    session = _session(folder, steps)
    asyncio.run(_all(session, [Timed(_replies(2, 0))], [0.0]))
    gc.collect()
    models = [Timed(_replies(steps, delay)) for _ in range(runs)]
    with _watched() as memory:
        ids = asyncio.run(_all(session, models, starts))
    times = [later - asked for model in models for asked, later in zip(model.asked, model.asked[1:], strict=False)]
    missing = [sentence for run_id in ids for sentence in _missing(session.store, run_id, steps)]
    missing += session.store.verify()
    session.store.close()
    return Measured([(each - delay) * 1000 for each in times], (max(memory) - memory[0]) / runs / 2**20, missing)


@contextlib.contextmanager
def _watched() -> Iterator[list[int]]:
    """What `resident` says before and, every so often, meanwhile; beside the steps, since reading it takes as long as
    a third of one."""
    found, over = [resident()], threading.Event()

    def watch() -> None:
        while not over.wait(WATCHED):
            found.append(resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
        found.append(resident())


def _replies(steps: int, delay: float) -> list[Json]:
    turns: list[Json] = [
        {
            "thought": f"turn {number}",
            "delay": delay,
            "tool_calls": [{"name": "read_file", "arguments": {"path": "notes.txt", "start": number, "end": number}}],
        }
        for number in range(1, steps + 1)
    ]
    return [*turns, {"content": "All is read.", "delay": delay}]


def _session(folder: Path, steps: int) -> Session:
    settings = Settings.model_validate({"budget": {"steps": steps + 1, "tokens": 10**9}})
    redactor, workspace, consent = Redactor(), Workspace(folder), Consent()
    context = registry.ToolContext(workspace, consent, settings, redactor, folder / "outputs", folder / "cache")
    store = TraceStore.open(folder / "data" / "traces.db", redactor)
    return Session(settings, store, _nobody, consent, workspace, registry.load([]), context, {}, folder / "data")


def _nobody(event: Event) -> None:
    """Nobody looks on."""


async def _all(session: Session, models: Sequence[Timed], starts: Sequence[float]) -> list[str]:
    """Run all of them at once, each from its own second on; their ids."""

    async def one(number: int, model: Timed) -> str:
        await asyncio.sleep(starts[number])
        address = f"timed-{number}"
        session.models[address] = model
        async with Run(session, "read on", Route(address, "flag", "measured")) as run:
            await Loop(run, address, session.tools).answer("read on")
        return run.id

    ids = await asyncio.gather(*(one(number, model) for number, model in enumerate(models)))
    session.store.flush()
    return ids


async def lateness(tasks: int, naps: int, delay: float) -> list[float]:
    """By how many milliseconds a bare sleep is late, in so many tasks at once."""
    late: list[float] = []

    async def nap() -> None:
        for _ in range(naps):
            began = time.perf_counter()
            await asyncio.sleep(delay)
            late.append((time.perf_counter() - began - delay) * 1000)

    await asyncio.gather(*(nap() for _ in range(tasks)))
    return late


def _missing(store: TraceStore, run_id: str, steps: int) -> list[str]:
    """What a run's record lacks: each turn, what it read, and the end."""
    run = store.get(run_id)
    said = [message.thought for message in run.messages if message.role == "assistant" and message.tool_calls]
    read = [message.content.rpartition("\n")[2] for message in run.messages if message.role == "tool"]
    numbers = range(1, steps + 1)
    whole = said == [f"turn {number}" for number in numbers] and read == [f"line {number}" for number in numbers]
    return [] if whole and run.outcome == "success" else [f"run {run_id} is not on record as it was"]


def main() -> int:
    parser = argparse.ArgumentParser(description="Many runs at once: a step's time, a run's memory, the record.")
    parser.add_argument("--runs", type=int, default=32, help="how many at once (default 32)")
    parser.add_argument("--steps", type=int, default=20, help="calls of each run (default 20)")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds that a reply takes (default 0.2)")
    parser.add_argument("--together", action="store_true", help="all begin at the same instant")
    options = parser.parse_args()
    late = asyncio.run(lateness(options.runs, 5, options.delay))
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.runs, options.steps, options.delay, together=options.together)
    print(
        f"{options.runs} runs at once, {options.steps} steps each, {options.delay:g} s a reply, {os.cpu_count()} cores"
    )
    print(
        f"a step beside its reply: median {median(found.steps):.2f} ms, 95th percentile {found.p95:.2f} ms, "
        f"worst {max(found.steps):.2f} ms (at most: {LIMIT_MS:g} at the 95th)"
    )
    print(f"a bare sleep is late by: median {median(late):.2f} ms, 95th percentile {quantiles(late, n=20)[-1]:.2f} ms")
    print(f"memory of a run: {found.memory:.2f} MiB (at most: {LIMIT_MIB:g})")
    print(f"not on record: {len(found.missing)}")
    for sentence in found.missing[:10]:
        print(f"  {sentence}")
    return 0 if not found.missing and found.p95 <= LIMIT_MS and found.memory <= LIMIT_MIB else 1


if __name__ == "__main__":
    raise SystemExit(main())

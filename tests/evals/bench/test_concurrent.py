"""The benchmark of many runs at once measures every step, and sees when a record is not complete."""

from __future__ import annotations

import asyncio
from pathlib import Path

from agent.redact import Redactor
from agent.traces import TraceStore
from evals.bench import concurrent


def test_every_step_of_every_run_is_measured_and_on_record(tmp_path: Path) -> None:
    found = concurrent.measure(tmp_path, runs=3, steps=4, delay=0.01)
    assert len(found.steps) == 3 * 4
    assert min(found.steps) > 0
    assert found.p95 <= max(found.steps) * 1.2  # a quantile of few values is extrapolated
    assert found.missing == []


def test_a_record_that_lacks_a_step_is_noticed(tmp_path: Path) -> None:
    concurrent.measure(tmp_path, runs=1, steps=2, delay=0, together=True)
    store = TraceStore.open(tmp_path / "data" / "traces.db", Redactor({}))
    newest = store.runs(limit=1)[0].id
    assert concurrent._missing(store, newest, 2) == []
    assert concurrent._missing(store, newest, 3) == [f"run {newest} is not on record as it was"]
    store.close()


def test_how_late_a_bare_sleep_is_belongs_to_the_measurement() -> None:
    late = asyncio.run(concurrent.lateness(tasks=3, naps=2, delay=0.01))
    assert len(late) == 6
    assert min(late) > 0

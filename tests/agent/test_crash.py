"""Real processes are killed while they write to one store: what they had printed is on record."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from agent.redact import Redactor
from agent.traces import TraceStore
from evals.bench import kills


def test_what_a_killed_process_had_printed_is_on_record(tmp_path: Path) -> None:
    result = kills.experiment(tmp_path, kills=8, processes=2, seed=3)
    assert result.lost == []
    assert result.problems == []
    assert all(process.signalled for process in result.processes), "each was killed, none ended by itself"
    assert sum(result.steps) > 20, "they were in the middle of their work"

    path = tmp_path / "data" / "traces.db"
    with closing(TraceStore.open(path, Redactor({}))) as store:
        listed = store.runs(limit=-1)
        assert {run.state for run in listed} == {"interrupted"}
        assert all(run.where == f"interrupted after step {run.steps}" for run in listed)

        busiest = max(result.processes, key=lambda process: len(process.events))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("DELETE FROM messages WHERE run_id = ? AND position > 2", (busiest.events[0]["run"],))
        lost = kills._lost(store, busiest)
    assert any("step 2 was printed and is not on record" in sentence for sentence in lost), "the check can fail"
    assert any("observation of" in sentence for sentence in lost)

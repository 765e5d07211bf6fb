"""The trajectory store: SQLite in the user's data folder, every message committed as it happens.

WAL with synchronous=NORMAL: what is committed survives the death of the process (SIGKILL); a power cut may lose the
last commits, never the file. One daemon thread writes, so that the event loop never waits for a disk or a lock; reads
open connections of their own. Many processes may write to one store at once.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from agent import __version__, trace_file, trace_schema
from agent.errors import StoreError
from agent.messages import Detail, Json, Message, Outcome, Trajectory, Usage
from agent.redact import Redactor

Work = Callable[[sqlite3.Connection], Any]


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A line of a list of runs. `steps` counts the model's turns that are on record."""

    id: str
    parent_id: str
    task: str
    skills: list[str]
    model: str
    outcome: Outcome
    reason: str
    score: float | None
    labels: Json
    usage: Usage
    started: float
    ended: float
    steps: int
    version: str
    process: str
    corrected: bool = False

    @property
    def state(self) -> str:
        """ended, running (its process is alive), or interrupted."""
        return "ended" if self.ended else "running" if _alive(self.process) else "interrupted"

    @property
    def where(self) -> str:
        """Why it ended, or where it stands or stopped."""
        return self.reason if self.ended else f"{self.state} after step {self.steps}"


class TraceStore:
    """Runs on record. Make one with `TraceStore.open`.

    `notice` is a sentence that the person should see once (a damaged store was set aside); else it is empty.
    """

    def __init__(self, path: Path, redactor: Redactor, connection: sqlite3.Connection, notice: str) -> None:
        self.path = path
        self.redactor = redactor
        self.notice = notice
        self._process = f"{socket.gethostname()}:{os.getpid()}"
        self._jobs: SimpleQueue[tuple[Work, Future[Any]] | None] = SimpleQueue()
        self._unheard: list[Future[Any]] = []
        self._closed = False
        self._writer = threading.Thread(target=self._write, args=(connection,), name="trace-store", daemon=True)
        self._writer.start()
        atexit.register(self.close)

    @classmethod
    def open(cls, path: Path, redactor: Redactor, *, busy_seconds: float = 5.0) -> TraceStore:
        """Open a store, or begin one; bring its tables up to date.

        Args:
            path: the database file. Its folder is made (mode 0700) if it is not there; the file has mode 0600.
            redactor: takes the secrets out of everything that is written.
            busy_seconds: how long to wait for a lock that another process holds.

        Raises:
            StoreError: locked, not writable, not a trace store, or written by a newer version. A damaged file is no
                error: it is set aside and a new one begun, and `notice` says so.
        """
        connection, notice = trace_file.open_or_replace(path, busy_seconds)
        return cls(path, redactor, connection, notice)

    async def open_run(self, trajectory: Trajectory) -> None:
        """Put a run on record; returns after the commit. Raises StoreError."""
        run = replace(trajectory)

        def insert(connection: sqlite3.Connection) -> None:
            hashes = self._insert_tools(connection, run.tools)
            row = trace_schema.run_row(run, hashes, self.redactor, __version__, self._process)
            connection.execute(trace_schema.INSERT_RUN, row)

        await asyncio.wrap_future(self._submit(insert))

    def offer_tools(self, run_id: str, tools: Sequence[Json]) -> None:
        """Write which tools a run offers by now. Returns at once, as `close_run` does."""

        def update(connection: sqlite3.Connection) -> None:
            hashes = self._insert_tools(connection, tools)
            connection.execute("UPDATE runs SET tools = ? WHERE id = ?", (trace_schema.dump(hashes), run_id))

        self._unheard.append(self._submit(update))

    def _insert_tools(self, connection: sqlite3.Connection, tools: Sequence[Json]) -> list[str]:
        """Store the schemas that are new; the hashes of all."""
        rows = [trace_schema.tool_row(schema, self.redactor) for schema in tools]
        connection.executemany("INSERT OR IGNORE INTO tools VALUES (?, ?)", rows)
        return [row[0] for row in rows]

    def add_message(self, run_id: str, index: int, message: Message, detail: Detail) -> asyncio.Future[None]:
        """Add a message to a run's record; the future is done after the commit.

        Cancelling it does not take the message back.

        Args:
            run_id: of a run that was opened.
            index: the message's place in the run, from 0.
            message: what was said.
            detail: how it came to be.

        Raises:
            StoreError: it is not on record; the store itself is as it was and takes further writes.
        """

        def insert(connection: sqlite3.Connection) -> None:
            row = trace_schema.message_row(run_id, index, message, detail, self.redactor)
            connection.execute(trace_schema.INSERT_MESSAGE, row)

        return asyncio.wrap_future(self._submit(insert))

    def close_run(self, trajectory: Trajectory) -> None:
        """Write how a run ended. Returns at once; `close` waits for the write, and raises if it failed."""
        row = trace_schema.closing_row(trajectory, self.redactor)
        self._unheard = [future for future in self._unheard if not future.done() or future.exception()]
        self._unheard.append(self._submit(lambda connection: connection.execute(trace_schema.CLOSE_RUN, row)))

    def flush(self) -> None:
        """Return when everything said so far is written. Raises StoreError."""
        self._submit(lambda connection: None).result()

    def close(self) -> None:
        """Write what is waiting, then close the file. May be called twice.

        Raises:
            StoreError: the end of a run could not be written.
        """
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        self._jobs.put(None)
        self._writer.join()
        for future in self._unheard:
            future.result()

    def label(self, run_id: str, **labels: Any) -> None:
        """Add labels to a run, e.g. verdict="good"; None takes one away. Raises StoreError."""
        exact = self.resolve(run_id)
        text = trace_schema.writable(trace_schema.dump(trace_schema.without_nan(self.redactor.redact_json(labels))))
        update = "UPDATE runs SET labels = json_patch(labels, ?) WHERE id = ?"
        self._submit(lambda connection: connection.execute(update, (text, exact))).result()

    def correct(self, corrections: Sequence[tuple[str, str]]) -> None:
        """Put on record what runs should have answered: beside what they did answer, which stays as it is.

        Args:
            corrections: runs, by id or unique prefix, and answers; a run's newest one counts.

        Raises:
            StoreError: there is no such run, or it cannot be written; then none of them is on record.
        """
        now = time.time()
        rows = [
            (self.resolve(run_id), now, trace_schema.correction_text(answer, self.redactor))
            for run_id, answer in corrections
        ]
        insert = "INSERT INTO corrections (run_id, given, answer) VALUES (?, ?, ?)"
        self._submit(lambda connection: connection.executemany(insert, rows)).result()

    def delete(self, ids: Sequence[str]) -> int:
        """Delete runs so that no byte of them stays in the file or its log; returns how many.

        Args:
            ids: ids or unique prefixes; runs that were part of a deleted one stay.

        Raises:
            StoreError: no such run (then none is deleted), or another process is reading, so that the log keeps a copy.
        """
        exact = sorted({self.resolve(run_id) for run_id in ids})

        def remove(connection: sqlite3.Connection) -> None:
            connection.executemany("DELETE FROM runs WHERE id = ?", [(run_id,) for run_id in exact])
            used = "SELECT value FROM runs, json_each(runs.tools)"
            connection.execute(f"DELETE FROM tools WHERE hash NOT IN ({used})")

        self._submit(remove).result()
        self._submit(trace_file.scrub, transaction=False).result()
        return len(exact)

    def runs(
        self,
        limit: int = 20,
        offset: int = 0,
        *,
        outcome: str = "",
        skill: str = "",
        model: str = "",
        since: float = 0.0,
        parent: str = "",
    ) -> list[RunSummary]:
        """List runs, newest first.

        Args:
            limit: the most runs to list; -1 is all.
            offset: how many of the newest to leave out.
            outcome: success, failure, unknown, or interrupted (no end on record).
            skill: the name of a skill that was active.
            model: the exact address of the model.
            since: seconds since the epoch.
            parent: the id of the run that they were part of.
        """
        where, values = _conditions(outcome, skill, model, since, parent)
        return self._summaries(where, [*values, limit, offset])

    def search(self, text: str, limit: int = 20) -> list[RunSummary]:
        """Runs whose task, messages, thoughts, tool arguments or corrections contain the text, newest first.

        Letters A to Z match in either case. A plain scan, not an index: it takes about a third of a second per
        100,000 messages, costs nothing when writing, and leaves nothing behind when a run is deleted.
        """
        pattern = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        inside = " OR ".join(f"{column} LIKE ?1 ESCAPE '\\'" for column in ("content", "thought", "tool_calls"))
        said = f"SELECT run_id FROM messages WHERE {inside}"
        corrected = "SELECT run_id FROM corrections WHERE answer LIKE ?1 ESCAPE '\\'"
        where = f"task LIKE ?1 ESCAPE '\\' OR id IN ({said}) OR id IN ({corrected})"
        return self._summaries(where, [pattern, limit, 0])

    def get(self, run_id: str) -> Trajectory:
        """A whole run, by its id or the beginning of it. Raises StoreError if none or several fit."""
        exact = self.resolve(run_id)
        with self._reading() as connection:
            return _load(connection, exact)

    def each(self, ids: Sequence[str] | None = None) -> Iterator[Trajectory]:
        """Whole runs one at a time, oldest first: all of them, or those with these exact ids. Holds one in memory."""
        with self._reading() as connection:
            every = "SELECT id FROM runs ORDER BY started, rowid"
            chosen = [row[0] for row in connection.execute(every)] if ids is None else ids
            for run_id in chosen:
                yield _load(connection, run_id)

    def resolve(self, prefix: str) -> str:
        """The one id that begins so. Raises StoreError if none or several do."""
        query = "SELECT id FROM runs WHERE substr(id, 1, ?) = ? ORDER BY id LIMIT 4"
        with self._reading() as connection:
            found = [row[0] for row in connection.execute(query, (len(prefix), prefix))]
        if len(found) == 1 or (found and found[0] == prefix):
            return str(found[0])
        if found:
            raise StoreError(f"several runs begin with {prefix!r}: {', '.join(found)}", "Give more of the id.")
        raise StoreError(f"there is no run {prefix!r}", "`apprentice traces list` shows what there is.")

    def count(self) -> int:
        """How many runs are on record."""
        with self._reading() as connection:
            return int(connection.execute("SELECT count(*) FROM runs").fetchone()[0])

    def verify(self) -> list[str]:
        """Check the file and rehash every message; a sentence for each thing that is wrong, none if all is well."""
        with self._reading() as connection:
            checks = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            problems = [f"{self.path}: {check}" for check in checks if check != "ok"]
            expected: dict[str, int] = {}
            rows = connection.execute(f"SELECT {trace_schema.MESSAGE_COLUMNS}, hash FROM messages ORDER BY 1, 2")
            for row in rows:
                place = expected.get(row[0], 0)
                expected[row[0]] = row[1] + 1
                if row[1] != place:
                    problems.append(f"run {row[0]}: message {place} is missing")
                if trace_schema.content_hash(row[:-1]) != row[-1]:
                    problems.append(f"run {row[0]}: message {row[1]} is not what was recorded")
        return problems

    def _summaries(self, where: str, values: list[Any]) -> list[RunSummary]:
        steps = "(SELECT count(*) FROM messages WHERE run_id = runs.id AND role = 'assistant')"
        more = f"{steps}, EXISTS (SELECT 1 FROM corrections WHERE run_id = runs.id)"
        query = f"SELECT {trace_schema.RUN_COLUMNS}, {more} FROM runs WHERE {where} ORDER BY started DESC, rowid DESC"
        with self._reading() as connection:
            rows = connection.execute(f"{query} LIMIT ? OFFSET ?", values).fetchall()
        return [_summary(row) for row in rows]

    def _reading(self) -> trace_file.Reading:
        return trace_file.Reading(self.path)

    def _submit(self, work: Work, *, transaction: bool = True) -> Future[Any]:
        if self._closed:
            raise StoreError(f"the trace store {self.path} is closed")
        future: Future[Any] = Future()
        self._jobs.put((trace_file.in_transaction(work) if transaction else work, future))
        return future

    def _write(self, connection: sqlite3.Connection) -> None:
        """The writer thread: one job after the other. A failed job reaches the one who waits, and the next goes on."""
        with closing(connection):
            while (job := self._jobs.get()) is not None:
                work, future = job
                with suppress(InvalidStateError):  # whoever waited was cancelled; the write happened all the same
                    try:
                        result = work(connection)
                    except sqlite3.Error as error:
                        future.set_exception(trace_file.explain(error, self.path))
                    except Exception as error:
                        future.set_exception(error)
                    else:
                        future.set_result(result)


def _conditions(outcome: str, skill: str, model: str, since: float, parent: str) -> tuple[str, list[Any]]:
    wanted: list[tuple[str, Any]] = []
    if outcome == "interrupted":
        wanted.append(("ended = ?", 0))
    elif outcome:
        wanted.append(("outcome = ?", outcome))
    if skill:
        wanted.append(("EXISTS (SELECT 1 FROM json_each(skills) WHERE value = ?)", skill))
    for column, value in (("model = ?", model), ("started >= ?", since), ("parent_id = ?", parent)):
        if value:
            wanted.append((column, value))
    return " AND ".join(column for column, _ in wanted) or "1", [value for _, value in wanted]


def _summary(row: tuple[Any, ...]) -> RunSummary:
    run = trace_schema.load_run(row[:20], [])
    kept = {name: getattr(run, name) for name in RunSummary.__dataclass_fields__ if hasattr(run, name)}
    return RunSummary(**kept, steps=row[20], version=row[18], process=row[19], corrected=bool(row[21]))


def _load(connection: sqlite3.Connection, run_id: str) -> Trajectory:
    row = connection.execute(f"SELECT {trace_schema.RUN_COLUMNS} FROM runs WHERE id = ?", (run_id,)).fetchone()
    if row is None:
        raise StoreError(f"there is no run {run_id!r}", "`apprentice traces list` shows what there is.")
    query = "SELECT schema FROM tools WHERE hash = ?"
    tools = [json.loads(connection.execute(query, (key,)).fetchone()[0]) for key in json.loads(row[5])]
    run = trace_schema.load_run(row, tools)
    columns = f"SELECT {trace_schema.MESSAGE_COLUMNS} FROM messages WHERE run_id = ? ORDER BY position"
    for stored in connection.execute(columns, (run_id,)):
        message, detail = trace_schema.load_message(stored)
        run.messages.append(message)
        run.details.append(detail)
    newest = "SELECT answer FROM corrections WHERE run_id = ? ORDER BY number DESC LIMIT 1"
    run.correction = next((row[0] for row in connection.execute(newest, (run_id,))), "")
    return run


def _alive(process: str) -> bool:
    """Whether the process that a run names is alive on this machine."""
    host, _, number = process.rpartition(":")
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(number), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError):
        return False
    return True

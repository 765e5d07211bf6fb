"""The trace store's file: opening it, telling a damaged one from a locked one, transactions, and thorough deletion."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from agent import trace_schema
from agent.errors import StoreError

CHECKED_SIZE = 2_000_000
"""Bytes up to which a store is checked whole whenever it is opened (a few milliseconds)."""


class Damaged(sqlite3.DatabaseError):
    """SQLite could open the file, but its check found it inconsistent."""


class Reading:
    """A read-only connection for one piece of work; sqlite3's errors leave it as StoreError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=5, isolation_level=None
            )
        except sqlite3.Error as error:
            raise explain(error, self._path) from error
        return self._connection

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()
        if isinstance(error, sqlite3.Error):
            raise explain(error, self._path) from error


def open_or_replace(path: Path, busy_seconds: float) -> tuple[sqlite3.Connection, str]:
    """The writing connection, and a notice if the file was damaged and set aside. Raises StoreError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        os.chmod(path, 0o600)
    except OSError as error:
        hint = "Set data_dir, or APPRENTICE_DATA_DIR, to a folder that you can write to."
        raise StoreError(f"the trace store {path} cannot be written: {error.strerror}", hint) from None
    try:
        return _open(path, busy_seconds), ""
    except sqlite3.Error as error:
        if not _is_damage(error):
            raise explain(error, path) from error
    aside = _set_aside(path)
    notice = f"The trace store was damaged. It is kept as {aside}, and a new one was begun." if aside else ""
    try:
        return _open(path, busy_seconds), notice
    except sqlite3.Error as error:
        raise explain(error, path) from error


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """What a person reads instead of sqlite3's error. Marks the file for a check if the error says damage."""
    text, code = str(error), _code(error)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        hint = "Another program holds it; close that (or wait), then try again."
        return StoreError(f"the trace store {path} is locked", hint)
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        return StoreError(f"the trace store {path} cannot grow: {text}", "Free some disk space, then try again.")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        hint = "Set data_dir, or APPRENTICE_DATA_DIR, to a folder that you can write to."
        return StoreError(f"the trace store {path} cannot be written: {text}", hint)
    if _is_damage(error):
        with suppress(OSError):
            _suspect(path).touch()
        return StoreError(
            f"the trace store {path} is damaged: {text}", "It is set aside at the next start, not deleted."
        )
    return StoreError(f"the trace store {path} refused: {text}")


def in_transaction(work: Callable[[sqlite3.Connection], Any]) -> Callable[[sqlite3.Connection], Any]:
    """The same work as one transaction: all of it is on record, or none."""

    def whole(connection: sqlite3.Connection) -> Any:
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # some errors have rolled back by themselves
                connection.execute("ROLLBACK")
            raise
        return result

    return whole


def scrub(connection: sqlite3.Connection) -> None:
    """Rewrite the file without the leftovers of deleted rows, and empty its log.

    secure_delete overwrites freed cells, but pages that SQLite has rebalanced keep old copies between their cells;
    only VACUUM leaves none.

    Raises:
        StoreError: another process reads or writes, so that the log cannot be emptied now.
    """
    try:
        connection.execute("VACUUM")
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if _code(error) != sqlite3.SQLITE_BUSY:
            raise
        busy = 1
    if busy:
        message = "the runs are deleted, but another program is using the trace store, so its log keeps a copy"
        raise StoreError(message, "The copy goes when that program ends; or delete again then.")


def _open(path: Path, busy_seconds: float) -> sqlite3.Connection:
    _check_header(path)
    connection = sqlite3.connect(path, timeout=busy_seconds, isolation_level=None, check_same_thread=False)
    try:
        _check(connection, path)
        _use_wal(connection, busy_seconds)
        for pragma in ("synchronous = NORMAL", "foreign_keys = ON", "secure_delete = ON"):
            connection.execute(f"PRAGMA {pragma}")
        trace_schema.migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_header(path: Path) -> None:
    """Raise Damaged for a file that SQLite must not open: it would delete the log that lies beside it."""
    with path.open("rb") as file:
        header = file.read(20)
    log = path.with_name(f"{path.name}-wal")
    has_log = log.exists() and log.stat().st_size > 0
    if (header and not header.startswith(b"SQLite format 3\0")) or (has_log and header[18:20] != b"\2\2"):
        raise Damaged("its header is damaged")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse what is not ours or too new; raise sqlite3.DatabaseError for damage."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    owner = connection.execute("PRAGMA application_id").fetchone()[0]
    if tables and owner != trace_schema.APPLICATION_ID:
        raise StoreError(f"{path} is a database, but not a trace store", "Move it away, or set another data_dir.")
    if trace_schema.version(connection) > trace_schema.NEWEST:
        raise StoreError(
            f"the trace store {path} was written by a newer version of apprentice",
            "Update apprentice; nothing was changed.",
        )
    if _suspect(path).exists() or path.stat().st_size <= CHECKED_SIZE:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise Damaged(verdict)
        _suspect(path).unlink(missing_ok=True)


def _use_wal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Switch to WAL. SQLite does not wait for a lock here, and several processes may begin a store at once."""
    until = time.monotonic() + busy_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if _code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() >= until:
                raise
            time.sleep(0.01)


def _set_aside(path: Path) -> Path | None:
    """Rename a damaged store with its log; None if another process has just done so."""
    import fcntl

    with (path.parent / f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _open(path, 1.0).close()
            return None
        except sqlite3.Error as error:
            if not _is_damage(error):
                raise explain(error, path) from error
        aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 1_000_000:06d}")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.rename(f"{path}{suffix}", f"{aside}{suffix}")
        _suspect(path).unlink(missing_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        return aside


def _is_damage(error: sqlite3.Error) -> bool:
    return isinstance(error, Damaged) or _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _suspect(path: Path) -> Path:
    """An empty file beside the store: some write met damage, so the next opening checks the whole store."""
    return path.with_name(f"{path.name}.suspect")

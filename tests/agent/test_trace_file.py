"""The store's file: migrations, damage that is set aside and never deleted, locks, full disks, permissions."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agent import trace_file, trace_schema
from agent.errors import StoreError
from agent.messages import Detail, Message
from agent.redact import Redactor
from agent.traces import TraceStore
from tests.agent.records import a_run, record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "traces.db"


@pytest.fixture
def store(path: Path) -> Iterator[TraceStore]:
    opened = TraceStore.open(path, Redactor({"SECRET_TOKEN": "open sesame"}), busy_seconds=0.3)
    yield opened
    opened.close()


class TestMigrations:
    def test_numbers_are_unique_and_rise(self) -> None:
        numbers = [number for number, _, _ in trace_schema.MIGRATIONS]
        assert numbers == sorted(set(numbers))

    def test_a_store_of_the_first_schema_keeps_its_rows(self, path: Path) -> None:
        path.parent.mkdir()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript(trace_schema.MIGRATIONS[0][2])
            connection.execute(f"PRAGMA application_id = {trace_schema.APPLICATION_ID}")
            connection.execute("PRAGMA user_version = 1")
            row = ("old1", "", "an old task", "[]", "m", "[]", None, "success", "answer", None, "{}", 1, 2, 0.5, None)
            connection.execute(trace_schema.INSERT_RUN, (*row, 10.0, 11.0, "/w", "0.0.1", "h:1"))
            message = ("old1", 0, "user", "hello", "", "[]", "", "", 0, "{}", b"", b"")
            connection.execute(trace_schema.INSERT_MESSAGE, (*message, trace_schema.content_hash(message)))
        with closing(TraceStore.open(path, Redactor({}))) as store:
            run = store.get("old1")
            assert (run.task, run.messages) == ("an old task", [Message("user", "hello")])
            assert store.verify() == []
            record(store, a_run("new1"))
        with closing(sqlite3.connect(path)) as connection:
            assert trace_schema.version(connection) == trace_schema.NEWEST
            indexes = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'")}
        assert {"runs_by_start", "runs_by_parent"} <= indexes

    def test_a_step_that_fails_leaves_neither_tables_nor_number(self, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = (*trace_schema.MIGRATIONS, (99, "broken", "CREATE TABLE half (x); CREATE TABLE half (x)"))
        monkeypatch.setattr(trace_schema, "MIGRATIONS", broken)
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            with pytest.raises(sqlite3.OperationalError, match="already exists"):
                trace_schema.migrate(connection)
            assert trace_schema.version(connection) == trace_schema.NEWEST
            assert not connection.execute("SELECT * FROM sqlite_master WHERE name = 'half'").fetchall()

    def test_a_store_of_a_newer_version_is_refused_and_untouched(self, store: TraceStore, path: Path) -> None:
        record(store, a_run())
        store.close()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 1000")
        before = path.read_bytes()
        with pytest.raises(StoreError, match="newer version") as caught:
            TraceStore.open(path, Redactor({}))
        assert "Update" in caught.value.hint
        assert path.read_bytes() == before

    def test_another_programs_database_is_refused_and_untouched(self, path: Path) -> None:
        path.parent.mkdir()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE recipes (name)")
        before = path.read_bytes()
        with pytest.raises(StoreError, match="not a trace store"):
            TraceStore.open(path, Redactor({}))
        assert path.read_bytes() == before


class TestDamage:
    def test_a_file_that_is_no_database_is_set_aside_and_a_new_one_begun(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"not a database at all" * 500)
        path.with_name("traces.db-wal").write_bytes(b"its log")
        with closing(TraceStore.open(path, Redactor({}))) as store:
            record(store, a_run())
            assert store.count() == 1
            aside = [
                name for name in os.listdir(path.parent) if "damaged" in name and not name.endswith(("wal", "shm"))
            ]
            assert aside[0] in store.notice
            assert (path.parent / aside[0]).read_bytes() == b"not a database at all" * 500
            assert (path.parent / f"{aside[0]}-wal").read_bytes() == b"its log"

    def test_damage_inside_a_small_store_is_found_at_opening(self, store: TraceStore, path: Path) -> None:
        record(store, a_run(), *(Message("user", "x" * 3000) for _ in range(50)))
        store.close()
        self.scribble(path)
        with closing(TraceStore.open(path, Redactor({}))) as fresh:
            assert "damaged" in fresh.notice
            assert fresh.count() == 0
        with closing(TraceStore.open(path, Redactor({}))) as again:
            assert again.notice == ""

    def test_damage_that_a_write_meets_is_told_and_checked_at_the_next_opening(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trace_file, "CHECKED_SIZE", 0)
        with closing(TraceStore.open(path, Redactor({}))) as store:
            record(store, a_run(), *(Message("user", "x" * 3000) for _ in range(50)))
        self.scribble(path)
        with closing(TraceStore.open(path, Redactor({}))) as store:
            assert store.notice == "", "a large store is not read whole at each start"
            with pytest.raises(StoreError, match="is damaged") as caught:
                store.search("x")
            assert "set aside" in caught.value.hint
        with closing(TraceStore.open(path, Redactor({}))) as fresh:
            assert "damaged" in fresh.notice

    def test_a_false_alarm_keeps_the_store(self, store: TraceStore, path: Path) -> None:
        record(store, a_run())
        (path.parent / "traces.db.suspect").touch()
        with closing(TraceStore.open(path, Redactor({}))) as again:
            assert (again.notice, again.count()) == ("", 1)
        assert not (path.parent / "traces.db.suspect").exists()

    def test_of_two_processes_that_find_damage_only_one_sets_it_aside(self, path: Path) -> None:
        path.parent.mkdir()
        path.write_bytes(b"junk" * 1000)
        stores: list[TraceStore] = []
        threads = [
            threading.Thread(target=lambda: stores.append(TraceStore.open(path, Redactor({})))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(stores) == 4
        for number, store in enumerate(stores):
            record(store, a_run(f"r{number}"))
        assert stores[0].count() == 4
        for store in stores:
            store.close()
        assert sum(name.startswith("traces.db.damaged") for name in os.listdir(path.parent)) == 1

    @staticmethod
    def scribble(path: Path) -> None:
        """Overwrite the inner pages, not the header and the schema."""
        with path.open("r+b") as file:
            file.seek(8 * 4096)
            file.write(os.urandom(path.stat().st_size - 9 * 4096))

    def test_a_store_whose_header_is_lost_keeps_its_log(self, store: TraceStore, path: Path) -> None:
        record(store, a_run(), Message("user", "in the log only"), end=False)
        with path.open("r+b") as file:
            file.write(b"\0" * 100)
        with closing(TraceStore.open(path, Redactor({}))) as fresh:
            assert "damaged" in fresh.notice
            [log] = path.parent.glob("traces.db.damaged-*-wal")
            assert b"in the log only" in log.read_bytes()


def add(store: TraceStore, run: str, step: int, message: Message, detail: Detail) -> None:
    """Put one message on record, and wait until it is on the disk."""

    async def main() -> None:
        await store.add_message(run, step, message, detail)

    asyncio.run(main())


class TestTrouble:
    def test_a_locked_store_is_waited_for_then_told(self, store: TraceStore, path: Path) -> None:
        record(store, a_run(), end=False)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            started = time.monotonic()
            with pytest.raises(StoreError, match="is locked") as caught:
                add(store, "a1b2c3", 0, Message("user", "x"), Detail())
            assert 0.25 < time.monotonic() - started < 3
            assert "try again" in caught.value.hint
            other.execute("ROLLBACK")
        add(store, "a1b2c3", 0, Message("user", "x"), Detail())
        assert store.get("a1").messages == [Message("user", "x")]

    def test_a_store_that_is_locked_when_it_is_opened(self, path: Path) -> None:
        path.parent.mkdir()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match="is locked"):
                TraceStore.open(path, Redactor({}), busy_seconds=0.2)

    def test_opening_waits_for_another_program_to_let_go(self, store: TraceStore, path: Path) -> None:
        record(store, a_run())
        store.close()
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
            other.execute("PRAGMA journal_mode = DELETE")
            other.execute("BEGIN")
            other.execute("SELECT * FROM runs").fetchall()
            with pytest.raises(StoreError, match="is locked"):
                TraceStore.open(path, Redactor({}), busy_seconds=0.05)
            release = threading.Timer(0.1, other.execute, ["ROLLBACK"])
            release.start()
            with closing(TraceStore.open(path, Redactor({}), busy_seconds=5)) as again:
                assert again.count() == 1
            release.join()

    def test_while_it_waits_for_a_lock_the_event_loop_goes_on(self, store: TraceStore, path: Path) -> None:
        record(store, a_run(), end=False)

        async def main() -> int:
            waiting = asyncio.ensure_future(store.add_message("a1b2c3", 0, Message("user", "x"), Detail()))
            ticks = 0
            while not waiting.done():
                await asyncio.sleep(0.01)
                ticks += 1
            assert isinstance(waiting.exception(), StoreError)
            return ticks

        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert asyncio.run(main()) > 10

    def test_a_full_disk_is_told_and_the_store_goes_on_when_there_is_room(self, store: TraceStore, path: Path) -> None:
        record(store, a_run(), Message("user", "before"), end=False)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = path.with_name("traces.db-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20_000, limits[1]))
        try:
            with pytest.raises(StoreError, match="cannot grow") as caught:
                add(store, "a1b2c3", 1, Message("user", "x" * 200_000), Detail())
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert "disk space" in caught.value.hint
        add(store, "a1b2c3", 1, Message("user", "after"), Detail())
        assert [message.content for message in store.get("a1").messages] == ["before", "after"]
        assert store.verify() == []

    def test_a_folder_that_cannot_be_written_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="cannot be written") as caught:
            TraceStore.open(tmp_path / "file" / "traces.db", Redactor({}))
        assert "APPRENTICE_DATA_DIR" in caught.value.hint
        with pytest.raises(StoreError, match="cannot be written"):
            TraceStore.open(Path("/proc/traces.db"), Redactor({}))
        with pytest.raises(StoreError, match="cannot be written"):
            TraceStore.open(tmp_path, Redactor({}))

    def test_a_store_that_vanished_is_told_by_a_read(self, store: TraceStore, path: Path) -> None:
        store.close()
        path.unlink()
        with pytest.raises(StoreError, match="cannot be written"):
            store.count()

    def test_a_message_of_an_unknown_run_fails_for_its_writer_only(self, store: TraceStore) -> None:
        with pytest.raises(StoreError, match="FOREIGN KEY"):
            add(store, "nobody", 0, Message("user"), Detail())
        record(store, a_run(), Message("user", "still works"))
        with pytest.raises(StoreError, match="UNIQUE"):
            add(store, "a1b2c3", 0, Message("user"), Detail())
        assert len(store.get("a1").messages) == 1

    def test_a_row_that_cannot_be_made_fails_for_its_writer_only(self, store: TraceStore) -> None:
        record(store, a_run(), end=False)
        with pytest.raises(OverflowError):
            add(store, "a1b2c3", 0, Message("user"), Detail(token_ids=(2**40,)))
        add(store, "a1b2c3", 0, Message("user", "x"), Detail())
        assert len(store.get("a1").messages) == 1

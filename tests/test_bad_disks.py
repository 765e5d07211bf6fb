"""A disk that is full, a folder that is read-only, a store that is locked or damaged, a result that exists already.

Root may write anywhere, so the children give up that right; a full disk is a small tmpfs, and where nothing can be
mounted a limit on the size of files.
"""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.config import config_dir
from tests.program import ABSTRACTS, annotation, data_folder, obey_permissions, put_on_record, record, refused, run
from tests.program import script as write_script

LOCKER = """
import sqlite3, sys, time
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
time.sleep(float(sys.argv[2]))
store.execute("ROLLBACK")
"""


@dataclass(frozen=True)
class FullDisk:
    """A folder on a disk of 200 KB, and what a child does before it starts to find it so small."""

    folder: Path
    before: Callable[[], None] | None


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[FullDisk]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["sh", "-c", f"mount -t tmpfs -o size=200k tmpfs '{folder}'"], capture_output=True)
    try:
        yield FullDisk(folder, None if mounted.returncode == 0 else limit_files)
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", folder], check=True)


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


def rows(folder: Path, count: int) -> str:
    """A JSONL file of so many papers, and the address of a model that annotates them."""
    own = [ABSTRACTS[number % len(ABSTRACTS)] for number in range(count)]
    papers = [{"abstract": f"{row['abstract']} Part {number} ends here."} for number, row in enumerate(own)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in papers))
    return write_script(folder, [{"content": annotation(number % len(ABSTRACTS))} for number in range(count)])


def strays(folder: Path) -> list[Path]:
    """Temporary files that somebody left behind."""
    return [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_a_full_disk_keeps_what_was_finished_and_the_result_that_was_there(
    workspace: Path, full_disk: FullDisk
) -> None:
    model = rows(workspace, 25)
    earlier = put_on_record("an earlier task")
    out = full_disk.folder / "result.jsonl"
    out.write_text("mine\n" * 100)
    (full_disk.folder / "ballast").write_bytes(b"x" * 185_000)
    command = (f"/annotate {workspace}/rows.jsonl save to result.jsonl", "--overwrite", "--model", model)
    done = run(*command, cwd=full_disk.folder, before=full_disk.before)
    assert done.returncode in ((5,) if full_disk.before is None else (5, 6)), done.stderr
    refused(done, done.returncode, "result.jsonl" if full_disk.before is None else "cannot")
    assert out.read_text() == "mine\n" * 100
    assert strays(full_disk.folder) == []
    assert record(earlier).outcome == "success"
    _, *kept = map(json.loads, (full_disk.folder / "result.jsonl.partial").read_text().splitlines())
    assert kept, "whole lines, each a finished paper"

    (full_disk.folder / "ballast").unlink()
    model = write_script(workspace, [{"content": annotation(n % len(ABSTRACTS))} for n in range(len(kept), 25)])
    again = run(*command, cwd=full_disk.folder)
    assert again.returncode == 0, again.stderr
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert [entry["annotation"] for entry in results[: len(kept)]] == [entry["annotation"] for entry in kept]
    assert len(results) == 25


def test_an_answer_that_does_not_fit_on_the_disk_is_on_record(workspace: Path, full_disk: FullDisk) -> None:
    (full_disk.folder / "ballast").write_bytes(b"x" * 195_000)
    answer = "a long answer " * 20_000
    model = write_script(workspace, [{"content": answer, "usage": {"prompt_tokens": 1, "completion_tokens": 1}}])
    command = ("tell me all save to result.txt", "--model", model)
    settings = {"APPRENTICE_MODELS__MAX_TOKENS": "100000"}
    done = run(*command, cwd=full_disk.folder, before=full_disk.before, **settings)
    if full_disk.before is None:
        refused(done, 5, "result.txt cannot be used: No space left on device", "The answer is on record")
        assert record().messages[-1].content == answer
    else:
        refused(done, 6, "cannot grow")
    assert not (full_disk.folder / "result.txt").exists()
    assert strays(full_disk.folder) == []


def test_a_trace_store_that_cannot_grow_ends_the_run_and_keeps_every_record(workspace: Path) -> None:
    model = rows(workspace, 30)
    earlier = put_on_record("an earlier task")
    command = ("/annotate rows.jsonl save to result.jsonl", "--model", model)
    done = run(*command, cwd=workspace, before=limit_files)
    refused(done, 6, f"the trace store {data_folder()}/traces.db cannot grow", "Free some disk space")
    assert record(earlier).outcome == "success"
    with sqlite3.connect(data_folder() / "traces.db") as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        on_record = store.execute("SELECT count(*) FROM messages WHERE role = 'assistant'").fetchone()[0]
    kept = len((workspace / "result.jsonl.partial").read_text().splitlines()) - 1
    assert 1 <= kept <= on_record, "whatever is finished is on record too"


def test_a_read_only_workspace_keeps_all_and_says_so(workspace: Path) -> None:
    model = rows(workspace, 1)
    workspace.chmod(0o555)
    try:
        done = run("/annotate rows.jsonl save to result.md", "--model", model, cwd=workspace, before=obey_permissions)
        refused(done, 5, "result.md.partial cannot be written: Permission denied")
        model = write_script(workspace.parent, [{"content": "the answer"}])
        free = run("answer me save to result.md", "--model", model, cwd=workspace, before=obey_permissions)
        refused(free, 5, "the answer could not be saved", "Permission denied", "`apprentice traces show last`")
    finally:
        workspace.chmod(0o755)
    assert record().messages[-1].content == "the answer"
    assert {path.name for path in workspace.iterdir()} == {"rows.jsonl", ".replies.jsonl"}


def test_a_read_only_data_folder_is_named_with_the_setting(workspace: Path) -> None:
    model = write_script(workspace, [{"content": "hello"}])
    data_folder().mkdir(parents=True)
    data_folder().chmod(0o555)
    try:
        done = run("hello", "--model", model, cwd=workspace, before=obey_permissions)
    finally:
        data_folder().chmod(0o755)
    refused(done, 6, f"{data_folder()}/traces.db cannot be written: Permission denied", "Set data_dir")
    assert list(data_folder().iterdir()) == []


def test_a_store_that_became_read_only_is_told_and_stays_as_it_is(workspace: Path) -> None:
    put_on_record("an earlier task")
    before = (data_folder() / "traces.db").read_bytes()
    (data_folder() / "traces.db").chmod(0o444)
    model = write_script(workspace, [{"content": "hello"}])
    done = run("hello", "--model", model, cwd=workspace, before=obey_permissions)
    refused(done, 6, f"{data_folder()}/traces.db cannot be written")
    assert (data_folder() / "traces.db").read_bytes() == before


def test_a_read_only_settings_folder_keeps_the_file(workspace: Path) -> None:
    config_dir().mkdir(parents=True)
    (config_dir() / "config.toml").write_text("# mine\n")
    config_dir().chmod(0o555)
    try:
        done = run("config", "set", "models.default", "local", cwd=workspace, before=obey_permissions)
    finally:
        config_dir().chmod(0o755)
    refused(done, 5, "config.toml could not be written: Permission denied")
    assert [path.read_text() for path in config_dir().iterdir()] == ["# mine\n"]


def test_a_file_where_the_data_folder_should_be_is_told(workspace: Path) -> None:
    data_folder().parent.mkdir(parents=True, exist_ok=True)
    data_folder().write_text("mine")
    model = write_script(workspace, [{"content": "hello"}])
    refused(run("hello", "--model", model, cwd=workspace), 6, f"the trace store {data_folder()}/traces.db cannot be")
    assert data_folder().read_text() == "mine"


@pytest.fixture
def lock() -> Iterator[Callable[[float], None]]:
    """Locks the store from another process for some seconds."""
    started: list[subprocess.Popen[str]] = []

    def hold(seconds: float) -> None:
        command = [sys.executable, "-c", LOCKER, str(data_folder() / "traces.db"), str(seconds)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "locked\n"

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_a_store_that_another_process_holds_is_told_after_five_seconds(
    workspace: Path, lock: Callable[[float], None]
) -> None:
    earlier = put_on_record("an earlier task")
    model = write_script(workspace, [{"content": "hello"}])
    lock(60)
    listed = run("traces", "list", cwd=workspace)
    assert "an earlier task" in listed.stdout, "who only reads need not wait"
    done = run("hello save to result.md", "--model", model, cwd=workspace)
    refused(done, 6, f"the trace store {data_folder()}/traces.db is locked", "Another program holds it")
    assert done.stdout == ""
    assert not (workspace / "result.md").exists()
    assert record(earlier).outcome == "success"


def test_a_store_that_is_locked_for_a_moment_is_waited_for(workspace: Path, lock: Callable[[float], None]) -> None:
    put_on_record("an earlier task")
    model = write_script(workspace, [{"content": "hello"}])
    lock(1.5)
    done = run("hello", "--model", model, cwd=workspace)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    assert record().task == "hello"


def overwrite_header(path: Path) -> None:
    path.write_bytes(b"not a database at all" + path.read_bytes()[21:])


def overwrite_middle(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [overwrite_header, overwrite_middle, cut])
@pytest.mark.parametrize("command", ["task", "traces"])
def test_a_damaged_store_is_set_aside_and_the_work_goes_on(
    workspace: Path, damage: Callable[[Path], None], command: str
) -> None:
    put_on_record("an earlier task")
    path = data_folder() / "traces.db"
    damage(path)
    before = path.read_bytes()
    model = write_script(workspace, [{"content": "hello"}])
    done = run(*(["hello", "--model", model] if command == "task" else ["traces", "list"]), cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("hello\n" if command == "task" else "no runs\n")
    [aside] = [entry for entry in data_folder().glob("traces.db.damaged-*") if entry.suffix not in ("-wal", "-shm")]
    assert f"The trace store was damaged. It is kept as {aside}" in done.stderr
    assert aside.read_bytes() == before, "set aside byte for byte, never deleted"
    if command == "task":
        assert record().task == "hello"


def test_a_database_that_is_not_ours_is_left_alone(workspace: Path) -> None:
    data_folder().mkdir(parents=True)
    with sqlite3.connect(data_folder() / "traces.db") as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    other.close()
    before = (data_folder() / "traces.db").read_bytes()
    done = run("hello", "--model", write_script(workspace, [{"content": "hello"}]), cwd=workspace)
    refused(done, 6, "is a database, but not a trace store", "Move it away")
    assert (data_folder() / "traces.db").read_bytes() == before


@pytest.mark.parametrize("task", ["/annotate rows.jsonl save to result.md", "say hello save to result.md"])
def test_a_result_that_exists_is_kept_unless_overwrite_is_given(workspace: Path, task: str) -> None:
    model = rows(workspace, 1)
    (workspace / "result.md").write_text("mine\n")
    done = run(task, "--yes", "--model", model, cwd=workspace)
    refused(done, done.returncode, "result.md exists", "and is kept", "--overwrite")
    assert done.returncode in (2, 5)
    assert (workspace / "result.md").read_text() == "mine\n"
    assert run("traces", "list", cwd=workspace).stdout == "no runs\n", "no model was asked for nothing"
    assert run(task, "--overwrite", "--model", model, cwd=workspace).returncode == 0
    assert "mine" not in (workspace / "result.md").read_text()
    assert {path.name for path in workspace.iterdir()} == {"rows.jsonl", ".replies.jsonl", "result.md"}


def test_work_in_progress_of_another_task_is_kept(workspace: Path) -> None:
    model = rows(workspace, 2)
    foreign = '{"partial": 1, "overwrite": false}\n' + json.dumps(
        {"key": "f" * 64, "annotation": {}, "model": "m", "valid": True, "validators": [], "run": "r"}
    )
    (workspace / "result.jsonl.partial").write_text(foreign + "\n")
    done = run("/annotate rows.jsonl save to result.jsonl", "--model", model, cwd=workspace)
    refused(done, 5, "of another task, framework or model", "--overwrite to begin anew")
    assert (workspace / "result.jsonl.partial").read_text() == foreign + "\n"


def test_a_damaged_partial_is_kept(workspace: Path) -> None:
    model = rows(workspace, 2)
    (workspace / "result.jsonl.partial").write_text("my own notes\n")
    done = run("/annotate rows.jsonl save to result.jsonl", "--model", model, cwd=workspace)
    refused(done, 5, "is damaged or was not written by this program")
    assert (workspace / "result.jsonl.partial").read_text() == "my own notes\n"


def test_exported_records_are_not_written_over(workspace: Path) -> None:
    put_on_record("an earlier task")
    (workspace / "runs.jsonl").write_text("mine\n")
    refused(run("traces", "export", "runs.jsonl", cwd=workspace), 2, "runs.jsonl exists", "--overwrite")
    refused(run("traces", "export", "nowhere/runs.jsonl", cwd=workspace), 5, "nowhere/runs.jsonl")
    assert (workspace / "runs.jsonl").read_text() == "mine\n"

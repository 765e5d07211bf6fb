"""Beads in their file: what each change writes, what it refuses, and that everything else stays byte for byte."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.beads.backend import Draft
from agent.errors import InputError, ToolError
from tests.agent.beads.places import line, opened, read, write
from tests.program import ROOT

STRANGE = (
    b"\n"
    b"not json at all \xff\xfe\n"
    b'{"_type":"memory","key":"k","value":1.50}\n'
    b'{"_type":"issue","id":"bd-2","title":"two","estimate":1.00,"labels":["a"],"status":"open"}\r\n'
    b'{"_type":"event","id":"x"}'
)


def test_a_bead_is_made_with_what_is_given_and_an_id_after_the_others(workspace: Path) -> None:
    write(workspace, line("app-1"), line("app-2"))
    beads = opened(workspace)
    made = asyncio.run(beads.create(Draft("Look", "Closely.", "bug", 1, "", ("app-1",)), "me"))
    entry = read(workspace)[made.id]
    assert made.id.startswith("app-")
    assert (entry["title"], entry["description"], entry["issue_type"], entry["priority"]) == (
        "Look",
        "Closely.",
        "bug",
        1,
    )
    assert (entry["status"], entry["created_by"]) == ("open", "me")
    assert [(one["depends_on_id"], one["type"]) for one in entry["dependencies"]] == [("app-1", "blocks")]


def test_a_part_is_named_after_its_parent(workspace: Path) -> None:
    write(workspace, line("bd-1"), line("bd-1.1"))
    made = asyncio.run(opened(workspace).create(Draft("part", parent="bd-1"), "me"))
    assert made.id == "bd-1.2"
    assert [(one.on, one.type) for one in made.dependencies] == [("bd-1", "parent-child")]
    assert asyncio.run(opened(workspace).show("bd-1")).open_parts


def test_the_first_bead_begins_the_file(workspace: Path) -> None:
    (workspace / ".beads").mkdir()
    made = asyncio.run(opened(workspace).create(Draft("first"), "me"))
    assert made.id.startswith("bd-")
    assert [bead.id for bead in asyncio.run(opened(workspace).ready())] == [made.id]


def test_a_bead_cannot_be_made_to_depend_on_one_that_is_not_there(workspace: Path) -> None:
    before = write(workspace, line("bd-1")).read_bytes()
    with pytest.raises(ToolError, match="there is no bead bd-9"):
        asyncio.run(opened(workspace).create(Draft("x", depends_on=("bd-9",)), "me"))
    assert (workspace / ".beads/issues.jsonl").read_bytes() == before


def test_lines_and_fields_that_are_not_ours_stay_byte_for_byte(workspace: Path) -> None:
    path = write(workspace)
    path.write_bytes(STRANGE)
    beads = opened(workspace)

    async def change() -> str:
        await beads.claim("bd-2", "me")
        made = await beads.create(Draft("new"), "me")
        await beads.depend("bd-2", made.id, "related", "me")
        await beads.close("bd-2", "me", "done", "a note")
        return made.id

    asyncio.run(change())
    lines = path.read_bytes().split(b"\n")
    before = STRANGE.split(b"\n")
    assert [lines[at] for at in (0, 1, 2, 4)] == [before[at] for at in (0, 1, 2, 4)]
    assert lines[3].startswith(
        b'{"_type":"issue","id":"bd-2","title":"two","estimate":1.00,"labels":["a"],"status":"closed",'
    )
    assert lines[3].endswith(b"}\r")


def test_the_later_of_two_lines_for_one_bead_counts_and_is_changed(workspace: Path) -> None:
    path = write(workspace, line("bd-1", title="old"), line("bd-1", title="new"))
    assert asyncio.run(opened(workspace).update("bd-1", "me", priority=0)).title == "new"
    first, second = path.read_text().splitlines()
    assert ('"priority": 2' in first, '"priority": 0' in second) == (True, True)


def test_a_claim_is_refused_to_all_but_the_first(workspace: Path) -> None:
    write(workspace, line("bd-1"), line("bd-2", assignee="ann"), line("bd-3", status="closed"), line("bd-4", "bd-1"))
    beads = opened(workspace)
    assert asyncio.run(beads.claim("bd-1", "me")).assignee == "me"
    for name, reason in {
        "bd-1": "is held by me",
        "bd-2": "is held by ann",
        "bd-3": "is closed already",
        "bd-4": r"it waits for bd-1 \(in_progress\)",
        "bd-5": "there is no bead",
        "../x": "is not the id of a bead",
    }.items():
        with pytest.raises(ToolError, match=reason):
            asyncio.run(beads.claim(name, "you"))


def test_what_is_released_is_open_again_with_a_note_of_why(workspace: Path) -> None:
    write(workspace, line("bd-1", notes="before"))
    beads = opened(workspace)

    async def go() -> None:
        await beads.claim("bd-1", "me")
        await beads.release("bd-1", "me", status="open", note="it rained", counted=True)

    asyncio.run(go())
    entry = read(workspace)["bd-1"]
    assert (entry["status"], entry["assignee"], entry["notes"]) == ("open", "", "before\n\nit rained")
    assert beads.claims.holder("bd-1").attempts == 1
    with pytest.raises(ToolError, match="is not held by me"):
        asyncio.run(beads.release("bd-1", "me", status="open", note="", counted=True))


def test_closing_is_refused_twice_to_others_and_before_its_time(workspace: Path) -> None:
    part = line("bd-4.1", dependencies=[{"depends_on_id": "bd-4", "type": "parent-child"}])
    taken = line("bd-2", status="in_progress", assignee="ann")
    write(workspace, line("bd-1"), taken, line("bd-3", "bd-2"), line("bd-4"), part)
    beads = opened(workspace)
    closed = asyncio.run(beads.close("bd-1", "me", "done"))
    assert closed.done
    assert read(workspace)["bd-1"]["closed_at"].endswith("Z")
    for name, reason in {
        "bd-1": "is closed already",
        "bd-2": "is held by ann",
        "bd-3": "it waits for bd-2",
        "bd-4": "some of its parts are open",
    }.items():
        with pytest.raises(ToolError, match=reason):
            asyncio.run(beads.close(name, "me", "done"))


def test_a_bead_is_reopened_without_its_end(workspace: Path) -> None:
    write(workspace, line("bd-1", status="closed", closed_at="2026-01-01T00:00:00Z", close_reason="done"))
    asyncio.run(opened(workspace).update("bd-1", "me", status="open", title="again"))
    entry = read(workspace)["bd-1"]
    assert (entry["status"], entry["closed_at"], entry["close_reason"], entry["title"]) == ("open", None, "", "again")


def test_what_somebody_works_on_is_not_given_back_by_another_but_may_get_a_note(workspace: Path) -> None:
    write(workspace, line("bd-1", status="in_progress", assignee="ann"))
    with pytest.raises(ToolError, match="is held by ann"):
        asyncio.run(opened(workspace).update("bd-1", "me", status="open"))
    assert asyncio.run(opened(workspace).update("bd-1", "me", note="look here")).notes == "look here"


def test_circles_are_refused_and_remarks_may_go_in_one(workspace: Path) -> None:
    write(workspace, line("bd-1"), line("bd-2", "bd-1"), line("bd-3", "bd-2"))
    beads = opened(workspace)
    for kind in ("blocks", "parent-child", "conditional-blocks", "waits-for"):
        with pytest.raises(ToolError, match="bd-1 cannot depend on bd-3"):
            asyncio.run(beads.depend("bd-1", "bd-3", kind, "me"))
    with pytest.raises(ToolError, match="cannot depend on bd-1"):
        asyncio.run(beads.depend("bd-1", "bd-1", "related", "me"))
    with pytest.raises(ToolError, match="depends on bd-1 already"):
        asyncio.run(beads.depend("bd-2", "bd-1", "related", "me"))
    asyncio.run(beads.depend("bd-1", "bd-3", "related", "me"))
    assert read(workspace)["bd-1"]["dependencies"][0]["type"] == "related"


def test_an_unresolved_merge_is_left_alone(workspace: Path) -> None:
    path = write(workspace)
    path.write_text('<<<<<<< HEAD\n{"id":"bd-1"}\n=======\n{"id":"bd-1"}\n>>>>>>> other\n')
    with pytest.raises(InputError, match="unresolved merge"):
        asyncio.run(opened(workspace).update("bd-1", "me", priority=0))
    assert path.read_text().startswith("<<<<<<<")


def test_a_link_in_place_of_the_file_is_not_followed(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret\n")
    (workspace / ".beads").mkdir()
    (workspace / ".beads/issues.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(ToolError, match="symbolic link"):
        asyncio.run(opened(workspace).create(Draft("x"), "me"))
    (workspace / ".beads/issues.jsonl").unlink()
    (workspace / ".beads/issues.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ToolError, match="symbolic link"):
        asyncio.run(opened(workspace).create(Draft("x"), "me"))


def test_a_file_that_is_too_large_is_not_read(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.beads.jsonl.LARGEST", 10)
    write(workspace, line("bd-1"))
    with pytest.raises(InputError, match="has more than"):
        asyncio.run(opened(workspace).ready())


def test_a_failed_write_leaves_the_file_as_it_was(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(workspace, line("bd-1"))
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ToolError, match="No space left"):
        asyncio.run(opened(workspace).update("bd-1", "me", priority=0))
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.glob(".*.tmp")] == []


def test_the_older_name_of_the_file_is_known_and_a_database_of_bds_is_told_of(workspace: Path) -> None:
    write(workspace, line("bd-1")).rename(workspace / ".beads/beads.jsonl")
    (workspace / ".beads/dolt").mkdir()
    beads = opened(workspace)
    assert asyncio.run(beads.show("bd-1")).title == "do bd-1"
    assert "beads.jsonl directly; bd's own database here learns of it by `bd import`" in beads.notice


CLAIMANT = """
import asyncio, sys
from pathlib import Path
from agent.errors import ToolError
from tests.agent.beads.places import opened
beads, me = opened(Path(sys.argv[1])), sys.argv[2]
async def go():
    for number in range(20):
        try:
            await beads.claim(f"bd-{number}", me)
            await beads.update(f"bd-{number}", me, note=me)
            print(number, end=" ")
        except ToolError:
            pass
sys.stdin.readline()
asyncio.run(go())
print(flush=True)
sys.stdin.readline()
"""


def test_of_many_processes_that_claim_at_once_one_gets_each_bead_and_no_change_is_lost(workspace: Path) -> None:
    write(workspace, *(line(f"bd-{number}") for number in range(20)))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMANT, str(workspace), f"me-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(3)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [process.stdout.readline().split() for process in processes if process.stdout]
    for process in processes:  # until here all were alive: what a dead one holds may be taken
        process.communicate("end\n", timeout=60)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sorted((name for each in won for name in each), key=int) == [str(number) for number in range(20)]
    assert all(entry["notes"] == entry["assignee"] for entry in read(workspace).values())

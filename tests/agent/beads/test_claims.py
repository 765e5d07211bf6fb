"""Who holds a bead, and whether they are alive: processes of this machine, of an earlier boot, of other machines."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from agent.beads import claims
from agent.beads.claims import Holder, start_of
from agent.beads.jsonl import BeadsFile
from agent.errors import ToolError
from tests.agent.beads.places import line, opened, read, write


def held(workspace: Path, **changed: Any) -> BeadsFile:
    """The beads of a workspace whose bd-1 this process holds; the holder's file changed so."""
    write(workspace, line("bd-1"))
    beads = opened(workspace)
    beads.claims.forget("bd-1")
    asyncio.run(beads.claim("bd-1", "first"))
    path = workspace / ".beads/apprentice/bd-1.json"
    entry = asdict(replace(beads.claims.holder("bd-1"), **changed))
    seen = entry.pop("seen")
    path.write_text(json.dumps(entry))
    os.utime(path, (seen, seen))
    return beads


def test_a_claim_names_its_process(workspace: Path) -> None:
    holder = held(workspace).claims.holder("bd-1")
    assert (holder.actor, holder.pid, holder.attempts) == ("first", os.getpid(), 1)
    assert holder.started == start_of(os.getpid()) != ""
    assert holder.boot
    assert (workspace / ".beads/apprentice/.gitignore").read_text() == "*\n"


def test_what_a_living_process_holds_is_not_taken(workspace: Path) -> None:
    beads = held(workspace)
    assert beads.claims.alive(beads.claims.held()["bd-1"])
    with pytest.raises(ToolError, match="is held by first"):
        asyncio.run(beads.claim("bd-1", "second"))


@pytest.mark.parametrize(
    "changed",
    [{"pid": 2**22 + 1}, {"started": "1"}, {"boot": "an earlier one"}],
    ids=["gone", "number reused", "reboot"],
)
def test_what_a_dead_process_held_may_be_taken_again(workspace: Path, changed: Any) -> None:
    beads = held(workspace, **changed)
    assert asyncio.run(beads.claim("bd-1", "second")).assignee == "second"
    holder = beads.claims.holder("bd-1")
    assert (holder.actor, holder.attempts, holder.pid) == ("second", 2, os.getpid())


def test_a_process_that_ended_and_was_not_yet_waited_for_is_dead() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    until = time.monotonic() + 20
    while start_of(process.pid) != "dead":
        assert time.monotonic() < until
        time.sleep(0.01)
    assert Path(f"/proc/{process.pid}").exists()
    process.wait()
    assert start_of(process.pid) == "dead"


def test_a_holder_on_another_machine_is_alive_as_long_as_it_says_so(workspace: Path) -> None:
    beads = held(workspace, host="elsewhere", seen=time.time() - 100)
    with pytest.raises(ToolError, match="is held by first"):
        asyncio.run(beads.claim("bd-1", "second"))
    beads = opened(workspace, stale=50)
    assert asyncio.run(beads.claim("bd-1", "second")).assignee == "second"


def test_what_another_run_of_this_process_holds_may_be_closed_and_of_another_process_not(workspace: Path) -> None:
    beads = held(workspace, pid=1, started=start_of(1))
    with pytest.raises(ToolError, match="is held by first, and is theirs to change"):
        asyncio.run(beads.close("bd-1", "second", "done"))
    beads = held(workspace)
    with pytest.raises(ToolError, match="is held by first"):
        asyncio.run(beads.claim("bd-1", "second"))
    assert asyncio.run(beads.close("bd-1", "second", "done")).done


def test_a_claim_of_another_program_is_never_taken_away(workspace: Path) -> None:
    beads = held(workspace, pid=2**22 + 1)
    write(workspace, line("bd-1", status="in_progress", assignee="ann"))
    with pytest.raises(ToolError, match="is held by ann"):
        asyncio.run(beads.claim("bd-1", "second"))


def test_what_a_dead_process_held_may_be_given_back_by_anybody(workspace: Path) -> None:
    beads = held(workspace, pid=2**22 + 1)
    asyncio.run(beads.update("bd-1", "second", status="open"))
    assert (read(workspace)["bd-1"]["status"], read(workspace)["bd-1"]["assignee"]) == ("open", "")
    assert beads.claims.held() == {}


def test_a_holders_file_that_is_damaged_names_nobody(workspace: Path) -> None:
    beads = held(workspace)
    for text in ("", "[]", '{"actor": "x", "more": 1}'):
        (workspace / ".beads/apprentice/bd-1.json").write_text(text)
        assert beads.claims.holder("bd-1") == Holder()
    with pytest.raises(ToolError, match="is held by first"):
        asyncio.run(beads.claim("bd-1", "second"))


def test_signs_of_life_are_given_while_a_bead_is_held(workspace: Path) -> None:
    write(workspace, line("bd-1"))
    beads = opened(workspace, heartbeat=0.02)
    asyncio.run(beads.claim("bd-1", "me"))
    path = workspace / ".beads/apprentice/bd-1.json"
    os.utime(path, (0, 0))
    until = time.monotonic() + 20
    while path.stat().st_mtime < time.time() - 60:
        assert time.monotonic() < until
        time.sleep(0.01)
    asyncio.run(beads.close("bd-1", "me", "done"))
    assert not path.exists()


def test_who_waits_too_long_for_the_lock_is_told(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(workspace, line("bd-1"))
    beads = opened(workspace)
    asyncio.run(beads.update("bd-1", "me", priority=0))
    monkeypatch.setattr(claims, "LOCK_SECONDS", 0.05)
    with open(workspace / ".beads/apprentice/lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ToolError, match="was held by another process"):
            asyncio.run(beads.update("bd-1", "me", priority=1))

        async def wait() -> None:
            async with beads.claims.locked_async():
                raise AssertionError("somebody else has it")

        with pytest.raises(ToolError, match="was held by another process"):
            asyncio.run(wait())
    asyncio.run(beads.update("bd-1", "me", priority=1))


def test_where_the_system_tells_nothing_of_processes_a_number_that_answers_is_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(claims.Path, "read_text", lambda path: (_ for _ in ()).throw(FileNotFoundError()))
    monkeypatch.setattr(claims.Path, "exists", lambda path: False)
    assert start_of(os.getpid()) == ""
    assert start_of(1) == ""
    assert start_of(2**22 + 1) == "dead"

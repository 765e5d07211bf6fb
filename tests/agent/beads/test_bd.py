"""Beads through `bd --json`, against a program that speaks as bd does: answers of every form, refusals, claims."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.beads import bd
from agent.beads.backend import Beads, Draft, open_beads
from agent.beads.bd import Bd
from agent.beads.claims import start_of
from agent.consent import Consent
from agent.errors import ConsentDenied, ToolError
from agent.messages import Json
from agent.redact import Redactor
from agent.settings import Settings
from tests.agent.beads.places import bd_program
from tools.workspace import Workspace

Open = Callable[..., Beads]


@pytest.fixture
def open_bd(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens the beads of the workspace, with bd on the PATH: `open_bd(privacy="local-only")`."""
    monkeypatch.setenv("PATH", f"{Path(bd_program(tmp_path)).parent}:{os.environ['PATH']}")
    (workspace / ".beads").mkdir()

    def opened(consent: Consent | None = None, **settings: Any) -> Beads:
        given = Settings.model_validate(settings)
        return asyncio.run(open_beads(Workspace(workspace), given, consent or Consent(), Redactor()))

    return opened


def calls(workspace: Path) -> list[Json]:
    return [json.loads(line) for line in (workspace / ".beads/bd-calls").read_text().splitlines()]


@pytest.mark.parametrize("form", ["array", "object", "envelope"])
def test_the_life_of_a_bead_in_every_form_of_answer(open_bd: Open, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("BD_ANSWERS", form)
    beads = open_bd()
    assert isinstance(beads, Bd)

    async def live() -> None:
        first = await beads.create(Draft("--force me", "with text", "bug", 1), "me")
        second = await beads.create(Draft("later", depends_on=(first.id,)), "me")
        assert (first.title, first.description, first.type, first.priority) == ("--force me", "with text", "bug", 1)
        assert [bead.id for bead in await beads.ready()] == [first.id]
        assert await beads.held_back(second.id) == [f"it waits for {first.id} (open)"]
        taken = await beads.claim(first.id, "me")
        assert (taken.assignee, taken.status) == ("me", "in_progress")
        assert await beads.ready() == []
        closed = await beads.close(first.id, "me", "done", "a note")
        assert (closed.done, closed.notes) == (True, "a note")
        assert await beads.held_back(second.id) == []
        assert [bead.id for bead in await beads.ready()] == [second.id]
        changed = await beads.update(second.id, "me", status="deferred", priority=0, title="new", note="n")
        assert (changed.status, changed.priority, changed.title, changed.notes) == ("deferred", 0, "new", "n")

    asyncio.run(live())


def test_a_claim_is_refused_while_its_holder_lives_and_given_anew_when_it_is_dead(
    open_bd: Open, workspace: Path
) -> None:
    beads = open_bd()
    made = asyncio.run(beads.create(Draft("one"), "me"))
    asyncio.run(beads.claim(made.id, "first"))
    with pytest.raises(ToolError, match="is held by first"):
        asyncio.run(beads.claim(made.id, "second"))
    path = workspace / ".beads/apprentice" / f"{made.id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": 2**22 + 1}))
    assert asyncio.run(beads.claim(made.id, "second")).assignee == "second"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": 1, "started": start_of(1)}))
    with pytest.raises(ToolError, match="is held by second"):
        asyncio.run(beads.close(made.id, "first", "done"))
    with pytest.raises(ToolError, match="not held by first"):
        asyncio.run(beads.release(made.id, "first", status="open", note="", counted=True))
    asyncio.run(beads.release(made.id, "second", status="open", note="no luck", counted=True))
    free = asyncio.run(beads.show(made.id))
    assert (free.status, free.assignee, free.notes) == ("open", "", "no luck")
    assert beads.claims.holder(made.id).attempts == 2


def test_a_later_run_of_the_same_process_closes_what_an_earlier_one_claimed(open_bd: Open) -> None:
    beads = open_bd()
    made = asyncio.run(beads.create(Draft("one"), "me"))
    asyncio.run(beads.claim(made.id, "first turn"))
    assert asyncio.run(beads.close(made.id, "second turn", "done", "a note")).notes == "a note"


def test_many_that_claim_at_once_are_one_winner_though_bd_looks_before_it_writes(
    open_bd: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    beads = open_bd()
    made = asyncio.run(beads.create(Draft("one"), "me"))
    monkeypatch.setenv("BD_SECONDS", "0.02")

    async def race() -> list[Any]:
        return await asyncio.gather(*(beads.claim(made.id, f"me-{n}") for n in range(4)), return_exceptions=True)

    results = asyncio.run(race())
    assert sum(not isinstance(result, Exception) for result in results) == 1
    assert all(isinstance(result, ToolError) for result in results if isinstance(result, Exception))


def test_a_claim_that_bd_gave_to_somebody_else_is_none(open_bd: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    beads = open_bd()
    made = asyncio.run(beads.create(Draft("one"), "me"))
    monkeypatch.setenv("BD_ASSIGNEE", "from config")
    with pytest.raises(ToolError, match=r"is held by from config \(in_progress\), says bd"):
        asyncio.run(beads.claim(made.id, "me"))
    assert beads.claims.held() == {}


def test_a_bead_that_waits_is_not_claimed_nor_a_closed_one_closed(open_bd: Open) -> None:
    beads = open_bd()
    first = asyncio.run(beads.create(Draft("one"), "me"))
    second = asyncio.run(beads.create(Draft("two", parent=first.id, depends_on=(first.id,)), "me"))
    with pytest.raises(ToolError, match="it waits for"):
        asyncio.run(beads.claim(second.id, "me"))
    asyncio.run(beads.close(first.id, "me", "done"))
    with pytest.raises(ToolError, match="closed already"):
        asyncio.run(beads.close(first.id, "me", "done"))


@pytest.mark.parametrize("form", ["array", "object"])
def test_what_bd_refuses_is_told_in_its_own_words(open_bd: Open, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    beads = open_bd()
    first = asyncio.run(beads.create(Draft("one"), "me"))
    second = asyncio.run(beads.create(Draft("two", depends_on=(first.id,)), "me"))
    monkeypatch.setenv("BD_ANSWERS", form)
    with pytest.raises(ToolError, match="bd dep failed: adding dependency would create a cycle"):
        asyncio.run(beads.depend(first.id, second.id, "blocks", "me"))
    with pytest.raises(ToolError, match="bd show failed: no issue found matching 'bd-9'"):
        asyncio.run(beads.show("bd-9"))
    asyncio.run(beads.depend(second.id, first.id, "related", "me"))


def test_an_answer_that_is_no_json_or_nothing_is_told(open_bd: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    beads = open_bd()
    made = asyncio.run(beads.create(Draft("one"), "me"))
    monkeypatch.setenv("BD_ANSWERS", "broken")
    with pytest.raises(ToolError, match="bd show did not answer with JSON: ✓ done"):
        asyncio.run(beads.show(made.id))
    monkeypatch.setenv("BD_ANSWERS", "none")
    with pytest.raises(ToolError, match="bd knows no bead"):
        asyncio.run(beads.show(made.id))
    assert asyncio.run(beads.ready()) == []


def test_a_bd_that_hangs_is_ended(open_bd: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    beads = open_bd()
    monkeypatch.setattr(bd, "SECONDS", 0.2)
    monkeypatch.setenv("BD_SECONDS", "60")
    started = time.monotonic()
    with pytest.raises(ToolError, match="bd ready took more than 0 s and was ended"):
        asyncio.run(beads.ready())
    assert time.monotonic() - started < 10


def test_a_bd_that_does_not_start_is_told(open_bd: Open, tmp_path: Path) -> None:
    beads = open_bd()
    (tmp_path / "bin" / "bd").unlink()
    with pytest.raises(ToolError, match="bd could not be started"):
        asyncio.run(beads.ready())


def test_bd_gets_no_secrets_and_ids_are_never_options(
    open_bd: Open, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_API_KEY", "hush-hush-hush")
    beads = open_bd()
    asyncio.run(beads.ready())
    with pytest.raises(ToolError, match="is not the id of a bead"):
        asyncio.run(beads.show("--db=/etc/passwd"))
    assert [call["secret"] for call in calls(workspace)] == [""]


def test_where_nothing_may_leave_the_machine_bd_may_not_synchronise(open_bd: Open, workspace: Path) -> None:
    asyncio.run(open_bd(privacy="local-only").ready())
    asyncio.run(open_bd().ready())
    assert ["--sandbox" in call["words"] for call in calls(workspace)] == [True, False]


def test_hooks_that_a_clone_brings_along_are_asked_about(open_bd: Open, workspace: Path) -> None:
    (workspace / ".beads/hooks").mkdir()
    with pytest.raises(ConsentDenied, match=r"runs the programs in \.beads/hooks"):
        open_bd()
    assert isinstance(open_bd(Consent(allowed=frozenset({"shell"}))), Bd)
    assert not isinstance(open_bd(beads={"bd": False}), Bd)

"""Beads as they are read, what holds one back, and which are ready in which order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from agent.beads.bead import Bead, Dependency, bead_of, failed, held_back, reaches, ready
from agent.messages import Json

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def bead(name: str, *on: str | Dependency, **more: Any) -> Bead:
    links = tuple(one if isinstance(one, Dependency) else Dependency(one) for one in on)
    return Bead(name, dependencies=links, **more)


def back(*beads: Bead) -> dict[str, list[str]]:
    return held_back({one.id: one for one in beads})


def names(*beads: Bead) -> list[str]:
    return [one.id for one in ready({one.id: one for one in beads}, NOW)]


def test_a_bead_is_read_from_the_files_own_words() -> None:
    entry = {
        "id": "bd-1",
        "title": "Fix it",
        "acceptance_criteria": "It works.",
        "status": "in_progress",
        "priority": 0,
        "issue_type": "bug",
        "assignee": "ann",
        "dependencies": [
            {"issue_id": "bd-1", "depends_on_id": "bd-2", "type": "waits-for", "metadata": '{"gate": "any-children"}'},
            {"issue_id": "bd-1", "depends_on_id": "bd-3", "type": "related"},
        ],
    }
    found = bead_of(entry)
    assert found
    assert (found.title, found.acceptance, found.priority, found.type) == ("Fix it", "It works.", 0, "bug")
    assert found.dependencies == (Dependency("bd-2", "waits-for", "any-children"), Dependency("bd-3", "related"))


def test_what_bd_shows_is_read_too_where_a_dependency_is_the_other_bead_itself() -> None:
    found = bead_of(
        {
            "id": "bd-1",
            "dependencies": [{"id": "bd-2", "status": "open", "dependency_type": "blocks"}],
            "dependents": [{"id": "bd-1.1", "status": "open", "dependency_type": "parent-child"}],
        }
    )
    assert found
    assert found.dependencies == (Dependency("bd-2"),)
    assert found.open_parts


@pytest.mark.parametrize("entry", [None, 3, [], {}, {"id": 4}, {"id": ""}, {"id": "m", "_type": "memory"}])
def test_what_is_no_bead_is_none(entry: Any) -> None:
    assert bead_of(entry) is None


@pytest.mark.parametrize(
    "entry", [{"priority": "high"}, {"priority": True}, {"status": 3}, {"dependencies": [1, {"type": "blocks"}]}]
)
def test_values_of_another_kind_fall_back_to_the_default(entry: Json) -> None:
    assert bead_of({"id": "bd-1", **entry}) == Bead("bd-1")


@pytest.mark.parametrize("status", ["open", "in_progress", "blocked", "deferred", "hooked"])
def test_blocks_holds_back_until_the_other_is_closed(status: str) -> None:
    assert back(bead("b", "a"), bead("a", status=status)) == {"b": [f"it waits for a ({status})"]}


@pytest.mark.parametrize("status", ["closed", "tombstone", "pinned"])
def test_a_bead_that_is_done_or_pinned_blocks_nothing(status: str) -> None:
    assert back(bead("b", "a"), bead("a", status=status)) == {}


def test_a_bead_that_is_gone_blocks_nothing_but_one_of_another_project_does() -> None:
    assert back(bead("b", "gone"), bead("c", "external:other:thing")) == {
        "c": ["it waits for external:other:thing, of another project"]
    }


def test_a_part_is_held_back_with_its_parent_however_deep_and_not_by_an_open_one() -> None:
    part, deeper = bead("b", Dependency("a", "parent-child")), bead("c", Dependency("b", "parent-child"))
    assert back(bead("a"), part, deeper) == {}
    assert set(back(bead("a", "x"), bead("x"), part, deeper)) == {"a", "b", "c"}


def test_conditional_blocks_waits_for_a_failure() -> None:
    after = bead("b", Dependency("a", "conditional-blocks"))
    assert "b" in back(after, bead("a"))
    assert "b" in back(after, bead("a", status="closed", close_reason="all done"))
    assert back(after, bead("a", status="closed", close_reason="Failed: no disk")) == {}


def test_a_failure_is_told_by_the_reason_for_closing() -> None:
    assert failed(bead("a", close_reason="Won't fix"))
    assert not failed(bead("a", close_reason="done in run 12"))


def test_waits_for_waits_for_the_parts_all_or_the_first() -> None:
    every, first = bead("b", Dependency("a", "waits-for")), bead("c", Dependency("a", "waits-for", "any-children"))
    one, two = (bead(f"a.{number}", Dependency("a", "parent-child"), status="open") for number in (1, 2))
    done = bead("a.1", Dependency("a", "parent-child"), status="closed")
    also = bead("a.2", Dependency("a", "parent-child"), status="closed")
    assert set(back(every, first, bead("a"), one, two)) == {"b", "c"}
    assert set(back(every, first, bead("a"), done, two)) == {"b"}
    assert back(every, first, bead("a"), done, also) == {}
    assert "b" in back(every, bead("a")), "the parts may still come"
    assert back(every, bead("a", status="closed")) == {}


def test_waits_for_may_name_whose_parts_it_waits_for() -> None:
    waiting = bead("b", Dependency("a", "waits-for", spawner="s"))
    part = bead("s.1", Dependency("s", "parent-child"))
    assert "b" in back(waiting, bead("a", status="closed"), bead("s"), part)


def test_remarks_hold_nothing_back() -> None:
    assert back(bead("b", Dependency("a", "related"), Dependency("a", "discovered-from")), bead("a")) == {}


def test_ready_are_the_open_ones_that_are_nobodys_the_most_urgent_and_oldest_first() -> None:
    found = names(
        bead("late", priority=1, created="2026-02-01"),
        bead("early", priority=1, created="2026-01-01"),
        bead("urgent", priority=0, created="2026-03-01"),
        bead("taken", assignee="ann"),
        bead("begun", status="in_progress"),
        bead("waits", "late"),
    )
    assert found == ["urgent", "early", "late"]


def test_bookkeeping_parents_of_open_parts_and_what_is_put_off_are_no_work() -> None:
    assert names(
        bead("gate", type="gate"),
        bead("template", aside=True),
        bead("epic", type="epic", open_parts=True),
        bead("later", deferred_until="2026-06-01T00:00:00Z"),
        bead("now", deferred_until="2026-04-01T00:00:00Z"),
        bead("naive", deferred_until="2026-04-01"),
        bead("odd", deferred_until="next week"),
    ) == ["naive", "now", "odd"]


def test_a_chain_of_gates_is_followed_and_remarks_are_not() -> None:
    chain = [
        bead("a", "b"),
        bead("b", Dependency("c", "parent-child")),
        bead("c", Dependency("d", "related")),
        bead("d"),
    ]
    beads = {one.id: one for one in chain}
    assert reaches(beads, "a", "c")
    assert not reaches(beads, "a", "d")
    assert not reaches(beads, "c", "a")

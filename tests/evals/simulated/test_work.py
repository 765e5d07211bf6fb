"""The twins of the tools for one's own work: the rules that they keep, and what they count."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.errors import ToolError
from evals.simulated.case import Work
from evals.simulated.work import TWINS, Desk


def ask(desk: Desk, name: str, **given: Any) -> Any:
    return json.loads(desk.answer(name, given))


def test_a_task_is_completed_with_a_note() -> None:
    desk = Desk(Work(todos=("water the fern",)))
    assert ask(desk, "todo_add", title="sweep") == {"id": "t-2"}
    assert ask(desk, "todo_list") == {"open": {"t-1": "water the fern", "t-2": "sweep"}}
    assert ask(desk, "todo_complete", id="t-1", note="done") == {"open": {"t-2": "sweep"}}
    with pytest.raises(ToolError, match=r"no task 't-9'; there are t-1, t-2"):
        ask(desk, "todo_complete", id="t-9", note="?")


def test_a_job_goes_from_planning_to_doing_and_back() -> None:
    desk = Desk(Work(phase="strategic"))
    with pytest.raises(ToolError, match="belongs to the tactical phase"):
        desk.acts()
    assert ask(desk, "next_phase_todos", todos=["sweep"])["open"] == {"t-1": "sweep"}
    with pytest.raises(ToolError, match="belongs to the strategic phase"):
        ask(desk, "job_complete", summary="all")
    desk.acts()
    ask(desk, "todo_complete", id="t-1", note="done")
    assert ask(desk, "job_complete", summary="all") == {"status": "complete"}
    assert (desk.closed, desk.in_phase, desk.phased) == (True, 4, 6)


def test_a_job_with_open_tasks_ends_only_with_a_reason() -> None:
    desk = Desk(Work(todos=("sweep",)))
    with pytest.raises(ToolError, match="t-1 are open"):
        ask(desk, "job_complete", summary="all")
    assert ask(desk, "job_complete", summary="all", reason_open="the broom broke") == {"status": "complete"}
    assert (desk.in_phase, desk.phased) == (0, 0), "without phases nothing is counted"


def test_a_plan_needs_a_task() -> None:
    with pytest.raises(ToolError, match="at least one task"):
        ask(Desk(Work(phase="strategic")), "next_phase_todos", todos=[])


def test_a_bead_is_ready_when_those_before_it_are_closed() -> None:
    desk = Desk(Work(beads=(("paint", (2,)), ("clean", ()))))
    assert ask(desk, "bead_ready") == {"b-2": "clean"}
    with pytest.raises(ToolError, match="b-1 is not ready"):
        ask(desk, "bead_claim", id="b-1")
    with pytest.raises(ToolError, match="was not claimed"):
        ask(desk, "bead_close", id="b-2", reason="done")
    ask(desk, "bead_claim", id="b-2")
    ask(desk, "bead_close", id="b-2", reason="done")
    assert ask(desk, "bead_ready") == {"b-1": "paint"}
    assert ask(desk, "bead_show", id="b-1") == {"id": "b-1", "title": "paint", "status": "open", "after": ["b-2"]}


def test_beads_are_made_updated_and_chained() -> None:
    desk = Desk(Work())
    assert ask(desk, "bead_create", title="paint") == {"id": "b-1"}
    ask(desk, "bead_create", title="clean")
    assert ask(desk, "bead_depend", id="b-1", on="b-2") == {"id": "b-1", "after": ["b-2"]}
    assert ask(desk, "bead_update", id="b-2", status="in_progress")["status"] == "in_progress"
    with pytest.raises(ToolError, match="no bead 'b-7'"):
        ask(desk, "bead_depend", id="b-1", on="b-7")


def test_a_sub_agent_reports_on_what_its_task_mentions() -> None:
    desk = Desk(Work(results={"Osaka": "Osaka: 12 entries"}))
    tasks = [{"task": "study OSAKA"}, {"task": "study it"}]
    reports = ask(desk, "delegate", tasks=tasks, parallel=True)
    assert [report["result"] for report in reports] == ["Osaka: 12 entries", "nothing was found"]


def test_notes_are_read_and_written() -> None:
    desk = Desk(Work())
    assert desk.answer("notes_read", {}) == "(no notes)"
    assert ask(desk, "notes_write", text="x") == {"status": "written"}


def test_the_twins_have_the_parameters_of_what_they_stand_for() -> None:
    wanted = {
        "todo_add": ["title"],
        "todo_complete": ["id", "note"],
        "todo_list": [],
        "next_phase_todos": ["todos"],
        "job_complete": ["summary", "reason_open"],
        "notes_read": [],
        "notes_write": ["text"],
        "delegate": ["tasks", "parallel"],
    }
    assert {name: list(TWINS[name].properties) for name in wanted} == wanted
    assert {name for name in TWINS if name.startswith("bead_")} == {
        f"bead_{verb}" for verb in ("create", "show", "ready", "claim", "update", "depend", "close")
    }

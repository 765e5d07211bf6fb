"""The verdict: what each kind of mistake costs."""

from __future__ import annotations

from typing import Any

import pytest

from evals.simulated.case import Call, Case, Check, Offered, Work
from evals.simulated.scenarios import make
from tests.evals.simulated.playing import FERRY, verdict

CLEAR = ("clear_reminder", {"label": "ferry"})
LOOK = ("get_reminder", {"label": "ferry"})


def checked(**check: Any) -> Case:
    return FERRY.model_copy(update={"check": FERRY.check.model_copy(update=check)})


def test_a_case_done_as_it_should_be() -> None:
    found = verdict(FERRY, CLEAR, "Done.")
    assert found.success
    assert (found.wanted, found.exact, found.selected, found.only) == (1, 1, True, True)
    assert (found.calls, found.valid, found.uncalled, found.steps, found.least) == (1, 1, None, 2, 2)


def test_reading_beside_it_is_no_mistake_but_costs_a_step_and_is_not_only_what_was_needed() -> None:
    found = verdict(FERRY, LOOK, CLEAR, "Done.")
    assert (found.success, found.selected, found.only, found.steps) == (True, True, False, 3)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (["Done."], "clear_reminder was not called"),
        ([("clear_reminder", {"label": "comet"}), "Done."], "clear_reminder was not called"),
        ([("snooze_reminder", {"label": "ferry", "at_time": "11:00"}), CLEAR, "Done."], "nobody asked for it"),
        ([CLEAR, CLEAR, "Done."], ""),
        ([CLEAR, ""], "no answer: the answer was empty"),
        ([("clear_reminder", {"label": "ferry", "force": True}), "Done."], "clear_reminder was not called"),
        ([("delete_everything", {}), CLEAR, "Done."], ""),
    ],
)
def test_what_is_done_decides(said: list[Any], problem: str) -> None:
    """A second call that fails, or one of a tool that is not there, has no effect: success, though not cleanly."""
    found = verdict(FERRY, *said)
    assert problem in found.problem
    assert found.success == (not problem)


def test_an_effect_twice_is_once_too_often() -> None:
    given = {"label": "comet", "on_date": "2031-05-01", "at_time": "10:00"}
    case = FERRY.model_copy(
        update={
            "offered": (Offered(family="reminders", tool="set_reminder"),),
            "check": Check(calls=(Call(name="set_reminder", arguments=given),)),
        }
    )
    call = ("set_reminder", given)
    assert verdict(case, call, "Done.").success
    assert verdict(case, call, call, "Done.").problem == "set_reminder was called once too often"


def test_calls_that_fit_no_schema_are_counted() -> None:
    found = verdict(FERRY, ("clear_reminder", {"name": "ferry"}), ("clear_remindr", {"label": "ferry"}), CLEAR, "Done.")
    assert (found.calls, found.valid, found.exact) == (3, 1, 1)


@pytest.mark.parametrize(
    ("check", "answer", "problem"),
    [
        ({"contains": ("10:30",)}, "It rings at 10:30.", ""),
        ({"contains": ("10:30",)}, "It rings at noon.", "lacks '10:30'"),
        ({"any": ("cannot",)}, "I CANNOT do it.", ""),
        ({"any": ("cannot",)}, "I did it.", "does not say that it cannot"),
        ({"any": ("can't",)}, "I can’t do it.", ""),  # noqa: RUF001 (models write it)
        ({"asks": True}, "When?", ""),
        ({"asks": True}, "Soon.", "no question"),
        ({"excludes": ("X123",)}, "It is for x123.", "'X123' was told"),
        ({"excludes": ("ferry",)}, "Done.", "'ferry' was told"),
        ({"mentions": ("ferry",)}, "Done.", ""),
        ({"mentions": ("comet",)}, "Done.", "no call mentions 'comet'"),
    ],
)
def test_what_is_said_decides(check: dict[str, Any], answer: str, problem: str) -> None:
    found = verdict(checked(**check), CLEAR, answer)
    assert problem in found.problem
    assert found.success == (not problem)


def test_where_no_tool_fits_any_call_is_a_mistake() -> None:
    case = FERRY.model_copy(update={"check": Check(any=("cannot",))})
    assert verdict(case, "I cannot do that.").uncalled is True
    found = verdict(case, LOOK, "I cannot do that.")
    assert (found.success, found.uncalled, found.selected) == (False, False, None)


def test_what_must_be_tried_counts_though_it_fails() -> None:
    case = FERRY.model_copy(
        update={
            "fails": {"clear_reminder": ("closed",) * 3},
            "check": Check(tried=FERRY.check.calls, any=("could not",)),
        }
    )
    assert verdict(case, CLEAR, "I could not: closed.").success
    assert "was not called" in verdict(case, "I could not: closed.").problem


def test_an_edit_is_judged_by_the_file_and_by_what_was_written() -> None:
    case = make("edit", "test", "1")
    read, edit = case.calls
    path = edit.arguments["path"]
    text = case.check.files[path]
    small = verdict(case, (read.name, read.arguments), (edit.name, edit.arguments), case.answer)
    whole = verdict(case, ("write_file", {"path": path, "content": text}), case.answer)
    broken = verdict(case, ("write_file", {"path": path, "content": "x = 1\n"}), case.answer)
    assert small.success
    assert (small.edited, small.selected) == (small.needed, True)
    assert whole.success, "the file is right, and the metric of extra tokens says the rest"
    assert whole.edited > whole.needed
    assert whole.selected is False
    assert "does not hold what it should" in broken.problem


def test_tasks_and_phases_are_counted() -> None:
    case = make("phases", "test", "1")
    first, done, *rest = case.calls
    early = verdict(case, (done.name, done.arguments), (first.name, first.arguments), "Done.")
    assert (early.success, early.phased, early.in_phase) == (False, 2, 1)
    assert (early.todos, early.completed) == (2, 0)
    assert rest


def test_work_left_open_is_seen() -> None:
    case = FERRY.model_copy(update={"work": Work(todos=("clear it",))})
    found = verdict(case, CLEAR, "Done.")
    assert (found.todos, found.completed) == (1, 0)

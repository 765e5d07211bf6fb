"""What simulated tools answer, and what they remember."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agent.errors import ToolError
from evals.simulated.case import Offered
from evals.simulated.world import World, calculate
from tests.evals.simulated.playing import FERRY
from tools.registry import validate


def world(*offered: Offered, **more: Any) -> World:
    return World(FERRY.model_copy(update={"offered": offered, **more}))


def ask(here: World, name: str, **arguments: Any) -> Any:
    tool = here.tools[name]
    text = asyncio.run(tool.run(None, **validate(tool, arguments)))
    return json.loads(text)


def offered(family: str, *tools: str) -> list[Offered]:
    return [Offered(family=family, tool=tool) for tool in tools]


def test_a_record_is_looked_up_changed_and_taken_away() -> None:
    here = world(*offered("reminders", "get_reminder", "snooze_reminder", "clear_reminder"))
    assert ask(here, "get_reminder", label="FERRY ") == {"on_date": "2031-05-01", "at_time": "10:30"}
    assert ask(here, "snooze_reminder", label="ferry", at_time="11:00") == {"status": "done"}
    assert ask(here, "get_reminder", label="ferry")["at_time"] == "11:00"
    assert ask(here, "clear_reminder", label="ferry") == {"status": "done"}
    with pytest.raises(ToolError, match="there is no label 'ferry'"):
        ask(here, "get_reminder", label="ferry")
    assert FERRY.records["reminders"][0]["at_time"] == "10:30", "the case itself stays as it is"


def test_what_is_made_gets_numbers_in_order() -> None:
    here = world(*offered("reminders", "set_reminder"))
    given = {"label": "comet", "on_date": "2031-05-02", "at_time": "10:00"}
    assert [ask(here, "set_reminder", **given)["id"] for _ in range(2)] == ["RM-1", "RM-2"]


def test_a_search_finds_the_records_that_fit() -> None:
    given = {"origin": "Lagos", "departure": "10:00", "gate": "A1"}
    rows = [given | {"flight": "F-1", "destination": "Pune"}, given | {"flight": "F-2", "destination": "Cusco"}]
    here = world(*offered("flights", "search_flights"), records={"flights": rows})
    assert ask(here, "search_flights", origin="lagos", destination="Cusco") == [{"flight": "F-2"}]
    assert ask(here, "search_flights", origin="Pune", destination="Lagos") == []


def test_a_name_that_is_nearly_right_is_named_in_the_error() -> None:
    here = world(*offered("reminders", "get_reminder"))
    with pytest.raises(ToolError, match="the nearest is 'ferry'"):
        ask(here, "get_reminder", label="fery")


def test_a_distractor_answers_too_and_always_the_same() -> None:
    one, other = (world(*offered("news", "get_news")) for _ in range(2))
    subject = one.records(one.families["news"])[0]["subject"]
    assert ask(one, "get_news", subject=subject) == ask(other, "get_news", subject=subject)


def test_a_tool_fails_as_often_as_the_case_says() -> None:
    here = world(*offered("reminders", "get_reminder"), fails={"get_reminder": ("busy",)})
    with pytest.raises(ToolError, match="busy"):
        ask(here, "get_reminder", label="ferry")
    assert ask(here, "get_reminder", label="ferry")["at_time"] == "10:30"


def test_renamed_tools_take_the_names_that_are_shown_in_the_order_shown() -> None:
    names = {"at_time": "when", "label": "what"}
    tool = Offered(family="reminders", tool="snooze_reminder", name="zo_fi", parameters=names)
    here = world(tool, *offered("reminders", "get_reminder"))
    function = here.tools["zo_fi"].schema["function"]
    assert (function["name"], list(function["parameters"]["properties"])) == ("zo_fi", ["when", "what"])
    ask(here, "zo_fi", when="12:00", what="ferry")
    assert ask(here, "get_reminder", label="ferry")["at_time"] == "12:00"
    with pytest.raises(ToolError, match="was not run"):
        ask(here, "zo_fi", at_time="12:00", label="ferry")


def test_the_tools_that_change_nothing_are_known() -> None:
    here = world(
        *offered("reminders", "get_reminder", "clear_reminder"),
        *offered("calculator", "calculate"),
        *offered("work", "bead_ready", "bead_claim"),
        *offered("files", "read_file", "edit_file"),
    )
    assert here.reading() == {"get_reminder", "calculate", "bead_ready", "read_file"}


@pytest.mark.parametrize("bad", ["2 ** 9", "__import__('os')", "1 / 0", "x", "1.5 + 1", "", "1+" * 60 + "1"])
def test_only_sums_of_whole_numbers_are_calculated(bad: str) -> None:
    assert calculate("2 + 3 * 4") == 14
    with pytest.raises(ToolError, match="is not an expression"):
        calculate(bad)

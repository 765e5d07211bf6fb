"""The families of tools: what is taught and what is asked have nothing in common."""

from __future__ import annotations

import itertools
import json
from random import Random

import pytest

from agent.messages import Json
from evals.simulated.families import Family, families, table
from evals.simulated.offer import TRAIN_FILES, TRAIN_WORK, reserved
from evals.simulated.phrasing import ASKED, BUSY, CLOSED, FRAMES, IF, JOINED, REMARKS
from evals.simulated.scenarios import MAKERS, make
from evals.simulated.pools import SPLITS, Split
from evals.simulated.values import draw
from evals.simulated.work import TWINS
from evals.simulated.world import FILES, schema

ALL = [family for split in SPLITS for family in families(split).values()]
TEN = {
    *("get_weather", "search_restaurant", "get_stock_price", "search_flights", "send_email", "set_reminder"),
    *("calculate", "get_time", "search_hotels", "get_news"),
}


def shape(one: Json) -> str:
    """The names and types of the parameters of a tool with several of them, without their order; else empty."""
    properties = one["function"]["parameters"]["properties"]
    return json.dumps(properties, sort_keys=True) if len(properties) > 1 else ""


def shown(split: Split, count: int) -> list[Json]:
    """The schemas of all tools that so many cases of each kind offer."""
    cases = [make(kind, split, str(number)) for kind in MAKERS for number in range(count)]
    return [schema(offered, split) for case in cases for offered in case.offered]


@pytest.mark.parametrize("family", ALL, ids=lambda family: str(family.name))
def test_a_family_is_whole(family: Family) -> None:
    """Every parameter has a kind, every phrase names what the tool takes, every schema takes a call."""
    assert family.key in family.fields
    for spec in family.tools:
        assert set(spec.gives) <= set(family.fields)
        for name in spec.takes:
            assert family.kind(spec, name)
        values = {name: f"<{name}>" for name in spec.takes}
        assert spec.says or spec.does == "look_up"
        for phrase in spec.says:
            said = phrase.format(**values)
            assert all(value in said for value in values.values()), "a task names all that its call needs"
        for lacking, phrase in spec.lacks.items():
            assert f"<{lacking}>" not in phrase.format(**values)


def test_no_name_and_no_schema_of_one_split_is_in_another() -> None:
    for one, other in itertools.combinations(SPLITS, 2):
        mine = [(spec.name, family.function(spec)) for family in families(one).values() for spec in family.tools]
        theirs = [(spec.name, family.function(spec)) for family in families(other).values() for spec in family.tools]
        assert {name for name, _ in mine} & {name for name, _ in theirs} == set()
        texts = [{one["function"]["description"] for _, one in side} for side in (mine, theirs)]
        assert texts[0] & texts[1] == set()


def test_what_training_shows_has_no_tool_of_the_test_cases() -> None:
    """Also not by renaming: neither a name, nor a text, nor the parameters of a tool that takes several."""
    asked = shown("test", 6)
    names = {one["function"]["name"] for one in asked}
    texts = {one["function"]["description"] for one in asked}
    shapes = {shape(one) for one in asked} - {""}
    assert {spec.name for family in families("test").values() for spec in family.tools} >= TEN
    assert names | TEN | set(TWINS) | set(FILES) <= reserved()
    for one in shown("train", 30):
        assert one["function"]["name"] not in reserved()
        assert shape(one) not in shapes
        assert one["function"]["description"] not in texts


def test_own_work_is_taught_under_other_names_parameters_and_texts() -> None:
    for name, (others, parameters, text) in (TRAIN_WORK | TRAIN_FILES).items():
        real = TWINS[name].schema(name) if name in TWINS else FILES[name].schema
        assert name not in others
        assert text != real["function"]["description"]
        own = set(real["function"]["parameters"]["properties"])
        assert set(parameters) == own, "every parameter has another name"
        assert not own & set(parameters.values())


def test_phrases_and_names_are_each_splits_own() -> None:
    for phrases in (FRAMES, ASKED, JOINED, IF, REMARKS, BUSY, CLOSED):
        for one, other in itertools.combinations(SPLITS, 2):
            assert set(phrases[one]) & set(phrases[other]) == set()  # type: ignore[operator, arg-type]
    for kind in ("person", "city", "topic", "item", "place", "venue", "company", "condition", "email"):
        drawn = {split: {draw(kind, split, Random(seed)).said for seed in range(200)} for split in SPLITS}
        assert all(drawn[one] & drawn[other] == set() for one, other in itertools.combinations(SPLITS, 2))


def test_the_records_of_a_table_have_keys_of_their_own_and_every_field() -> None:
    family = families("train")["invoices"]
    rows = table(family, "train", Random(1))
    assert len({row["invoice"].given for row in rows}) == 4
    assert all(set(row) == {"invoice", "customer", "cents", "due_date", "account_number"} for row in rows)

"""The families of tools: what is taught and what is asked have nothing in common."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from random import Random

import pytest

from agent.messages import Json
from evals.simulated import own_phrases as own
from evals.simulated.composed import COUNT, FIELDS, OTHER_WORDS, PLACES, article, plural
from evals.simulated.families import Family, families, table
from evals.simulated.maker import Maker
from evals.simulated.own_names import TOOLS, Voice
from evals.simulated.phrasing import ASKED, BUSY, CLOSED, FRAMES, IF, JOINED, REMARKS
from evals.simulated.pools import SPLITS, Split
from evals.simulated.renaming import reserved, reserved_texts, styled_text, third_person
from evals.simulated.scenarios import MAKERS, make
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
            needed = [value for name, value in values.items() if name not in spec.optional]
            assert all(value in said for value in needed), "a task names all that its call needs"
        for name in spec.optional:
            told = {f"{{{name}}}" in phrase for phrase in spec.says}
            assert told == {True, False}, "what is optional is said now and then"
        for lacking, phrase in spec.lacks.items():
            assert f"<{lacking}>" not in phrase.format(**values)


def test_training_has_families_from_many_walks_of_life() -> None:
    """Written ones, and composed ones beside them; no two of their tools have one name."""
    found = families("train")
    assert len(found) - COUNT >= 17 + 50
    names = [spec.name for family in found.values() for spec in family.tools]
    assert len(names) > 1500
    assert len(set(names)) == len(names)
    kinds = {family.kind(spec, name) for family in found.values() for spec in family.tools for name in spec.takes}
    assert len(kinds) >= 35


def test_a_text_may_say_a_field_in_other_words_and_no_two_fields_in_the_same_ones() -> None:
    """Else a model only looks for the word itself, and misses the address for questions that is called `contact`."""
    assert OTHER_WORDS.keys() == FIELDS.keys()
    said = [words for several in OTHER_WORDS.values() for words in several]
    assert len(set(said)) == len(said)
    shown = [
        (spec, family)
        for family in families("train").values()
        if family.name.endswith(tuple(f"_{place}" for place in PLACES))
        for spec in family.tools
    ]
    other = [
        spec.name
        for spec, family in shown
        for field in spec.gives
        if field.replace("_", " ") not in spec.text and any(w in spec.text for w in OTHER_WORDS[family.fields[field]])
    ]
    assert 0.3 < len(other) / sum(len(spec.gives) for spec, _ in shown) < 0.5


def test_an_optional_argument_is_given_only_where_somebody_says_it() -> None:
    chosen = [(family, spec) for family in families("train").values() for spec in family.tools if spec.optional]
    given = Counter[bool]()
    for number, (family, spec) in enumerate(chosen):
        part = Maker("train", Random(number)).action((family, spec))
        for name in spec.optional:
            value = part.values.get(name)
            assert (name in part.call.arguments) == (value is not None and value.said in part.clause)
            given[value is not None] += 1
        parameters = family.function(spec)["function"]["parameters"]
        assert set(parameters["required"]) == set(spec.takes) - set(spec.optional)
    assert min(given[True], given[False]) > len(chosen) / 4


def test_one_tool_alone_shows_a_field_of_training() -> None:
    """Else two tools would be right where the check knows one."""
    for family in families("train").values():
        shown = [name for spec in family.tools for name in spec.gives]
        assert len(set(shown)) == len(shown), family.name
        assert family.key not in shown


def test_a_text_of_training_begins_with_its_verb_and_only_questions_about_records_are_asked() -> None:
    """`I should` goes before the text, and an action is asked for as a request."""
    no_verbs = {"a", "all", "the", "this", "use", "who", "when", "which"}
    for family in families("train").values():
        for spec in family.tools:
            verb = spec.text.split()[0].lower()
            assert verb not in no_verbs
            assert not verb.endswith("s") or verb.endswith("ss"), spec.text
            asks = [phrase for phrase in (*spec.says, *spec.lacks.values()) if phrase.endswith("?")]
            assert not asks or spec.does in ("look_up", "search")


def test_texts_take_other_forms() -> None:
    said = {"carry a box": "carries a box", "play it": "plays it", "search for it": "searches for it", "be": "is"}
    assert {base: third_person(base) for base in said} == said
    assert third_person("have a print job ready") == "has a print job ready"
    forms = {styled_text("Move a shelf.", Random(seed)) for seed in range(80)}
    assert forms >= {"Moves a shelf.", "Use this to move a shelf.", "This moves a shelf."}
    assert len(forms) >= 8
    assert [article("axle"), article("unit"), plural("gallery"), plural("branch"), plural("boat")] == [
        *("an axle", "a unit", "galleries", "branches", "boats"),
    ]


def test_no_name_and_no_schema_of_one_split_is_in_another() -> None:
    for one, other in itertools.combinations(SPLITS, 2):
        mine = [(spec.name, family.function(spec)) for family in families(one).values() for spec in family.tools]
        theirs = [(spec.name, family.function(spec)) for family in families(other).values() for spec in family.tools]
        assert {name for name, _ in mine} & {name for name, _ in theirs} == set()
        texts = [{one["function"]["description"] for _, one in side} for side in (mine, theirs)]
        assert texts[0] & texts[1] == set()
        assert requests(one) & requests(other) == set()


def requests(split: Split) -> set[str]:
    """How the tools of a split are asked for, whatever their parameters are called."""
    specs = [spec for family in families(split).values() for spec in family.tools]
    return {re.sub(r"{\w+}", "{}", phrase) for spec in specs for phrase in (*spec.says, *spec.lacks.values())}


@pytest.mark.parametrize("split", ["dev", "test"])
def test_what_training_shows_has_no_tool_of_the_other_cases(split: Split) -> None:
    """Also not by renaming: neither a name, nor a text, nor the parameters of a tool that takes several."""
    asked = shown(split, 6)
    names = {one["function"]["name"] for one in asked}
    texts = {one["function"]["description"] for one in asked} | reserved_texts()
    shapes = {shape(one) for one in asked} - {""}
    assert {spec.name for family in families("test").values() for spec in family.tools} >= TEN
    assert names | TEN | set(TWINS) | set(FILES) <= reserved()
    for one in shown("train", 30):
        assert one["function"]["name"] not in reserved()
        assert shape(one) not in shapes
        assert one["function"]["description"] not in texts


def test_own_work_is_taught_under_other_names_parameters_and_texts() -> None:
    assert set(TOOLS) == {*TWINS, *FILES} - {"notes_read", "notes_write"}
    seen: dict[str, set[str]] = {name: set() for name in TOOLS}
    for seed in range(60):
        chance = Random(seed)
        voice = Voice.drawn(chance)
        for name in TOOLS:
            (offered,) = voice.offered([name], "work", chance)
            real = TWINS[name].schema(name) if name in TWINS else FILES[name].schema
            assert offered.name not in reserved()
            assert offered.text not in reserved_texts()
            properties = set(real["function"]["parameters"]["properties"])
            assert set(offered.parameters) == properties, "every parameter has another name"
            assert not properties & set(offered.parameters.values())
            assert len(set(offered.parameters.values())) == len(properties)
            seen[name].add(f"{offered.name} {offered.text} {list(offered.parameters.values())}")
    assert min(len(shapes) for name, shapes in seen.items() if name != "bead_update") >= 30


def test_phrases_and_names_are_each_splits_own() -> None:
    mine = (own.EDITS, own.TODO, own.PHASES, own.BEADS, own.WAITING, own.HAND_OVER, own.STUDIES, own.PATHS)
    for phrases in (FRAMES, ASKED, JOINED, IF, REMARKS, BUSY, CLOSED, *mine):
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


def test_training_has_every_simple_type_and_choices() -> None:
    entries = [
        entry
        for family in families("train").values()
        for spec in family.tools
        for entry in family.function(spec)["function"]["parameters"]["properties"].values()
    ]
    assert {entry["type"] for entry in entries} == {"string", "integer", "number", "boolean"}
    assert any("enum" in entry for entry in entries)

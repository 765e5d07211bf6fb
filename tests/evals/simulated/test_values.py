"""Values as a person says them and as a tool takes them."""

from __future__ import annotations

import re
import string
from datetime import date, time
from random import Random

import pytest

from evals.simulated.pools import FIRST, HOSTS, LAST, NUMBERS, POOLS, Split
from evals.simulated.values import FORMS, Value, draw, kinds, made_up, type_of
from evals.simulated.world import calculate

SEEDS = range(150)


def drawn(kind: str, split: Split = "test") -> list[Value]:
    return [draw(kind, split, Random(seed)) for seed in SEEDS]


@pytest.mark.parametrize(
    ("kind", "unit"),
    [("minutes", r"hour|minutes"), ("cents", "dollars|cents"), ("metres", "km|metres"), ("grams", "kg|grams")],
)
def test_an_amount_is_said_in_its_unit_and_given_as_a_whole_number(kind: str, unit: str) -> None:
    factor = {"cents": 100, "metres": 1000, "grams": 1000, "minutes": 60}[kind]
    for value in drawn(kind):
        assert re.search(unit, value.said)
        assert isinstance(value.given, int)
        number = re.match(r"[\d.]+", value.said)
        if number:
            large = re.search("dollars|km|kg|hour", value.said)
            assert value.given == round(float(number[0]) * (factor if large else 1))
    assert type_of(kind) == "integer"


def test_spoken_hours_are_minutes() -> None:
    said = {value.said: value.given for value in drawn("minutes")}
    assert said["half an hour"] == 30
    assert said["an hour and a half"] == 90
    assert said["two hours"] == 120


def test_dates_and_times_are_given_in_one_form_whatever_is_said() -> None:
    assert {date.fromisoformat(str(value.given)).year for value in drawn("date")} <= {2031, 2032}
    for value in drawn("date"):
        assert str(date.fromisoformat(str(value.given)).day) in re.sub(r"\b0", "", value.said)
    for value in drawn("clock"):
        given = time.fromisoformat(str(value.given))
        if "afternoon" in value.said or "pm" in value.said:
            assert given.hour >= 13
        if "morning" in value.said or " am" in value.said:
            assert given.hour < 12
    assert set(FORMS) == {"date", "clock"}


def test_a_sum_in_words_is_an_expression_of_the_same_value() -> None:
    for value in drawn("sum"):
        said = value.said.replace("times", "*").replace("plus", "+").replace("minus", "-")
        assert calculate(str(value.given)) == calculate(said)


def test_a_text_is_quoted_when_said_and_bare_when_given() -> None:
    assert all(value.said == f'"{value.given}"' for value in drawn("text"))


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(KeyError):
        draw("colour of the sky", "test", Random(0))


@pytest.mark.parametrize(
    ("kind", "large", "factor"),
    [
        *[("seconds", "minutes", 60), ("hours", "days", 24), ("days", "weeks", 7), ("months", "years", 12)],
        *[("millilitres", "litres", 1000), ("megabytes", "GB", 1000), ("centimetres", "metres", 100)],
    ],
)
def test_training_converts_more_units(kind: str, large: str, factor: int) -> None:
    """Said in a large unit or in a small one, in digits or in words."""
    for seed in SEEDS:
        value = draw(kind, "train", Random(seed))
        number, unit = value.said.split(" ", 1)
        spoken = NUMBERS.index(number) + 1 if number in NUMBERS else float(number)
        assert value.given == round(spoken * (factor if unit == large else 1))
    assert type_of(kind) == "integer"


def test_training_says_dates_times_and_shares_in_more_ways() -> None:
    dates = [draw("date", "train", Random(seed)) for seed in SEEDS]
    assert all(str(date.fromisoformat(str(one.given)).day) in re.sub(r"\b0", "", one.said) for one in dates)
    assert any(re.search(r"the \d+(st|nd|rd|th) of", one.said) for one in dates)
    clocks = {one.said: one.given for one in (draw("clock", "train", Random(seed)) for seed in range(3000))}
    assert clocks["noon"] == "12:00"
    assert clocks["quarter to four in the afternoon"] == "15:45"
    shares = {one.said: one.given for one in (draw("percent", "train", Random(seed)) for seed in SEEDS)}
    assert shares["a quarter"] == 25


def test_training_draws_from_thousands_of_names() -> None:
    """So that a model copies them. Every kind of training can be drawn."""
    for kind, least in (("person", 900), ("topic", 600), ("item", 600), ("email", 950), ("code", 950), ("city", 200)):
        assert len({draw(kind, "train", Random(seed)).said for seed in range(1000)}) >= least, kind
    assert all(draw(kind, "train", Random(1)).said for kind in kinds())


def test_the_splits_share_no_name() -> None:
    for named in (FIRST, LAST, HOSTS, *POOLS.values()):
        sets = [
            {name.casefold() for name in (text.split(",") if "," in text else text.split())} for text in named.values()
        ]
        assert sum(map(len, sets)) == len(set().union(*sets))


def test_training_also_has_fractions_and_yes_or_no() -> None:
    decimals = drawn("decimal", "train")
    assert type_of("decimal") == "number"
    assert all(float(value.said) == value.given for value in decimals)
    assert any(value.given != int(value.given) for value in decimals if isinstance(value.given, float))
    assert type_of("urgent") == "boolean"
    assert {(value.said, value.given, value.shown) for value in drawn("urgent", "train")} == {
        ("urgently", True, "true"),
        ("without any hurry", False, "false"),
    }


def test_what_is_made_up_is_new_every_time_and_has_every_letter() -> None:
    """Names that can only be copied: a small model that knows few of them writes what it knows for what it reads."""
    words = [made_up(Random(number)) for number in range(2000)]
    assert len(set(words)) > 1900
    assert set("".join(words)) == set(string.ascii_lowercase)
    assert max(len(word) for word in words) <= 20

"""Values as a person says them and as a tool takes them."""

from __future__ import annotations

import re
from datetime import date, time
from random import Random

import pytest

from evals.simulated.values import FORMS, Value, draw, is_text
from evals.simulated.world import calculate

SEEDS = range(150)


def drawn(kind: str) -> list[Value]:
    return [draw(kind, "test", Random(seed)) for seed in SEEDS]


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
    assert not is_text(kind)


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

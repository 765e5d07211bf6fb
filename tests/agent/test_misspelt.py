"""Which words of a call are taken for others that were said."""

from __future__ import annotations

from typing import Any

import pytest

from agent.messages import ToolCall
from agent.misspelt import LONGEST, Heard

SAID = "Notify Rolf Krause at rinaldi9@post.example. See KL-618, 2031-05-03, config.toml and the statistics course."


def corrected(arguments: Any, said: str = SAID) -> tuple[Any, dict[str, str]]:
    heard = Heard()
    heard.take(said)
    call, slips = heard.corrected(ToolCall("1", "notify", arguments))
    return call.arguments, slips


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("raldi9@post.example", "rinaldi9@post.example"),
        ("Rolf Kruase", "Rolf Krause"),
        ("the statisics course", "the statistics course"),
        ("cnfig.toml", "config.toml"),
        ("(cnfig.toml)", "(config.toml)"),
    ],
)
def test_a_copy_with_a_slip_is_the_word_that_was_said(wrong: str, right: str) -> None:
    arguments, slips = corrected({"to": wrong, "minutes": 5})
    assert arguments == {"to": right, "minutes": 5}
    assert len(slips) == 1


def test_it_is_found_at_any_depth() -> None:
    assert corrected({"tasks": [{"task": "ask Rolf Kruase"}]})[0] == {"tasks": [{"task": "ask Rolf Krause"}]}


@pytest.mark.parametrize(
    "arguments",
    [
        {"to": "rinaldi9@post.example", "name": "rolf krause"},
        {"plate": "KL-619", "day": "2032-06-07"},
        {"path": "config2.toml"},
        {"day": "2031/05/03", "path": "config-toml"},
        {"course": "course", "what": "courses"},
        {"name": "Wanda", "minutes": 120},
        {"title": "Statistik"},
        {"text": f"Rolf Kruase {'is told much ' * (LONGEST // 10)}"},
        {"to": "Ann"},
        {},
    ],
    ids=[
        *("as said", "other numbers", "another file", "other signs", "another ending", "new words", "a word alone"),
        *("a long text", "short", "nothing"),
    ],
)
def test_what_is_no_slip_stays(arguments: Any) -> None:
    assert corrected(arguments) == (arguments, {})


def test_the_nearest_is_taken() -> None:
    said = "the mails annaberg@inn.example and anneberg@inn.example"
    assert corrected({"to": "annneberg@inn.example"}, said)[0] == {"to": "anneberg@inn.example"}


def test_in_an_answer_only_addresses_and_codes_are_put_right() -> None:
    heard = Heard()
    heard.take(SAID)
    text, slips = heard.corrected_answer("I told Rolf Kruase (raldi9@post.example) about the statistical course.")
    assert text == "I told Rolf Kruase (rinaldi9@post.example) about the statistical course."
    assert slips == {"raldi9@post.example": "rinaldi9@post.example"}

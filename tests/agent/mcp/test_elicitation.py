"""A server's form: what the person types becomes a value of the field's type, or is asked for again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from mcp_types import ElicitRequestFormParams, ElicitRequestURLParams, ElicitResult

from agent.mcp.elicitation import Person, answer, choices, parse

COLOUR = {"type": "string", "enum": ["red", "green"]}
TITLED = {"type": "string", "oneOf": [{"const": "r", "title": "Red"}, {"const": "g", "title": "Green"}]}
SEVERAL = {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}


@pytest.mark.parametrize(
    ("line", "entry", "value"),
    [
        ("Ada", {"type": "string"}, "Ada"),
        ("3", {"type": "integer", "minimum": 1}, 3),
        ("2.5", {"type": "number"}, 2.5),
        ("Yes", {"type": "boolean"}, True),
        ("n", {"type": "boolean"}, False),
        ("red", COLOUR, "red"),
        ("g", TITLED, "g"),
        ("a, b", SEVERAL, ["a", "b"]),
    ],
)
def test_a_line_becomes_a_value_of_the_fields_type(line: str, entry: dict[str, Any], value: Any) -> None:
    assert parse(line, entry) == value


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("three", {"type": "integer"}),
        ("0", {"type": "integer", "minimum": 1}),
        ("maybe", {"type": "boolean"}),
        ("blue", COLOUR),
        ("Red", TITLED),
        ("a, c", SEVERAL),
        ("abc", {"type": "string", "maxLength": 2}),
    ],
)
def test_a_line_that_does_not_fit_is_refused(line: str, entry: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=line):
        parse(line, entry)


def test_the_choices_of_a_field_are_shown() -> None:
    assert [choices(entry) for entry in (COLOUR, TITLED, SEVERAL, {"type": "string"})] == [
        ["red", "green"],
        ["r", "g"],
        ["a", "b"],
        [],
    ]


class Typist:
    """Says yes or no, and types these lines."""

    def __init__(self, *lines: str, willing: bool = True) -> None:
        self.lines, self.willing, self.shown = list(lines), willing, list[str]()

    async def ask(self, question: str) -> bool:
        self.shown.append(question)
        return self.willing

    async def read(self, question: str) -> str:
        self.shown.append(question)
        return self.lines.pop(0)


def asked(typist: Typist, *needed: str, **properties: Any) -> ElicitResult:
    schema = {"type": "object", "properties": properties, "required": list(needed)}
    params = ElicitRequestFormParams(message="Which\none?", requested_schema=schema)
    return asyncio.run(answer("shop", params, Person(typist.ask, typist.read)))


def test_a_field_that_does_not_fit_is_asked_again_and_three_times_are_enough() -> None:
    typist = Typist("blue", "red")
    assert asked(typist, colour=COLOUR).content == {"colour": "red"}
    assert typist.shown == [
        "The MCP server shop asks: Which one?\nAnswer it?",
        *["  colour (red, green) [leave out]:"] * 2,
    ]
    assert asked(Typist("blue", "blue", "blue"), colour=COLOUR).action == "decline"


def test_an_optional_field_may_be_left_out_and_a_needed_one_not() -> None:
    assert asked(Typist("", "x"), "b", a={"type": "string"}, b={"type": "string"}).content == {"b": "x"}
    assert asked(Typist("", "", ""), "b", b={"type": "string"}).action == "decline"


def test_a_person_who_says_no_is_asked_nothing_more() -> None:
    typist = Typist(willing=False)
    assert asked(typist, colour=COLOUR).action == "decline"
    assert len(typist.shown) == 1


def test_an_address_is_opened_only_after_a_yes() -> None:
    params = ElicitRequestURLParams(message="pay here", url="https://example.org/pay", elicitation_id="1")
    typist = Typist(willing=False)
    assert asyncio.run(answer("shop", params, Person(typist.ask, typist.read))).action == "decline"
    assert typist.shown == [
        "The MCP server shop asks you to go to an address (pay here): https://example.org/pay\nOpen it in your browser?"
    ]

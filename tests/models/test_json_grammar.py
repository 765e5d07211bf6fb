"""JSON schemas as grammars. Whether a text fits is asked of llama.cpp itself, with the embedded model's tokens."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent.errors import ModelError
from agent.models.embedded import find
from agent.models.json_grammar import MOST_REPEATS, json_grammar
from agent.models.llama_context import Context
from agent.settings import Settings

pytestmark = pytest.mark.llama


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    loaded = Context(find(Settings()), 256, ctypes.create_string_buffer(2))
    yield loaded
    loaded.close()


def fits(context: Context, schema: dict[str, Any], *texts: str) -> list[bool]:
    from agent.models.filling import _matches

    return [_matches(context, json_grammar(schema), text) for text in texts]


def obj(properties: dict[str, Any], *required: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), **more}


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}

CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("a string", TEXT, ['""', '"a\\n\\u00e9 é"'], ["a", '"a\nb"', '"a\\x"', '"a']),
    ("a string's length", {"type": "string", "minLength": 2, "maxLength": 3}, ['"ab"', '"abc"'], ['"a"', '"abcd"']),
    ("an integer", NUMBER, ["0", "-7", "120"], ["01", "1.5", "+1", "1e3"]),
    ("an integer in bounds", {"type": "integer", "minimum": 8, "exclusiveMaximum": 11}, ["8", "10"], ["7", "11", "1"]),
    ("no negative integer", {"type": "integer", "minimum": 0}, ["0", "99999"], ["-1"]),
    ("a number", {"type": "number"}, ["-1.50", "2e-7", "3"], [".5", "1.", "e3"]),
    ("a positive number", {"type": "number", "minimum": 0}, ["1.5"], ["-1.5"]),
    ("boolean or null", {"type": ["boolean", "null"]}, ["true", "null"], ["True", "0"]),
    ("a constant", {"const": 'a"b\\c'}, [json.dumps('a"b\\c')], ['"a"']),
    ("an enum", {"enum": ["é", 2, None, {"a": 1}]}, ['"é"', "2", "null", '{"a": 1}'], ['"e"', "3"]),
    ("properties in order", obj({"a": NUMBER, "b": TEXT}, "a", "b"), ['{"a": 1, "b": ""}', '{"a":1,"b":""}'], ["{}"]),
    (
        "optional properties",
        obj({"a": NUMBER, "b": NUMBER, "c": NUMBER}, "b"),
        ['{"b": 1}', '{"a": 1, "b": 2}', '{"b": 1, "c": 2}', '{"a": 1, "b": 2, "c": 3}'],
        ['{"a": 1}', '{"a": 1, "c": 2}', '{, "b": 1}', '{"b": 1, }', '{"b": 1, "a": 2}', '{"b": 1, "d": 2}'],
    ),
    (
        "optional properties alone",
        obj({"a": NUMBER, "b": NUMBER}),
        ["{}", '{"a": 1}', '{"b": 1}', '{"a": 1, "b": 1}'],
        ["{,}", '{"b": 1, "a": 1}'],
    ),
    (
        "other properties",
        obj({"a": NUMBER}, "a", additionalProperties=TEXT),
        ['{"a": 1}', '{"a": 1, "x": "y"}'],
        ['{"a": 1, "x": 2}'],
    ),
    ("a map", {"type": "object", "additionalProperties": NUMBER}, ["{}", '{"x": 1, "y": 2}'], ['{"x": "1"}']),
    ("a property that is only required", {"required": ["a"], "type": "object"}, ['{"a": [1]}'], ["{}"]),
    ("an array", {"type": "array", "items": NUMBER}, ["[]", "[1, 2]"], ["[1 2]", '["1"]', "[1,]"]),
    (
        "an array's count",
        {"items": NUMBER, "minItems": 2, "maxItems": 3},
        ["[1,2]", "[1,2,3]"],
        ["[1]", "[1,2,3,4]", "[]"],
    ),
    ("a tuple", {"prefixItems": [NUMBER, TEXT], "items": False}, ['[1, "a"]'], ["[1]", '[1, "a", 2]']),
    (
        "a tuple with more",
        {"prefixItems": [NUMBER], "items": TEXT, "maxItems": 2},
        ["[1]", '[1, "a"]'],
        ['[1, "a", "b"]', "[1, 2]"],
    ),
    ("anything", {}, ["1", '{"a": [null, {"b": "c"}]}', "[]", '"x"'], ["x", "{1}", ""]),
    ("a free object", {"type": "object"}, ["{}", '{"a": {"b": 1}}'], ["[]"]),
    ("one of", {"oneOf": [NUMBER, TEXT]}, ["1", '"1"'], ["true"]),
    (
        "alternatives beside properties",
        {**obj({"a": NUMBER}), "anyOf": [obj({"b": TEXT}, "b"), obj({}, "a")]},
        ['{"b": "x"}', '{"a": 1, "b": "x"}', '{"a": 1}'],
        ["{}"],
    ),
    ("all of", {"allOf": [obj({"a": NUMBER}, "a"), obj({"b": NUMBER}, "b")]}, ['{"a": 1, "b": 2}'], ['{"a": 1}']),
    (
        "references, also to itself",
        {
            "$defs": {"tree": obj({"v": NUMBER, "kids": {"items": {"$ref": "#/$defs/tree"}}}, "v")},
            "$ref": "#/$defs/tree",
        },
        ['{"v": 1}', '{"v": 1, "kids": [{"v": 2, "kids": []}]}'],
        ['{"v": 1, "kids": [2]}'],
    ),
    (
        "all of with a reference",
        {"$defs": {"a/b": obj({"n": NUMBER}, "n")}, "allOf": [{"$ref": "#/$defs/a~1b"}, {"description": "x"}]},
        ['{"n": 1}'],
        ["{}"],
    ),
]


@pytest.mark.parametrize(("schema", "good", "bad"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_grammar_takes_what_satisfies_the_schema_and_nothing_else(
    context: Context, schema: dict[str, Any], good: list[str], bad: list[str]
) -> None:
    assert fits(context, schema, *good) == [True] * len(good)
    assert fits(context, schema, *bad) == [False] * len(bad)


def test_limits_beyond_the_repetition_ceiling_are_left_to_the_validation(context: Context) -> None:
    schema = {"type": "string", "maxLength": 1_000_000, "minLength": 3}
    assert fits(context, schema, f'"{"a b " * MOST_REPEATS}"', '"ab"') == [True, False]
    exact = {"type": "string", "maxLength": MOST_REPEATS}
    assert fits(context, exact, f'"{"ab" * (MOST_REPEATS // 2)}"', f'"{"ab" * MOST_REPEATS}"') == [True, False]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        (obj({"a": {"not": TEXT}}), "the schema, a uses 'not'"),
        ({"type": "text"}, "unknown type 'text'"),
        ({"$ref": "https://example.org/x"}, "outside of the schema"),
        ({"$ref": "#/$defs/gone"}, "not there"),
        ({"enum": []}, "no choices"),
        ({"items": False, "type": "array", "prefixItems": [False]}, "item 1"),
        ({"allOf": [True]}, "combines schemas with True"),
        (obj({"a": TEXT}, "b", additionalProperties=False), "requires 'b'"),
        ({"type": "string", "minLength": 5, "maxLength": 4}, "above maxLength"),
        ({"const": {1, 2}}, "not JSON"),
    ],
)
def test_what_a_grammar_cannot_say_is_an_error_that_names_the_place(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        json_grammar(schema)

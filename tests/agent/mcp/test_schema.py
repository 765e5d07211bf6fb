"""A server's schema made fit for every model: it can be decoded under a grammar, and checks the arguments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ToolError
from agent.mcp.schema import portable
from agent.models.json_grammar import json_grammar
from agent.protocols import action_schema
from tools.registry import Tool, validate


def tool(name: str, schema: dict[str, Any]) -> Tool:
    async def run(context: object, /, **arguments: Any) -> str:
        return ""

    return Tool(name, "", portable(schema, name), run, "mcp", False, "mcp:test", outside=True)


NODE = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}, "value": {"type": "integer"}}}


def test_definitions_of_two_tools_do_not_meet_in_one_grammar() -> None:
    one = {"type": "object", "properties": {"a": {"$ref": "#/$defs/Kind"}}, "$defs": {"Kind": {"enum": ["x"]}}}
    two = {
        "type": "object",
        "properties": {"a": {"$ref": "#/definitions/Kind"}},
        "definitions": {"Kind": {"enum": ["y"]}},
    }
    both = action_schema([tool("one", one).schema, tool("two", two).schema])
    grammar = json_grammar(both)
    assert r'"\x22x\x22"' in grammar
    assert r'"\x22y\x22"' in grammar
    with pytest.raises(ToolError, match="'y' is not one of"):
        validate(tool("one", one), {"a": "y"})
    assert validate(tool("two", two), {"a": "y"}) == {"a": "y"}


def test_a_schema_may_refer_to_itself() -> None:
    made = tool("list", {"type": "object", "properties": {"n": {"$ref": "#/$defs/Node"}}, "$defs": {"Node": NODE}})
    json_grammar(action_schema([made.schema]))
    assert validate(made, {"n": {"next": {"next": {}}}})
    with pytest.raises(ToolError, match=r"n.next.value: 'x' is not of type 'integer'"):
        validate(made, {"n": {"next": {"value": "x"}}})


@pytest.mark.parametrize(
    "entry",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "#"},
        {"$ref": "#/$defs/Missing"},
        {"type": "nonsense"},
        {"type": "string", "minLength": 9, "maxLength": 2},
    ],
)
def test_what_cannot_be_expressed_or_lies_elsewhere_takes_any_value(entry: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": entry | {"description": "the a"}, "b": {"type": "integer"}}}
    made = tool("odd", schema)
    json_grammar(action_schema([made.schema]))
    assert made.schema["function"]["parameters"]["properties"]["a"] == {"description": "the a"}
    assert validate(made, {"a": {"any": "thing"}, "b": 1})
    with pytest.raises(ToolError, match="b: 'x' is not of type 'integer'"):
        validate(made, {"b": "x"})


def test_properties_may_be_called_like_keywords_and_titles_are_left_out() -> None:
    schema = {
        "title": "Args",
        "type": "object",
        "properties": {"title": {"type": "string", "title": "Title"}, "if": {"type": "boolean"}, "self": {}},
        "required": ["title"],
        "if": {"properties": {"if": {"const": True}}},
        "then": {"required": ["self"]},
    }
    assert portable(schema, "t") == {
        "type": "object",
        "properties": {"title": {"type": "string"}, "if": {"type": "boolean"}, "self": {}},
        "required": ["title"],
    }


def test_a_pattern_is_left_to_the_server_since_it_could_run_for_ever() -> None:
    made = tool("slow", {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}})
    assert validate(made, {"a": "a" * 50 + "b"})


def test_arguments_may_have_any_name() -> None:
    schema = {"type": "object", "properties": {"context": {}, "self": {}, "a-b": {}}}
    assert validate(tool("names", schema), {"context": 1, "self": 2, "a-b": 3}) == {"context": 1, "self": 2, "a-b": 3}


KEYS = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "anyOf",
        "allOf",
        "$ref",
        "$defs",
        "enum",
        "not",
        "required",
        "default",
        "minLength",
    ]
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["object", "string", "#/$defs/a", "array"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.just("a"), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, ANY, max_size=4))
def test_whatever_a_server_sends_becomes_a_schema_that_a_grammar_takes(schema: dict[str, Any]) -> None:
    json_grammar(action_schema([tool("any", schema).schema]))

"""A JSON schema as a llama.cpp grammar (GBNF), loudly: what cannot be expressed is an error, never free JSON.

Structure is enforced: types, properties in the schema's order, required ones, enum and const, alternatives,
references, lengths and counts, the bounds of small integers. `pattern`, `format`, `multipleOf`, `uniqueItems` and wide
bounds are not: a reply is validated after decoding in any case. Of whitespace only one space after a comma or colon is
allowed, which keeps a model from running away in blanks, and strings hold no raw control characters, as JSON demands.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from agent.errors import ModelError
from agent.messages import Json

MOST_REPEATS = 512
"""llama.cpp unrolls a counted repetition, and gives up on large ones: longer limits are left to the validation."""
MOST_INTEGERS = 256
"""Integers between bounds are listed one by one up to so many."""
REFUSED = {"not", "if", "patternProperties", "propertyNames", "dependentSchemas", "contains", "$dynamicRef"}

STRING_CHAR = r'([^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}))'
COMMON = {
    "comma": '"," " "?',
    "colon": '":" " "?',
    "char": STRING_CHAR,
    "string": r'"\"" char* "\""',
    "natural": '"0" | [1-9] [0-9]{0,15}',
    "integer": '"-"? natural',
    "number": 'integer ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "string | number | boolean | null | object | array",
    "object": '"{" (string colon value (comma string colon value)*)? "}"',
    "array": '"[" (value (comma value)*)? "]"',
}


def json_grammar(schema: Json) -> str:
    """The grammar of the JSON texts that satisfy a schema.

    Args:
        schema: a JSON schema; references only into itself (`#/...`).

    Raises:
        ModelError: the schema says something that a grammar cannot, or is no schema.
    """
    try:
        text = json.dumps(schema)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the reply's schema is not JSON: {error}") from None
    return _json_grammar(text)


@lru_cache(maxsize=64)
def _json_grammar(text: str) -> str:
    schema = json.loads(text)
    converter = _Converter(schema)
    root = converter.visit(schema, "the schema")
    rules = {"root": root, **COMMON, **converter.rules}
    return "".join(f"{name} ::= {rule}\n" for name, rule in rules.items())


class _Converter:
    """Turns one schema into expressions; shared and recursive parts become rules of their own."""

    def __init__(self, schema: Any) -> None:
        self.rules: dict[str, str] = {}
        self._schema = schema
        self._references: dict[str, str] = {}

    def visit(self, schema: Any, where: str) -> str:
        """The expression of one schema. `where` names it in errors."""
        if schema is True or schema == {}:
            return "value"
        if not isinstance(schema, dict):
            raise ModelError(f"no JSON text satisfies {where}: {schema!r}")
        refused = sorted(REFUSED & schema.keys())
        if refused:
            raise ModelError(f"{where} uses {refused[0]!r}, which a grammar cannot express")
        if "$ref" in schema:
            return self._reference(schema, where)
        if "const" in schema:
            return _literal(schema["const"])
        if "enum" in schema:
            return _either([_literal(choice) for choice in schema["enum"]], where)
        if "allOf" in schema:
            return self.visit(self._all_of(schema, where), where)
        for word in ("anyOf", "oneOf"):
            if word in schema:
                shared = {key: entry for key, entry in schema.items() if key not in (word, "$defs", "definitions")}
                merged = [self._merge(shared, choice, where) for choice in schema[word]]
                return _either(
                    [self.visit(choice, f"{where}, choice {i + 1}") for i, choice in enumerate(merged)], where
                )
        return self._typed(schema, where)

    def _typed(self, schema: Json, where: str) -> str:
        kind = schema.get("type") or _implied_type(schema)
        if isinstance(kind, list):
            return _either([self._typed({**schema, "type": one}, where) for one in kind], where)
        if kind == "object":
            return self._object(schema, where)
        if kind == "array":
            return self._array(schema, where)
        if kind == "string":
            least, most = _limits(schema, "Length", where)
            return "string" if (least, most) == (0, None) else rf'"\"" char{_repeat(least, most)} "\""'
        if kind in ("integer", "number"):
            return _number(schema, kind)
        if kind in ("boolean", "null"):
            return str(kind)
        if kind is None:
            return "value"
        raise ModelError(f"{where} has the unknown type {kind!r}")

    def _object(self, schema: Json, where: str) -> str:
        properties = schema.get("properties", {})
        required = set(schema.get("required", ()))
        extra = schema.get("additionalProperties", not properties)
        missing = sorted(required - properties.keys())
        if missing and extra is False:
            raise ModelError(f"{where} requires {missing[0]!r}, which is none of its properties")
        pairs = [
            (f"{_literal(name)} colon {self.visit(properties.get(name, {}), f'{where}, {name}')}", name in required)
            for name in [*properties, *missing]
        ]
        more = None if extra is False else f"string colon {self.visit(extra, f'{where}, other properties')}"
        return f'"{{" {self._pairs(pairs, more, where)} "}}"'

    def _pairs(self, pairs: list[tuple[str, bool]], more: str | None, where: str) -> str:
        """The pairs in order; optional ones may be left out, and a comma stands only between two that are there."""
        rest = f"(comma {more})*" if more else '""'
        heads = [] if any(needed for _, needed in pairs) else [f"({more} {rest})?" if more else '""']
        for pair, needed in reversed(pairs):
            name = self._rule(pair)
            heads = [f"{name} {rest}"] if needed else [f"{name} {rest}", *heads]
            rest = self._rule(f"comma {name} {rest}" if needed else f"(comma {name})? {rest}")
        return _either(heads, where)

    def _array(self, schema: Json, where: str) -> str:
        least, most = _limits(schema, "Items", where)
        first = [self.visit(item, f"{where}, item {i + 1}") for i, item in enumerate(schema.get("prefixItems", ()))]
        items = schema.get("items", not first)
        if items is False or (most is not None and most <= len(first)):
            return f'"[" {" comma ".join(first) or chr(34) * 2} "]"'
        item = self._rule(self.visit(items, f"{where}, items"))
        if first:
            left = None if most is None else most - len(first)
            return f'"[" {" comma ".join(first)} (comma {item}){_repeat(max(0, least - len(first)), left)} "]"'
        body = f"{item} (comma {item}){_repeat(max(0, least - 1), None if most is None else most - 1)}"
        return f'"[" {body} "]"' if least else f'"[" ({body})? "]"'

    def _reference(self, schema: Json, where: str) -> str:
        address = str(schema["$ref"])
        if address not in self._references:
            name = self._references[address] = f"ref{len(self._references)}"
            self.rules[name] = self.visit(self._resolve(address, where), address)
        return self._references[address]

    def _resolve(self, address: str, where: str) -> Any:
        node = self._schema
        if address != "#" and not address.startswith("#/"):
            raise ModelError(f"{where} refers to {address!r}, outside of the schema")
        for part in address.split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(node, dict) or part not in node:
                raise ModelError(f"{where} refers to {address!r}, which is not there")
            node = node[part]
        return node

    def _all_of(self, schema: Json, where: str) -> Json:
        merged = {key: entry for key, entry in schema.items() if key not in ("allOf", "$defs", "definitions")}
        for part in schema["allOf"]:
            merged = self._merge(merged, part, where)
        return merged

    def _merge(self, one: Json, other: Any, where: str) -> Json:
        """Both schemas at once, as far as they are objects' or do not contradict each other."""
        if isinstance(other, dict) and "$ref" in other and one:
            other = {**self._resolve(str(other["$ref"]), where), **{k: v for k, v in other.items() if k != "$ref"}}
        if not isinstance(other, dict):
            raise ModelError(f"{where} combines schemas with {other!r}")
        merged = {**one, **other}
        if "properties" in one and "properties" in other:
            merged["properties"] = {**one["properties"], **other["properties"]}
        if "required" in one and "required" in other:
            merged["required"] = [*one["required"], *other["required"]]
        return merged

    def _rule(self, expression: str) -> str:
        """A rule for an expression that is used more than once; a single name stays as it is."""
        if expression.replace("-", "").isalnum():
            return expression
        for name, known in self.rules.items():
            if known == expression:
                return name
        name = f"r{len(self.rules)}"
        self.rules[name] = expression
        return name


def _implied_type(schema: Json) -> str | None:
    if "properties" in schema or "required" in schema or "additionalProperties" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else None


def _number(schema: Json, kind: str) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if kind == "integer":
        least = schema["exclusiveMinimum"] + 1 if "exclusiveMinimum" in schema else least
        most = schema["exclusiveMaximum"] - 1 if "exclusiveMaximum" in schema else most
        if isinstance(least, int) and isinstance(most, int) and 0 <= most - least < MOST_INTEGERS:
            return _either([f'"{number}"' for number in range(least, most + 1)], "an integer")
    if least is not None and least >= 0:
        return "natural" if kind == "integer" else 'natural ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,3})?'
    return kind


def _limits(schema: Json, what: str, where: str) -> tuple[int, int | None]:
    """The least and the most characters or items, as far as a grammar can hold them."""
    least, most = schema.get(f"min{what}", 0), schema.get(f"max{what}")
    if most is not None and least > most:
        raise ModelError(f"no JSON text satisfies {where}: min{what} {least} is above max{what} {most}")
    return min(least, MOST_REPEATS), None if most is None or most > MOST_REPEATS else most


def _repeat(least: int, most: int | None) -> str:
    if most is None:
        return "*" if least == 0 else f"{{{least},}}"
    return f"{{{least},{most}}}"


def _either(choices: list[str], where: str) -> str:
    if not choices:
        raise ModelError(f"no JSON text satisfies {where}: it has no choices")
    return choices[0] if len(choices) == 1 else f"({' | '.join(choices)})"


def _literal(value: Any) -> str:
    """A JSON value as a GBNF literal."""
    text = json.dumps(value, ensure_ascii=False)
    escaped = "".join(f"\\x{ord(char):02X}" if char < " " or char in '"\\\x7f' else char for char in text)
    return f'"{escaped}"'

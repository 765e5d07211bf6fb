"""A server's JSON schema as it may be shown to any model: every reference inside it, nothing that a grammar refuses.

What is taken away here (`not`, `if`, `patternProperties`, …) the server still checks. Definitions get the tool's name
in theirs, since the schemas of all tools come together in one.
"""

from __future__ import annotations

from typing import Any

from agent.errors import ModelError
from agent.messages import Json
from agent.models.json_grammar import REFUSED, json_grammar

LEFT_OUT = REFUSED | {"$schema", "$id", "$anchor", "$comment", "then", "else", "dependentRequired"}
NAMED = ("properties", "$defs", "definitions")
"""Keywords whose entries are names, not keywords."""
LOCAL = ("#/$defs/", "#/definitions/")
"""Where a reference may point."""
DATA = ("enum", "const", "default", "examples", "required")
"""Keywords whose values are no schemas."""


def portable(schema: Json, tool: str) -> Json:
    """The schema of an object, for models and grammars.

    Args:
        schema: as the server lists it.
        tool: the tool's name, for the definitions' names.

    Returns:
        A schema of its own; a property that cannot be expressed takes any value.
    """
    made: Json = {"type": "object", "properties": {}} | _rewritten(schema, tool)
    made |= {name: _table(made[name]) for name in ("properties", "$defs") if name in made}
    if _usable(made):
        return made
    shared = {"$defs": made["$defs"]} if "$defs" in made else {}
    kept = {
        name: entry if _usable({"type": "object", "properties": {name: entry}} | shared) else _described(entry)
        for name, entry in made["properties"].items()
    }
    needed = made.get("required")
    required = [name for name in kept if name in needed] if isinstance(needed, list) else []
    plain = {"type": "object", "properties": kept, "required": required}
    return next((one for one in (plain | shared, plain) if _usable(one)), {"type": "object", "properties": {}})


def _rewritten(value: Any, tool: str) -> Any:
    if isinstance(value, list):
        return [_rewritten(entry, tool) for entry in value]
    if not isinstance(value, dict):
        return value
    target = value.get("$ref")
    if isinstance(target, str) and not target.startswith(LOCAL):
        return _described(value)  # outside, or into a place that moves
    made: Json = {}
    for key, entry in value.items():
        if key in LEFT_OUT or (key == "title" and isinstance(entry, str)):
            continue
        if key in NAMED and isinstance(entry, dict):
            start, place = ("", key) if key == "properties" else (f"{tool}.", "$defs")
            names = {start + name: one for name, one in entry.items()}
            made[place] = made.get(place, {}) | {name: _rewritten(one, tool) for name, one in names.items()}
        elif key == "$ref" and isinstance(entry, str):
            made[key] = _reference(entry, tool)
        else:
            made[key] = entry if key in DATA else _rewritten(entry, tool)
    return made


def _reference(target: str, tool: str) -> str:
    for start in LOCAL:
        if target.startswith(start):
            return f"#/$defs/{tool}.{target.removeprefix(start)}"
    return target


def _usable(schema: Json) -> bool:
    """Whether a grammar can say it."""
    try:
        json_grammar(schema)
    except (ModelError, RecursionError, AttributeError, TypeError, ValueError):  # it may be no schema at all
        return False
    return True


def _table(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _described(entry: Any) -> Json:
    text = entry.get("description") if isinstance(entry, dict) else None
    return {"description": text} if isinstance(text, str) else {}

"""Tools that do nothing: each has a given schema, and a teacher who knows the case's facts says what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union

from pydantic import BaseModel, ConfigDict, Field, create_model

from agent.errors import InputError, ToolError
from agent.messages import Json, Message
from agent.models.base import Model
from tools.registry import Tool, ToolContext
from training.synthesis.asking import Form, ask

MOST_TOKENS = 300
ANSWERED = (
    "You play the tool {name}: {description}\nAnswer as that tool would, from these facts and nothing else:\n{facts}\n"
    "\nGive only what these arguments ask for. If the facts have no answer, set `error`. Reply with one JSON object: "
    '{{"output": "<what the tool prints>", "error": true or false}}'
)
_TYPES: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "object": dict[str, Any],
    "null": None,
}


class Output(Form):
    """What a tool is played to say."""

    output: str = Field(min_length=1, max_length=1200)
    error: bool


@dataclass(slots=True)
class Stage:
    """The tools of one case, and what they have said: the same call is answered the same way.

    Args:
        teacher: who plays them.
        facts: what is true in the case; the model that solves it does not see them.
    """

    teacher: Model
    facts: str
    said: dict[str, Output] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0

    def tool(self, schema: Json) -> Tool:
        """A tool of this schema that the teacher plays. Raises InputError if the schema is not a tool's."""
        name, description, parameters = parts(schema)

        async def run(context: ToolContext, **arguments: Any) -> str:
            return await self.play(name, description, arguments)

        return Tool(name, description, model_of(name, parameters), run, "read", True, "simulated")

    async def play(self, name: str, description: str, arguments: Json) -> str:
        """What a tool answers to a call. Raises ToolError if it is played to fail, ModelError if the teacher failed."""
        given = {key: _plain(value) for key, value in arguments.items() if value is not None}
        call = json.dumps([name, given], sort_keys=True, ensure_ascii=False)
        if call not in self.said:
            asked = ANSWERED.format(name=name, description=description, facts=self.facts)
            messages = [Message("system", asked), Message("user", json.dumps(given, ensure_ascii=False))]
            answer = await ask(self.teacher, messages, Output, max_tokens=MOST_TOKENS)
            self.tokens += answer.tokens
            self.seconds += answer.seconds
            if answer.found is None:
                raise ToolError(f"{name} gave no answer")
            self.said[call] = answer.found
        found = self.said[call]
        if found.error:
            raise ToolError(found.output)
        return found.output


def parts(schema: Json) -> tuple[str, str, Json]:
    """A tool's name, description and parameters. Raises InputError if the schema is not OpenAI's form."""
    try:
        function = schema["function"]
        name, parameters = str(function["name"]), dict(function.get("parameters") or {"type": "object"})
        return name, str(function.get("description", "")), parameters
    except (KeyError, TypeError, ValueError):
        raise InputError(
            "a tool's schema has not the form of OpenAI's",
            'Write {"type": "function", "function": {"name": ..., "description": ..., "parameters": {...}}}.',
        ) from None


def model_of(name: str, schema: Json) -> type[BaseModel]:
    """The pydantic model of an object's JSON schema: types, enumerations, lists, nested objects, what is required."""
    required = set(schema.get("required", ()))
    fields: dict[str, Any] = {}
    for key, entry in schema.get("properties", {}).items():
        kind = _type_of(f"{name}_{key}", entry)
        note = {"description": entry["description"]} if "description" in entry else {}
        default = ... if key in required else entry.get("default")
        fields[key] = (kind if key in required or default is not None else kind | None, Field(default, **note))
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _type_of(name: str, schema: Json) -> Any:
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    if "anyOf" in schema:
        return Union[tuple(_type_of(name, one) for one in schema["anyOf"])]  # noqa: UP007 (its members are data)
    kind = schema.get("type")
    if kind == "array":
        return list[_type_of(name, schema.get("items", {}))]  # type: ignore[misc]
    if kind == "object" and schema.get("properties"):
        return model_of(name, schema)
    return _TYPES.get(kind, Any) if isinstance(kind, str) else Any


def _plain(value: Any) -> Any:
    """An argument as JSON: models in it become objects again."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_plain(entry) for entry in value] if isinstance(value, list) else value

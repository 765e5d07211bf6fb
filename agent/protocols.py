"""How a model is asked to act: native tool calls, constrained JSON, ReAct text. One interface, three renderings.

The record always holds the generic form (thought, tool_calls, content); a protocol only says how that is shown to the
model and how its reply is read back. A call that cannot be read becomes a ToolCall with `malformed` set, so that
every protocol repairs it the same way: the error is that call's observation.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from agent.errors import UsageError
from agent.messages import Json, Message, ToolCall
from agent.models.base import Capabilities, Delta

Piece = tuple[Literal["thought", "text"], str]
LONGEST_THOUGHT = 280
"""Characters of a thought under a schema: a small model that repeats itself would fill the whole reply with it."""
LONGEST_MEANING = 100
"""Characters of what is said about a parameter."""
MOST_CHOICES = 12
"""Values of an enum that are all shown."""
WORD = re.compile(r"[^\W_]+")
PLAIN_WORDS = frozenset(re.findall(r"\w+", "a an and are at by for from in is it of on or the to with"))
"""Words that say nothing new about a parameter."""


class ActingProtocol(Protocol):
    """What the loop needs of a protocol.

    `instructions` is added to the system message; `request` goes to Model.chat; `render` shows a recorded message to
    the model; `parse` reads its reply into the recorded form; `stream` says which part of the raw stream a person sees.
    """

    name: str

    def instructions(self, tools: Sequence[Json]) -> str: ...
    def request(self, tools: Sequence[Json]) -> Json: ...
    def render(self, message: Message) -> Message: ...
    def parse(self, message: Message, turn: int) -> Message: ...
    def stream(self, seen: str) -> Piece: ...


def choose(name: str, capabilities: Capabilities) -> ActingProtocol:
    """The protocol of that name; for `auto` the best that the model can do: native, else json, else text.

    Raises:
        UsageError: the model cannot do what was asked for by name.
    """
    if name == "auto":
        name = "native" if capabilities.native_tools else "json" if capabilities.json_schema else "text"
    if name == "native" and not capabilities.native_tools:
        raise UsageError("this model has no native tool calls", "Use the json or text protocol (models.protocol).")
    if name == "json" and not capabilities.json_schema:
        raise UsageError("this model cannot be held to a JSON schema", "Use models.protocol = text.")
    protocols: dict[str, type[ActingProtocol]] = {"native": Native, "json": ConstrainedJson, "text": ReactText}
    return protocols[name]()


@dataclass(slots=True)
class Native:
    """The backend's own tool calling: nothing to render or parse."""

    name: str = "native"

    def instructions(self, tools: Sequence[Json]) -> str:
        return ""

    def request(self, tools: Sequence[Json]) -> Json:
        return {"tools": tools}

    def render(self, message: Message) -> Message:
        return message

    def parse(self, message: Message, turn: int) -> Message:
        return message

    def stream(self, seen: str) -> Piece:
        return "text", seen


@dataclass(slots=True)
class ConstrainedJson:
    """One JSON object a turn, held to a schema made from the tools, so that an invalid call cannot be written."""

    name: str = "json"

    def instructions(self, tools: Sequence[Json]) -> str:
        form = '{"thought": "...", "answer": "..."}'
        act = '{"thought": "...", "action": {"name": "...", "arguments": {...}}}'
        if not tools:
            return f"Reply with one JSON object: {form}."
        return (
            f"Reply with one JSON object. To use a tool: {act}. When the task is done: {form}.\nTools:\n{listed(tools)}"
        )

    def request(self, tools: Sequence[Json]) -> Json:
        return {"schema": action_schema(tools)}

    def render(self, message: Message) -> Message:
        if message.role == "assistant":
            return Message("assistant", _as_json(message))
        return _observation_as_user(message)

    def parse(self, message: Message, turn: int) -> Message:
        text = message.content
        try:
            reply = json.loads(text)
            thought = str(reply.get("thought", ""))
            if "action" not in reply:
                return Message("assistant", str(reply["answer"]), thought=thought or message.thought)
            call = _call(reply["action"], f"call_{turn}", text)
        except (ValueError, KeyError, TypeError, AttributeError):
            thought, call = "", ToolCall(f"call_{turn}", "", {}, malformed=text or "(nothing)")
        return Message("assistant", thought=thought or message.thought, tool_calls=(call,))

    def stream(self, seen: str) -> Piece:
        """The strings of `thought` and `answer`, as far as they have come."""
        answer = re.search(r'"answer"\s*:\s*"((?:[^"\\]|\\.)*)', seen, re.S)
        found = answer or re.search(r'"thought"\s*:\s*"((?:[^"\\]|\\.)*)', seen, re.S)
        kind: Literal["thought", "text"] = "text" if answer else "thought"
        return (kind, _unescape(found[1])) if found else (kind, "")


@dataclass(slots=True)
class ReactText:
    """Thought: / Action: {json} / Observation: / Answer: lines, read leniently, for models tuned on ReAct text."""

    name: str = "text"

    def instructions(self, tools: Sequence[Json]) -> str:
        if not tools:
            return "Write your reasoning after `Thought:` and the result after `Answer:`."
        return (
            'Work in steps. Write `Thought:` and then either `Action: {"name": "...", "arguments": {...}}` and stop, '
            "or `Answer:` and the result. After an action you are given its `Observation:`.\n"
            f"Tools:\n{listed(tools)}"
        )

    def request(self, tools: Sequence[Json]) -> Json:
        return {"stop": ["\nObservation:"]}

    def render(self, message: Message) -> Message:
        if message.role == "assistant":
            return Message("assistant", _as_react(message))
        return _observation_as_user(message)

    def parse(self, message: Message, turn: int) -> Message:
        text = message.content
        thought = _section(text, "Thought") or message.thought
        action = re.search(r"(?m)^\s*\**Action\**:\s*(.*)", text, re.S)
        if not action:
            answer = re.search(r"(?m)^\s*\**(?:Final )?Answer\**:\s*(.*)", text, re.S)
            return Message("assistant", (answer[1] if answer else text).strip(), thought=thought if answer else "")
        call = _lenient_call(action[1], f"call_{turn}")
        return Message("assistant", thought=thought, tool_calls=(call,))

    def stream(self, seen: str) -> Piece:
        answer = re.search(r"(?m)^\s*(?:Final )?Answer:\s*(.*)", seen, re.S)
        return ("text", answer[1]) if answer else ("thought", seen)


def action_schema(tools: Sequence[Json]) -> Json:
    """The JSON schema of one turn: an action with one tool's arguments, or an answer."""
    return turn_schema(
        tools, {"thought": {"type": "string", "maxLength": LONGEST_THOUGHT}}, {"answer": {"type": "string"}}
    )


def turn_schema(tools: Sequence[Json], first: Json, ending: Json) -> Json:
    """The JSON schema of one tool's call, or of an ending.

    Args:
        tools: function schemas.
        first: properties that come before either.
        ending: properties of what is no call.
    """
    actions = [
        _object(first | {"action": _object({"name": {"const": name}, "arguments": parameters})})
        for name, parameters in ((t["function"]["name"], t["function"]["parameters"]) for t in tools)
    ]
    definitions: Json = {}
    for tool in tools:
        definitions |= tool["function"]["parameters"].get("$defs", {})
    last = _object(first | ending)
    schema: Json = {"anyOf": [*actions, last]} if actions else last
    return schema | {"$defs": definitions} if definitions else schema


def _object(properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def listed(tools: Sequence[Json]) -> str:
    """The tools as a model reads them, a line each."""
    return "\n".join(_line(tool["function"]) for tool in tools)


def _line(function: Json) -> str:
    properties = function["parameters"].get("properties", {})
    required = function["parameters"].get("required", [])
    known = PLAIN_WORDS | _words(f"{function['name']} {function['description']}")
    arguments = ", ".join(_parameter(name, entry, name in required, known) for name, entry in properties.items())
    return f"- {function['name']}({arguments}): {function['description']}"


def _parameter(name: str, entry: Json, required: bool, known: frozenset[str]) -> str:
    """A parameter with its type or its choices, and what it means where nothing else in the line says that already."""
    meaning, kind = " ".join(str(entry.get("description", "")).split()), _type(entry)
    news = _words(meaning) - known - _words(f"{name} {kind}")
    return f"{name}: {kind}{'' if required else '?'}{f' ({_short(meaning)})' if news else ''}"


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.lower()))


def _type(entry: Json) -> str:
    """`integer`, `array of string`, or the values that there are: `"up"|"down"`."""
    choices, items, kind = entry.get("enum"), entry.get("items"), entry.get("type")
    if choices and len(choices) <= MOST_CHOICES:
        return "|".join(json.dumps(choice, ensure_ascii=False) for choice in choices)
    if kind is None:
        kind = [one["type"] for one in entry.get("anyOf", ()) if isinstance(one.get("type"), str)]
    if isinstance(kind, list):
        return "|".join(str(one) for one in kind if one != "null") or "any"
    return f"array of {_type(items)}" if kind == "array" and isinstance(items, dict) and "type" in items else str(kind)


def _short(text: str) -> str:
    """The first sentence, and of a long one the beginning."""
    first = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text, maxsplit=1)[0].rstrip(".")
    return first if len(first) <= LONGEST_MEANING else f"{first[: LONGEST_MEANING - 1].rpartition(' ')[0]}…"


def _as_json(message: Message) -> str:
    if not message.tool_calls:
        return json.dumps({"thought": message.thought, "answer": message.content}, ensure_ascii=False)
    thoughts = itertools.chain([message.thought], itertools.repeat(""))  # another protocol may have recorded many calls
    turns = [
        call.malformed or json.dumps({"thought": thought, "action": _action(call)}, ensure_ascii=False)
        for call, thought in zip(message.tool_calls, thoughts, strict=False)
    ]
    return "\n".join(turns)


def _as_react(message: Message) -> str:
    thought = f"Thought: {message.thought}\n" if message.thought else ""
    if not message.tool_calls:
        return f"{thought}Answer: {message.content}"
    actions = [call.malformed or json.dumps(_action(call), ensure_ascii=False) for call in message.tool_calls]
    return thought + "\n".join(f"Action: {action}" for action in actions)


def _action(call: ToolCall) -> Json:
    return {"name": call.name, "arguments": call.arguments}


def _observation_as_user(message: Message) -> Message:
    if message.role != "tool":
        return message
    return Message("user", f"Observation: {message.content}")


def _call(action: Any, identity: str, text: str) -> ToolCall:
    """A call from its JSON object. Raises KeyError or TypeError if it is not one."""
    name, arguments = action["name"], action.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return ToolCall(identity, str(name), {}, malformed=text)
    return ToolCall(identity, name, arguments)


def _lenient_call(text: str, identity: str) -> ToolCall:
    """`{"name": …, "arguments": {…}}`, also in a code fence, or `name` with `Action Input: {…}` on the next line."""
    text = re.split(r"\n\s*Observation:", text)[0].strip()
    named = re.match(r"`?([\w.-]+)`?\s*\n+\s*Action Input:\s*", text)
    start = text.find("{", named.end() if named else 0)
    try:
        found, _ = json.JSONDecoder().raw_decode(text[start:]) if start >= 0 else ({}, 0)
        if named:
            return _call({"name": named[1], "arguments": found}, identity, text)
        return (
            replace(_call(found, identity, text), malformed="") if isinstance(found, dict) else _broken(text, identity)
        )
    except (ValueError, KeyError, TypeError):
        return _broken(text, identity)


def _broken(text: str, identity: str) -> ToolCall:
    return ToolCall(identity, "", {}, malformed=text or "(nothing)")


def _section(text: str, name: str) -> str:
    found = re.search(
        rf"(?ms)^\s*\**{name}\**:\s*(.*?)(?=^\s*\**(?:Action|Final Answer|Answer|Observation)\**:|\Z)", text
    )
    return found[1].strip() if found else ""


def _unescape(text: str) -> str:
    """A JSON string's beginning as text; an escape that is not complete yet is left for later."""
    for end in range(len(text), max(len(text) - 6, -1), -1):
        try:
            return str(json.loads(f'"{text[:end]}"', strict=False))
        except ValueError:
            continue
    return ""


class Visible:
    """What a person sees of a reply's raw stream: the thought and the answer, without the protocol around them."""

    def __init__(self, protocol: ActingProtocol) -> None:
        self.protocol = protocol
        self.seen = ""
        self.shown = {"thought": 0, "text": 0}

    def __call__(self, delta: Delta) -> Delta | None:
        """The part of this delta that is new to the person; None if there is nothing."""
        if delta.kind == "thought" or self.protocol.name == "native":
            return delta
        self.seen += delta.text
        kind, text = self.protocol.stream(self.seen)
        new = text[self.shown[kind] :]
        self.shown[kind] = max(len(text), self.shown[kind])
        return Delta(new, kind) if new else None

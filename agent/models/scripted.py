"""A model that replays given replies: for demonstrations without a model, and for testing tools, skills and the loop.

`--model scripted:PATH` reads a JSONL file, one reply a line:

    {"thought": "I need the file.", "tool_calls": [{"name": "read_file", "arguments": {"path": "a.txt"}}]}
    {"content": "The file says hello.", "delay": 0.5}
    {"error": "the server fell over"}

A first line {"capabilities": {"native_tools": false, "json_schema": true}} says what the model can do.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from agent.errors import InputError, ModelCut, ModelUnavailable
from agent.messages import Json, Message
from agent.models.base import Capabilities, Delta, Draw, Reply, Template
from agent.models.wire import Draft, Renderings

KEYS = frozenset({"content", "thought", "tool_calls", "delay", "error", "usage"})
NATIVE = Capabilities(native_tools=True)


@dataclass(frozen=True, slots=True)
class Request:
    """What the model was asked."""

    messages: tuple[Message, ...]
    tools: tuple[Json, ...]
    schema: Json | None
    template: Template | None
    stop: tuple[str, ...]
    max_tokens: int | None
    temperature: float
    seed: int | None


class Scripted:
    """A model that answers its n-th request with the n-th reply.

    Text streams word by word, ends before the first `stop` text, and breaks off after `max_tokens` words.

    Args:
        replies: each an object with any of `content`, `thought`, `tool_calls` (objects with `name`, `arguments` and
            perhaps `id`; arguments that are a text are taken as the model's own words, so they can be malformed),
            `delay` (seconds before it begins), `error` (a sentence: the reply breaks off with it) and `usage`
            (`prompt_tokens`, `completion_tokens`; counted in words and estimated otherwise).
        capabilities: what it is said to be able to do; native tool calls by default.
        address: how it is called in errors and on record.

    Raises:
        InputError: a reply that has another form.
    """

    def __init__(
        self, replies: Sequence[Mapping[str, Any]], capabilities: Capabilities = NATIVE, address: str = "scripted"
    ) -> None:
        self.address = address
        self.capabilities = capabilities
        self.replies = [dict(reply) for reply in replies]
        self.requests: list[Request] = []
        for number, reply in enumerate(self.replies, 1):
            if problem := _problem(reply):
                raise InputError(f"{address}: reply {number} {problem}")
        self._counts = Renderings(lambda message: b"")

    @classmethod
    def from_file(cls, path: Path) -> Scripted:
        """The model of a JSONL file; `scripted:PATH` is its address.

        Raises:
            ModelUnavailable: the file cannot be read.
            InputError: a line that is not a reply; the message has its number.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ModelUnavailable(f"{path} cannot be read: {reason}", "Give the path of a JSONL file.") from None
        capabilities, replies = NATIVE, []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            entry = _parse(line, f"{path}, line {number}")
            if number == 1 and set(entry) == {"capabilities"}:
                capabilities = _capabilities(entry["capabilities"], f"{path}, line {number}")
            else:
                replies.append(entry)
        return cls(replies, capabilities, f"scripted:{path}")

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Json] = (),
        schema: Json | None = None,
        template: Template | None = None,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        others: Sequence[Draw] = (),
    ) -> AsyncIterator[Delta | Reply]:
        """Replay the next reply, and one more for each of `others`: see `Model.chat`. All are kept in `requests`."""
        request = Request(tuple(messages), tuple(tools), schema, template, tuple(stop), max_tokens, temperature, seed)
        self.requests.append(request)
        number = len(self.requests)
        if number > len(self.replies):
            raise ModelUnavailable(
                f"{self.address} has no reply left: all {len(self.replies)} were used", "Add another reply to it."
            )
        reply = self.replies[number - 1]
        started = time.perf_counter()
        await asyncio.sleep(reply.get("delay", 0))
        draft = Draft()
        for word in _words(reply.get("thought", "")):
            yield draft.add_thought(word)
        text, finished = _limited(reply.get("content", ""), request)
        for word in _words(text):
            yield draft.add_text(word)
        if "error" in reply:
            begun = draft.texts or draft.thoughts
            raise (ModelCut if begun else ModelUnavailable)(f"{self.address}: {reply['error']}")
        for index, call in enumerate(reply.get("tool_calls", ())):
            arguments = call.get("arguments", {})
            written = arguments if isinstance(arguments, str) else json.dumps(arguments)
            draft.add_call(index, call.get("id", f"call_{number}_{index + 1}"), call["name"], written)
        usage = reply.get("usage", {})
        draft.prompt_tokens = usage.get("prompt_tokens")
        draft.completion_tokens = usage.get("completion_tokens", len(draft.thoughts) + len(draft.texts))
        first = draft.reply(
            model=self.address,
            finish_reason="length" if finished else "stop",
            prompt_estimate=self._counts.tokens(messages, tools),
            seconds=time.perf_counter() - started,
        )
        drawn = []
        for draw in others:
            more = self.chat(messages, template=template, temperature=draw.temperature, seed=draw.seed)
            drawn += [piece async for piece in more if isinstance(piece, Reply)]
        yield replace(first, others=tuple(drawn))

    async def count_tokens(self, messages: Sequence[Message], tools: Sequence[Json] = ()) -> int:
        """An estimate that errs high."""
        return self._counts.tokens(messages, tools)

    async def close(self) -> None:
        """Nothing is held."""


def _words(text: str) -> list[str]:
    """The text in pieces of a word with the space after it; joined they are the text again."""
    return re.findall(r"\S+\s*|^\s+", text)


def _limited(text: str, request: Request) -> tuple[str, bool]:
    """The text up to the first stop text and the token limit, and whether the limit cut it."""
    ends = [text.index(stop) for stop in request.stop if stop and stop in text]
    words = _words(text[: min(ends)] if ends else text)
    limit = len(words) if request.max_tokens is None else request.max_tokens
    return "".join(words[:limit]), len(words) > limit


def _parse(line: str, where: str) -> Json:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where} is not valid JSON: {error}", "Write one reply a line, as a JSON object.") from None
    if not isinstance(entry, dict):
        raise InputError(f"{where} is not an object", "Write one reply a line, as a JSON object.")
    if set(entry) != {"capabilities"} and (problem := _problem(entry)):
        raise InputError(f"{where} {problem}")
    return entry


def _problem(reply: Mapping[str, Any]) -> str:
    """What is wrong with a reply; empty if nothing is."""
    if unknown := set(reply) - KEYS:
        return f"has unknown keys: {', '.join(sorted(unknown))} (allowed: {', '.join(sorted(KEYS))})"
    if not all(isinstance(reply.get(key, ""), str) for key in ("content", "thought", "error")):
        return "has a content, thought or error that is not a text"
    calls = reply.get("tool_calls", [])
    if not isinstance(calls, list | tuple) or not all(isinstance(c, Mapping) and c.get("name") for c in calls):
        return "has a tool call without a name"
    delay = reply.get("delay", 0)
    if isinstance(delay, bool) or not isinstance(delay, int | float) or not 0 <= delay < 86_400:
        return "has a delay that is not a number of seconds"
    return "" if isinstance(reply.get("usage", {}), Mapping) else "has a usage that is not an object"


def _capabilities(entry: Any, where: str) -> Capabilities:
    known = [field.name for field in fields(Capabilities)]
    if not isinstance(entry, dict) or not set(entry) <= set(known):
        raise InputError(f"{where}: capabilities are an object with any of {', '.join(known)}")
    return Capabilities(**{"native_tools": True, **entry})

"""Messages as JSON on the wire: out, each rendered once; in, a reply put together from its fragments.

A long conversation is sent again at every step, so a message is serialised once and its bytes are joined from then on.
"""

from __future__ import annotations

import json
import math
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.messages import Json, Message, ToolCall, Usage
from agent.models.base import Delta, Reply

FinishReason = Literal["stop", "length", "tool_calls"]
REMEMBERED = 20_000
"""Messages whose rendering is kept; beyond it, all are forgotten and rendered again as they come."""
MESSAGE_OVERHEAD = 8
"""Tokens of role markers around one message; chat templates take 3 to 7."""
_LETTERS = bytes([*range(0x21), *range(0x41, 0x5B), *range(0x61, 0x7B), 0x7F])
_PUNCTUATION = bytes([*range(0x21, 0x30), *range(0x3A, 0x41), *range(0x5B, 0x61), *range(0x7B, 0x7F)])
_BEYOND_ASCII = bytes(range(0x80, 0x100))


def dumps(value: Any) -> bytes:
    """Compact JSON. ASCII, so that a lone surrogate from a broken file cannot stop a request."""
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def estimate_tokens(text: str) -> int:
    """How many tokens a text takes, rather too many than too few.

    UTF-8 bytes by kind: a token is three ASCII letters or spaces, 1.5 punctuation marks, or 1.4 bytes beyond ASCII, and
    a digit is 1.2 tokens. Against the embedded model's tokenizer that is 1 to 1.7 times too many on prose, code, JSON,
    numbers and Chinese; larger vocabularies need fewer tokens still.
    """
    data = text.encode("utf-8", "replace")
    size = len(data)
    letters = size - len(data.translate(None, _LETTERS))
    punctuation = size - len(data.translate(None, _PUNCTUATION))
    beyond = 0 if text.isascii() else size - len(data.translate(None, _BEYOND_ASCII))
    digits = size - letters - punctuation - beyond
    return math.ceil(letters / 3 + punctuation / 1.5 + beyond / 1.4 + digits * 1.2)


class Renderings:
    """The bytes and the estimated tokens of messages and schemas, remembered by identity, since they never change.

    Args:
        render: a message as it goes on one server's wire.
    """

    def __init__(self, render: Callable[[Message], bytes]) -> None:
        self._render = render
        # The message is kept beside its bytes: as long as it lives, nothing else can have its id.
        self._known: dict[int, tuple[Message, bytes, int]] = {}
        self._tools: tuple[list[Json], int] = ([], 0)

    def rendered(self, messages: Sequence[Message]) -> list[bytes]:
        """Each message's bytes."""
        return [entry[1] for entry in self._entries(messages)]

    def tokens(self, messages: Sequence[Message], tools: Sequence[Json] = ()) -> int:
        """The estimated length of the prompt in tokens; errs high."""
        return sum(entry[2] for entry in self._entries(messages)) + self._tool_tokens(tools)

    def _tool_tokens(self, tools: Sequence[Json]) -> int:
        """The schemas' tokens, remembered as long as they are the same objects: a run sends the same at every step."""
        known, count = self._tools
        if len(known) != len(tools) or any(old is not new for old, new in zip(known, tools, strict=True)):
            count = estimate_tokens(json.dumps(list(tools), ensure_ascii=False)) if tools else 0
            self._tools = (list(tools), count)
        return count

    def _entries(self, messages: Sequence[Message]) -> list[tuple[Message, bytes, int]]:
        if len(self._known) > REMEMBERED:
            self._known.clear()
        known = self._known
        return [known.get(id(message)) or self._add(message) for message in messages]

    def _add(self, message: Message) -> tuple[Message, bytes, int]:
        entry = (message, self._render(message), message_tokens(message))
        self._known[id(message)] = entry
        return entry


def message_tokens(message: Message) -> int:
    """The estimated tokens of one message: its text, its calls, and the markers around them."""
    calls = (f"{call.id}{call.name}{call.malformed or json.dumps(call.arguments)}" for call in message.tool_calls)
    texts = (message.content, message.tool_call_id, message.name, *calls)
    return sum(map(estimate_tokens, filter(None, texts))) + MESSAGE_OVERHEAD * (1 + len(message.tool_calls))


def arguments_of(call: ToolCall) -> Json:
    """A call's arguments as they go back to the model: malformed ones as the text that it wrote.

    Always an object, because servers parse what a history holds and fail on anything else.
    """
    return {"malformed_arguments": call.malformed} if call.malformed else call.arguments


def tool_call(identity: str, name: str, arguments: str) -> ToolCall:
    """A call from the text of its arguments. No text at all means no arguments; anything but an object is malformed."""
    identity = identity or f"call_{secrets.token_hex(6)}"
    if not arguments.strip():
        return ToolCall(identity, name, {})
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return ToolCall(identity, name, {}, malformed=arguments)
    if isinstance(parsed, dict):
        return ToolCall(identity, name, parsed)
    return ToolCall(identity, name, {}, malformed=arguments)


@dataclass(slots=True)
class Draft:
    """A reply while it streams."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: dict[int, list[str]] = field(default_factory=dict)
    """By the server's index: id, name, and the text of the arguments so far."""
    logprobs: list[float] = field(default_factory=list)
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    def add_text(self, text: str) -> Delta:
        self.texts.append(text)
        return Delta(text)

    def add_thought(self, text: str) -> Delta:
        self.thoughts.append(text)
        return Delta(text, kind="thought")

    def add_call(self, index: int, identity: str = "", name: str = "", arguments: str = "") -> None:
        """Add a fragment of the call at an index. Id and name come once, arguments in pieces."""
        call = self.calls.setdefault(index, ["", "", ""])
        call[0] = call[0] or identity
        call[1] = call[1] or name
        call[2] += arguments

    def message(self) -> Message:
        """The assistant's message."""
        calls = tuple(tool_call(*self.calls[index]) for index in sorted(self.calls))
        return Message("assistant", "".join(self.texts), "".join(self.thoughts), calls)

    def reply(self, *, model: str, finish_reason: FinishReason, prompt_estimate: int, seconds: float) -> Reply:
        """The end of the stream. Tokens that the server did not count are estimated, so that budgets still hold.

        Args:
            model: what the server says it ran.
            finish_reason: `stop` becomes `tool_calls` where there are calls.
            prompt_estimate: tokens of the prompt, for a server that does not say.
            seconds: wall time of the request.
        """
        message = self.message()
        prompt = prompt_estimate if self.prompt_tokens is None else self.prompt_tokens
        completion = self.completion_tokens
        if completion is None:
            completion = message_tokens(message) + estimate_tokens(message.thought)
        if message.tool_calls and finish_reason == "stop":
            finish_reason = "tool_calls"
        return Reply(
            message=message,
            usage=Usage(prompt, completion, seconds),
            finish_reason=finish_reason,
            model=model,
            mean_logprob=sum(self.logprobs) / len(self.logprobs) if self.logprobs else None,
            logprobs=tuple(self.logprobs),
        )


def safe_id(identity: str) -> str:
    """A call's id, or the name that a model called, in the letters that every server accepts in a history."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", identity) or "call"

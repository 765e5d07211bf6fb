"""Anthropic's Messages API (https://docs.anthropic.com/en/api/messages)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from itertools import groupby

from agent.errors import ModelRefused
from agent.messages import Json, Message
from agent.models.base import Capabilities, Delta, Reply, Template
from agent.models.http import Failure, Server, key_from
from agent.models.wire import Draft, FinishReason, Renderings, arguments_of, dumps, safe_id
from agent.settings import Settings

KEY = "ANTHROPIC_API_KEY"
VERSION = "2023-06-01"
CONTEXT = 200_000
"""Tokens; some models take more, with a header that we do not send."""
OPTIONAL = ("temperature", "cache_control")
"""What a reply can do without: newer models refuse a temperature."""
FINISHED: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
}


class Anthropic:
    """A Claude model.

    JSON schemas are not offered: only some models take them, and they refuse many keywords. Native tool calls serve
    instead. There are no log-probabilities and no seed, and the cost of a reply is unknown.

    Args:
        name: the model's name.
        settings: time-outs, retries, `models.max_tokens` and `models.anthropic_url`.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.address = f"anthropic:{name}"
        self.capabilities = Capabilities(native_tools=True, context_length=CONTEXT)
        self._name = name
        self._max_tokens = settings.models.max_tokens
        self._key = key_from(KEY)
        self._server = Server(
            self.address,
            settings.models.anthropic_url,
            settings,
            key=self._key,
            key_name=KEY,
            key_header=("x-api-key", ""),
            headers={"anthropic-version": VERSION},
            missing="Check the model's name and models.anthropic_url.",
        )
        self._renderings = Renderings(_blocks)
        self._left_out: set[str] = set()

    def __repr__(self) -> str:
        return f"Anthropic({self.address!r})"

    def chat(
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
    ) -> AsyncGenerator[Delta | Reply, None]:
        """Generate one reply: see `Model.chat`. `schema`, `template` and `seed` are not supported and ignored."""
        wanted: Json = {"model": self._name, "stream": True, "max_tokens": max_tokens or self._max_tokens}
        wanted["temperature"] = min(temperature, 1.0)  # the API's range ends there
        if system := "\n\n".join(message.content for message in messages if message.role == "system"):
            wanted["system"] = system
        if stop:
            wanted["stop_sequences"] = list(stop)
        if tools:
            wanted["tools"] = [_tool(tool["function"]) for tool in tools]
        if any(message.role == "tool" for message in reversed(messages)):
            # The next step sends all this again, and what the server kept costs a tenth then.
            wanted["cache_control"] = {"type": "ephemeral"}

        def attempt() -> AsyncGenerator[Delta | Reply, None]:
            return self._attempt(messages, tools, self._body(messages, wanted))

        return self._server.attempts(attempt, lambda said: self._ask_for_less(said, wanted))

    async def count_tokens(self, messages: Sequence[Message], tools: Sequence[Json] = ()) -> int:
        """An estimate that errs high; the server's own count would cost a request a step."""
        return self._renderings.tokens(messages, tools)

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    def _body(self, messages: Sequence[Message], wanted: Json) -> bytes:
        request = {key: entry for key, entry in wanted.items() if key not in self._left_out}
        return dumps(request)[:-1] + b',"messages":[' + b",".join(self._turns(messages)) + b"]}"

    def _turns(self, messages: Sequence[Message]) -> Iterator[bytes]:
        """The conversation in turns: what follows each other on one side, tool results above all, is one turn."""
        spoken = [message for message in messages if message.role != "system"]
        pairs = zip(spoken, self._renderings.rendered(spoken), strict=True)
        for assistant, turn in groupby(pairs, key=lambda pair: pair[0].role == "assistant"):
            if blocks := b",".join(block for _, block in turn if block):
                yield b'{"role":"%s","content":[%s]}' % (b"assistant" if assistant else b"user", blocks)

    async def _attempt(
        self, messages: Sequence[Message], tools: Sequence[Json], body: bytes
    ) -> AsyncGenerator[Delta | Reply, None]:
        if not self._key:
            raise Failure(ModelRefused(f"{self.address} needs a key", f"Set {KEY} to your key."))
        started = time.perf_counter()
        draft = Draft()
        finished, model, complete = "", self._name, False
        with self._server.failures():
            async with aclosing(self._server.events("/v1/messages", body)) as events:
                async for event in events:
                    if piece := _read(event, draft):
                        yield piece
                    kind = event.get("type")
                    if kind == "message_start":
                        model = event["message"].get("model") or model
                    elif kind == "message_delta":
                        finished = event["delta"].get("stop_reason") or finished
                    elif kind == "message_stop":
                        complete = True
        if not complete:
            raise self._server.cut("cut the reply off before its end")
        if finished == "refusal":
            raise Failure(ModelRefused(f"{self.address} declined to answer"))
        yield draft.reply(
            model=f"anthropic:{model}",
            finish_reason=FINISHED.get(finished, "stop"),
            prompt_estimate=self._renderings.tokens(messages, tools),
            seconds=time.perf_counter() - started,
        )

    def _ask_for_less(self, said: str, wanted: Json) -> bool:
        refused = {key for key in OPTIONAL if key in said and key in wanted} - self._left_out
        self._left_out |= refused
        return bool(refused)


def _read(event: Json, draft: Draft) -> Delta | None:
    """Add one event to the draft; the piece of text in it."""
    if event.get("type") == "content_block_start" and event["content_block"].get("type") == "tool_use":
        block = event["content_block"]
        # The input comes in pieces later; a server that has it whole at once puts it here.
        draft.add_call(
            event["index"], block["id"], block["name"], json.dumps(block["input"]) if block.get("input") else ""
        )
    elif event.get("type") == "content_block_delta":
        delta = event["delta"]
        if delta.get("text"):
            return draft.add_text(delta["text"])
        if delta.get("thinking"):
            return draft.add_thought(delta["thinking"])
        if delta.get("partial_json"):
            draft.add_call(event["index"], arguments=delta["partial_json"])
    elif usage := event.get("usage") or (event.get("message") or {}).get("usage"):
        _count(usage, draft)
    return None


def _count(usage: Json, draft: Draft) -> None:
    """The prompt is what was read anew, what went into the cache, and what came from it."""
    if usage.get("input_tokens") is not None:
        parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        draft.prompt_tokens = sum(usage.get(part) or 0 for part in parts)
    if usage.get("output_tokens") is not None:
        draft.completion_tokens = usage["output_tokens"]


def _tool(function: Json) -> Json:
    return {
        "name": function["name"],
        "description": function.get("description", ""),
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }


def _blocks(message: Message) -> bytes:
    """A message as content blocks, without brackets; empty if it says nothing, since empty blocks are refused."""
    if message.role == "tool":
        block: Json = {"type": "tool_result", "tool_use_id": safe_id(message.tool_call_id)}
        if message.content.strip():
            block["content"] = message.content
        return dumps(block | {"is_error": True} if message.is_error else block)
    text = message.content.rstrip() if message.role == "assistant" else message.content
    blocks: list[Json] = [{"type": "text", "text": text}] if text.strip() else []
    blocks += [
        {"type": "tool_use", "id": safe_id(call.id), "name": safe_id(call.name), "input": arguments_of(call)}
        for call in message.tool_calls
    ]
    return b",".join(map(dumps, blocks))

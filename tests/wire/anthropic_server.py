"""Anthropic's Messages as a stream (https://docs.anthropic.com/en/docs/build-with-claude/streaming)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.wire.model_server import ModelServer, Say, sse


class AnthropicServer(ModelServer):
    """Blocks come in the order thinking, text, tool use, with pings between. Four prompt tokens come from the cache."""

    path = "/v1/messages"

    def events(self, say: Say) -> Iterator[bytes]:
        prompt = say.prompt_tokens or 0
        usage = {"input_tokens": prompt - 4, "cache_read_input_tokens": 4, "output_tokens": 1}
        yield _event("message_start", message={"id": "msg_1", "role": "assistant", "model": "served-1", "usage": usage})
        yield _event("ping")
        for index, (block, deltas) in enumerate(_blocks(say)):
            yield _event("content_block_start", index=index, content_block=block)
            for delta in deltas:
                yield _event("content_block_delta", index=index, delta=delta)
            yield _event("content_block_stop", index=index)
        finish = "max_tokens" if say.finish == "length" else "tool_use" if say.tool_calls else "end_turn"
        yield _event(
            "message_delta",
            delta={"stop_reason": finish, "stop_sequence": None},
            usage={"output_tokens": say.completion_tokens},
        )
        yield _event("message_stop")

    def broken(self) -> bytes:
        return sse('{"type": "content_block_delta", "del', "content_block_delta")

    def error_event(self, message: str) -> bytes:
        return _event("error", error={"type": "overloaded_error", "message": message})

    def error_body(self, status: int, message: str) -> str:
        return json.dumps({"type": "error", "error": {"type": "api_error", "message": message}})


def _blocks(say: Say) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    if say.thought:
        yield {"type": "thinking", "thinking": ""}, [{"type": "thinking_delta", "thinking": say.thought}]
    if say.content:
        yield {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in say.pieces]
    for number, (name, arguments) in enumerate(say.tool_calls):
        middle = len(arguments) // 2
        parts = ["", arguments[:middle], arguments[middle:]]
        yield (
            {"type": "tool_use", "id": f"toolu_{number}", "name": name, "input": {}},
            [{"type": "input_json_delta", "partial_json": part} for part in parts],
        )


def _event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind, **fields}, kind)

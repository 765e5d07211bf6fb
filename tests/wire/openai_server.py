"""OpenAI's chat completions as a stream (https://platform.openai.com/docs/api-reference/chat-streaming)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.wire.model_server import ModelServer, Say, sse


class OpenAIServer(ModelServer):
    """Each `tool_calls` entry streams as its id and name, then its arguments in two pieces."""

    path = "/v1/chat/completions"

    def events(self, say: Say) -> Iterator[bytes]:
        yield _chunk({"role": "assistant", "content": ""})
        if say.thought:
            yield _chunk({"reasoning_content": say.thought})
        for piece in say.pieces:
            logprobs = None if say.logprob is None else {"content": [{"token": piece, "logprob": say.logprob}]}
            yield _chunk({"content": piece}, logprobs=logprobs)
        for index, (name, arguments) in enumerate(say.tool_calls):
            middle = len(arguments) // 2
            call = {"index": index, "id": f"call_{index}", "type": "function"}
            yield _chunk({"tool_calls": [{**call, "function": {"name": name, "arguments": ""}}]})
            for part in (arguments[:middle], arguments[middle:]):
                yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
        yield _chunk({}, finish="tool_calls" if say.tool_calls and say.finish == "stop" else say.finish)
        if say.prompt_tokens is not None:
            usage = {"prompt_tokens": say.prompt_tokens, "completion_tokens": say.completion_tokens}
            yield sse({"model": "served-1", "choices": [], "usage": usage})
        yield sse("[DONE]")

    def broken(self) -> bytes:
        return sse('{"choices": [{"delta": {"con')

    def error_event(self, message: str) -> bytes:
        return sse({"error": {"message": message, "type": "server_error"}})


def _chunk(delta: dict[str, Any], finish: str | None = None, logprobs: Any = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return sse({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "served-1", "choices": [choice]})

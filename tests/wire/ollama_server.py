"""Ollama's chat as lines of JSON (https://github.com/ollama/ollama/blob/main/docs/api.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.wire.model_server import ModelServer, Say


class OllamaServer(ModelServer):
    """Tool calls come whole, without ids, and their arguments are objects."""

    content_type = "application/x-ndjson"
    path = "/api/chat"
    remote_host = ""
    """Where the server would send what it is asked; a model of the cloud may bear any name."""

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        if handler.path != "/api/show":
            return super()._answer(handler)
        handler.rfile.read(int(handler.headers["content-length"]))
        shown = {"details": {}, "capabilities": ["completion"]}
        self._send(handler, 200, "application/json", json.dumps({**shown, "remote_host": self.remote_host}).encode())
        return None

    def events(self, say: Say) -> Iterator[bytes]:
        if say.thought:
            yield _line({"role": "assistant", "content": "", "thinking": say.thought})
        for piece in say.pieces:
            more = {} if say.logprob is None else {"logprobs": [{"token": piece, "logprob": say.logprob}]}
            yield _line({"role": "assistant", "content": piece}, **more)
        for name, arguments in say.tool_calls:
            call = {"function": {"name": name, "arguments": json.loads(arguments)}}
            yield _line({"role": "assistant", "content": "", "tool_calls": [call]})
        counts = {"prompt_eval_count": say.prompt_tokens, "eval_count": say.completion_tokens}
        yield _line({"role": "assistant", "content": ""}, done=True, done_reason=say.finish, **counts)

    def broken(self) -> bytes:
        return b'{"model": "served-1", "mess\n'

    def error_event(self, message: str) -> bytes:
        return json.dumps({"error": message}).encode() + b"\n"

    def error_body(self, status: int, message: str) -> str:
        return json.dumps({"error": message})


def _line(message: dict[str, Any], **fields: Any) -> bytes:
    entry = {"model": "served-1", "created_at": "2026-01-01T00:00:00Z", "message": message, "done": False, **fields}
    return json.dumps(entry).encode() + b"\n"

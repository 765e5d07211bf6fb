"""An Ollama server that models are made on: version, blobs, create, and the prompt that it renders.

https://github.com/ollama/ollama/blob/main/docs/api.md. A blob's content must have the digest that it is sent under; a
new version takes no adapters; a model is made only of blobs that are there. The prompt is rendered from the template
that the model was made with, and shown when a chat is asked for with `_debug_render_only`.
"""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.wire import go_template
from tests.wire.loopback import Loopback


class OllamaLibrary(Loopback):
    """Use it as `with OllamaLibrary("0.34.1") as server:`. What was made stands in `models`, what was sent in `blobs`.

    Args:
        version: what it says it is.
        fails: the error that it sends inside the stream of a creation; empty for none.
        breaks: whether that stream ends before it says `success`.
        template: rendered instead of the one that it was given; empty for that one.
        shows: whether it knows `_debug_render_only`.
    """

    def __init__(
        self, version: str = "0.34.1", *, fails: str = "", breaks: bool = False, template: str = "", shows: bool = True
    ) -> None:
        self.version = version
        self.fails, self.breaks, self.template, self.shows = fails, breaks, template, shows
        self.blobs: dict[str, bytes] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), self._handler()))

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer to a request."""
        self.requests.append(f"{method} {path}")
        if path == "/api/version":
            return 200, json.dumps({"version": self.version}).encode()
        if path.startswith("/api/blobs/"):
            return self._blob(method, path.removeprefix("/api/blobs/"), body)
        if path == "/api/create":
            return self._create(json.loads(body))
        if path == "/api/chat":
            return self._chat(json.loads(body))
        return 404, b'{"error": "no such path"}'

    def _blob(self, method: str, digest: str, body: bytes) -> tuple[int, bytes]:
        if method == "HEAD":
            return (200 if digest in self.blobs else 404), b""
        if digest != f"sha256:{hashlib.sha256(body).hexdigest()}":
            return 400, b'{"error": "digest mismatch"}'
        self.blobs[digest] = body
        return 201, b""

    def _create(self, request: dict[str, Any]) -> tuple[int, bytes]:
        new = tuple(map(int, self.version.split("."))) >= (0, 34, 1)
        if new and request.get("adapters"):
            return 400, b'{"error": "adapters are not supported"}'
        sent = [*request["files"].values(), *request.get("adapters", {}).values()]
        missing = [digest for digest in sent if digest not in self.blobs]
        if missing:
            return 400, json.dumps({"error": f"no blob {missing[0]}"}).encode()
        events: list[dict[str, Any]] = [{"status": "parsing GGUF"}, {"status": "writing manifest"}]
        if self.fails:
            events.append({"error": self.fails})
        elif not self.breaks:
            self.models[request["model"]] = request
            events.append({"status": "success"})
        return 200, b"".join(json.dumps(event).encode() + b"\n" for event in events)

    def _chat(self, request: dict[str, Any]) -> tuple[int, bytes]:
        model = self.models.get(request["model"])
        if model is None:
            return 404, b'{"error": "model not found"}'
        if not (self.shows and request.get("_debug_render_only")):
            return 200, json.dumps({"message": {"role": "assistant", "content": "hm"}, "done": True}).encode()
        turns = request["messages"]
        if turns[0]["role"] != "system" and model.get("system"):
            turns = [{"role": "system", "content": model["system"]}, *turns]
        shown = [{"Role": turn["role"], "Content": turn["content"]} for turn in turns]
        text = go_template.render(self.template or model["template"], {"Messages": shown})
        return 200, json.dumps({"_debug_info": {"rendered_template": text}}).encode()

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _reply(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, answer = server.answer(self.command, self.path, body)
                self.send_response(status)
                self.send_header("content-type", "application/x-ndjson")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_HEAD = do_POST = _reply

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

"""An OpenAI-compatible server as far as `GET /v1/models` goes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.wire.loopback import Loopback


class ModelsList(Loopback):
    """Use it as `with ModelsList(["m"]) as server:`; `server.url` ends in /v1."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), self._handler()))

    @property
    def url(self) -> str:
        return f"{super().url}/v1"

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                there = self.path == "/v1/models"
                listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in server.names]}
                body = json.dumps(listed if there else {"error": "no such path"}).encode()
                self.send_response(200 if there else 404)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler

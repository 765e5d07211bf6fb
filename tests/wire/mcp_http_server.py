"""An MCP server at an address of this machine, with its own OAuth authority: `with McpHttpServer() as server`.

It speaks the streamable HTTP of 2025-06-18 with JSON replies. What it granted and what came in stands in its fields.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.wire.loopback import Loopback

Json = dict[str, Any]


class McpHttpServer(Loopback):
    """A server with one tool, `echo`.

    Args:
        sign_in: requests without a token that it granted are refused.
        port: where; 0 takes any that is free.
    """

    def __init__(self, *, sign_in: bool = False, port: int = 0) -> None:
        self.sign_in = sign_in
        self.sessions = 0
        self.forgotten = False
        """The next request of a session is told that there is no such session."""
        self.grants: list[str] = []
        """The kind of every token request, in order."""
        self.token = ""
        self.expires_in = 3600
        self.registered = 0
        self.headers: list[dict[str, str]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.get(self)

            def do_DELETE(self) -> None:
                reply(self, 200)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                server.post(self, body)

        super().__init__(ThreadingHTTPServer(("127.0.0.1", port), Handler))
        self.port = self._http.server_port
        self.base = super().url

    @property
    def url(self) -> str:
        return f"{self.base}/mcp"

    def get(self, request: BaseHTTPRequestHandler) -> None:
        """Metadata, and the page where a person signs in: it sends the browser back at once."""
        target = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(target.query).items()}
        if target.path.startswith("/.well-known/oauth-protected-resource"):
            reply(request, 200, {"resource": self.url, "authorization_servers": [self.base]})
        elif target.path.startswith("/.well-known/oauth-authorization-server"):
            places = {f"{name}_endpoint": f"{self.base}/{name}" for name in ("authorization", "token", "registration")}
            kinds = {"response_types_supported": ["code"], "code_challenge_methods_supported": ["S256"]}
            reply(request, 200, {"issuer": self.base} | places | kinds)
        elif target.path == "/authorization":
            back = f"{query['redirect_uri']}?{urlencode({'code': 'the-code', 'state': query['state']})}"
            reply(request, 302, headers={"location": back})
        else:
            reply(request, 405)

    def post(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        if request.path == "/registration":
            self.registered += 1
            reply(request, 201, json.loads(body) | {"client_id": f"client-{self.registered}"})
        elif request.path == "/token":
            self.grants.append(parse_qs(body.decode())["grant_type"][0])
            self.token = f"token-{len(self.grants)}"
            granted = {"access_token": self.token, "token_type": "Bearer", "expires_in": self.expires_in}
            reply(request, 200, granted | {"refresh_token": "the-refresh-token"})
        elif self.sign_in and request.headers.get("authorization") != f"Bearer {self.token}":
            reply(request, 401, headers={"www-authenticate": "Bearer"})
        else:
            self.headers.append({name.lower(): value for name, value in request.headers.items()})
            self._speak(request, json.loads(body))

    def _speak(self, request: BaseHTTPRequestHandler, message: Json) -> None:
        identity, method = message.get("id"), message["method"]
        if identity is not None and self.forgotten and request.headers.get("mcp-session-id"):
            self.forgotten = False
            reply(request, 404)
        elif identity is None:
            reply(request, 202)
        elif method == "initialize":
            self.sessions += 1
            info = {"name": "test", "version": "1"}
            result = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
            answer(request, identity, {"result": result}, {"mcp-session-id": f"session-{self.sessions}"})
        elif method == "tools/list":
            schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
            answer(request, identity, {"result": {"tools": [{"name": "echo", "inputSchema": schema}]}})
        elif method == "tools/call":
            text = "echo " + message["params"]["arguments"]["text"]
            answer(request, identity, {"result": {"content": [{"type": "text", "text": text}]}})
        else:
            answer(request, identity, {"error": {"code": -32601, "message": "no such method"}})


def answer(
    request: BaseHTTPRequestHandler, identity: Any, outcome: Json, headers: dict[str, str] | None = None
) -> None:
    reply(request, 200, {"jsonrpc": "2.0", "id": identity} | outcome, headers)


def reply(
    request: BaseHTTPRequestHandler, status: int, body: Json | None = None, headers: dict[str, str] | None = None
) -> None:
    data = b"" if body is None else json.dumps(body).encode()
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("content-type", "application/json")
    request.send_header("content-length", str(len(data)))
    request.end_headers()
    request.wfile.write(data)

"""A model server on loopback that says what it is told to, and fails how it is told to.

A subclass speaks one protocol. Use it as `with OpenAIServer() as server:`, then `server.script(Say("hi"), Fault(500))`:
each request takes the next turn, and once all are taken, `Say("ok")`. What was asked stands in `server.requests`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal

from tests.wire.loopback import Loopback


@dataclass(frozen=True)
class Say:
    """A reply. `tool_calls` are pairs of a name and the text of the arguments; `pieces` overrides how content splits.

    `cut_after` closes the connection after so many events, `broken_after` sends half an object then, `error_after`
    the protocol's error event, `silence_after` nothing more. 0 is before the first.
    """

    content: str = ""
    thought: str = ""
    tool_calls: tuple[tuple[str, str], ...] = ()
    finish: Literal["stop", "length"] = "stop"
    prompt_tokens: int | None = 11
    completion_tokens: int | None = 7
    logprob: float | None = None
    cut_after: int | None = None
    broken_after: int | None = None
    error_after: int | None = None
    silence_after: int | None = None
    error: str = "the engine is overloaded"

    @property
    def pieces(self) -> list[str]:
        """The content in pieces of five characters, so that every reply comes in several."""
        return [self.content[start : start + 5] for start in range(0, len(self.content), 5)]


@dataclass(frozen=True)
class Fault:
    """A status other than 200, or none at all: `drop` closes the connection, `silence` says nothing for ever."""

    status: int = 500
    message: str = "something broke"
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    kind: Literal["status", "drop", "silence"] = "status"


@dataclass(frozen=True)
class Raw:
    """Bytes sent as they are, with status 200."""

    body: bytes
    content_type: str = "text/event-stream"


Turn = Say | Fault | Raw


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    path: str
    headers: dict[str, str]
    body: Any
    connection: int
    """The client's port: the same for requests on one connection."""


class ModelServer(Loopback):
    """The base: threads, connections, faults and the record of requests. A subclass knows one protocol's words."""

    content_type = "text/event-stream"
    path = ""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.requests: list[Request] = []
        self.asked = threading.Event()
        """Set when the first request has come."""
        self.left_early = threading.Event()
        """Set when a client closed its connection while a reply was still coming."""
        self._closing = threading.Event()
        self._lock = threading.Lock()
        super().__init__(_Threads(("127.0.0.1", 0), self._handler()))

    def script(self, *turns: Turn) -> None:
        """What the next requests are answered with."""
        self.turns.extend(turns)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        super().__exit__(kind, error, trace)

    def events(self, say: Say) -> Iterator[bytes]:
        """The events of a reply, each as it goes on the wire. Fault marks are handled by the base."""
        raise NotImplementedError

    def broken(self) -> bytes:
        """An event whose JSON is not complete."""
        raise NotImplementedError

    def error_event(self, message: str) -> bytes:
        """An error inside a stream."""
        raise NotImplementedError

    def error_body(self, status: int, message: str) -> str:
        """The body that goes with a status."""
        return json.dumps({"error": {"message": message, "type": "error", "code": status}})

    def _take(self, request: Request) -> Turn:
        with self._lock:
            self.requests.append(request)
            self.asked.set()
            return self.turns.pop(0) if self.turns else Say("ok")

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        text = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        headers = {name.lower(): entry for name, entry in handler.headers.items()}
        if handler.path != self.path:
            self._send(handler, 404, "application/json", self.error_body(404, f"no such path: {handler.path}").encode())
            return
        turn = self._take(Request(handler.path, headers, json.loads(text), handler.client_address[1]))
        if isinstance(turn, Raw):
            self._send(handler, 200, turn.content_type, turn.body)
        elif isinstance(turn, Say):
            self._stream(handler, turn)
        elif turn.kind == "status":
            body = self.error_body(turn.status, turn.message) if turn.body is None else turn.body
            self._send(handler, turn.status, "application/json", body.encode(), turn.headers)
        else:
            if turn.kind == "silence":
                self._wait_silently(handler)
            _hang_up(handler)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        kind: str,
        body: bytes,
        headers: dict[str, str] | None = None,
    ) -> None:
        handler.send_response(status)
        for name, entry in {"content-type": kind, "content-length": str(len(body)), **(headers or {})}.items():
            handler.send_header(name, entry)
        handler.end_headers()
        handler.wfile.write(body)

    def _stream(self, handler: BaseHTTPRequestHandler, say: Say) -> None:
        handler.send_response(200)
        handler.send_header("content-type", self.content_type)
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        try:
            for number, event in enumerate(self.events(say)):
                if number == say.cut_after:
                    return _hang_up(handler)
                if number == say.silence_after:
                    self._wait_silently(handler)
                    return _hang_up(handler)
                if number in (say.broken_after, say.error_after):
                    _chunk(handler, self.broken() if number == say.broken_after else self.error_event(say.error))
                    break
                _chunk(handler, event)
            handler.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.left_early.set()
            handler.close_connection = True
        return None

    def _wait_silently(self, handler: BaseHTTPRequestHandler) -> None:
        """Say nothing until the client leaves or the server ends."""
        handler.connection.settimeout(0.02)
        while not self._closing.is_set():
            with contextlib.suppress(TimeoutError):
                try:
                    gone = handler.connection.recv(1, socket.MSG_PEEK) == b""
                except ConnectionResetError:
                    gone = True
                if gone:
                    self.left_early.set()
                    return

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                server._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


class _Threads(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves is what the tests ask for; anything else is shown."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def closed_port() -> int:
    """A port of this machine where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sse(data: Any, event: str = "") -> bytes:
    """One server-sent event."""
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def _chunk(handler: BaseHTTPRequestHandler, data: bytes) -> None:
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
    handler.wfile.flush()


def _hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    with contextlib.suppress(OSError):
        handler.connection.shutdown(socket.SHUT_RDWR)

"""The outside of the security cases: a server on loopback that answers with a case's pages and keeps what comes."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
import time
import urllib.parse
from collections.abc import Mapping
from typing import Self

HOSTS = frozenset({"outside.test", "docs.test", "api.test"})
"""Names that stand for public servers; every other name and number is what it is."""
QUIET = 0.15
"""Seconds without a byte after which a request that says no length is over."""


class Listener:
    """A server on loopback while a `with` lasts: each connection is handed to `answer`, in a thread of its own."""

    def __init__(self) -> None:
        outer = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    outer.answer(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, connection: socket.socket) -> None:
        """Speak to one client. An OSError is its end, no failure."""
        raise NotImplementedError


class Outside(Listener):
    """Use it as `with Outside() as outside:`. `pages` maps paths to (content type, text); a text that begins with
    `-> ` is a redirect. `received` is every byte that came, as text."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.received: list[str] = []
        super().__init__()

    def begin(self, pages: Mapping[str, str]) -> None:
        """Forget what came and serve these pages."""
        self.pages, self.received = dict(pages), []

    def got(self, text: str, patience: float = 0.0) -> bool:
        """Whether this text came, as it is or percent-encoded; what is under way is waited for, in seconds."""
        until = time.monotonic() + patience
        while True:
            everything = "\n".join(self.received)
            if text in everything or text in urllib.parse.unquote_plus(everything):
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)

    def answer(self, connection: socket.socket) -> None:
        connection.settimeout(QUIET)
        data = b""
        with contextlib.suppress(TimeoutError):
            while packet := connection.recv(65_536):
                data += packet
                if data.startswith(b"GET ") and data.endswith(b"\r\n\r\n"):
                    break
        self.received.append(data.decode("utf-8", "replace"))
        path = data.split(b" ")[1].decode("utf-8", "replace") if data.count(b" ") > 1 else "/"
        page = self.pages.get(path.partition("?")[0])
        if page is None:
            page = self.pages.get("*", "ok")
        if page.startswith("-> "):
            head = f"HTTP/1.1 302 Found\r\nLocation: {page[3:]}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            connection.sendall(head.encode())
            return
        kind = "text/html; charset=utf-8" if page.lstrip().startswith("<") else "text/plain; charset=utf-8"
        body = page.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)

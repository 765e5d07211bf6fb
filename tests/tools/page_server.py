"""A web server on loopback that answers each path with the bytes, or the misbehaviour, that a test gives it."""

from __future__ import annotations

import socket
from collections.abc import Callable

from evals.outside import Listener

Answer = bytes | Callable[[socket.socket], None]


def page(body: str | bytes = b"", content_type: str = "text/plain", status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer. `headers` are further lines, each with its line end."""
    data = body.encode() if isinstance(body, str) else body
    kind = f"Content-Type: {content_type}\r\n" if content_type else ""
    return f"HTTP/1.1 {status}\r\n{kind}Content-Length: {len(data)}\r\n{headers}\r\n".encode() + data


def redirect(location: str, status: str = "302 Found") -> bytes:
    return page(status=status, headers=f"Location: {location}\r\n")


class PageServer(Listener):
    """Use it as `with PageServer() as server:`; `server.pages["/path"] = page("text")`, then look at `requests`."""

    def __init__(self) -> None:
        self.pages: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"

    def answer(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            data = connection.recv(65536)
            if not data:
                return
            received += data
        lines = received.decode().split("\r\n")
        path = lines[0].split(" ")[1]
        headers = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
        self.requests.append((path, {name.lower(): value for name, value in headers.items()}))
        answer = self.pages.get(path.partition("?")[0], page("not here", status="404 Not Found"))
        if callable(answer):
            answer(connection)
        else:
            connection.sendall(answer)

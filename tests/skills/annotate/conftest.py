"""An arXiv on loopback, for what annotate asks of it. The tool's own tests cover its protocol."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tools import arxiv

ENTRY = """<entry><id>http://arxiv.org/abs/2402.11651v2</id><published>2024-02-18T00:00:00Z</published>
<title>Street Trees
  that Cool</title><summary>We measure how watered street trees cool three cities over seven years.</summary>
<author><name>Jane Doe</name></author></entry>"""


class Atom(BaseHTTPRequestHandler):
    """Answers every query with one paper, and one for `nothing` with an empty feed."""

    def do_GET(self) -> None:
        entry = "" if "nothing" in self.path else ENTRY
        body = f'<feed xmlns="http://www.w3.org/2005/Atom">{entry}</feed>'.encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/atom+xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def arxiv_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server that speaks arXiv's Atom API."""
    monkeypatch.setattr(arxiv, "PAUSE", 0)
    monkeypatch.setattr(arxiv, "_next_call", 0.0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Atom) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/query"
        server.shutdown()
        thread.join()

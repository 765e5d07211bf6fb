"""fetch_url and HTML to text."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConsentDenied, ToolError
from tests.tools.conftest import MakeContext
from tests.tools.page_server import PageServer, page, redirect
from tools import network, web
from tools.html_text import html_to_text
from tools.network import Page
from tools.registry import call
from tools.web import fetch_url, text_of

HTML = b"""<!DOCTYPE html><html><head><title>Bees  and
 flowers</title><style>p {color: red}</style><script>steal()</script></head><body>
<!-- a comment --><nav><a href="/home">Home</a> | <a href="#top">Top</a></nav>
<h1>Bees</h1><p>Bees   <b>visit</b> <a href="flowers.html?a=1&amp;b=2">flowers</a>.<br>Often.</p>
<h3>Two kinds</h3><ul><li>honey bees</li><li>wild <i>bees</i></li></ul>
<pre>a  b
  c</pre><table><tr><th>kind</th><th>count</th></tr><tr><td>honey</td><td>3</td></tr></table>
<noscript>no</noscript><template>t</template><a href="javascript:alert(1)">odd</a> <a href="http://[bad">bad</a>
</body></html>"""

TEXT = """Bees and flowers

[Home](https://example.org/home) | Top

# Bees

Bees visit [flowers](https://example.org/a/flowers.html?a=1&b=2).
Often.

### Two kinds

- honey bees
- wild bees

a  b
  c

kind | count |
honey | 3 |

odd bad"""


def html(body: str | bytes, charset: str = "") -> Page:
    data = body.encode() if isinstance(body, str) else body
    return Page("https://example.org/a/b", 200, "text/html", charset, data)


def read(found: Page) -> str:
    return asyncio.run(text_of(found))


@pytest.fixture
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a test can do this: nothing that a model or a setting says reaches the rule."""
    monkeypatch.setattr(
        network.fetch, "__kwdefaults__", {**(network.fetch.__kwdefaults__ or {}), "allowed": lambda *_: True}
    )


def fetched(context: Any, url: str) -> str:
    return asyncio.run(call(fetch_url, context, {"url": url}))


def test_html_becomes_text_with_headings_and_links() -> None:
    assert html_to_text(HTML, "https://example.org/a/b") == TEXT


def test_the_tool_reads_html_in_a_process_of_its_own() -> None:
    assert read(html(HTML)) == TEXT


@pytest.mark.parametrize(
    ("body", "charset"),
    [
        ("<p>grün</p>".encode(), "utf-8"),
        ("<p>grün</p>".encode("latin-1"), "iso-8859-1"),
        ("<meta charset=iso-8859-1><p>grün</p>".encode("latin-1"), ""),
        ("<p>grün</p>".encode(), "no-such-charset"),
        ("<p>grün</p>".encode(), "rot13"),
    ],
)
def test_character_sets_are_taken_from_the_server_else_from_the_page(body: bytes, charset: str) -> None:
    assert read(html(body, charset)) == "grün"


def test_broken_and_deeply_nested_html_is_read() -> None:
    assert read(html("<p>one<p>two</b></i><div>three <b>four")) == "one\n\ntwo\nthree four"
    assert read(html("<div>" * 20_000 + "deep")) == "deep"
    assert read(html("")) == ""


def test_html_that_would_take_for_ever_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's parser reads this in a time that grows with its square."""
    monkeypatch.setattr(web, "HTML_SECONDS", 0.8)
    started = time.monotonic()
    with pytest.raises(ToolError, match="too broken to be read"):
        read(html("<a" * 500_000))
    assert time.monotonic() - started < 3


def test_the_html_program_takes_no_module_from_where_it_stands(workspace: Path) -> None:
    (workspace / "bs4.py").write_text("raise SystemExit('taken over')")
    done = subprocess.run(
        [sys.executable, "-P", web.HTML_PROGRAM, "http://example.org/", ""],
        input=b"<h2>fine</h2>",
        cwd=workspace,
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"## fine"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"as  it is\n"),
        ("text/markdown", b"# a"),
        ("application/json", b'{"a": 1}'),
        ("application/ld+json", b"{}"),
        ("application/xml", b"<a/>"),
        ("application/atom+xml", b"<feed/>"),
        ("application/x-ndjson", b"{}\n{}"),
        ("", b"no type"),
        ("text/plain", b"\xef\xbb\xbfmarked"),
    ],
)
def test_other_text_is_left_as_it_is(content_type: str, body: bytes) -> None:
    assert read(Page("http://x/", 200, content_type, "", body)) == body.decode("utf-8-sig")


@pytest.mark.parametrize(
    ("content_type", "body", "problem"),
    [
        ("application/pdf", b"%PDF", "is application/pdf, and only text"),
        ("image/png", b"x", "is image/png, and only text"),
        ("application/octet-stream", b"x", "only text can be read"),
        ("", b"a\0b", "is binary data"),
        ("text/plain", b"a\0b", "is binary data"),
    ],
)
def test_what_is_no_text_is_refused(content_type: str, body: bytes, problem: str) -> None:
    with pytest.raises(ToolError, match=problem):
        read(Page("http://x/", 200, content_type, "", body))


def test_text_in_wide_characters_is_not_taken_for_binary() -> None:
    assert read(Page("http://x/", 200, "text/plain", "utf-16", "grün".encode("utf-16"))) == "grün"


def test_fetch_url_answers_with_the_last_address_and_the_text(
    make_context: MakeContext, server: PageServer, loopback_is_public: None
) -> None:
    context = make_context(allowed={"net:127.0.0.1"})
    server.pages |= {"/": redirect("/page"), "/page": page("<h1>Hello</h1>", "text/html; charset=utf-8")}
    assert fetched(context, server.url) == f"{server.url}/page\n\n# Hello"
    server.pages["/page"] = page("")
    assert fetched(context, server.url) == f"{server.url}/page\n\nThe page has no text."


@pytest.mark.parametrize(
    ("status", "told"),
    [("404 Not Found", "404 Not Found"), ("500 Oh", "500 Internal Server Error"), ("599 What", "599")],
)
def test_fetch_url_tells_a_servers_error(
    make_context: MakeContext, server: PageServer, loopback_is_public: None, status: str, told: str
) -> None:
    server.pages["/"] = page("<p>sorry", "text/html", status)
    with pytest.raises(ToolError, match=f"/ answered {told}$"):
        fetched(make_context(allowed={"net:127.0.0.1"}), f"{server.url}/")


def test_a_long_page_goes_into_a_file(make_context: MakeContext, server: PageServer, loopback_is_public: None) -> None:
    context = make_context(allowed={"net:127.0.0.1"}, output_limit=300)
    server.pages["/"] = page("line\n" * 1000)
    answer = fetched(context, server.url)
    (path,) = context.outputs.iterdir()
    assert str(path) in answer
    assert len(answer) < 700
    assert path.read_text() == f"{server.url}\n\n" + "line\n" * 1000


def test_fetch_url_refuses_private_addresses_and_needs_consent(make_context: MakeContext, server: PageServer) -> None:
    with pytest.raises(ConsentDenied, match="not allowed: fetch"):
        fetched(make_context(yes=True, allowed={"shell"}), server.url)
    with pytest.raises(ToolError, match=r"127\.0\.0\.1 is at 127\.0\.0\.1: only public"):
        fetched(make_context(allowed={"net:127.0.0.1"}), server.url)
    assert server.requests == []


def test_html_on_which_the_parser_breaks_down_is_not_called_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.web.HTML_PROGRAM", "/dev/null/no-such-program.py")
    page = Page("http://x/", 200, "text/html", "", b"<p>Hello.</p>")
    with pytest.raises(ToolError, match="broke down"):
        asyncio.run(text_of(page))

"""The tool fetch_url: a page of the web as text. What may be reached is decided in tools/network.py."""

from __future__ import annotations

import asyncio
import codecs
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from agent.errors import ToolError
from tools.network import Page, fetch
from tools.output import shown
from tools.registry import ToolContext, tool

if TYPE_CHECKING:
    from bs4 import Tag

HTML = ("text/html", "application/xhtml+xml")
TEXT = re.compile(
    r"text/.+|application/([\w.-]+\+)?(json|xml|yaml)|application/(x-ndjson|jsonl|x-yaml|toml|javascript)"
)
DROPPED = frozenset({"script", "style", "noscript", "template", "svg", "canvas", "iframe", "title", "nav", "button"})
BLOCKS = frozenset(
    "address article aside blockquote body br dd div dl dt fieldset figcaption figure footer form header hr html li main "
    "ol p pre section table tbody tfoot thead tr ul h1 h2 h3 h4 h5 h6".split()
)
DEPTH = 500
"""Elements inside each other beyond which a page is refused: real ones stay below 100."""


@tool(effect="net", concurrent=True)
async def fetch_url(context: ToolContext, url: str) -> str:
    """Fetch a page of the web and read it as text, its links as [text](address).

    Args:
        url: the page's address, http or https.
    """
    page = await fetch(context, url)
    if page.status >= 400:
        raise ToolError(f"{page.url} answered {page.status} {_phrase(page.status)}".rstrip())
    text = await asyncio.to_thread(text_of, page)
    return await asyncio.to_thread(shown, context, "fetch_url", f"{page.url}\n\n{text or 'The page has no text.'}")


def text_of(page: Page) -> str:
    """The text of a page: HTML without markup and scripts, other text as it is.

    Raises:
        ToolError: it is not text (a picture, a PDF, an archive).
    """
    if page.content_type in HTML:
        return _html(page)
    if page.content_type and not TEXT.fullmatch(page.content_type):
        raise ToolError(f"{page.url} is {page.content_type}, and only text can be read")
    if b"\0" in page.body and not page.charset.startswith("utf-16"):
        raise ToolError(f"{page.url} is binary data, and only text can be read")
    return page.body.decode(_codec(page.charset) or "utf-8-sig", "replace")


def _html(page: Page) -> str:
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page.body, "html.parser", from_encoding=_codec(page.charset))
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    lines = [line.strip() for line in "".join(_pieces(soup, page.url)).split("\n")]
    body = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    return f"{title}\n\n{body}".strip()


def _pieces(root: Tag, base: str) -> list[str]:
    """The page's text in order. With a stack of our own, since a page may nest deeper than Python calls."""
    from bs4 import CData, NavigableString, Tag

    pieces: list[str] = []
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        if type(node) is str:  # what a tag leaves behind: NavigableString is a str, too, but another type
            pieces.append(node)
        elif type(node) in (NavigableString, CData):
            pieces.append(re.sub(r"\s+", " ", node))
        elif isinstance(node, Tag) and node.name == "pre":
            pieces.append(f"\n{node.get_text()}\n")
        elif isinstance(node, Tag) and node.name not in DROPPED:
            before, after = _marks(node, base)
            waiting += [after, *reversed(node.contents), before]
    return pieces


def _marks(tag: Tag, base: str) -> tuple[str, str]:
    """What stands before and after a tag's text."""
    if re.fullmatch(r"h[1-6]", tag.name):
        return f"\n\n{'#' * int(tag.name[1])} ", "\n\n"
    if tag.name == "a":
        target = tag.get("href")
        address = urljoin(base, target) if isinstance(target, str) and not target.startswith("#") else ""
        return ("[", f"]({address})") if address.startswith(("http://", "https://")) else ("", "")
    if tag.name == "li":
        return "\n- ", "\n"
    if tag.name in ("td", "th"):
        return " ", " |"
    return ("\n", "\n") if tag.name in BLOCKS else ("", "")


def _codec(charset: str) -> str | None:
    """A character set's name if Python knows it."""
    try:
        return codecs.lookup(charset).name if charset else None
    except LookupError:
        return None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""

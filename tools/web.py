"""The tool fetch_url: a page of the web as text. What may be reached is decided in tools/network.py."""

from __future__ import annotations

import asyncio
import codecs
import re
from http import HTTPStatus
from pathlib import Path

from agent.errors import ToolError
from tools import child
from tools.network import Page, fetch
from tools.output import shown
from tools.registry import ToolContext, tool

HTML = ("text/html", "application/xhtml+xml")
TEXT = re.compile(
    r"text/.+|application/([\w.-]+\+)?(json|xml|yaml)|application/(x-ndjson|jsonl|x-yaml|toml|javascript)"
)
HTML_PROGRAM = str(Path(__file__).with_name("html_text.py"))
HTML_SECONDS = 15.0
"""For turning HTML into text; 2 MB of ordinary HTML take 3 to 5."""


@tool(effect="net", concurrent=True, outside=True)
async def fetch_url(context: ToolContext, url: str) -> str:
    """Fetch a page of the web and read it as text, its links as [text](address).

    Args:
        url: the page's address, http or https.
    """
    page = await fetch(context, url)
    if page.status >= 400:
        raise ToolError(f"{page.url} answered {page.status} {_phrase(page.status)}".rstrip())
    text = await text_of(page)
    return await asyncio.to_thread(shown, context, "fetch_url", f"{page.url}\n\n{text or 'The page has no text.'}")


async def text_of(page: Page) -> str:
    """The text of a page: HTML without markup and scripts, other text as it is.

    Raises:
        ToolError: it is not text (a picture, a PDF, an archive), or too broken to be read.
    """
    if page.content_type in HTML:
        return await _html(page)
    if page.content_type and not TEXT.fullmatch(page.content_type):
        raise ToolError(f"{page.url} is {page.content_type}, and only text can be read")
    charset = _codec(page.charset)
    if b"\0" in page.body and not charset.startswith(("utf-16", "utf-32")):
        raise ToolError(f"{page.url} is binary data, and only text can be read")
    return page.body.decode(charset or "utf-8-sig", "replace")


async def _html(page: Page) -> str:
    try:
        text = await child.ask([HTML_PROGRAM, page.url, _codec(page.charset)], page.body, HTML_SECONDS)
    except TimeoutError:
        raise ToolError(f"the HTML of {page.url} is too broken to be read in {HTML_SECONDS:.0f} s") from None
    return text.decode("utf-8")


def _codec(charset: str) -> str:
    """A character set's name if Python knows it, else nothing. Not all of Python's codecs are character sets."""
    try:
        codec = codecs.lookup(charset)
    except (LookupError, ValueError):
        return ""
    return codec.name if codec._is_text_encoding else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""

"""HTML as text: headings, paragraphs, lists and links, without markup and scripts.

It runs as a program (`python -P tools/html_text.py ADDRESS CHARSET < page > text`), because the parser takes time
that grows with the square of some broken pages and cannot be interrupted. So this file imports nothing of ours.
"""

from __future__ import annotations

import re
import sys
from typing import Any
from urllib.parse import urljoin

from bs4 import BeautifulSoup
from bs4.element import CData, NavigableString, Tag

DROPPED = frozenset({"script", "style", "noscript", "template", "svg", "canvas", "iframe", "title"})
PARAGRAPHS = frozenset({"p", "blockquote", "section", "article", "table", "ul", "ol", "dl", "form", "nav"})
LINES = frozenset({"div", "dt", "dd", "header", "footer", "main", "aside", "address", "figure", "figcaption"})
BREAKS = {
    "br": ("\n", ""),
    "hr": ("\n", ""),
    "li": ("\n- ", ""),
    "tr": ("\n", ""),
    "td": ("", " | "),
    "th": ("", " | "),
}


def html_to_text(body: bytes, address: str, charset: str = "") -> str:
    """The text of a page, its title first.

    Args:
        body: the page.
        address: where it came from, for the relative links in it.
        charset: as the server named it; without one the page's own word counts.
    """
    soup = BeautifulSoup(body, "html.parser", from_encoding=charset or None)
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    lines = [line.rstrip() for line in "".join(_pieces(soup, address)).split("\n")]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    return f"{title}\n\n{text}".strip()


def _pieces(root: Tag, address: str) -> list[str]:
    """The page's text in order. With a stack of our own, since a page may nest deeper than Python calls."""
    pieces: list[str] = []
    waiting: list[Any] = [root]
    while waiting:
        node = waiting.pop()
        text = ""
        if type(node) is str:  # what stands around a tag's text; text itself is of other types
            text = node
        elif type(node) in (NavigableString, CData):
            text = re.sub(r"\s+", " ", node)
            text = text.lstrip(" ") if not pieces or pieces[-1].endswith(("\n", " ")) else text
        elif isinstance(node, Tag) and node.name == "pre":
            text = f"\n\n{node.get_text()}\n\n"
        elif isinstance(node, Tag) and node.name not in DROPPED:
            before, after = _marks(node, address)
            waiting += [after, *reversed(node.contents), before]
        if text:
            pieces.append(text)
    return pieces


def _marks(tag: Tag, address: str) -> tuple[str, str]:
    """What stands before and after a tag's text."""
    if re.fullmatch(r"h[1-6]", tag.name):
        return f"\n\n{'#' * int(tag.name[1])} ", "\n\n"
    if tag.name == "a":
        link = _link(address, tag.get("href"))
        return ("[", f"]({link})") if link else ("", "")
    if tag.name in PARAGRAPHS:
        return "\n\n", "\n\n"
    if tag.name in LINES:
        return "\n", "\n"
    return BREAKS.get(tag.name, ("", ""))


def _link(address: str, target: Any) -> str:
    """The full address that a link leads to; empty for a place on the same page, or what is no web address."""
    if not isinstance(target, str) or target.startswith("#"):
        return ""
    try:
        link = urljoin(address, target.strip())
    except ValueError:
        return ""
    return link if link.startswith(("http://", "https://")) else ""


if __name__ == "__main__":
    page = sys.stdin.buffer.read()
    sys.stdout.buffer.write(html_to_text(page, *sys.argv[1:3]).encode("utf-8", "replace"))

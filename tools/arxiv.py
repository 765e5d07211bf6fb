"""The tool arxiv: abstracts by id or query, from arXiv's Atom API (https://info.arxiv.org/help/api/user-manual.html).

What was fetched once is kept in the cache folder and answered from there, without network and consent: papers for
ever, searches for SEARCH_DAYS. Calls of one process are PAUSE seconds apart, as arXiv asks.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from agent.errors import ToolError
from agent.messages import Json
from tools.network import Page, fetch, is_public
from tools.output import shown
from tools.registry import ToolContext, tool

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

PAUSE = 3.0
SEARCH_DAYS = 7
MOST = 50
"""Papers of one answer."""
_ID = re.compile(
    r"(?:arxiv:\s?|(?:https?://)?(?:www\.|export\.)?arxiv\.org/(?:abs|pdf|html)/)?"
    r"((?:\d{4}\.\d{4,5}|[a-z-]+(?:\.[a-z]{2})?/\d{7})(?:v\d+)?)(?:\.pdf)?/?",
    re.IGNORECASE,
)
_FIELD = re.compile(r"\b(?:ti|au|abs|co|jr|cat|rn|id|all):")
_SMALL_WORDS = frozenset(
    {"a", "an", "and", "the", "of", "on", "in", "for", "to", "with", "from", "by", "at", "as", "is", "are", "or", "not"}
)
_ATOM = "{http://www.w3.org/2005/Atom}"


@dataclass(frozen=True, slots=True)
class ArxivPaper:
    """One paper. `id` is without its version if it was asked for so; `published` is a date, YYYY-MM-DD."""

    id: str
    title: str
    abstract: str
    authors: tuple[str, ...]
    published: str


@tool(effect="net", outside=True)
async def arxiv(context: ToolContext, query: str, max_results: int = 5) -> str:
    """Find papers on arXiv and read their abstracts.

    Args:
        query: an id such as 2402.11651 or hep-th/9901001, or what to search for; ti:, au:, abs: and cat: name fields.
        max_results: the most papers to answer with, 1 to 50.
    """
    if paper_id(query):
        papers = [await by_id(context, query)]
    else:
        papers = await search(context, query, max_results)
    if not papers:
        raise ToolError(f"arXiv found nothing for {query!r}", "Use fewer or other words.")
    return shown(context, "arxiv", "\n\n".join(_text(paper) for paper in papers))


async def by_id(context: ToolContext, number: str) -> ArxivPaper:
    """One paper by its id, old style or new, with or without a version.

    Raises:
        ConsentDenied: the network is needed, and nobody allowed it.
        ToolError: this is no id, arXiv has no such paper, or its service failed.
    """
    wanted = paper_id(number)
    if not wanted:
        raise ToolError(f"{number!r} is not an arXiv id", "An id looks like 2402.11651 or hep-th/9901001.")
    place = _place(context, f"id {wanted}")
    papers = _cached(place, float("inf"))
    if not papers:
        papers = await _ask(context, {"id_list": wanted, "max_results": "1"})
        if not papers:
            raise ToolError(f"arXiv has no paper {wanted}", "Check the number.")
        _keep(place, papers)
    return papers[0]


async def search(context: ToolContext, query: str, limit: int) -> list[ArxivPaper]:
    """The papers that fit a query, best first: those with all of its words, or if there are none, with any.

    Raises:
        ConsentDenied: the network is needed, and nobody allowed it.
        ToolError: there is nothing to search for, or the service failed.
    """
    if not 1 <= limit <= MOST:
        raise ToolError(f"arXiv can be asked for 1 to {MOST} papers, not {limit}")
    place = _place(context, f"search {limit} {query}")
    papers = _cached(place, SEARCH_DAYS * 86_400)
    if papers is not None:
        return papers
    for expression in _expressions(query):
        asked = {"search_query": expression, "max_results": str(limit), "sortBy": "relevance"}
        papers = await _ask(context, asked)
        if papers:
            break
    if papers:
        _keep(place, papers)
    for paper in papers or []:
        _keep(_place(context, f"id {paper.id}"), [paper])
    return papers or []


def paper_id(text: str) -> str:
    """The arXiv id that a text is, in any spelling (arXiv:..., an address of the paper); empty if it is none."""
    found = _ID.fullmatch(text.strip())
    return found[1] if found else ""


def _expressions(query: str) -> list[str]:
    """The query in arXiv's language. One that names a field is taken as it is."""
    if _FIELD.search(query):
        return [query]
    words = re.findall(r"\w+(?:[-.']\w+)*", query)
    words = [word for word in words if word.lower() not in _SMALL_WORDS] or words
    if not words:
        raise ToolError(f"{query!r} has no word to search for")
    return [operator.join(f"all:{word}" for word in words) for operator in (" AND ", " OR ")[: len(words)]]


async def _ask(context: ToolContext, parameters: dict[str, str]) -> list[ArxivPaper]:
    """One call of the API."""
    settings = context.settings.tools
    address = settings.arxiv_url
    url = f"{address}{'&' if '?' in address else '?'}{urlencode(parameters)}"
    host = (urlsplit(address).hostname or "").lower()
    # A person who configured another host may have it in their own network; redirects may still not lead there.
    mirror = host if address != type(settings).model_fields["arxiv_url"].default else ""
    await context.consent.require(
        f"net:{host}", f"fetch {url}", sent=url
    )  # before waiting for a turn that may not be needed
    await _take_turn()
    page = await fetch(context, url, allowed=lambda name, ip: name == mirror or is_public(name, ip))
    if page.status != 200 and not (page.status == 400 and b"<feed" in page.body):
        hint = "It is busy: try again in a minute." if page.status in (429, 503) else "Try again later."
        raise ToolError(f"arXiv answered {page.status}", hint)
    return _parsed(page)


_next_call = 0.0


async def _take_turn() -> None:
    """Wait until PAUSE seconds lie between this call and the one before."""
    global _next_call
    now = time.monotonic()
    turn = max(now, _next_call)
    _next_call = turn + PAUSE
    await asyncio.sleep(turn - now)


def _parsed(page: Page) -> list[ArxivPaper]:
    from xml.etree import ElementTree

    class NoDoctype(ElementTree.TreeBuilder):
        """Refuses document types, and with them every entity that a file could define (a billion laughs)."""

        def doctype(self, *_: object) -> None:
            raise ToolError(f"{page.url} answered with a document type, which a feed does not have")

    try:
        root = ElementTree.fromstring(page.body, ElementTree.XMLParser(target=NoDoctype()))
    except ElementTree.ParseError as error:
        raise ToolError(f"arXiv's answer was not understood: {error}", "Try again later.") from None
    if root.tag != f"{_ATOM}feed":
        raise ToolError(f"arXiv's answer was not understood: it is {root.tag}, not a feed", "Try again later.")
    entries = root.findall(f"{_ATOM}entry")
    for entry in entries:
        if "/api/errors" in _field(entry, "id"):
            raise ToolError(f"arXiv refused the query: {_field(entry, 'summary')}")
    return [_paper(entry) for entry in entries if _field(entry, "title") and _field(entry, "summary")]


def _paper(entry: Element) -> ArxivPaper:
    authors = (_field(author, "name") for author in entry.findall(f"{_ATOM}author"))
    return ArxivPaper(
        id=paper_id(_field(entry, "id")) or _field(entry, "id"),
        title=_field(entry, "title"),
        abstract=_field(entry, "summary"),
        authors=tuple(name for name in authors if name),
        published=_field(entry, "published")[:10],
    )


def _field(element: Element, name: str) -> str:
    """A child's text on one line; empty if there is no such child."""
    return " ".join((element.findtext(f"{_ATOM}{name}") or "").split())


def _text(paper: ArxivPaper) -> str:
    """A paper as the model reads it."""
    head = f"{paper.title}\narXiv:{paper.id}, {paper.published}\n{', '.join(paper.authors)}"
    return f"{head}\n{paper.abstract}"


def _place(context: ToolContext, key: str) -> Path:
    return context.cache / "arxiv" / f"{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()[:32]}.json"


def _cached(place: Path, seconds: float) -> list[ArxivPaper] | None:
    """What the cache holds and is not older than so; a damaged entry counts as none."""
    try:
        if time.time() - place.stat().st_mtime > seconds:
            return None
        rows: list[Json] = json.loads(place.read_bytes())
        return [ArxivPaper(**{**row, "authors": tuple(row["authors"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _keep(place: Path, papers: list[ArxivPaper]) -> None:
    """Put papers into the cache. If that fails, the answer is still good."""
    temporary = place.with_suffix(f".{secrets.token_hex(4)}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps([asdict(paper) for paper in papers]), encoding="utf-8")
        os.replace(temporary, place)
    except OSError:
        with suppress(OSError):
            temporary.unlink()

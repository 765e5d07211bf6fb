"""The arXiv tool against a server that speaks its Atom API."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

import pytest

from agent.errors import ConsentDenied, ToolError
from tests.tools.conftest import MakeContext
from tests.tools.page_server import PageServer, page, redirect
from tools import arxiv as arxiv_file
from tools.arxiv import ArxivPaper, arxiv, by_id, paper_id, search
from tools.registry import ToolContext, call

BEES = ArxivPaper("2402.11651v2", "Counting bees", "We count bees. There are many.", ("A. Bee", "C. Dé"), "2024-02-18")
WASPS = ArxivPaper("hep-th/9901001v1", "On wasps & strings", "Wasps < strings.", ("B. Wasp",), "1999-01-01")


def entry(paper: ArxivPaper) -> str:
    authors = "".join(f"<author><name>{name}</name></author>" for name in paper.authors)
    return (
        f"<entry><id>http://arxiv.org/abs/{paper.id}</id><published>{paper.published}T01:02:03Z</published>"
        f"<title>{escape(paper.title).replace(' ', chr(10) + '  ')}</title>"
        f"<summary>  {escape(paper.abstract)}\n</summary>{authors}</entry>"
    )


def feed(*papers: ArxivPaper) -> bytes:
    entries = "".join(map(entry, papers))
    text = f'<?xml version="1.0" encoding="UTF-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>q</title>{entries}</feed>'
    return page(text, "application/atom+xml")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arxiv_file, "PAUSE", 0.0)
    monkeypatch.setattr(arxiv_file, "_next_call", 0.0)


@pytest.fixture
def context(make_context: MakeContext, server: PageServer) -> ToolContext:
    return make_context(allowed={"net:127.0.0.1"}, arxiv_url=f"{server.url}/api/query")


def use(context: ToolContext, **arguments: Any) -> str:
    return asyncio.run(call(arxiv, context, arguments))


def asked(server: PageServer) -> list[dict[str, str]]:
    """The parameters of every request."""
    return [{key: row[0] for key, row in parse_qs(urlsplit(path).query).items()} for path, _ in server.requests]


def test_a_paper_is_found_by_its_id(context: ToolContext, server: PageServer) -> None:
    server.pages["/api/query"] = feed(BEES)
    assert asyncio.run(by_id(context, "arXiv:2402.11651")) == BEES
    assert asked(server) == [{"id_list": "2402.11651", "max_results": "1"}]


def test_the_tool_answers_with_title_id_authors_and_abstract(context: ToolContext, server: PageServer) -> None:
    server.pages["/api/query"] = feed(BEES, WASPS)
    assert use(context, query="bees and strings", max_results=2) == (
        "Counting bees\narXiv:2402.11651v2, 2024-02-18\nA. Bee, C. Dé\nWe count bees. There are many.\n\n"
        "On wasps & strings\narXiv:hep-th/9901001v1, 1999-01-01\nB. Wasp\nWasps < strings."
    )
    assert asked(server) == [
        {"search_query": "all:bees AND all:strings", "max_results": "2", "sortBy": "relevance"},
    ]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2402.11651", "2402.11651"),
        ("2402.11651v2", "2402.11651v2"),
        ("0704.0001", "0704.0001"),
        (" arXiv:2402.11651 ", "2402.11651"),
        ("hep-th/9901001", "hep-th/9901001"),
        ("math.GT/0309136v1", "math.GT/0309136v1"),
        ("https://arxiv.org/abs/2402.11651v3", "2402.11651v3"),
        ("http://www.arxiv.org/pdf/2402.11651.pdf", "2402.11651"),
        ("arxiv.org/abs/cond-mat/0102536", "cond-mat/0102536"),
        ("bees", ""),
        ("2402.116", ""),
        ("2402.116510", ""),
        ("see 2402.11651", ""),
        ("a/b/1234567", ""),
        ("https://evil.example/abs/2402.11651", ""),
    ],
)
def test_every_spelling_of_an_id_is_known(text: str, number: str) -> None:
    assert paper_id(text) == number


def test_what_is_no_id_is_refused(context: ToolContext, server: PageServer) -> None:
    with pytest.raises(ToolError, match="'12' is not an arXiv id"):
        asyncio.run(by_id(context, "12"))
    assert server.requests == []


def test_what_was_fetched_needs_neither_network_nor_consent(
    make_context: MakeContext, context: ToolContext, server: PageServer
) -> None:
    server.pages["/api/query"] = feed(BEES)
    asyncio.run(by_id(context, "2402.11651"))
    found = asyncio.run(search(context, "bees", 3))
    offline = make_context(local_only=True, arxiv_url="http://127.0.0.1:9/")
    assert asyncio.run(by_id(offline, "2402.11651")) == BEES
    assert asyncio.run(search(offline, "bees", 3)) == found == [BEES]
    assert asyncio.run(by_id(offline, "2402.11651v2")) == BEES  # known from the search
    with pytest.raises(ConsentDenied):
        asyncio.run(search(offline, "bees", 4))


def test_an_old_search_is_made_again_and_an_old_paper_is_not(context: ToolContext, server: PageServer) -> None:
    server.pages["/api/query"] = feed(BEES)
    asyncio.run(search(context, "bees", 3))
    asyncio.run(by_id(context, "2402.11651v2"))
    assert len(server.requests) == 1
    for path in (context.cache / "arxiv").iterdir():
        os.utime(path, (time.time() - 8 * 86_400,) * 2)
    asyncio.run(by_id(context, "2402.11651v2"))
    assert len(server.requests) == 1
    asyncio.run(search(context, "bees", 3))
    assert len(server.requests) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'[{"id": "x"}]', b"null", b"\xff"])
def test_a_damaged_cache_entry_is_fetched_anew(context: ToolContext, server: PageServer, damage: bytes) -> None:
    server.pages["/api/query"] = feed(BEES)
    asyncio.run(by_id(context, "2402.11651"))
    (path,) = (context.cache / "arxiv").iterdir()
    path.write_bytes(damage)
    assert asyncio.run(by_id(context, "2402.11651")) == BEES
    assert len(server.requests) == 2


def test_a_cache_that_cannot_be_written_does_not_matter(context: ToolContext, server: PageServer) -> None:
    context.cache.write_text("a file where a folder should be")
    server.pages["/api/query"] = feed(BEES)
    assert asyncio.run(by_id(context, "2402.11651")) == BEES


def test_the_cache_holds_whole_files_only(context: ToolContext, server: PageServer) -> None:
    server.pages["/api/query"] = feed(BEES, WASPS)
    asyncio.run(search(context, "bees", 3))
    assert {path.suffix for path in (context.cache / "arxiv").iterdir()} == {".json"}


def test_when_not_all_words_are_found_any_will_do(context: ToolContext, server: PageServer) -> None:
    server.pages["/api/query"] = feed()
    assert asyncio.run(search(context, "survey of self-healing bees", 3)) == []
    assert [row["search_query"] for row in asked(server)] == [
        "all:survey AND all:self-healing AND all:bees",
        "all:survey OR all:self-healing OR all:bees",
    ]
    with pytest.raises(ToolError, match="arXiv found nothing for 'wasps'"):
        use(context, query="wasps")


def test_a_query_in_arxivs_own_language_is_taken_as_it_is(context: ToolContext, server: PageServer) -> None:
    server.pages["/api/query"] = feed(BEES)
    asyncio.run(search(context, "ti:bees AND au:dé", 3))
    assert asked(server)[0]["search_query"] == "ti:bees AND au:dé"


@pytest.mark.parametrize(("query", "limit"), [("?!", 3), ("bees", 0), ("bees", 51)])
def test_a_search_that_makes_no_sense_is_not_sent(
    context: ToolContext, server: PageServer, query: str, limit: int
) -> None:
    with pytest.raises(ToolError):
        asyncio.run(search(context, query, limit))
    assert server.requests == []


def billion_laughs() -> bytes:
    lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return page(f'<!DOCTYPE feed [<!ENTITY l0 "ha">{lines}]><feed xmlns="http://www.w3.org/2005/Atom">&l9;</feed>')


ERROR = ArxivPaper("x2345678", "Error", "incorrect id format for 1234.12345", (), "")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (page("oops", status="500 Internal Server Error"), "arXiv answered 500"),
        (page("slow down", status="429 Too Many Requests"), "arXiv answered 429"),
        (page("no", status="400 Bad Request"), "arXiv answered 400"),
        (page("<feed", "application/atom+xml"), "was not understood: unclosed token"),
        (page("", "application/atom+xml"), "was not understood: no element found"),
        (page("<html/>", "text/html"), "was not understood: it is html, not a feed"),
        (billion_laughs(), "a document type, which a feed does not have"),
        (page('<!DOCTYPE feed SYSTEM "file:///etc/hosts"><feed/>'), "a document type"),
        (feed(), "arXiv has no paper 2402.11651"),
        (feed(ERROR).replace(b"/abs/x2345678", b"/api/errors#1"), "arXiv refused the query: incorrect id format"),
        (
            feed(ERROR).replace(b"/abs/x2345678", b"/api/errors#1").replace(b"200 OK", b"400 Bad Request"),
            "arXiv refused the query: incorrect id format",
        ),
        (feed(ArxivPaper("2402.11651", "", "", (), "")), "arXiv has no paper"),
    ],
)
def test_a_failure_of_the_service_is_told_in_a_sentence(
    context: ToolContext, server: PageServer, answer: bytes, problem: str
) -> None:
    server.pages["/api/query"] = answer
    with pytest.raises(ToolError, match=problem):
        asyncio.run(by_id(context, "2402.11651"))
    assert not (context.cache / "arxiv").exists()


def test_a_busy_service_is_worth_another_try(context: ToolContext, server: PageServer) -> None:
    server.pages["/api/query"] = page(status="503 Service Unavailable")
    with pytest.raises(ToolError) as caught:
        use(context, query="2402.11651")
    assert caught.value.hint == "It is busy: try again in a minute."


def test_nothing_is_sent_without_consent_and_a_refusal_does_not_wait(
    make_context: MakeContext, server: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arxiv_file, "PAUSE", 30.0)
    context = make_context(yes=True, allowed={"shell"}, arxiv_url=f"{server.url}/api/query")
    for _ in range(2):
        with pytest.raises(ConsentDenied) as caught:
            asyncio.run(by_id(context, "2402.11651"))
        assert caught.value.hint == "To allow it, give --allow net:127.0.0.1."
    assert server.requests == []


def test_calls_keep_their_distance(context: ToolContext, server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arxiv_file, "PAUSE", 0.3)
    server.pages["/api/query"] = feed(BEES)

    async def three() -> None:
        await asyncio.gather(*(search(context, word, 1) for word in ("bees", "wasps", "ants")))

    started = time.monotonic()
    asyncio.run(three())
    assert 0.6 <= time.monotonic() - started < 3


def test_only_the_host_that_the_person_configured_may_be_private(make_context: MakeContext, server: PageServer) -> None:
    server.pages["/api/query"] = redirect(f"http://localhost:{server.port}/else")
    context = make_context(allowed={"net:127.0.0.1", "net:localhost"}, arxiv_url=f"{server.url}/api/query")
    with pytest.raises(ToolError, match=r"localhost is at .*: only public addresses"):
        asyncio.run(by_id(context, "2402.11651"))


def test_arxivs_own_host_must_be_public(make_context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("127.0.0.1", 443))])
    with pytest.raises(ToolError, match=r"export\.arxiv\.org is at 127\.0\.0\.1: only public addresses"):
        asyncio.run(by_id(make_context(allowed={"net:export.arxiv.org"}), "2402.11651"))


def test_the_address_may_have_parameters_of_its_own(make_context: MakeContext, server: PageServer) -> None:
    server.pages["/q"] = feed(BEES)
    context = make_context(allowed={"net:127.0.0.1"}, arxiv_url=f"{server.url}/q?key=1")
    asyncio.run(by_id(context, "2402.11651"))
    assert asked(server) == [{"key": "1", "id_list": "2402.11651", "max_results": "1"}]


def test_long_answers_go_into_a_file(context: ToolContext, server: PageServer) -> None:
    long = ArxivPaper("2402.00001", "Long", "word " * 3000 + "end", (), "2024-02-01")
    server.pages["/api/query"] = feed(long)
    answer = use(context, query="long")
    (path,) = context.outputs.iterdir()
    assert str(path) in answer
    assert Path(path).read_text().endswith("word end")

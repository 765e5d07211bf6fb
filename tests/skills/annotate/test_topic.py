"""From a topic to papers."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from agent.errors import ConsentDenied, InputError
from skills.annotate import topic
from skills.annotate.papers import Paper

ROWS = [
    json.loads(line) for line in (Path(__file__).parents[2] / "data/abstracts.jsonl").read_text("utf-8").splitlines()
]
PAPERS = [Paper(row["id"], row["title"], row["abstract"]) for row in ROWS]


@pytest.mark.parametrize(
    ("subject", "best"),
    [
        ("Survey of RAG techniques", "own-02"),
        ("screening for atrial fibrillation with wearables", "own-14"),
        ("street trees and cooling", "own-19"),
        ("self-healing concrete", "own-24"),
        ("random graph percolation", "own-21"),
        ("rent ceilings", "own-15"),
    ],
)
def test_the_paper_about_the_subject_comes_first(subject: str, best: str) -> None:
    assert topic.rank(subject, PAPERS)[0].source == best


def test_one_common_word_is_not_a_subject() -> None:
    assert topic.rank("quantum error correction codes", PAPERS) == []
    assert topic.rank("deep sea mining regulation", PAPERS) == []
    assert topic.rank("", PAPERS) == []
    assert topic.rank("trees", []) == []


def test_at_most_five_papers_are_returned_best_first() -> None:
    many = [Paper(str(n), "", "retrieval " * n + "filler " * (20 - n)) for n in range(1, 9)]
    assert [paper.source for paper in topic.rank("retrieval", many)] == ["8", "7", "6", "5", "4"]


def test_a_topic_of_generic_words_alone_is_still_searched() -> None:
    assert topic.rank("survey", [Paper("a", "A Survey", "Of things.")])[0].source == "a"


def test_the_workspace_is_searched_without_the_file_that_is_written(workspace: Path) -> None:
    (workspace / "sub").mkdir()
    (workspace / "sub/rag.txt").write_text("Retrieval-augmented generation (RAG) helps small models to answer.")
    (workspace / "output.md").write_text("RAG RAG RAG RAG.")
    (workspace / "broken.csv").write_text("a,b\n1,2\n")
    found = topic.local("RAG", workspace, [workspace / "output.md"])
    assert [paper.source for paper in found.papers] == ["sub/rag.txt"]
    assert found.skipped == ["./broken.csv has no column 'abstract'; it has a, b"]


def test_an_empty_workspace_has_no_papers(workspace: Path) -> None:
    assert topic.local("RAG", workspace).papers == []


def arxiv(monkeypatch: pytest.MonkeyPatch, answer: list[Any] | Exception) -> list[tuple[str, int]]:
    """Stand in for the arXiv tool, whose own tests cover the wire; returns the queries that reach it."""
    asked: list[tuple[str, int]] = []

    async def search(context: Any, query: str, limit: int) -> list[Any]:
        asked.append((query, limit))
        if isinstance(answer, Exception):
            raise answer
        return answer

    module = ModuleType("tools.arxiv")
    cast(Any, module).search = search
    monkeypatch.setitem(sys.modules, "tools.arxiv", module)
    return asked


def session(workspace: Path) -> Any:
    return SimpleNamespace(tool_context=None, workspace=SimpleNamespace(root=workspace))


def test_arxiv_answers_what_the_workspace_cannot(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = arxiv(monkeypatch, [SimpleNamespace(id="2402.11651v2", title="T", abstract="A.")])
    found = asyncio.run(topic.from_arxiv("RAG", session(workspace)))
    assert found == [Paper("arXiv:2402.11651v2", "T", "A.", "2402.11651v2")]
    assert asked == [("RAG", 5)]


def test_offline_or_refused_says_so_and_what_to_give_instead(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arxiv(monkeypatch, ConsentDenied("not allowed: search arXiv", "To allow it, give --allow net:export.arxiv.org."))
    with pytest.raises(InputError, match="arXiv was not searched: not allowed") as caught:
        asyncio.run(topic.from_arxiv("RAG", session(workspace)))
    assert "Give a file" in caught.value.hint
    assert "--allow net:export.arxiv.org" in caught.value.hint


def test_nothing_found_anywhere_is_said_so(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arxiv(monkeypatch, [])
    with pytest.raises(InputError, match="nor arXiv has a paper about 'RAG'"):
        asyncio.run(topic.from_arxiv("RAG", session(workspace)))

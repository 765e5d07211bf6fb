"""From a topic to papers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent.consent import Consent
from agent.errors import InputError
from agent.redact import Redactor
from agent.settings import Settings
from skills.annotate import topic
from skills.annotate.papers import Paper
from tools.registry import ToolContext
from tools.workspace import Workspace

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
        ("percolation of random networks", "own-21"),
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
    assert found.skipped == ["broken.csv has no column 'abstract'; it has a, b"]


def test_an_empty_workspace_has_no_papers(workspace: Path) -> None:
    assert topic.local("RAG", workspace).papers == []


def session(workspace: Path, url: str, *allowed: str) -> Any:
    """As much of a session as the search needs: the tool's context and the workspace."""
    settings = Settings.model_validate({"tools": {"arxiv_url": url}})
    place = Workspace(workspace)
    consent = Consent(allowed=frozenset(allowed))
    context = ToolContext(
        place, consent, settings, Redactor({}), workspace.parent / "outputs", workspace.parent / "cache"
    )
    return SimpleNamespace(tool_context=context, workspace=place)


def test_arxiv_answers_what_the_workspace_cannot(workspace: Path, arxiv_url: str) -> None:
    found = asyncio.run(topic.from_arxiv("cooling trees", session(workspace, arxiv_url, "net:127.0.0.1")))
    assert [(paper.source, paper.id, paper.title) for paper in found] == [
        ("arXiv:2402.11651v2", "2402.11651v2", "Street Trees that Cool")
    ]
    assert found[0].abstract.startswith("We measure how watered street trees")


def test_refused_says_so_and_what_to_give_instead(workspace: Path, arxiv_url: str) -> None:
    with pytest.raises(InputError, match="arXiv was not searched: not allowed") as caught:
        asyncio.run(topic.from_arxiv("cooling trees", session(workspace, arxiv_url)))
    assert "Give a file" in caught.value.hint
    assert "--allow net:127.0.0.1" in caught.value.hint


def test_offline_says_so_and_what_to_give_instead(workspace: Path) -> None:
    nobody = "http://127.0.0.1:9/api/query"
    with pytest.raises(
        InputError, match=r"no paper in .* is about 'cooling trees', and arXiv was not searched"
    ) as caught:
        asyncio.run(topic.from_arxiv("cooling trees", session(workspace, nobody, "net:127.0.0.1")))
    assert "Give a file" in caught.value.hint


def test_nothing_found_anywhere_is_said_so(workspace: Path, arxiv_url: str) -> None:
    with pytest.raises(InputError, match="nor arXiv has a paper about 'nothing'"):
        asyncio.run(topic.from_arxiv("nothing", session(workspace, arxiv_url, "net:127.0.0.1")))

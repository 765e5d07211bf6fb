"""Synthetic papers, with a strong teacher at the wire and with the embedded model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.errors import ModelRefused
from agent.models.base import Capabilities
from agent.models.scripted import Scripted
from agent.registry import open_model
from agent.settings import Settings
from skills.annotate.attempt import prompt
from skills.annotate.framework import load
from skills.annotate.validate import check
from tests.training.annotations import BEAMS
from tests.training.synthesis.teacher import Teacher, a_paper
from tests.wire.model_server import Fault, Say
from training.rows import read_rows
from training.synthesis.papers import faults, papers
from training.synthesis.work import Plan, Summary, synthesise

FRAMEWORK, SETTINGS = load("eight-moves"), Settings.model_validate({"models": {"retries": 0}})


def synthesis(
    server: Teacher, out: Path, count: int, excluded: tuple[tuple[str, str], ...] = (), **more: object
) -> Summary:
    address = f"openai@{server.url}/v1:big"
    plan = Plan("annotate", "big", count, **more)  # type: ignore[arg-type]

    async def work() -> Summary:
        model = open_model(address, SETTINGS)
        try:
            return await synthesise(plan, out, papers(model, plan, FRAMEWORK, SETTINGS), excluded)
        finally:
            await model.close()

    return asyncio.run(work())


def test_a_strong_teacher_makes_rows_that_keep_every_rule(tmp_path: Path) -> None:
    with Teacher() as server:
        summary = synthesis(server, tmp_path, 10)
    assert (summary.rows, summary.rejected, summary.stopped) == (10, {}, "done")
    rows = list(read_rows(tmp_path / "rows.jsonl"))
    for number, row in enumerate(rows, start=1):
        abstract, moves = a_paper(number)
        assert [message["content"] for message in row.messages[:2]] == [m.content for m in prompt(FRAMEWORK, abstract)]
        assert json.loads(row.completion) == moves
        assert check(moves, abstract, FRAMEWORK) == []
        assert (row.source, row.verified, row.skill) == ("synthetic", False, "annotate")
        assert row.provenance["title"] == f"Paper {number}"
        assert row.provenance["teacher"].endswith("served-1")


def test_the_paper_and_its_annotation_are_asked_for_apart(tmp_path: Path) -> None:
    with Teacher() as server:
        synthesis(server, tmp_path, 1)
        written, annotated = (request.body["messages"] for request in server.requests)
    assert "Write about" in written[1]["content"]
    assert "claim" not in json.dumps(written)
    assert annotated[1]["content"] == a_paper(1)[0]
    assert len(annotated) == 2


def test_the_same_seed_asks_the_same_and_another_one_does_not(tmp_path: Path) -> None:
    wishes = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        with Teacher() as server:
            synthesis(server, tmp_path / name, 3, seed=seed)
            wishes.append([request.body["messages"][1]["content"] for request in server.requests[::2]])
    assert wishes[0] == wishes[1] != wishes[2]
    assert len(set(wishes[0])) == 3


def test_evolve_steps_make_further_papers_of_a_good_one(tmp_path: Path) -> None:
    with Teacher() as server:
        summary = synthesis(server, tmp_path, 6, evolve=("harder", "shorter"))
        asked = [request.body["messages"][1]["content"] for request in server.requests]
    assert summary.rows == 6
    steps = [row.provenance["step"] for row in read_rows(tmp_path / "rows.jsonl")]
    assert steps == ["seed", "harder", "shorter"] * 2
    assert asked[2].startswith("Rewrite the text that follows. Make it harder")
    assert asked[2].endswith(a_paper(1)[0])


def test_papers_near_evaluation_cases_or_each_other_are_removed_and_counted(tmp_path: Path) -> None:
    again = json.dumps({"title": "Again", "abstract": a_paper(2)[0]})
    with Teacher() as server:
        summary = synthesis(server, tmp_path, 1, (("case", a_paper(1)[0]),))
        server.script(Say(again))
        more = synthesis(server, tmp_path, 2, (("case", a_paper(1)[0]),))
    assert summary.rejected == {"near an evaluation case": 1}
    assert more.rejected == {"near an evaluation case": 1, "near another task": 1}
    assert more.rows == 2


def test_what_the_validators_reject_makes_no_row_and_costs_all_the_same(tmp_path: Path) -> None:
    paper, (abstract, moves) = "One", a_paper(1)
    wrong = moves | {"evidence": "The system found 4711 faults of the sites, and more."}
    with Teacher() as server:
        server.script(
            Say(json.dumps({"title": paper, "abstract": abstract}), prompt_tokens=30, completion_tokens=20),
            Say(json.dumps(wrong), prompt_tokens=40, completion_tokens=10),
            Say("I cannot do that."),
            Say(json.dumps({"title": "Two", "abstract": "Too short. " * 20})),
            Say(json.dumps({"title": "Cut off in the", "abstract": abstract}), finish="length"),
        )
        summary = synthesis(server, tmp_path, 1)
    assert summary.rejected == {"no valid annotation": 1, "no paper": 2, "no abstract": 1}
    entries = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert entries[0]["tokens"] == 100
    assert entries[0]["reason"] == "no valid annotation: evidence: the number 4711 is not in the abstract"
    assert entries[0]["text"] == abstract


def test_a_teacher_that_fails_leaves_what_was_made_and_is_gone_on_with(tmp_path: Path) -> None:
    with Teacher() as server:
        synthesis(server, tmp_path, 2)
        server.script(Fault(401, "wrong key"))
        with pytest.raises(ModelRefused, match="wrong key"):
            synthesis(server, tmp_path, 4)
        assert len(list(read_rows(tmp_path / "rows.jsonl"))) == 2
        assert synthesis(server, tmp_path, 4).rows == 4


def test_a_model_that_takes_a_grammar_annotates_under_it() -> None:
    replies = [
        {"content": json.dumps({"title": "One", "abstract": a_paper(1)[0]})},
        {"content": json.dumps(a_paper(1)[1])},
    ]
    model = Scripted(replies, Capabilities(grammar=True, json_schema=True))
    plan = Plan("annotate", "scripted", 1)
    made = papers(model, plan, FRAMEWORK, SETTINGS)

    async def first() -> object:
        from training.synthesis.work import Neighbours

        return [attempt async for attempt in made(0, Neighbours(()))]

    (attempt,) = asyncio.run(first())  # type: ignore[misc]
    assert attempt.row is not None
    assert model.requests[0].schema is not None
    assert model.requests[1].template is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BEAMS, ""),
        (a_paper(1)[0], ""),
        ("Short.", "its length"),
        ("Word after word " * 30 + ".", "too few sentences"),
        ("The cat sat on the mat and the dog. " * 10, "it goes in circles"),
        (f"{BEAMS} {BEAMS.split('. ')[0]}.", "it says a sentence twice"),
        (f"Abstract: {BEAMS}", "markup or headings"),
        (BEAMS.replace("StripeBeam", "**StripeBeam**"), "markup or headings"),
    ],
)
def test_a_text_that_is_no_abstract_is_known(text: str, said: str) -> None:
    assert bool(faults(text)) == bool(said)
    assert said in faults(text)


@pytest.mark.llama
def test_the_embedded_model_as_a_teacher_costs_and_yields_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.synthesis.papers.MOST_TOKENS", 60)
    plan = Plan("annotate", "local", 1, tokens=1)

    async def work() -> Summary:
        model = open_model("local", Settings.model_validate({"models": {"threads": 1, "context": 2048}}))
        try:
            return await synthesise(plan, tmp_path, papers(model, plan, FRAMEWORK, SETTINGS))
        finally:
            await model.close()

    summary = asyncio.run(work())
    assert summary.rows + sum(summary.rejected.values()) == 1
    assert summary.tokens > 60
    assert (tmp_path / "rows.jsonl").is_file()

"""Rehearsal rows: our prompts, and what a model says to them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import UsageError
from agent.messages import Json
from agent.models.scripted import Scripted
from agent.registry import open_model
from agent.settings import Settings
from training.rows import read_rows
from training.synthesis.rehearsal import Rehearsal, faults, prompts, rehearsal
from training.synthesis.work import Neighbours, Plan, Summary, case_texts, synthesise

CASES = Path(__file__).resolve().parents[3] / "evals" / "cases" / "rehearsal.jsonl"
QUESTIONS = ("What is tea?", "Name a river.")


def answers(*texts: str) -> list[Json]:
    return [{"content": text} for text in texts]


def work(out: Path, replies: list[Json], count: int, **more: Any) -> tuple[Summary, Scripted]:
    model, plan = Scripted(replies), Plan("rehearsal", "scripted", count, seed=7)
    summary = asyncio.run(synthesise(plan, out, Rehearsal(model, plan, QUESTIONS).make, **more))
    return summary, model


def test_there_are_many_prompts_and_no_two_alike() -> None:
    found = prompts()
    assert len(found) >= 120
    assert len({text.casefold() for text in found}) == len(found)
    neighbours = Neighbours(())
    for text in found:
        assert not neighbours.near_made(text), text
        neighbours.add(text)


@pytest.mark.skipif(not CASES.exists(), reason="the rehearsal suite is not there")
def test_no_prompt_is_near_one_of_the_rehearsal_suite() -> None:
    neighbours = Neighbours((text, text) for text in case_texts(CASES))
    assert [text for text in prompts() if neighbours.near_case(text)] == []
    assert neighbours.near_case(case_texts(CASES)[0])


def test_the_models_own_answers_become_rows(tmp_path: Path) -> None:
    summary, model = work(tmp_path, answers("A drink of leaves.", "The Rhine is one."), 2)
    rows = list(read_rows(tmp_path / "rows.jsonl"))
    assert summary.rows == 2
    assert [row.messages for row in rows] == [
        ({"role": "user", "content": "What is tea?"}, {"role": "assistant", "content": "A drink of leaves."}),
        ({"role": "user", "content": "Name a river."}, {"role": "assistant", "content": "The Rhine is one."}),
    ]
    assert {(row.source, row.verified, row.skill) for row in rows} == {("rehearsal", False, "rehearsal")}
    assert [request.temperature for request in model.requests] == [0.0, 0.0]


def test_after_the_last_prompt_the_first_is_answered_by_chance(tmp_path: Path) -> None:
    texts = answers("A drink of leaves.", "The Rhine is one.", "Leaves in hot water.", "The Rhine is one.")
    summary, model = work(tmp_path, [*texts, *answers("Tea is a drink.")], 4)
    assert [(request.temperature, request.seed) for request in model.requests[2:]] == [(0.7, 9), (0.7, 10), (0.7, 11)]
    assert summary.rejected == {"near another answer": 1}
    rows = list(read_rows(tmp_path / "rows.jsonl"))
    assert rows[0].document == rows[2].document
    assert len({row.id for row in rows}) == 4


def test_bad_answers_are_left_out_and_counted(tmp_path: Path) -> None:
    circle = "it is good to see you again " * 6
    long = "word " * 400
    summary, _ = work(tmp_path, answers("Yes", circle, long, "The Rhine is one."), 1)
    assert summary.rejected == {"the answer is empty": 1, "the answer goes in circles": 1, "the answer was cut": 1}


def test_a_prompt_near_an_evaluation_case_is_not_asked(tmp_path: Path) -> None:
    summary, model = work(tmp_path, answers("The Rhine is one."), 1, excluded=[("case", "what is tea")])
    assert (summary.rows, summary.rejected) == (1, {"near an evaluation case": 1})
    assert len(model.requests) == 1


def test_an_answer_may_say_a_phrase_twice() -> None:
    assert faults("one two three four five six. one two three four five six.") == ""
    assert faults("") == "the answer is empty"


def test_evolve_steps_make_no_sense_here() -> None:
    with pytest.raises(UsageError, match="no evolve steps"):
        rehearsal(Scripted([]), Plan("rehearsal", "scripted", 1, evolve=("harder",)))


def test_the_shipped_prompts_are_what_is_asked(tmp_path: Path) -> None:
    model, plan = Scripted(answers("It scatters light.")), Plan("rehearsal", "scripted", 1)
    asyncio.run(synthesise(plan, tmp_path, rehearsal(model, plan)))
    assert model.requests[0].messages[0].content == prompts()[0]
    assert json.loads((tmp_path / "plan.json").read_text())["skill"] == "rehearsal"


@pytest.mark.llama
def test_the_embedded_model_answers_in_its_own_words(tmp_path: Path) -> None:
    plan = Plan("rehearsal", "local", 2)

    async def work() -> Summary:
        model = open_model("local", Settings.model_validate({"models": {"threads": 1, "context": 1024}}))
        try:
            return await synthesise(
                plan, tmp_path, Rehearsal(model, plan, ("Name a colour.", "What is 2 plus 2?")).make
            )
        finally:
            await model.close()

    assert asyncio.run(work()).rows == 2
    assert all(row.provenance["model"].startswith("SmolLM2") for row in read_rows(tmp_path / "rows.jsonl"))

"""One paper's attempts: who is asked what, what is kept, and what stands on record, with the scripted model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from agent.errors import ContextOverflow, ModelUnavailable
from agent.messages import Json, Route, Trajectory
from agent.models.base import Capabilities, Fixed, Hole
from agent.models.embedded import find
from agent.models.llamacpp import LlamaCpp
from agent.models.scripted import Scripted
from agent.settings import Settings
from skills.annotate.attempt import Annotated, annotate, prompt
from skills.annotate.framework import Framework, Move, load
from skills.annotate.papers import Paper
from skills.annotate.validate import check, grounded
from skills.registry import Job

Make = Callable[..., Any]
FRAMEWORK = load("eight-moves")
GRAMMAR, SCHEMA, PLAIN = Capabilities(grammar=True), Capabilities(json_schema=True), Capabilities()
ABSTRACT = (
    "We introduce Larch, a cache for sensor networks that keeps only readings which later queries are likely to need. "
    "On 1,204 hours of traffic from 3 cities, Larch answers 97.5% of the queries without waking a sensor, while the "
    "usual cache answers 81%. It was tested on temperature sensors only."
)
PAPER = Paper("larch.txt", "Larch", ABSTRACT)
GOOD = {
    **dict.fromkeys(FRAMEWORK.keys, "Not stated."),
    "claim": "The authors introduce Larch, a cache for sensor networks that keeps readings which later queries need.",
    "evidence": "On 1,204 hours of traffic from 3 cities, Larch answers 97.5% of the queries.",
}
WRONG = {**GOOD, "evidence": "On 1,300 hours of traffic from 3 cities, Larch answers 97.5% of the queries."}
WORSE = {**WRONG, "claim": "Not stated."}


def says(annotation: Json) -> Json:
    return {"content": json.dumps(annotation)}


def job(bench: Any, escalation: str = "") -> Job:
    route = Route("scripted", "flag", "you gave --model", escalation)
    return Job(bench.session, "larch.txt", "/annotate larch.txt", route, ())


def work(bench: Any, escalation: str = "", paper: Paper = PAPER) -> tuple[Annotated, Trajectory]:
    """Annotate the paper; what comes back, and the run as the store has it."""
    found = asyncio.run(
        annotate(job(bench, escalation), paper, FRAMEWORK, grounding="numbers", task="/annotate larch.txt")
    )
    bench.session.store.flush()
    run: Trajectory = bench.session.store.get(found.run_id)
    return found, run


def strong(bench: Any, *replies: Json) -> Scripted:
    model = Scripted(replies, SCHEMA, "strong")
    bench.session.models["strong"] = model
    return model


def marks(run: Trajectory) -> list[tuple[str, str]]:
    return [(message.role, detail.preference) for message, detail in zip(run.messages, run.details, strict=True)]


def test_a_good_reply_is_kept_without_a_preference(bench: Make) -> None:
    made = bench([says(GOOD)], capabilities=GRAMMAR)
    found, run = work(made)
    assert (found.annotation, found.valid, found.findings, found.attempts) == (GOOD, True, (), 1)
    assert found.model == "scripted"
    assert marks(run) == [("system", ""), ("user", ""), ("assistant", "")]
    assert (run.outcome, run.reason, run.score) == ("success", "answer", 1.0)
    assert run.task == "/annotate larch.txt"
    assert [message.content for message in run.messages[:2]] == [m.content for m in prompt(FRAMEWORK, ABSTRACT)]


def test_the_prompt_has_what_is_constant_first_and_the_abstract_last() -> None:
    system, user = prompt(FRAMEWORK, ABSTRACT)
    assert (system.role, user.role, user.content) == ("system", "user", ABSTRACT)
    assert prompt(FRAMEWORK, "Another.")[0] == system
    places = [system.content.index(f"\n{move.key}: {move.question}") for move in FRAMEWORK.moves]
    assert places == sorted(places)
    assert '"Not stated."' in system.content


def test_a_model_that_takes_a_grammar_gets_the_grounded_template(bench: Make) -> None:
    made = bench([says(GOOD)], capabilities=GRAMMAR)
    work(made)
    (request,) = made.model.requests
    assert [type(piece) for piece in request.template] == [Fixed, Hole] * 8
    assert (request.schema, request.temperature) == (None, 0.0)


def test_a_model_that_takes_a_schema_gets_the_frameworks(bench: Make) -> None:
    made = bench([says(GOOD)], capabilities=SCHEMA)
    work(made)
    (request,) = made.model.requests
    assert (request.template, request.schema) == (None, FRAMEWORK.reply_schema())
    assert request.max_tokens == 1024


def test_any_other_model_is_asked_in_words_and_read_leniently(bench: Make) -> None:
    made = bench([{"content": f"Sure!\n```json\n{json.dumps(GOOD)}\n```"}], capabilities=PLAIN)
    found, _ = work(made)
    (request,) = made.model.requests
    assert (request.template, request.schema) == (None, None)
    assert found.valid


def test_under_a_grammar_only_the_broken_moves_are_written_anew_by_chance(bench: Make) -> None:
    made = bench([says(WRONG), says(GOOD)], capabilities=GRAMMAR)
    found, run = work(made)
    first, second = made.model.requests
    assert second.messages == first.messages
    assert [piece.close for piece in second.template if isinstance(piece, Hole)] == ['",']
    assert json.dumps(GOOD["claim"]) in second.template[0].text
    assert second.template[0].text.endswith('"evidence": "')
    assert (second.temperature, second.seed) == (0.7, 1)
    assert (found.valid, found.attempts) == (True, 2)
    assert marks(run) == [("system", ""), ("user", ""), ("assistant", "rejected"), ("assistant", "chosen")]


def test_without_a_grammar_the_model_is_told_what_was_wrong(bench: Make) -> None:
    made = bench([says(WRONG), says(GOOD)], capabilities=SCHEMA)
    found, run = work(made)
    asked = made.model.requests[1].messages
    assert [message.role for message in asked] == ["system", "user", "assistant", "user"]
    assert "the number 1300 is not in the abstract" in asked[-1].content
    assert [role for role, _ in marks(run)] == ["system", "user", "assistant", "user", "assistant"]
    assert [preference for role, preference in marks(run) if role == "assistant"] == ["rejected", "chosen"]
    assert found.annotation == GOOD


def test_what_fails_twice_goes_to_the_stronger_model_with_a_fresh_prompt(bench: Make) -> None:
    made = bench([says(WRONG), says(WORSE)], capabilities=SCHEMA)
    other = strong(made, says(GOOD))
    found, run = work(made, "strong")
    assert list(other.requests[0].messages) == prompt(FRAMEWORK, ABSTRACT)
    assert (found.valid, found.model, found.attempts) == (True, "strong", 3)
    assert [p for role, p in marks(run) if role == "assistant"] == ["rejected", "rejected", "chosen"]
    assert [detail.model for detail in run.details if detail.model] == ["scripted", "scripted", "strong"]
    assert run.outcome == "success"


def test_nobody_else_is_asked_without_an_escalation(bench: Make) -> None:
    made = bench([says(WRONG), says(WRONG), says(GOOD)], capabilities=GRAMMAR)
    found, _ = work(made)
    assert (found.valid, len(made.model.requests)) == (False, 2)


def test_when_every_attempt_fails_the_best_is_kept_and_marked_invalid(bench: Make) -> None:
    made = bench([says(WRONG), says(WORSE)], capabilities=SCHEMA)
    strong(made, says(WORSE))
    found, run = work(made, "strong")
    assert (found.valid, found.annotation) == (False, WRONG)
    assert [finding.rule for finding in found.findings] == ["number"]
    assert (run.outcome, run.score) == ("failure", 7 / 8)
    assert "the number 1300 is not in the abstract" in run.reason
    assert [p for role, p in marks(run) if role == "assistant"] == ["rejected"] * 3


def test_a_reply_that_is_no_annotation_leaves_every_move_empty(bench: Make) -> None:
    made = bench([{"content": "I cannot."}, {"content": '{"claim": 3, "extra": "x"}'}], capabilities=PLAIN)
    found, run = work(made)
    assert list(found.annotation) == FRAMEWORK.keys
    assert set(found.annotation.values()) == {""}
    assert (found.valid, run.score, run.outcome) == (False, 0.0, "failure")


def test_a_reply_cut_by_its_limit_fails_even_if_it_reads_well(bench: Make) -> None:
    limits = {"models": {"max_tokens": 1}, "annotate": {"max_move_tokens": 8}}
    long = {"content": json.dumps(GOOD) + " word" * 300}
    found, run = work(bench([long, says(GOOD)], capabilities=SCHEMA, settings=limits))
    assert (found.attempts, found.valid) == (2, True)
    assert (run.details[2].finish_reason, run.details[2].preference) == ("length", "rejected")


def test_a_later_model_that_fails_leaves_what_came_before_it(bench: Make) -> None:
    made = bench([says(WRONG), says(WRONG)], capabilities=GRAMMAR)
    strong(made, {"error": "the server fell over"})
    found, run = work(made, "strong")
    assert (found.annotation, found.valid) == (WRONG, False)
    notices = [event.data["text"] for event in made.events if event.kind == "notice"]
    assert any("the server fell over" in text for text in notices)
    assert run.details[-1].error


def test_the_first_models_failure_ends_the_run(bench: Make) -> None:
    made = bench([{"error": "the server fell over"}])
    with pytest.raises(ModelUnavailable, match="fell over"):
        work(made)
    made.session.store.flush()
    (run,) = made.session.store.runs()
    assert run.outcome == "failure"
    assert "fell over" in run.reason


def test_each_attempt_is_a_step_and_each_new_one_is_announced_with_the_reason(bench: Make) -> None:
    made = bench([says(WRONG), says(GOOD)], capabilities=GRAMMAR)
    work(made)
    kinds = [event.kind for event in made.events if event.kind in ("run", "notice", "step", "end")]
    assert kinds == ["run", "step", "notice", "step", "end"]
    (notice,) = [event.data["text"] for event in made.events if event.kind == "notice"]
    assert "larch.txt" in notice
    assert "1300" in notice


def test_the_run_knows_its_parent(bench: Make) -> None:
    made = bench([says(GOOD)])
    found = asyncio.run(
        annotate(job(made), PAPER, FRAMEWORK, grounding="none", parent_id="abc", task="/annotate larch.txt")
    )
    made.session.store.flush()
    assert made.session.store.get(found.run_id).parent_id == "abc"


TWO = Framework(
    name="two",
    instructions="Answer from the abstract.",
    absent="Not stated.",
    min_support=0.0,
    max_alike=1.0,
    moves=(
        Move(key="claim", question="What is claimed?", min_words=3, required=True),
        Move(key="evidence", question="Which numbers support it?", min_words=3),
    ),
)


@pytest.mark.llama
@pytest.mark.parametrize("level", ["numbers", "words"])
def test_the_embedded_model_writes_a_grounded_annotation(bench: Make, level: Any) -> None:
    limits = {"models": {"threads": 1}, "annotate": {"max_move_tokens": 24}}
    made = bench([], settings=limits)
    checked = Settings.model_validate(limits)
    made.session.models["scripted"] = LlamaCpp(find(checked), checked)

    async def go() -> Annotated:
        try:
            return await annotate(job(made), PAPER, TWO, grounding=level, task="/annotate larch.txt")
        finally:
            await made.session.models["scripted"].close()

    found = asyncio.run(go())
    assert list(found.annotation) == ["claim", "evidence"]
    assert all(grounded(text, ABSTRACT) for text in found.annotation.values())
    assert [
        f for f in check(found.annotation, ABSTRACT, TWO) if f.rule in ("number", "length", "absent", "empty")
    ] == []


@pytest.mark.llama
def test_an_abstract_longer_than_the_context_is_refused_with_both_numbers_and_the_papers_name(bench: Make) -> None:
    made = bench([])
    small = Settings.model_validate({"models": {"context": 512, "threads": 1}})
    made.session.models["scripted"] = LlamaCpp(find(small), small)
    with pytest.raises(ContextOverflow, match=r"needs \d+ tokens and the model's context holds 512") as caught:
        work(made, paper=Paper("long.txt", "", "Moss grows on stones. " * 200))
    assert "long.txt" in caught.value.hint
    asyncio.run(made.session.models["scripted"].close())
    made.session.store.flush()
    assert made.session.store.runs()[0].outcome == "failure"


def test_a_person_sees_which_move_is_being_written_and_no_json(bench: Make) -> None:
    made = bench([says(GOOD)], capabilities=GRAMMAR)
    work(made)
    shown = "".join(event.data["text"] for event in made.events if event.kind in ("text", "thought"))
    assert shown.split() == list(load("eight-moves").keys)


@pytest.mark.parametrize("budget", [{"steps": 1}, {"tokens": 1}, {"seconds": 0.01}])
def test_a_spent_budget_leaves_no_further_attempt(bench: Make, budget: Json) -> None:
    made = bench([says(WRONG) | {"delay": 0.02}, says(GOOD)], capabilities=GRAMMAR, settings={"budget": budget})
    strong(made, says(GOOD))
    found, run = work(made, "strong")
    assert (found.attempts, found.valid, run.outcome) == (1, False, "failure")

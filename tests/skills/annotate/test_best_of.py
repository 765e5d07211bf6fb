"""The best of several replies: which move wins, what is asked, what stands on record; then the real model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from agent.errors import ModelUnavailable, UsageError
from agent.messages import Json, Message, Route, Trajectory, Usage
from agent.models.base import Capabilities, Reply
from agent.models.embedded import find
from agent.models.llamacpp import LlamaCpp
from agent.settings import Settings
from skills.annotate import record
from skills.annotate.attempt import Annotated, annotate
from skills.annotate.best_of import Best, Candidate, agreement, candidate, compose, ranking
from skills.annotate.framework import Framework, Move, load
from skills.annotate.papers import Paper
from skills.registry import Job
from training.dataset.candidates import Ledger
from training.dataset.trajectories import collect

Make = Callable[..., Any]
EIGHT = load("eight-moves")
GRAMMAR, PLAIN = Capabilities(grammar=True), Capabilities()
DRAWS = Capabilities(grammar=True, draws=True, logprobs=True)
ABSENT = "Not stated."
ABSTRACT = (
    "We introduce Larch, a cache for sensor networks that keeps only readings which later queries are likely to need. "
    "On 1,204 hours of traffic from 3 cities, Larch answers 97.5% of the queries without waking a sensor, while the "
    "usual cache answers 81%. It was tested on temperature sensors only."
)
PAPER = Paper("larch.txt", "Larch", ABSTRACT)
CLAIM = "Larch is a cache for sensor networks that keeps readings which later queries need."
EVIDENCE = "On 1,204 hours of traffic from 3 cities, Larch answers 97.5% of the queries."
SHORTER = "Larch answers 97.5% of the queries without waking a sensor on traffic."
SCOPE = "Larch was tested on temperature sensors only, with traffic from 3 cities."


def says(**moves: str) -> dict[str, str]:
    return {**dict.fromkeys(EIGHT.keys, ABSENT), "claim": CLAIM, "evidence": EVIDENCE, **moves}


def of(*annotations: dict[str, str], likelihoods: tuple[float, ...] = (), cut: tuple[int, ...] = ()) -> list[Candidate]:
    worth = likelihoods or (0.0,) * len(annotations)
    return [Candidate(moves, number in cut, worth[number]) for number, moves in enumerate(annotations)]


def work(bench: Any, best: Best | None = None, escalation: str = "") -> tuple[Annotated, Trajectory]:
    """Annotate the paper; what comes back, and the run as the store has it."""
    job = Job(bench.session, "larch.txt", "/annotate", Route("scripted", "flag", "you gave --model", escalation), ())
    found = asyncio.run(annotate(job, PAPER, EIGHT, grounding="numbers", best=best, task="/annotate larch.txt"))
    bench.session.store.flush()
    run: Trajectory = bench.session.store.get(found.run_id)
    return found, run


def replies(*annotations: dict[str, str]) -> list[Json]:
    return [{"content": json.dumps(moves)} for moves in annotations]


def test_texts_agree_by_token_f1_and_the_absent_text_only_with_itself() -> None:
    assert agreement(ABSENT, ABSENT, ABSENT) == 1
    assert agreement(ABSENT, CLAIM, ABSENT) == agreement(CLAIM, ABSENT, ABSENT) == 0
    assert 0 < agreement(EVIDENCE, SHORTER, ABSENT) < 1


def test_the_move_that_agrees_most_with_the_others_comes_first() -> None:
    drawn = of(says(scope="Rain."), says(scope=SCOPE), says(scope=SCOPE), says())
    assert ranking(drawn, "scope", ABSENT, "agreement") == [SCOPE, "Rain.", ABSENT]
    assert compose(drawn, ABSTRACT, EIGHT, "agreement") == (says(scope=SCOPE), False)


def test_a_move_is_left_out_if_more_than_half_of_the_replies_leave_it_out() -> None:
    moves, _ = compose(of(says(scope=SCOPE), says(), says()), ABSTRACT, EIGHT, "agreement")
    assert moves == says()
    moves, _ = compose(of(says(), says(scope=SCOPE), says(), says(scope="Rain.")), ABSTRACT, EIGHT, "agreement")
    assert moves == says(scope=SCOPE)


def test_of_equals_the_first_reply_s_move_is_taken() -> None:
    drawn = of(says(evidence=SHORTER), says(evidence=EVIDENCE))
    assert ranking(drawn, "evidence", ABSENT, "agreement") == [SHORTER, EVIDENCE]


def test_by_likelihood_the_moves_are_those_of_the_likeliest_reply() -> None:
    drawn = of(says(scope="Rain."), says(scope="Rain."), says(scope=SCOPE), likelihoods=(-0.5, -0.6, -0.2))
    assert compose(drawn, ABSTRACT, EIGHT, "likelihood")[0] == says(scope=SCOPE)


def test_a_move_that_breaks_a_rule_gives_way_to_its_next_best() -> None:
    invented = "On 1,300 hours of traffic from 3 cities, Larch answers 97.5% of the queries."
    drawn = of(says(evidence=invented), says(evidence=invented), says(evidence=SHORTER))
    assert compose(drawn, ABSTRACT, EIGHT, "agreement")[0] == says(evidence=SHORTER)


def test_a_move_that_says_what_an_earlier_one_says_gives_way_to_its_next_best() -> None:
    drawn = of(says(scope=EVIDENCE), says(scope=EVIDENCE), says(scope=SCOPE))
    assert compose(drawn, ABSTRACT, EIGHT, "agreement")[0] == says(scope=SCOPE)
    only = of(says(scope=EVIDENCE), says(scope=EVIDENCE))
    assert compose(only, ABSTRACT, EIGHT, "agreement")[0] == says(scope=EVIDENCE)


def test_a_move_of_cut_replies_only_is_taken_last_and_told() -> None:
    drawn = of(says(scope=SCOPE), says(scope=SCOPE), says(), cut=(0, 1))
    assert compose(drawn, ABSTRACT, EIGHT, "agreement") == (says(), False)
    assert compose(drawn[:2], ABSTRACT, EIGHT, "agreement") == (says(scope=SCOPE), True)


def test_a_reply_that_is_no_annotation_has_no_say() -> None:
    read = [
        candidate(Reply(Message("assistant", text), Usage(), "stop", "m"), EIGHT)
        for text in ("I cannot.", json.dumps({"claim": 3, "scope": SCOPE}))
    ]
    assert [dict(one.moves) for one in read] == [{}, {"scope": SCOPE}]
    assert compose(read, ABSTRACT, EIGHT, "agreement")[0] == {"scope": SCOPE}


def test_every_sample_is_on_record_and_the_composed_answer_after_them_without_token_ids(bench: Make) -> None:
    made = bench(replies(says(), says(scope=SCOPE), says(scope=SCOPE)), capabilities=DRAWS)
    found, run = work(made, Best(3))
    assert (found.annotation, found.valid, found.attempts) == (says(scope=SCOPE), True, 3)
    assert [d.preference for d in run.details] == ["", "", "sample", "sample", "sample", ""]
    assert [d.sampling.get("seed") for d in run.details] == [None, None, None, 1, 2, None]
    assert [d.sampling.get("temperature") for d in run.details[2:5]] == [0.0, 0.7, 0.7]
    assert json.loads(run.messages[-1].content) == says(scope=SCOPE)
    last = run.details[-1]
    assert (last.sampling, last.token_ids, last.usage) == ({"composed_of": 3, "by": "agreement"}, (), Usage())
    assert run.usage.completion_tokens == sum(d.usage.completion_tokens for d in run.details) > 0
    assert [event["number"] for event in made.of("step")] == [1, 2, 3]


def test_readers_of_the_record_see_the_composed_answer_only(bench: Make) -> None:
    _, run = work(bench(replies(says(), says(scope=SCOPE), says(scope=SCOPE)), capabilities=DRAWS), Best(3))
    (given,) = record.attempts(run, EIGHT)
    assert given.found == says(scope=SCOPE)
    run.labels["verdict"] = "good"
    found = collect([run], "annotate", Ledger())
    (example,) = found.examples
    assert json.loads(example.row.messages[-1]["content"]) == says(scope=SCOPE)
    assert found.negatives == []


def test_a_model_without_draws_is_asked_one_reply_after_the_other(bench: Make) -> None:
    made = bench(replies(says(scope=SCOPE), says(), says()), capabilities=PLAIN)
    found, run = work(made, Best(3))
    assert [(r.temperature, r.seed) for r in made.model.requests] == [(0.0, None), (0.7, 1), (0.7, 2)]
    assert len({r.messages for r in made.model.requests}) == 1
    assert (found.annotation, len(run.messages)) == (says(), 6)
    shown = "".join(event.data["text"] for event in made.events if event.kind in ("text", "thought"))
    assert shown.split() == EIGHT.keys


def test_a_later_request_that_fails_leaves_the_replies_before_it(bench: Make) -> None:
    made = bench([*replies(says(), says()), {"error": "the server fell over"}], capabilities=PLAIN)
    found, _ = work(made, Best(4))
    assert (found.annotation, found.attempts) == (says(), 2)
    assert any("fell over" in notice["text"] for notice in made.of("notice"))
    with pytest.raises(ModelUnavailable, match="fell over"):
        work(bench([{"error": "the server fell over"}], capabilities=PLAIN), Best(4))


def test_what_is_still_wrong_when_composed_is_tried_again_with_one_reply(bench: Make) -> None:
    wrong = says(evidence="On 1,300 hours of traffic from 3 cities, Larch answers 97.5% of the queries.")
    made = bench(replies(wrong, wrong, says()), capabilities=DRAWS)
    found, run = work(made, Best(2))
    assert (found.annotation, found.attempts) == (says(), 3)
    assert [d.preference for d in run.details[2:]] == ["sample", "sample", "rejected", "chosen"]
    assert json.dumps(CLAIM) in made.model.requests[-1].template[0].text


def test_a_model_in_words_is_told_what_was_wrong_with_the_composed_answer(bench: Make) -> None:
    wrong = says(evidence="On 1,300 hours of traffic from 3 cities, Larch answers 97.5% of the queries.")
    made = bench(replies(wrong, wrong, says()), capabilities=PLAIN)
    work(made, Best(2))
    asked = made.model.requests[-1].messages
    assert [message.role for message in asked] == ["system", "user", "assistant", "user"]
    assert json.loads(asked[2].content) == wrong


@pytest.mark.parametrize("capabilities", [DRAWS, PLAIN])
def test_no_more_replies_are_drawn_than_the_budget_has_steps(bench: Make, capabilities: Capabilities) -> None:
    made = bench(replies(says(), says(), says()), capabilities=capabilities, settings={"budget": {"steps": 2}})
    assert work(made, Best(8))[0].attempts == 2


def test_the_token_budget_limits_the_replies_that_are_drawn_together(bench: Make) -> None:
    made = bench(replies(says(), says(), says()), capabilities=DRAWS, settings={"budget": {"tokens": 2 * 8 * 80}})
    assert work(made, Best(8))[0].attempts == 2


def test_a_spent_time_budget_ends_the_asking(bench: Make) -> None:
    slow = [{**reply, "delay": 0.05} for reply in replies(says(), says(), says())]
    made = bench(slow, capabilities=PLAIN, settings={"budget": {"seconds": 0.04}})
    assert work(made, Best(3))[0].attempts == 1


def test_likelihood_needs_a_model_that_gives_log_probabilities(bench: Make) -> None:
    with pytest.raises(UsageError, match="gives no log-probabilities"):
        work(bench(replies(says()), capabilities=GRAMMAR), Best(2, "likelihood"))


def test_the_settings_count_where_nothing_else_is_said(bench: Make) -> None:
    made = bench(replies(says(), says()), capabilities=DRAWS, settings={"annotate": {"best_of": 2}})
    assert work(made)[0].attempts == 2


TWO = Framework(
    name="two",
    instructions="Answer from the abstract.",
    absent=ABSENT,
    min_support=0.0,
    max_alike=1.0,
    moves=(
        Move(key="claim", question="What is claimed?", min_words=3, max_words=12, required=True),
        Move(key="evidence", question="Which numbers support it?", min_words=3, max_words=12),
    ),
)


@pytest.mark.llama
@pytest.mark.parametrize("best", [Best(3), Best(3, "likelihood")])
def test_the_embedded_model_s_replies_are_composed_and_recorded(bench: Make, best: Best) -> None:
    limits = {"models": {"threads": 1}, "annotate": {"max_move_tokens": 24, "retries": 0}}
    made = bench([], settings=limits)
    checked = Settings.model_validate(limits)
    made.session.models["scripted"] = LlamaCpp(find(checked), checked)
    job = Job(made.session, "larch.txt", "/annotate", Route("scripted", "flag", "you gave --model"), ())

    async def go() -> Annotated:
        try:
            return await annotate(job, PAPER, TWO, grounding="numbers", best=best, task="/annotate larch.txt")
        finally:
            await made.session.models["scripted"].close()

    found = asyncio.run(go())
    made.session.store.flush()
    run = made.session.store.get(found.run_id)
    samples = [detail for detail in run.details if detail.preference == "sample"]
    assert len(samples) == 3
    assert all(len(detail.token_ids) == len(detail.logprobs) > 0 for detail in samples)
    said = [json.loads(m.content) for m, d in zip(run.messages, run.details, strict=True) if d.preference == "sample"]
    assert all(found.annotation[key] in {moves[key] for moves in said} for key in TWO.keys)
    assert run.details[-1].token_ids == ()

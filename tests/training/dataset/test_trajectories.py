"""Runs on record become examples where somebody knows that they are right, negatives where somebody knows better."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.messages import Detail, Message, ToolCall, Trajectory
from skills.annotate.attempt import prompt
from tests.program import ABSTRACTS, annotation
from tests.training.dataset.material import CHEAP, EIGHT, STRONG, TOOL, key, moves, paper_run, text, tool_run
from training.dataset.candidates import Ledger
from training.dataset.trajectories import Found, agreement, collect

INVENTED = "The decoder is 99 times faster than the standard one on four language pairs."


def collected(*runs: Trajectory, skill: str = "") -> tuple[Found, dict[str, list[str]]]:
    ledger = Ledger()
    return collect(runs, skill, ledger), ledger.reasons


# Annotations


def test_a_person_who_says_good_makes_a_run_an_example() -> None:
    found, dropped = collected(paper_run(0, labels={"verdict": "good"}))
    row = found.examples[0].row
    assert (row.source, row.skill, row.document) == ("gold", "annotate", key(0))
    assert [message["role"] for message in row.messages] == ["system", "user", "assistant"]
    assert row.messages[0]["content"] == prompt(EIGHT, "")[0].content
    assert row.messages[1]["content"] == ABSTRACTS[0]["abstract"]
    assert row.completion == annotation(0)
    assert row.provenance["run"] == "paper00"
    assert row.provenance["verified_by"] == "a person labelled it good"
    assert (found.negatives, dropped) == ([], {})


def test_a_correction_is_the_example_and_what_it_corrects_the_negative() -> None:
    right = text(0, scope="Small translation models on four language pairs.")
    found, _ = collected(paper_run(0, correction=right))
    assert (found.examples[0].row.source, found.examples[0].row.completion) == ("correction", right)
    negative = found.negatives[0].row
    assert negative.completion == annotation(0)
    assert negative.provenance["chosen"] == right
    assert negative.provenance["rejected"] == "a person's correction"
    assert not negative.verified


def test_a_correction_that_says_the_same_leaves_no_negative() -> None:
    found, _ = collected(paper_run(0, correction=annotation(0)))
    assert (len(found.examples), len(found.negatives)) == (1, 0)


def test_a_correction_rescues_a_run_that_failed() -> None:
    found, _ = collected(paper_run(0, "{broken", outcome="failure", correction=annotation(0)))
    assert found.examples[0].row.completion == annotation(0)
    assert found.negatives[0].row.completion == "{broken"


def test_a_run_labelled_bad_is_a_negative_and_no_example() -> None:
    found, dropped = collected(paper_run(0, labels={"verdict": "bad"}))
    assert found.examples == []
    assert found.negatives[0].row.provenance["rejected"] == "a person labelled it bad"
    assert dropped == {"known to be wrong: a person labelled it bad": ["run paper00"]}


@pytest.mark.parametrize(("check", "source"), [(True, "check"), ("passed", "check"), (False, None), ("failed", None)])
def test_a_cases_own_check_decides(check: Any, source: str | None) -> None:
    found, _ = collected(paper_run(0, labels={"check": check}))
    assert [one.row.source for one in found.examples] == ([source] if source else [])
    assert len(found.negatives) == (0 if source else 1)


def test_validators_alone_verify_nothing() -> None:
    found, _ = collected(paper_run(0))
    assert (found.examples[0].row.source, found.examples[0].row.verified) == ("unfiltered", False)


def test_what_the_curator_kept_is_curated_and_still_not_verified() -> None:
    found, _ = collected(paper_run(0, labels={"curator": "kept"}), paper_run(1, labels={"curator": "rejected"}))
    assert [one.row.source for one in found.examples] == ["curated", "unfiltered"]


def test_a_stronger_model_that_says_the_same_verifies() -> None:
    weak = text(0, novelty=INVENTED)
    run = paper_run(0, (weak, CHEAP), (annotation(0), STRONG), escalation="strong")
    found, _ = collected(run)
    assert (found.examples[0].row.source, found.examples[0].row.completion) == ("agreement", annotation(0))
    assert found.negatives[0].row.completion == weak
    assert found.negatives[0].row.provenance["chosen"] == annotation(0)
    assert "the number 99 is not in the abstract" in found.negatives[0].row.provenance["rejected"]


def test_a_stronger_model_that_says_something_else_verifies_nothing() -> None:
    other = {move: "Not stated." for move in moves(0)} | {
        "claim": "Beam search spends its time moving caches in memory."
    }
    run = paper_run(0, (text(0, novelty=INVENTED), CHEAP), (json.dumps(other), STRONG), escalation="strong")
    found, _ = collected(run)
    assert [one.row.source for one in found.examples] == ["unfiltered"]


def test_the_same_models_second_attempt_is_no_agreement() -> None:
    run = paper_run(0, (text(0, novelty=INVENTED), CHEAP), (annotation(0), CHEAP), escalation="strong")
    found, _ = collected(run)
    assert found.examples[0].row.source == "unfiltered"


def test_agreement_counts_moves_that_both_leave_out() -> None:
    assert agreement(moves(0), moves(0), EIGHT) == 1
    assert agreement(moves(0), moves(0, scope="Small models."), EIGHT) == 7 / 8
    assert agreement(moves(0), moves(0, claim="A bird."), EIGHT) == 7 / 8


def test_a_good_label_does_not_save_an_answer_that_breaks_the_rules() -> None:
    found, dropped = collected(paper_run(0, text(0, novelty=INVENTED), labels={"verdict": "good"}))
    assert found.examples == []
    assert list(dropped) == ["a person labelled it good, but its answer breaks the rules"]


def test_a_failed_run_leaves_its_attempts_as_negatives() -> None:
    found, dropped = collected(paper_run(0, "{broken", text(0, novelty=INVENTED), outcome="failure"))
    assert found.examples == []
    assert len(found.negatives) == 2
    assert list(dropped) == ["known to be wrong: it broke the rules"]


def test_a_cancelled_run_says_nothing_about_its_model() -> None:
    run = paper_run(0, ("{", Detail(model="cheap@1", finish_reason="error")), outcome="unknown")
    run.reason = "cancelled"
    found, dropped = collected(run)
    assert (found.examples, found.negatives, dropped) == ([], [], {})


def test_a_run_without_an_end_is_left_out() -> None:
    run = paper_run(0, labels={"verdict": "good"})
    run.ended = 0.0
    assert collected(run)[1] == {"the run has not ended": ["run paper00"]}


def test_where_redaction_fired_the_row_is_marked() -> None:
    run = paper_run(0, labels={"verdict": "good"})
    run.messages[1] = Message("user", "The key is [redacted:github-token]. " + ABSTRACTS[0]["abstract"])
    assert collected(run)[0].examples[0].row.provenance["redacted"] is True
    assert "redacted" not in collected(paper_run(0, labels={"verdict": "good"}))[0].examples[0].row.provenance


def test_a_broken_correction_is_left_out_and_named() -> None:
    found, dropped = collected(paper_run(0, correction='{"claim": "x"}'))
    assert (found.examples, list(dropped)) == ([], ["the move 'evidence' is missing"])


# Conversations with tools


def test_a_good_conversation_keeps_thoughts_calls_and_schemas() -> None:
    found, _ = collected(tool_run(labels={"verdict": "good"}))
    row = found.examples[0].row
    assert (row.skill, row.source, row.tools) == ("agent", "gold", (TOOL,))
    assert row.messages[2] == {
        "role": "assistant",
        "content": "",
        "thought": "I count.",
        "tool_calls": [{"id": "c1", "name": "count", "arguments": {"path": "."}}],
    }
    assert row.messages[3] == {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "count"}
    assert row.completion == "Two files."


def test_a_skill_is_chosen_by_name() -> None:
    runs = tool_run(labels={"verdict": "good"}), paper_run(0), tool_run(skills=["review"], labels={"verdict": "good"})
    assert [one.row.skill for one in collected(*runs, skill="annotate")[0].examples] == ["annotate"]
    assert [one.row.skill for one in collected(*runs, skill="agent")[0].examples] == ["agent"]
    assert [one.row.skill for one in collected(*runs, skill="review")[0].examples] == ["review"]
    assert len(collected(*runs)[0].examples) == 3


def test_a_failure_that_recovered_stays_in() -> None:
    found, _ = collected(tool_run(labels={"verdict": "good"}, is_error=True))
    assert found.examples[0].row.provenance["recovered"] is True
    assert found.examples[0].row.messages[3]["is_error"] is True


def test_a_failure_that_did_not_recover_is_a_negative() -> None:
    found, dropped = collected(tool_run(answer="", outcome="failure", reason="stopped after 20 steps (budget.steps)"))
    negative = found.negatives[0].row
    assert found.examples == []
    assert negative.messages[-1]["role"] == "assistant"
    assert negative.provenance["rejected"] == "stopped after 20 steps (budget.steps)"
    assert list(dropped) == ["known to be wrong: stopped after 20 steps (budget.steps)"]


def test_what_broke_off_or_ended_without_an_outcome_is_counted_and_never_trained_on() -> None:
    cut = tool_run(outcome="failure")
    cut.details[-1] = Detail(model="cheap@1", finish_reason="error")
    found, dropped = collected(cut, tool_run(outcome="unknown", labels={"verdict": "good"}))
    assert (found.examples, found.negatives) == ([], [])
    assert {why: len(names) for why, names in dropped.items()} == {
        "it broke off, which says nothing about the model": 2
    }


def test_a_corrected_answer_takes_the_place_of_the_last_one() -> None:
    found, _ = collected(tool_run(correction="Two files and a folder."))
    row = found.examples[0].row
    assert [message["role"] for message in row.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert row.completion == "Two files and a folder."
    negative = found.negatives[0].row
    assert (negative.completion, negative.provenance["chosen"]) == ("Two files.", "Two files and a folder.")


def test_a_correction_gives_an_answer_to_a_run_without_one() -> None:
    found, _ = collected(tool_run(answer="", outcome="failure", correction="Two."))
    assert found.examples[0].row.completion == "Two."
    assert found.negatives[0].row.messages[-1]["tool_calls"][0]["name"] == "count"


def test_a_good_label_without_an_answer_is_left_out() -> None:
    found, dropped = collected(tool_run(answer="", outcome="failure", labels={"verdict": "good"}))
    assert (found.examples, list(dropped)) == ([], ["a person labelled it good, but it has no answer"])


def test_a_call_that_could_not_be_read_is_not_taught() -> None:
    broken = Message("assistant", "", "", (ToolCall("c2", "count", {}, "{oops"),))
    reply = Message("tool", "That was not a call that can be read.", tool_call_id="c2", name="count", is_error=True)
    found, _ = collected(tool_run(broken, reply, labels={"verdict": "good"}))
    row = found.examples[0].row
    assert [message["role"] for message in row.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert row.provenance["unreadable_turns"] == 1


def test_earlier_turns_of_a_conversation_are_context_and_not_trained_on() -> None:
    earlier = (Message("user", "hello"), Message("assistant", "Hello, unverified."))
    found, _ = collected(tool_run(earlier=earlier, labels={"verdict": "good"}))
    weights = [message.get("weight") for message in found.examples[0].row.messages if message["role"] == "assistant"]
    assert weights == [0, None, None]


def test_a_run_in_which_no_model_spoke_is_nothing() -> None:
    run = Trajectory("x", "/annotate a b", messages=[Message("user", "/annotate a b")], details=[Detail()], ended=1.0)
    assert collected(run) == (Found(), {})

"""The curator: the vote, the veto, decisions that are made once, and the judge's part."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import InputError, ModelUnavailable
from agent.messages import Json
from agent.models.base import Capabilities
from agent.models.scripted import Scripted
from tests.training.annotations import ABSENT, BEAMS, REVIEWERS_MOVES, beams, reviewers
from training.curation.curate import Decision, curate, decide, kept_row, vetoed
from training.curation.judge import Judge, Opinion, question
from training.curation.outputs import Output
from training.curation.personas import PERSONAS
from training.curation.subject import Subject
from training.rows import document_key

GOOD, BAD = {"reason": "All of it stands there.", "passed": True}, {"reason": "The claim is wrong.", "passed": False}


def an_output(subject: Subject, name: str = "one", **more: Any) -> Output:
    return Output(name, document_key(subject.abstract), subject, {"from": "test"}, **more)


def a_judge(folder: Path, *replies: Json | str) -> Judge:
    texts = [reply if isinstance(reply, str) else json.dumps(reply) for reply in replies]
    return Judge(Scripted([{"content": text} for text in texts], Capabilities(json_schema=True)), folder)


def decided(subject: Subject, judge: Judge | None = None) -> Decision:
    return asyncio.run(decide(an_output(subject), judge))


def test_an_annotation_made_by_hand_is_kept_by_all_five() -> None:
    decision = decided(beams())
    assert (decision.kept, decision.veto, decision.passes, decision.reasons) == (True, "", 5, "")
    assert [verdict.by for verdict in decision.verdicts] == ["rules"] * 5


def test_two_objections_leave_it_kept_and_three_reject_it() -> None:
    moves = {
        "method": "A decoder for beam search over small translation models is introduced as StripeBeam.",
        "scope": "It applies to four language pairs and models of 30M to 110M parameters",
    }
    assert (decided(beams(**moves)).passes, decided(beams(**moves)).kept) == (3, True)
    rejected = decided(beams(**moves, implication="Beam search over small translation models may spend its time."))
    assert (rejected.passes, rejected.kept, rejected.veto) == (2, False, "")
    assert "editor: method repeats claim; scope is not a whole sentence" in rejected.reasons
    assert "sceptic: implication comes from the abstract's beginning" in rejected.reasons


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        (beams(evidence="StripeBeam is 2.9 times faster than the standard decoder at width 8."), "the number 2.9"),
        (beams(claim=ABSENT), "claim is always stated"),
        (Subject(BEAMS, {}, beams().framework), "the move 'claim' is missing"),
        (beams(scope=REVIEWERS_MOVES["claim"]), "scope: no sentence of the abstract says this"),
    ],
)
def test_what_is_never_right_is_rejected_without_a_vote(subject: Subject, said: str) -> None:
    decision = decided(subject)
    assert (decision.kept, decision.passes, decision.verdicts) == (False, 0, ())
    assert said in decision.veto
    assert vetoed(subject) == decision.reasons


def test_decisions_stand_in_a_file_and_are_not_made_again(tmp_path: Path) -> None:
    out = tmp_path / "decisions.jsonl"
    outputs = [an_output(beams()), an_output(reviewers(scope="Short."), "two")]
    told: list[str] = []
    first = asyncio.run(curate(outputs, out, tell=lambda decision: told.append(decision.id)))
    before = out.read_text()
    lines = [json.loads(line) for line in before.splitlines()]
    assert [(line["id"], line["kept"]) for line in lines] == [("one", True), ("two", False)]
    assert lines[0]["verdicts"][0] == {"persona": "methodologist", "passed": True, "by": "rules", "reason": ""}
    again = asyncio.run(curate([*outputs, an_output(beams(), "three")], out))
    assert again[:2] == first
    assert (again[2].id, again[2].kept) == ("three", True)
    assert out.read_text() == before
    assert told == ["one", "two"]


def test_a_killed_curator_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "decisions.jsonl"
    judge = a_judge(tmp_path / "judge", GOOD, GOOD, GOOD)
    outputs = [an_output(beams()), an_output(reviewers(), "two")]
    with pytest.raises(ModelUnavailable, match="no reply left"):
        asyncio.run(curate(outputs, out, judge))
    assert len(out.read_text().splitlines()) == 1
    judge = a_judge(tmp_path / "judge", GOOD, GOOD, GOOD)
    assert [decision.kept for decision in asyncio.run(curate(outputs, out, judge))] == [True, True]
    assert judge.asked == 3


def test_a_file_of_something_else_is_not_taken_for_decisions(tmp_path: Path) -> None:
    out = tmp_path / "decisions.jsonl"
    asyncio.run(curate([an_output(beams())], out))
    entry = json.loads(out.read_text())
    out.write_text(json.dumps({"key": entry["key"]}) + "\n")
    with pytest.raises(InputError, match="no decisions of the curator"):
        asyncio.run(curate([an_output(beams())], out))


def test_the_judge_is_asked_where_no_rule_objects(tmp_path: Path) -> None:
    judge = a_judge(tmp_path, GOOD, BAD)
    moves = {"implication": "Beam search over small translation models may spend its time moving caches."}
    decision = decided(beams(**moves), judge)
    said = {verdict.persona: (verdict.by, verdict.passed) for verdict in decision.verdicts}
    assert said == {
        "methodologist": ("judge", True),
        "statistician": ("rules", True),
        "domain reader": ("judge", False),
        "editor": ("rules", True),
        "sceptic": ("rules", False),
    }
    assert (judge.asked, decision.kept) == (2, True)
    assert "domain reader: The claim is wrong." in decision.reasons


def test_the_judge_sees_the_rubric_the_questions_and_both_texts(tmp_path: Path) -> None:
    judge = a_judge(tmp_path, GOOD)
    asyncio.run(judge.opinion(PERSONAS[0], beams()))
    assert isinstance(judge.model, Scripted)
    request = judge.model.requests[0]
    assert request.temperature == 0.0
    assert request.schema is not None
    assert list(request.schema["properties"]) == ["reason", "passed"]
    system, user = (message.content for message in request.messages)
    assert PERSONAS[0].rubric in system
    assert "claim: What does the paper contribute or assert?" in system
    assert BEAMS in user
    assert '"limitation": "The gain falls to 1.1 times' in user


def test_the_same_question_is_paid_for_once(tmp_path: Path) -> None:
    judge = a_judge(tmp_path, GOOD)
    first = asyncio.run(judge.opinion(PERSONAS[0], beams()))
    again = a_judge(tmp_path)
    assert asyncio.run(again.opinion(PERSONAS[0], beams())) == first == Opinion(**GOOD)
    assert (judge.asked, again.asked) == (1, 0)
    assert judge.tokens > 0
    assert question(PERSONAS[0], beams()) != question(PERSONAS[0], reviewers())


def test_a_damaged_verdict_is_asked_for_again(tmp_path: Path) -> None:
    asyncio.run(a_judge(tmp_path, GOOD).opinion(PERSONAS[0], beams()))
    next(tmp_path.iterdir()).write_text("{}")
    judge = a_judge(tmp_path, BAD)
    assert asyncio.run(judge.opinion(PERSONAS[0], beams())) == Opinion(**BAD)


def test_a_judge_that_cannot_be_read_leaves_the_rules_verdict_and_is_counted(tmp_path: Path) -> None:
    judge = a_judge(tmp_path, "I like it!", "I like it!", "I like it!")
    decision = decided(beams(), judge)
    assert (decision.kept, judge.unreadable) == (True, 3)
    assert decision.verdicts[0].reason == "the judge gave no readable verdict"
    assert not list(tmp_path.iterdir())


def test_a_kept_annotation_becomes_a_curated_row() -> None:
    row = kept_row(an_output(beams()))
    assert (row.source, row.skill, row.verified, row.document) == ("curated", "annotate", False, document_key(BEAMS))
    assert json.loads(row.completion) == dict(beams().annotation)
    assert row.provenance["from"] == "test"

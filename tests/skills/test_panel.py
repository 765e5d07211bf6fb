"""The panel: votes, absences, ties, the verdict, and what it reads and writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ApprenticeError, InputError, ModelUnavailable, OutputError, UsageError
from agent.messages import Json, Route, Trajectory
from agent.models.base import Capabilities
from skills.panel import skill as panel
from skills.panel.skill import Choice, Vote, count, load_personas, read_vote
from skills.registry import Job

Make = Callable[..., Any]
ROUTE = Route("scripted", "flag", "you gave --model")
PAPER = (
    "We measured how long paper notes stay legible in wet pockets. Eight hikers carried forty notes for a week. "
    "Pencil stayed legible on 19 of 20 notes and ink on 6 of 20. We did not vary the paper."
)


def vote(choice: str, reason: str = "The sample is small.", confidence: float = 0.8) -> Json:
    return {"content": json.dumps({"reason": reason, "vote": choice, "confidence": confidence})}


def ask(bench: Any, task: str = "paper.txt", earlier: str = "") -> str:
    found = bench.session.skills["panel"]
    return asyncio.run(panel.run(Job(bench.session, task, f"/panel {task}", ROUTE, (found,), earlier)))


def record(bench: Any) -> tuple[Trajectory, list[Trajectory]]:
    """The panel's own run, and those of its reviewers in the order in which they were asked."""
    store = bench.session.store
    store.flush()
    runs = [store.get(run.id) for run in store.runs(limit=20)]
    (parent,) = (run for run in runs if not run.parent_id)
    children = sorted((run for run in runs if run.parent_id == parent.id), key=lambda run: run.started)
    return parent, children


@pytest.fixture
def paper(workspace: Path) -> Path:
    path = workspace / "paper.txt"
    path.write_text(PAPER)
    return path


# Counting


def votes(*choices: str) -> list[Vote | None]:
    table: dict[str, Choice] = {"a": "accept", "v": "revise", "r": "reject"}
    return [Vote(table[choice], 0.5, "why") if choice in table else None for choice in choices]


@pytest.mark.parametrize(
    ("cast", "verdict", "rule"),
    [
        ("aaaaa", "accept", "5 of 5 votes"),
        ("aaarr", "accept", "3 of 5 votes"),
        ("vvvar", "revise", "3 of 5 votes"),
        ("aarr-", "reject", "half against half"),
        ("aavv-", "revise", "half against half"),
        ("vvrr-", "reject", "half against half"),
        ("aavvr", None, "no side has more than half of the 5 votes"),
        ("aavr-", None, "no side has more than half of the 4 votes"),
        ("aar--", "accept", "2 of 3 votes"),
        ("avr--", None, "no side"),
        ("aa---", None, "only 2 of 5 reviewers voted"),
        ("-----", None, "only 0 of 5 reviewers voted"),
        ("aa--", "accept", "2 of 2 votes"),
        ("", None, "only 0 of 0"),
    ],
)
def test_more_than_half_decides_and_a_tie_goes_to_the_cautious(cast: str, verdict: str | None, rule: str) -> None:
    found, said = count(votes(*cast))
    assert found == verdict
    assert rule in said


def test_confidence_is_shown_and_does_not_count() -> None:
    sure, unsure = Vote("reject", 1.0, "x"), Vote("accept", 0.01, "x")
    assert count([sure, sure, unsure, unsure, unsure])[0] == "accept"


# Reading a vote


@pytest.mark.parametrize(
    "text",
    [
        '{"reason": "It is\\n sound.", "vote": "accept", "confidence": 1}',
        '```json\n{"vote": "Accept ", "confidence": 1.0, "reason": "It is sound."}\n```',
        'Here it is: {"vote": "accept", "confidence": 1, "reason": "It is sound."} Good luck {',
    ],
)
def test_a_vote_is_read_from_the_object_in_the_reply(text: str) -> None:
    assert read_vote(text) == Vote("accept", 1.0, "It is sound.")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I accept.", "no JSON object"),
        ('{"vote": "accept", "conf', "does not parse"),
        ('{"a":' * 100_000, "does not parse"),
        ('{"vote": "maybe", "confidence": 1, "reason": "x"}', "vote must be one of accept, revise, reject"),
        ('{"confidence": 1, "reason": "x"}', "vote must be"),
        ('{"vote": ["accept"], "confidence": 1, "reason": "x"}', "vote must be"),
        ('{"vote": "accept", "confidence": "high", "reason": "x"}', "confidence must be a number"),
        ('{"vote": "accept", "confidence": true, "reason": "x"}', "confidence must be a number"),
        ('{"vote": "accept", "confidence": NaN, "reason": "x"}', "confidence must be a number"),
        ('{"vote": "accept", "reason": "x"}', "confidence must be a number"),
        ('{"vote": "accept", "confidence": 1e999, "reason": "x"}', "between 0 and 1"),
        ('{"vote": "accept", "confidence": 80, "reason": "x"}', "between 0 and 1"),
        ('{"vote": "accept", "confidence": 1, "reason": " "}', "reason must be"),
        ('{"vote": "accept", "confidence": 1}', "reason must be"),
    ],
)
def test_what_is_no_vote_is_told_why(text: str, reason: str) -> None:
    found = read_vote(text)
    assert isinstance(found, str)
    assert reason in found


# The whole panel


def test_five_reviewers_vote_and_one_verdict_is_given(bench: Make, paper: Path) -> None:
    made = bench(
        [vote("revise", "One paper only."), vote("revise"), vote("accept"), vote("reject", "a | b"), vote("revise")]
    )
    answer = ask(made)
    assert answer.startswith("# Panel on paper.txt\n\n**Verdict: revise** (3 of 5 votes)\n")
    assert "| Methodologist | revise | 0.80 | One paper only. |" in answer
    assert r"| Practitioner | reject | 0.80 | a \| b |" in answer
    assert "## Why accept (1)\n\n- Domain expert: The sample is small." in answer
    assert "Absent" not in answer


def test_each_reviewer_reads_alone_and_by_their_own_rubric(bench: Make, paper: Path) -> None:
    made = bench([vote("accept")] * 5)
    ask(made)
    assert len(made.model.requests) == len(load_personas()) == 5
    for persona, request in zip(load_personas(), made.model.requests, strict=True):
        system, user = request.messages
        assert persona.title in system.content
        assert persona.rubric in system.content
        assert PAPER in user.content
        assert request.schema is None, "this model cannot be held to a schema"


def test_a_model_that_can_is_held_to_the_schema(bench: Make, paper: Path) -> None:
    made = bench([vote("accept")] * 5, capabilities=Capabilities(json_schema=True))
    ask(made)
    assert {json.dumps(request.schema) for request in made.model.requests} == {json.dumps(panel.SCHEMA)}


def test_each_reviewer_is_a_run_of_their_own_on_record(bench: Make, paper: Path) -> None:
    made = bench([vote("accept")] * 5)
    answer = ask(made)
    parent, children = record(made)
    assert (parent.task, parent.skills, parent.outcome) == ("/panel paper.txt", ["panel"], "success")
    assert [message.role for message in parent.messages] == ["user", "assistant"]
    assert parent.messages[-1].content == answer
    assert [child.task for child in children] == [f"panel: {p.name} on paper.txt" for p in load_personas()]
    for child in children:
        assert [message.role for message in child.messages] == ["system", "user", "assistant"]
        assert (child.outcome, child.reason) == ("success", "answer")
        assert child.details[-1].model == "scripted"
        assert child.usage.completion_tokens > 0


def test_a_vote_that_cannot_be_read_is_asked_for_once_more(bench: Make, paper: Path) -> None:
    made = bench([{"content": "I like it."}, vote("accept"), *[vote("accept")] * 4])
    assert "5 of 5 votes" in ask(made)
    _, (first, *_) = record(made)
    assert [message.role for message in first.messages] == ["system", "user", "assistant", "user", "assistant"]
    assert "no JSON object" in first.messages[3].content
    assert [detail.preference for detail in first.details] == ["", "", "rejected", "", "chosen"]


def test_a_reviewer_without_a_vote_is_absent_and_the_result_says_so(bench: Make, paper: Path) -> None:
    made = bench([{"content": "no"}, {"content": "no"}, vote("accept"), vote("accept"), vote("reject"), vote("accept")])
    answer = ask(made)
    assert "**Verdict: accept** (3 of 4 votes)" in answer
    assert "| Methodologist | absent |  | gave no vote that can be read, twice: there is no JSON object" in answer
    assert "Absent, and not counted: Methodologist." in answer
    _, (first, *_) = record(made)
    assert (first.outcome, first.details[-1].preference) == ("failure", "")


def test_without_enough_votes_there_is_no_verdict_and_no_success(bench: Make, paper: Path) -> None:
    made = bench([*[{"content": "no"}] * 6, vote("accept"), vote("accept")])
    answer = ask(made)
    assert "**Verdict: no verdict** (only 2 of 5 reviewers voted, and at least half must)" in answer
    parent, _ = record(made)
    assert parent.outcome == "unknown"
    assert parent.reason.startswith("no verdict: only 2 of 5")


def test_a_model_that_fails_one_reviewer_leaves_the_others_their_votes(bench: Make, paper: Path) -> None:
    made = bench([{"error": "the server fell over"}, *[vote("accept")] * 4])
    answer = ask(made)
    assert "4 of 4 votes" in answer
    assert "the model failed: scripted: the server fell over" in answer


def test_a_model_that_fails_every_reviewer_is_an_error_and_on_record(bench: Make, paper: Path) -> None:
    made = bench([{"error": "the server fell over"}] * 5)
    with pytest.raises(ModelUnavailable, match="fell over"):
        ask(made)
    parent, children = record(made)
    assert {run.outcome for run in (parent, *children)} == {"failure"}
    assert len(children) == 5


def test_a_server_is_asked_by_all_at_once_and_a_model_in_this_process_is_not(bench: Make, paper: Path) -> None:
    made = bench([vote("accept") | {"delay": 0.2}] * 5)
    made.session.models["openai:remote"] = made.model
    found = made.session.skills["panel"]
    route = Route("openai:remote", "flag", "you gave --model")
    waiting: list[int] = []

    async def go() -> None:
        task = asyncio.create_task(panel.run(Job(made.session, "paper.txt", "/panel paper.txt", route, (found,))))
        await asyncio.sleep(0.15)
        waiting.append(len(made.model.requests))
        await task

    asyncio.run(go())
    assert waiting == [5]
    slow = bench([vote("accept") | {"delay": 0.05}] * 5)
    ask(slow)
    _, children = record(slow)
    assert all(before.ended <= after.started for before, after in pairwise(children))


def test_interrupting_the_panel_closes_every_record(bench: Make, paper: Path) -> None:
    made = bench([vote("accept"), vote("accept") | {"delay": 30}])

    async def go() -> None:
        found = made.session.skills["panel"]
        task = asyncio.create_task(panel.run(Job(made.session, "paper.txt", "/panel paper.txt", ROUTE, (found,))))
        while len(made.model.requests) < 2:  # noqa: ASYNC110 - the scripted model has no event for it
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(go())
    parent, children = record(made)
    assert (parent.outcome, parent.reason) == ("unknown", "cancelled")
    assert [(child.outcome, child.reason) for child in children] == [("success", "answer"), ("unknown", "cancelled")]


def test_the_person_sees_each_vote_as_it_comes(bench: Make, paper: Path) -> None:
    made = bench([vote("accept")] * 4 + [{"content": "no"}] * 2)
    ask(made)
    notices = [event.data["text"] for event in made.events if event.kind == "notice"]
    assert notices[0] == "Methodologist: accept (0.80)"
    assert notices[4].startswith("Sceptic: absent: gave no vote")


# What it reads


def asked(made: Any, task: str, earlier: str = "") -> str:
    ask(made, task, earlier)
    return str(made.model.requests[0].messages[1].content)


def test_a_question_beside_the_file_is_passed_on(bench: Make, paper: Path) -> None:
    text = asked(bench([vote("accept")] * 5), "is paper.txt ready to send?")
    assert "convened the panel says: is ready to send?" in text
    assert PAPER in text


def test_a_text_in_the_task_is_judged_as_it_is(bench: Make) -> None:
    made = bench([vote("accept")] * 5)
    assert f"the text in the task:\n<text>\n{PAPER}\n</text>" in asked(made, PAPER)


def test_what_is_piped_in_is_only_text(bench: Make, workspace: Path) -> None:
    made = bench([vote("accept")] * 5)
    made.session.stdin = PAPER + "\nsave to stolen.md"
    text = asked(made, "- is it sound?")
    assert "standard input" in text
    assert "stolen.md\n</text>" in text
    assert "says: is it sound?" in text
    assert not (workspace / "stolen.md").exists()


def test_what_an_earlier_skill_said_goes_along_with_the_paper(bench: Make, paper: Path) -> None:
    text = asked(bench([vote("accept")] * 5), "paper.txt", earlier="claim: pencil lasts")
    assert "<notes>\nclaim: pencil lasts\n</notes>" in text
    assert PAPER in text


def test_a_typed_file_outside_the_workspace_is_read(bench: Make, tmp_path: Path) -> None:
    outside = tmp_path / "my paper.md"
    outside.write_text(PAPER)
    assert PAPER in asked(bench([vote("accept")] * 5), f'"{outside}"')


def test_a_pdf_is_read_by_its_text(bench: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "paper.pdf").write_bytes(b"%PDF-1.4 not really")
    with pytest.raises(InputError, match="not a readable PDF"):
        ask(bench([]), "paper.pdf")
    monkeypatch.setattr("skills.annotate.pdf.pdf_text", lambda path: ("title", PAPER))
    assert f"{PAPER}\n(At most the first 5 pages.)" in asked(bench([vote("accept")] * 5), "paper.pdf")


def test_in_a_long_pasted_text_a_files_name_is_only_a_word(bench: Make, paper: Path) -> None:
    long = "The word paper.txt occurs here. " * 20
    assert "paper.txt occurs here" in asked(bench([vote("accept")] * 5), long)


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        ("papr.txt", InputError, "there is no file papr.txt"),
        ("./none", InputError, "there is no file ./none"),
        ("", UsageError, "no text for the panel"),
        ("what do you think?", UsageError, "no text for the panel"),
        ("paper.txt other.txt", UsageError, "one text, and 2 files are named"),
        ("empty.txt", InputError, "empty.txt is empty"),
        ("latin.txt", InputError, "not UTF-8"),
        ("-", InputError, "standard input is empty"),
        ("x" * 5000, UsageError, "no text for the panel"),
        ("paper.txt save to ../out.md", UsageError, "cannot save to ../out.md"),
        ("paper.txt save to .git/hooks/x", UsageError, "only a person may change"),
        ("paper.txt save to folder", OutputError, "it is a folder"),
        ("paper.txt save to other.txt", OutputError, "exists already and is kept"),
    ],
)
def test_bad_input_is_one_sentence_and_asks_no_model(
    bench: Make, paper: Path, task: str, kind: type[ApprenticeError], message: str
) -> None:
    (paper.parent / "other.txt").write_text("kept")
    (paper.parent / "empty.txt").write_text(" \n")
    (paper.parent / "latin.txt").write_bytes(b"caf\xe9")
    (paper.parent / "folder").mkdir()
    made = bench([vote("accept")] * 5)
    with pytest.raises(kind, match=message):
        ask(made, task)
    assert made.model.requests == []
    assert (paper.parent / "other.txt").read_text() == "kept"


# Where it writes


def test_the_verdict_is_saved_where_the_person_typed(bench: Make, paper: Path) -> None:
    made = bench([vote("accept")] * 5)
    answer = ask(made, 'paper.txt save to "my verdict.md"')
    assert (paper.parent / "my verdict.md").read_text() == answer + "\n"
    assert made.events[-2].data == {"text": "saved to my verdict.md"}


def test_an_existing_file_is_replaced_only_with_overwrite(bench: Make, paper: Path) -> None:
    (paper.parent / "out.md").write_text("old")
    made = bench([vote("accept")] * 5)
    made.session.options["overwrite"] = "True"
    ask(made, "paper.txt save to out.md")
    assert "**Verdict: accept**" in (paper.parent / "out.md").read_text()


def test_in_a_chain_the_panel_saves_beside_the_file_of_the_skill_before(bench: Make, paper: Path) -> None:
    (paper.parent / "out.jsonl").write_text("the annotation")
    ask(bench([vote("accept")] * 5), "paper.txt save to out.jsonl", earlier="an annotation")
    assert (paper.parent / "out.jsonl").read_text() == "the annotation"
    assert "**Verdict: accept**" in (paper.parent / "out.panel.md").read_text()


def test_a_result_that_cannot_be_written_is_still_on_record(
    bench: Make, paper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    made = bench([vote("accept")] * 5)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        ask(made, "paper.txt save to out.md")
    assert not (paper.parent / "out.md").exists()
    parent, _ = record(made)
    assert "**Verdict: accept**" in parent.messages[-1].content

"""Runs of the loop as candidates: conversations with tools, turn by turn as the model was shown them.

What ends a run is its last turn. Mostly that is an answer. In a job with phases it is a call (`job_complete`, whose
summary is what the person reads, `next_phase_todos`, the last `todo_complete`): the call is then what the model said
and what is taught; the observation after it nobody was shown. A correction takes the place of the answer, or of the
summary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from agent.messages import Json, Message, Trajectory
from training.dataset import verdicts
from training.dataset.candidates import RANK, Candidate, Ledger, candidate
from training.dataset.verdicts import Verdict
from training.rows import document_key

if TYPE_CHECKING:
    from training.dataset.trajectories import Found

NO_SKILL = "agent"
"""The skill of rows from runs that used none."""
SUMMARIZES = "job_complete"
"""The call whose `summary` is the run's answer."""


def skill_of(run: Trajectory) -> str:
    """The skill that a run of the loop teaches."""
    return run.skills[0] if run.skills else NO_SKILL


def add(run: Trajectory, job: Trajectory | None, found: Found, ledger: Ledger) -> None:
    """Add the example, or the negative, of a run of the loop.

    Args:
        run: as it stands on record; somebody spoke in it, or corrected it.
        job: the job of which it is a phase, if it is one.
        found: is added to.
        ledger: told what is left out, and why.
    """
    verdict = verdicts.of_phase(run, job) if job is not None else verdicts.of(run)
    end, correction = _last_turn(run), _correction(run, job)
    detail = run.details[-1]
    if correction:
        verdict = Verdict("correction", "a person's correction", RANK["correction"])
    elif detail.finish_reason == "error" or run.outcome == "unknown":
        ledger.drop("it broke off, which says nothing about the model", verdicts.where(run))
        return
    if verdict is None:
        ledger.drop("its job was wrong, and nobody said in which phase", verdicts.where(run))
        return
    if verdict.source is None:
        ledger.drop(f"known to be wrong: {verdict.why}", verdicts.where(run))
    elif correction and (better := _corrected(run, correction)):
        found.examples.append(_made(run, verdict, better))
    elif not correction and end:
        found.examples.append(_made(run, verdict, end))
    else:
        ledger.drop(f"{verdict.why}, but it has no answer", verdicts.where(run))
    wrong = verdict.source is None or (correction and _answer(run) != correction)
    if wrong and detail.finish_reason != "error" and (spoken := _up_to_reply(run)):
        known = {"rejected": verdict.why, "chosen": correction}
        found.negatives.append(_made(run, Verdict("unfiltered", "", RANK["unfiltered"]), spoken, **known))


def _correction(run: Trajectory, job: Trajectory | None) -> str:
    """What a person says that the run should have answered; its job's answer is the summary of its last phase."""
    summary = job.correction if job is not None and _summary(run) is not None else ""
    return run.correction or summary


def _ends_in_a_call(run: Trajectory) -> bool:
    """Whether a tool ended the run: after other observations the model is asked again, or the run fails."""
    return run.outcome == "success" and run.messages[-1].role == "tool"


def _last_turn(run: Trajectory) -> Sequence[Message]:
    """All up to the turn that ended the run, an answer or calls; empty if none did, or it could not be read."""
    if _ends_in_a_call(run):
        spoken = _up_to_reply(run)
        return [] if not spoken or any(call.malformed for call in spoken[-1].tool_calls) else spoken
    last = run.messages[-1]
    return run.messages if last.role == "assistant" and last.content.strip() and not last.tool_calls else []


def _summary(run: Trajectory) -> str | None:
    """What the call that ended the job said to the person; None if no such call ended this run."""
    spoken = _last_turn(run) if _ends_in_a_call(run) else []
    calls = [call for call in spoken[-1].tool_calls if call.name == SUMMARIZES] if spoken else []
    return str(calls[0].arguments.get("summary", "")) if calls else None


def _answer(run: Trajectory) -> str:
    """What the run answered."""
    summary = _summary(run)
    return run.messages[-1].content if summary is None else summary


def _corrected(run: Trajectory, correction: str) -> Sequence[Message]:
    """The conversation with the answer that it should have ended with; empty where the last turn had none to give."""
    if not _ends_in_a_call(run):
        told = [place for place, message in enumerate(run.messages) if message.role != "assistant"]
        return [*run.messages[: max(told, default=-1) + 1], Message("assistant", correction)]
    if _summary(run) is None:
        return []
    *before, last = _last_turn(run)
    calls = [
        replace(call, arguments=call.arguments | {"summary": correction}) if call.name == SUMMARIZES else call
        for call in last.tool_calls
    ]
    return [*before, replace(last, thought="", content="", tool_calls=tuple(calls))]


def _up_to_reply(run: Trajectory) -> Sequence[Message]:
    """All up to the last thing that the model said in this run; empty if it said nothing."""
    said = [place for place, message in enumerate(run.messages) if message.role == "assistant"]
    return run.messages[: said[-1] + 1] if said and said[-1] >= _given(run) else []


def _made(run: Trajectory, verdict: Verdict, messages: Sequence[Message], **more: Any) -> Candidate:
    """A conversation in the generic tool-calling form, with its tools' schemas, the model's thoughts, and its todos."""
    assert verdict.source is not None
    text, given = _document(run), _given(run)
    readable, unreadable = _readable(messages)
    failed = any(message.is_error for message in _readable(run.messages)[0])
    marks: Json = {"recovered": True} if failed and not more else {}
    marks |= {"unreadable_turns": unreadable} if unreadable else {}
    shown = {
        id(message): detail.sampling.get("todos", "") for message, detail in zip(run.messages, run.details, strict=True)
    }
    corrected = _todos_at_the_end(run)
    spoken = [
        _spoken(message, earlier=place < given, todos=shown.get(id(message), corrected))
        for place, message in enumerate(readable)
    ]
    return candidate(
        document=document_key(text),
        text=text,
        skill=skill_of(run),
        messages=spoken,
        source=verdict.source,
        provenance=verdicts.provenance(run, verdict.why, **marks, **more),
        where=verdicts.where(run),
        tools=run.tools,
        rank=verdict.rank,
    )


def _document(run: Trajectory) -> str:
    """What the run was asked: of a phase its job's task, so that the phases of one job are never split."""
    if verdicts.is_phase(run):
        return run.task
    asked = [message.content for message in run.messages[: _given(run)] if message.role == "user"]
    return asked[-1] if asked else run.task


def _given(run: Trajectory) -> int:
    """How many messages the run began with: a REPL's earlier turns are context, and nobody verified them here."""
    pairs = zip(run.messages, run.details, strict=True)
    own = [message.role == "assistant" and bool(detail.model) for message, detail in pairs]
    return own.index(True) if any(own) else len(own)


def _todos_at_the_end(run: Trajectory) -> str:
    """The todo list that the model was shown when it gave the answer that a correction takes the place of."""
    said = [detail for message, detail in zip(run.messages, run.details, strict=True) if message.role == "assistant"]
    ended = said and (run.messages[-1].role == "assistant" or _ends_in_a_call(run))
    return str(said[-1].sampling.get("todos", "")) if ended else ""


def _readable(messages: Sequence[Message]) -> tuple[list[Message], int]:
    """The messages less the turns whose calls could not be read, with their observations; and how many these were.

    Such a call has no rendering that a model should learn.
    """
    broken = [m for m in messages if any(call.malformed for call in m.tool_calls)]
    ids = {call.id for message in broken for call in message.tool_calls}
    kept = [m for m in messages if m not in broken and not (m.role == "tool" and m.tool_call_id in ids)]
    return kept, len(broken)


def _spoken(message: Message, *, earlier: bool, todos: str) -> Json:
    """A message as a row holds it.

    An assistant's turn of an earlier run has the weight 0: it is not trained on. One that was said with a todo list at
    the end of its prompt names that list: it stood there for this turn alone.
    """
    entry = asdict(message)
    entry["tool_calls"] = [
        {"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.tool_calls
    ]
    if message.role == "assistant" and earlier:
        entry["weight"] = 0
    elif message.role == "assistant":
        entry["todos"] = todos
    return entry

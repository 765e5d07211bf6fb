"""Runs on record as candidates: what was verified becomes an example, what is known to be wrong a negative.

A run is verified by a person's correction or label (`/good`), by a case's own check (the label `check`), or, for an
annotation, by a stronger model that took over and said the same. Validators verify nothing: they only reject.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import InputError
from agent.messages import Json, Message, Trajectory
from skills.annotate import record
from skills.annotate.framework import Framework
from skills.annotate.record import Attempt
from skills.annotate.validate import token_f1
from training.dataset.candidates import LABELLED, RANK, Candidate, Ledger, candidate
from training.dataset.sources import annotated, answered
from training.rows import Source, document_key

if TYPE_CHECKING:
    from agent.traces import TraceStore

AGREE = 0.8
"""Two models' annotations count as the same from this mean token F1 of their moves; a second annotator reaches 0.77."""
NO_SKILL = "agent"
"""The skill of rows from runs that used none."""


@dataclass(slots=True)
class Found:
    """What the runs gave."""

    examples: list[Candidate] = field(default_factory=list)
    negatives: list[Candidate] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known about a run's answer. `source` is None where it is known to be wrong; `why` says who knows."""

    source: Source | None
    why: str
    rank: int = 0


def on_record(store: TraceStore) -> Iterator[Trajectory]:
    """The runs of a store, oldest first, less those that go on in another process right now."""
    ids = [run.id for run in reversed(store.runs(limit=-1)) if run.state != "running"]
    return store.each(ids)


def collect(runs: Iterable[Trajectory], skill: str, ledger: Ledger) -> Found:
    """The candidates of runs.

    Args:
        runs: whole runs.
        skill: the skill to teach; `agent` is runs without one, and an empty text all of them.
        ledger: told what is left out, and why.
    """
    found = Found()
    for run in runs:
        framework = record.framework_of(run)
        if skill and skill != _skill(run, framework):
            continue
        if not run.ended:
            ledger.drop("the run has not ended", _where(run))
        elif framework is not None:
            _annotation(run, framework, found, ledger)
        elif run.correction or any(message.role == "assistant" for message in run.messages):
            _conversation(run, found, ledger)
    return found


def _skill(run: Trajectory, framework: Framework | None) -> str:
    if framework is not None:
        return "annotate"
    return run.skills[0] if run.skills else NO_SKILL


def _verdict(run: Trajectory) -> Verdict:
    """What people and checks say about a run."""
    label, check = run.labels.get("verdict"), run.labels.get("check")
    if run.correction:
        return Verdict("correction", "a person's correction", RANK["correction"])
    if label == "bad":
        return Verdict(None, "a person labelled it bad")
    if label == "good":
        return Verdict("gold", "a person labelled it good", LABELLED)
    if check is not None:
        passed = check is True or check in ("pass", "passed")
        return Verdict("check", "its check passed", RANK["check"]) if passed else Verdict(None, "its check failed")
    if run.outcome == "success":
        curated = run.labels.get("curator") == "kept"
        source: Source = "curated" if curated else "unfiltered"
        return Verdict(source, "the curator kept it" if curated else "nobody judged it", RANK[source])
    return Verdict(None, run.reason or run.outcome)


def _provenance(run: Trajectory, why: str, **more: Any) -> Json:
    return {"run": run.id, "model": run.model, "verified_by": why, **more}


def _where(run: Trajectory) -> str:
    return f"run {run.id}"


# Annotations


def _annotation(run: Trajectory, framework: Framework, found: Found, ledger: Ledger) -> None:
    """The example of a paper's run, and its wrong attempts."""
    tried = record.attempts(run, framework)
    given, verdict = record.best(tried), _verdict(run)
    if verdict.source == "unfiltered" and (agreed := _agreement(run, tried, framework)):
        given, verdict = agreed, Verdict("agreement", "a stronger model said the same", RANK["agreement"])
    try:
        moves = _moves(run, given, verdict, framework)
    except InputError as error:
        ledger.drop(error.message, _where(run))
        moves = None
    abstract = run.messages[1].content
    if moves is not None and verdict.source is not None:
        made = annotated(
            abstract,
            moves,
            framework,
            source=verdict.source,
            provenance=_provenance(run, verdict.why, framework=framework.name),
            where=_where(run),
            rank=verdict.rank,
        )
        found.examples.append(made)
    elif verdict.source is None and verdict.why != "cancelled" and tried:
        ledger.drop(f"known to be wrong: {_kind(run, verdict)}", _where(run))
    right = record.completion(moves, framework) if moves is not None else ""
    found.negatives += _wrong(run, tried, given, verdict, right, framework)


def _kind(run: Trajectory, verdict: Verdict) -> str:
    """The reason in the ledger: what validators say differs from run to run and is not repeated there."""
    judged = run.labels.get("verdict") == "bad" or run.labels.get("check") is not None
    return verdict.why if judged else "it broke the rules"


def _moves(run: Trajectory, given: Attempt | None, verdict: Verdict, framework: Framework) -> dict[str, str] | None:
    """The annotation that becomes an example. Raises InputError where there is none although it should be one."""
    if verdict.source is None:
        return None
    if verdict.source == "correction":
        return record.checked(record.read(run.correction), framework)
    if given is None or not given.valid:
        raise InputError(f"{verdict.why}, but its answer breaks the rules" if given else "it has no answer")
    return record.checked(given.found, framework)


def _agreement(run: Trajectory, tried: Sequence[Attempt], framework: Framework) -> Attempt | None:
    """The stronger model's valid answer, if an answer of the first one says the same."""
    if run.route is None or not run.route.escalation or not tried:
        return None
    first, last = tried[0].detail, tried[-1].detail
    stronger = tried[-1]
    if (first.model, first.adapter) == (last.model, last.adapter) or not stronger.valid:
        return None
    weaker = [a for a in tried if (a.detail.model, a.detail.adapter) == (first.model, first.adapter) and a.found]
    shares = [agreement(attempt.found, stronger.found, framework) for attempt in weaker]
    return stronger if shares and max(shares) >= AGREE else None


def agreement(one: Any, other: Any, framework: Framework) -> float:
    """How much two annotations say the same, 0 to 1: the mean over the moves of token F1.

    Where either side is the absent text, a move counts 1 if both are, else 0.
    """
    shares = []
    for key in framework.keys:
        texts = str(one.get(key, "")), str(other.get(key, ""))
        absent = [text == framework.absent for text in texts]
        shares.append(float(all(absent)) if any(absent) else token_f1(*texts))
    return sum(shares) / len(shares)


def _wrong(
    run: Trajectory, tried: Sequence[Attempt], given: Attempt | None, verdict: Verdict, right: str, framework: Framework
) -> Iterator[Candidate]:
    """Every attempt that is known to be worse than another, with the better one where there is one."""
    corrected = verdict.source == "correction"
    chosen = right if corrected or verdict.source else ""
    for attempt in tried:
        if attempt is given and verdict.source is not None and not corrected:
            continue
        broke = [finding.message for finding in attempt.findings if not finding.doubt]
        judged = (corrected or verdict.source is None) and attempt is given
        if attempt.message.content == right or not (broke or judged or attempt.detail.preference == "rejected"):
            continue
        why = verdict.why if judged else "; ".join(broke) or "another attempt has less against it"
        yield answered(
            run.messages[1].content,
            attempt.message.content,
            framework,
            source="unfiltered",
            provenance=_provenance(run, "", framework=framework.name, rejected=why, chosen=chosen),
            where=_where(run),
        )


# Other runs: conversations with tools


def _conversation(run: Trajectory, found: Found, ledger: Ledger) -> None:
    """The example, or the negative, of a run of the loop."""
    verdict = _verdict(run)
    last, detail = run.messages[-1], run.details[-1]
    corrected = verdict.source == "correction"
    if not corrected and (detail.finish_reason == "error" or run.outcome == "unknown"):
        ledger.drop("it broke off, which says nothing about the model", _where(run))
        return
    if corrected:
        found.examples.append(_made(run, verdict, [*_before_answer(run), Message("assistant", run.correction)]))
    elif verdict.source is None:
        ledger.drop(f"known to be wrong: {verdict.why}", _where(run))
    elif last.role == "assistant" and last.content.strip() and not last.tool_calls:
        found.examples.append(_made(run, verdict, run.messages))
    else:
        ledger.drop(f"{verdict.why}, but it has no answer", _where(run))
    wrong = verdict.source is None or (corrected and last.content != run.correction)
    if wrong and detail.finish_reason != "error" and (spoken := _up_to_reply(run)):
        known = {"rejected": verdict.why, "chosen": run.correction}
        found.negatives.append(_made(run, Verdict("unfiltered", "", RANK["unfiltered"]), spoken, **known))


def _before_answer(run: Trajectory) -> Sequence[Message]:
    """What the model knew when it gave its answer: all up to the last thing that was told to it."""
    told = [place for place, message in enumerate(run.messages) if message.role != "assistant"]
    return run.messages[: max(told, default=-1) + 1]


def _up_to_reply(run: Trajectory) -> Sequence[Message]:
    """All up to the last thing that the model said in this run; empty if it said nothing."""
    said = [place for place, message in enumerate(run.messages) if message.role == "assistant"]
    return run.messages[: said[-1] + 1] if said and said[-1] >= _given(run) else []


def _made(run: Trajectory, verdict: Verdict, messages: Sequence[Message], **more: Any) -> Candidate:
    """A conversation in the generic tool-calling form, with its tools' schemas and the model's thoughts."""
    assert verdict.source is not None
    asked = [message.content for message in run.messages if message.role == "user"]
    text = asked[-1] if asked else run.task
    readable, unreadable = _readable(messages)
    marks: Json = {"recovered": True} if any(message.is_error for message in readable) and not more else {}
    marks |= {"unreadable_turns": unreadable} if unreadable else {}
    given = _given(run)
    spoken = [_spoken(message, earlier=place < given) for place, message in enumerate(readable)]
    return candidate(
        document=document_key(text),
        text=text,
        skill=_skill(run, None),
        messages=spoken,
        source=verdict.source,
        provenance=_provenance(run, verdict.why, **marks, **more),
        where=_where(run),
        tools=run.tools,
        rank=verdict.rank,
    )


def _given(run: Trajectory) -> int:
    """How many messages the run began with: a REPL's earlier turns are context, and nobody verified them here."""
    pairs = zip(run.messages, run.details, strict=True)
    own = [message.role == "assistant" and bool(detail.model) for message, detail in pairs]
    return own.index(True) if any(own) else len(own)


def _readable(messages: Sequence[Message]) -> tuple[list[Message], int]:
    """The messages less the turns whose calls could not be read, with their observations; and how many these were.

    Such a call has no rendering that a model should learn.
    """
    broken = [m for m in messages if any(call.malformed for call in m.tool_calls)]
    ids = {call.id for message in broken for call in message.tool_calls}
    kept = [m for m in messages if m not in broken and not (m.role == "tool" and m.tool_call_id in ids)]
    return kept, len(broken)


def _spoken(message: Message, *, earlier: bool) -> Json:
    """A message as a row holds it. An assistant's turn of an earlier run has the weight 0: it is not trained on."""
    entry = asdict(message)
    entry["tool_calls"] = [
        {"id": call.id, "name": call.name, "arguments": call.arguments} for call in message.tool_calls
    ]
    if message.role == "assistant" and earlier:
        entry["weight"] = 0
    return entry

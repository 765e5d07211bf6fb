"""Runs on record as candidates: what was verified becomes an example, what is known to be wrong a negative.

Who verifies a run is in training/dataset/verdicts.py. Here are annotations; a run of the loop becomes an example in
training/dataset/conversations.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.errors import InputError
from agent.messages import Trajectory
from skills.annotate import record
from skills.annotate.framework import Framework
from skills.annotate.record import Attempt
from skills.annotate.validate import token_f1
from training.dataset import conversations, verdicts
from training.dataset.candidates import RANK, Candidate, Ledger
from training.dataset.sources import annotated, answered
from training.dataset.verdicts import Verdict

if TYPE_CHECKING:
    from agent.traces import TraceStore

AGREE = 0.8
"""Two models' annotations count as the same from this mean token F1 of their moves; a second annotator reaches 0.77."""


@dataclass(slots=True)
class Found:
    """What the runs gave."""

    examples: list[Candidate] = field(default_factory=list)
    negatives: list[Candidate] = field(default_factory=list)


def on_record(store: TraceStore) -> Iterator[Trajectory]:
    """The runs of a store, oldest first, less those that go on in another process right now."""
    ids = [run.id for run in reversed(store.runs(limit=-1)) if run.state != "running"]
    return store.each(ids)


def collect(runs: Iterable[Trajectory], skill: str, ledger: Ledger) -> Found:
    """The candidates of runs.

    Args:
        runs: whole runs; a job before its phases.
        skill: the skill to teach; `agent` is runs without one, and an empty text all of them.
        ledger: told what is left out, and why.
    """
    found = Found()
    jobs: dict[str, Trajectory] = {}
    for run in runs:
        framework = record.framework_of(run)
        spoke = any(message.role == "assistant" for message in run.messages)
        if not spoke:
            jobs[run.id] = run
        if skill and skill != _skill(run, framework):
            continue
        if not run.ended:
            ledger.drop("the run has not ended", verdicts.where(run))
        elif framework is not None:
            _annotation(run, framework, found, ledger)
        elif spoke or (run.correction and not verdicts.is_job(run)):
            job = jobs.get(run.parent_id) if verdicts.is_phase(run) else None
            conversations.add(run, job, found, ledger)
    return found


def _skill(run: Trajectory, framework: Framework | None) -> str:
    return conversations.skill_of(run) if framework is None else "annotate"


# Annotations


def _annotation(run: Trajectory, framework: Framework, found: Found, ledger: Ledger) -> None:
    """The example of a paper's run, and its wrong attempts."""
    tried = record.attempts(run, framework)
    given, verdict = record.best(tried), verdicts.of(run)
    if verdict.source == "unfiltered" and (agreed := _agreement(run, tried, framework)):
        given, verdict = agreed, Verdict("agreement", "a stronger model said the same", RANK["agreement"])
    try:
        moves = _moves(run, given, verdict, framework)
    except InputError as error:
        ledger.drop(error.message, verdicts.where(run))
        moves = None
    abstract = run.messages[1].content
    if moves is not None and verdict.source is not None:
        made = annotated(
            abstract,
            moves,
            framework,
            source=verdict.source,
            provenance=verdicts.provenance(run, verdict.why, framework=framework.name),
            where=verdicts.where(run),
            rank=verdict.rank,
        )
        found.examples.append(made)
    elif verdict.source is None and verdict.why != "cancelled" and tried:
        ledger.drop(f"known to be wrong: {_kind(run, verdict)}", verdicts.where(run))
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
            provenance=verdicts.provenance(run, "", framework=framework.name, rejected=why, chosen=chosen),
            where=verdicts.where(run),
        )

"""What is known about a run: who judged it, and what that makes of its answer.

A run is verified by a person's correction or label (`/good`), by a case's own check (the label `check`), or, for an
annotation, by a stronger model that took over and said the same. Validators verify nothing: they only reject. A phase
has the verdict on its job: that is the run that a person sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from agent.messages import Json, Trajectory
from agent.todos import Phase
from training.dataset.candidates import LABELLED, RANK
from training.rows import Source

PHASES = frozenset(filter(None, get_args(Phase)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known about a run's answer. `source` is None where it is known to be wrong; `why` says who knows."""

    source: Source | None
    why: str
    rank: int = 0


def is_phase(run: Trajectory) -> bool:
    """Whether a run is a phase of a job: see agent/phases.py."""
    return run.route is not None and run.route.rule == "phase"


def is_job(run: Trajectory) -> bool:
    """Whether a run is a job in phases: nobody spoke in it, it says how each of its phases ended."""
    return any(message.name in PHASES for message in run.messages)


def of(run: Trajectory) -> Verdict:
    """What people and checks say about a run; where none did, how it ended."""
    if judged := _judged(run):
        return judged
    if run.outcome != "success":
        return Verdict(None, run.reason or run.outcome)
    curated = run.labels.get("curator") == "kept"
    source: Source = "curated" if curated else "unfiltered"
    return Verdict(source, "the curator kept it" if curated else "nobody judged it", RANK[source])


def of_phase(run: Trajectory, job: Trajectory) -> Verdict | None:
    """What is known about a phase: what was said of it, else how it ended, else what was said of the job.

    Args:
        run: the phase.
        job: the run that it is a part of.

    Returns:
        None where nobody can tell: it went well, but its job was found wrong, and nobody said in which phase.
    """
    judged = _judged(job)
    if judged is None or _judged(run) or run.outcome != "success":
        return of(run)
    if judged.source in (None, "correction"):
        return None
    return Verdict(judged.source, f"{judged.why} (the whole job)", judged.rank)


def _judged(run: Trajectory) -> Verdict | None:
    """What a person or a check said of this very run; None if neither did."""
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
    return None


def provenance(run: Trajectory, why: str, **more: Any) -> Json:
    """Enough to find a row's run again, and who verified it."""
    return {"run": run.id, "model": run.model, "verified_by": why, **more}


def where(run: Trajectory) -> str:
    """A run as the ledger names it."""
    return f"run {run.id}"

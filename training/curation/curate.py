"""The curator: five personas vote on an annotation, and three keep it.

What breaks a validator's hard rule (its form, a number that the abstract does not have), or says what no sentence of
the abstract says, is rejected whatever the votes: the first is never right, and the second is right in 4 of 1,000
annotations made by hand. Decisions and reasons go into a file of JSON lines as they are made; a second call goes on
where the first was stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import InputError
from skills.annotate.validate import check
from training.curation.judge import Judge
from training.curation.outputs import Output
from training.curation.personas import PASSES, PERSONAS, Persona, words_belong_together
from training.curation.subject import Subject
from training.dataset.sources import annotated
from training.rows import Row
from training.synthesis.journal import Journal

if TYPE_CHECKING:
    from agent.traces import TraceStore

RULES = "1"
"""Counted up when a rule changes, so that older decisions are made anew."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One persona's. `by` is `rules`, or `judge` where the model decided."""

    persona: str
    passed: bool
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of one annotation.

    Args:
        key: the hash of what was decided on, by whom.
        id: the output's.
        document: the key of its abstract.
        kept: whether it may become a training row.
        veto: why it was rejected without a vote; empty if it came to one.
        passes: how many personas passed it.
        verdicts: theirs, in order; empty after a veto.
        run: its run on record, or empty.
    """

    key: str
    id: str
    document: str
    kept: bool
    veto: str
    passes: int
    verdicts: tuple[Verdict, ...]
    run: str

    @property
    def reasons(self) -> str:
        """What was said against it, on one line."""
        said = [f"{verdict.persona}: {verdict.reason}" for verdict in self.verdicts if not verdict.passed]
        return self.veto or "; ".join(said)


async def curate(
    outputs: Iterable[Output],
    out: Path,
    judge: Judge | None = None,
    tell: Callable[[Decision], None] = lambda decision: None,
) -> list[Decision]:
    """Decide on annotations.

    Args:
        outputs: what to decide on.
        out: the file of decisions; those that stand there already are taken over.
        judge: the model that the personas ask; None: rules alone.
        tell: called with each decision, old and new.

    Returns:
        A decision for each output, in order.

    Raises:
        InputError: `out` holds something else.
        ModelError: the judge failed; what was decided until then is kept.
        OutputError: `out` cannot be written.
    """
    decisions = []
    with Journal(out) as journal:
        known = {entry.get("key"): entry for entry in journal.entries}
        for output in outputs:
            key = _key(output.subject, judge)
            if key in known:
                decision = _again(known[key], output, out)
            else:
                decision = await decide(output, judge)
                journal.add(asdict(decision))
                known[key] = asdict(decision)
            decisions.append(decision)
            tell(decision)
    return decisions


async def decide(output: Output, judge: Judge | None = None) -> Decision:
    """One annotation's decision. Raises ModelError if the judge failed."""
    subject = output.subject
    veto = vetoed(subject)
    verdicts = () if veto else tuple([await _verdict(persona, subject, judge) for persona in PERSONAS])
    passes = sum(verdict.passed for verdict in verdicts)
    key = _key(subject, judge)
    return Decision(key, output.id, output.document, passes >= PASSES, veto, passes, verdicts, output.run)


def label(store: TraceStore, decisions: Iterable[Decision]) -> None:
    """Put what was decided on record, as labels of the runs."""
    for decision in decisions:
        word = "kept" if decision.kept else "rejected"
        store.label(decision.run, curator=word, curator_reasons=decision.reasons or None)


def vetoed(subject: Subject) -> str:
    """Why an annotation is rejected without a vote; empty if it is not."""
    hard = [
        finding.message
        for finding in check(subject.annotation, subject.abstract, subject.framework)
        if not finding.doubt
    ]
    return hard[0] if hard else words_belong_together(subject)


def kept_row(output: Output) -> Row:
    """The training row of a kept annotation: source `curated`."""
    subject = output.subject
    made = annotated(
        subject.abstract,
        subject.annotation,
        subject.framework,
        source="curated",
        provenance=output.provenance,
        where=output.id,
    )
    return made.row


async def _verdict(persona: Persona, subject: Subject, judge: Judge | None) -> Verdict:
    """A rule's objection stands; where there is none, the judge is asked, if there is one."""
    objections = persona.objections(subject)
    if objections or judge is None or not persona.judged:
        return Verdict(persona.name, not objections, "rules", "; ".join(objections))
    opinion = await judge.opinion(persona, subject)
    if opinion is None:
        return Verdict(persona.name, True, "rules", "the judge gave no readable verdict")
    return Verdict(persona.name, opinion.passed, "judge", opinion.reason)


def _key(subject: Subject, judge: Judge | None) -> str:
    said: list[Any] = [RULES, judge.model.address if judge else "", subject.framework.version]
    text = json.dumps([*said, subject.abstract, dict(subject.annotation)])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _again(entry: dict[str, Any], output: Output, out: Path) -> Decision:
    """A decision as it stands in the file; the same text may be several outputs'."""
    try:
        verdicts = tuple(Verdict(**verdict) for verdict in entry["verdicts"])
        kept, veto, passes = bool(entry["kept"]), str(entry["veto"]), int(entry["passes"])
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{out} holds lines that are no decisions of the curator", "Give --out another file."
        ) from None
    return Decision(entry["key"], output.id, output.document, kept, veto, passes, verdicts, output.run)

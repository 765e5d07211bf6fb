"""How well the curator agrees with people: is what it keeps nearer to the annotation that a person made?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.errors import InputError
from skills.annotate.validate import token_f1
from training.curation.subject import CUES, Subject
from training.dataset.sources import entries
from training.rows import document_key

ABSENT = "Not stated."
"""What gold says of a move that the abstract does not state."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kept and rejected annotations whose document a person annotated, too.

    Args:
        kept: how many were kept, and `rejected` how many not.
        f1_kept: mean token F1 against gold of those kept, and `f1_rejected` of the others; None of none.
        auc: the chance that of one kept and one rejected, the kept one is nearer to gold (ties count half); 0.5 is
            no agreement, None if there are not both.
    """

    kept: int
    rejected: int
    f1_kept: float | None
    f1_rejected: float | None
    auc: float | None


def read_gold(path: Path) -> dict[str, dict[str, str]]:
    """Annotations made by people in the eight moves, by their abstract's document key.

    Args:
        path: JSONL or CSV, as `training.dataset.sources.entries` reads it.

    Raises:
        InputError: the file cannot be read, or holds no such annotation.
    """
    gold = {
        document_key(entry.abstract): {key: str(text) for key, text in entry.moves.items()}
        for entry in entries(path)
        if entry.abstract and set(entry.moves) == set(CUES)
    }
    if not gold:
        raise InputError(f"{path} holds no abstract with the eight moves", f"They are {', '.join(CUES)}.")
    return gold


def closeness(subject: Subject, gold: Mapping[str, str]) -> float:
    """Token F1 against gold, the mean over the moves that both frameworks have.

    Where either side is absent it is 1 if both are, else 0. Of two moves that play one role the nearer one counts.
    """
    scores = []
    for role, text in gold.items():
        if not subject.asked(role):
            continue
        stated = subject.playing(role).values()
        if text == ABSENT or not stated:
            scores.append(float(text == ABSENT and not stated))
        else:
            scores.append(max(token_f1(own, text) for own in stated))
    return statistics.fmean(scores) if scores else 0.0


def agreement(judged: Sequence[tuple[bool, Subject, str]], gold: Mapping[str, Mapping[str, str]]) -> Agreement:
    """Compare decisions with gold.

    Args:
        judged: for each annotation whether it was kept, what it is, and its document's key.
        gold: as `read_gold` gives it; documents that are not there are left out.
    """
    near: dict[bool, list[float]] = {True: [], False: []}
    for passed, subject, document in judged:
        if document in gold:
            near[passed].append(closeness(subject, gold[document]))
    kept, rejected = near[True], near[False]
    wins = sum((a > b) + (a == b) / 2 for a in kept for b in rejected)
    return Agreement(
        len(kept),
        len(rejected),
        statistics.fmean(kept) if kept else None,
        statistics.fmean(rejected) if rejected else None,
        wins / (len(kept) * len(rejected)) if kept and rejected else None,
    )

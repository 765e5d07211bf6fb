"""How an annotation is scored against gold, the same everywhere: one annotation's scores, and the metrics of a set.

A metric is a ratio of two sums over rows, so that a mean over rows, a mean over stated moves and a pooled F1 are
resampled in the same way (`evals/compare.py`). Words, numbers and token F1 are `skills/annotate/validate.py`'s.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from skills.annotate.framework import Framework
from skills.annotate.validate import Finding, stated, supported_share, token_f1, ungrounded, words

STRUCTURE = frozenset({"parse", "moves", "order", "empty", "length"})
"""The rules of the form: one object that holds each move once, in order, none empty, each within its lengths."""

Share = tuple[float, float]
"""What one row adds to a metric: above and below the line of the ratio."""


class Scores(BaseModel):
    """One annotation, scored.

    Args:
        valid: whether its form holds; if not, every F1 is 0 and no move counts as said to be absent.
        order: whether the moves stand in the framework's order.
        accepted: whether the product's validators let it pass: also its numbers, and where the absent text stands.
        grounded: whether there is an annotation and every number of it is one of the abstract's.
        supported: the mean of `support`; None if no move is stated.
        f1: the mean of `moves`.
        rouge_l: the mean of `rouge`.
        length: words of the stated moves, as spaces divide them.
        moves: token F1 by move.
        rouge: ROUGE-L by move.
        support: of each stated move, the share of its words that the abstract supports.
        ungrounded: the numbers that are not the abstract's, of each move that has some.
        absent: by move, whether it is the absent text: said, and by gold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    valid: bool
    order: bool
    accepted: bool
    grounded: bool
    supported: float | None
    f1: float
    rouge_l: float
    length: int
    moves: dict[str, float]
    rouge: dict[str, float]
    support: dict[str, float]
    ungrounded: dict[str, list[str]]
    absent: dict[str, tuple[bool, bool]]


class Timed(Scores):
    """Scores and what they cost: tokens generated and read in all attempts, and seconds of wall time."""

    tokens: int = 0
    prompt_tokens: int = 0
    seconds: float = 0.0


def score(
    annotation: Mapping[str, Any],
    findings: Sequence[Finding],
    abstract: str,
    gold: Mapping[str, str],
    framework: Framework,
) -> Scores:
    """Score one annotation.

    Args:
        annotation: its moves by key.
        findings: what `skills.annotate.validate.parse` and `check` said of it.
        abstract: what it must be grounded in.
        gold: the moves as they should be; every key of the framework.
        framework: the moves.
    """
    rules = {finding.rule for finding in findings}
    valid = not rules & STRUCTURE
    texts = stated(annotation, framework)
    wrong = {key: found for key, text in texts.items() if (found := ungrounded(text, abstract))}
    support = {key: supported_share(text, abstract) for key, text in texts.items()}
    f1 = _by_move(annotation, gold, framework, token_f1, valid)
    rouge = _by_move(annotation, gold, framework, rouge_l, valid)
    absent = framework.absent
    return Scores(
        valid=valid,
        order=not rules & {"parse", "order"},
        accepted=all(finding.doubt for finding in findings),
        grounded="parse" not in rules and not wrong,
        supported=statistics.fmean(support.values()) if support else None,
        f1=statistics.fmean(f1.values()),
        rouge_l=statistics.fmean(rouge.values()),
        length=sum(len(text.split()) for text in texts.values()),
        moves=f1,
        rouge=rouge,
        support=support,
        ungrounded=wrong,
        absent={key: (valid and annotation[key] == absent, gold[key] == absent) for key in framework.keys},
    )


def row_f1(found: Mapping[str, Any], gold: Mapping[str, str], framework: Framework) -> float:
    """The mean of the moves' token F1; 0 for an annotation that lacks a move."""
    whole = all(isinstance(found.get(key), str) and found[key].strip() for key in framework.keys)
    return statistics.fmean(_by_move(found, gold, framework, token_f1, whole).values())


def rouge_l(text: str, other: str) -> float:
    """ROUGE-L's F measure: twice the longest common subsequence of content words over the sum of both lengths.

    Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004, with precision and recall weighed alike.
    """
    own, theirs = words(text), words(other)
    total = len(own) + len(theirs)
    return 2 * common_subsequence(own, theirs) / total if total else 0.0


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest sequence of words that both have in order, not necessarily side by side."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        diagonal = 0
        for place, theirs in enumerate(other, start=1):
            above = lengths[place]
            lengths[place] = diagonal + 1 if word == theirs else max(above, lengths[place - 1])
            diagonal = above
    return lengths[-1]


def _by_move(
    found: Mapping[str, Any],
    gold: Mapping[str, str],
    framework: Framework,
    measure: Callable[[str, str], float],
    valid: bool,
) -> dict[str, float]:
    """A measure of each move. Where either side is the absent text: 1 if both are, else 0."""
    if not valid:
        return dict.fromkeys(framework.keys, 0.0)
    absent = framework.absent
    return {
        key: float(found[key] == gold[key]) if absent in (found[key], gold[key]) else measure(found[key], gold[key])
        for key in framework.keys
    }


def _agreed(row: Timed) -> tuple[int, int, int]:
    """Moves that are absent on both sides, by the annotation, and by gold."""
    decisions = row.absent.values()
    return sum(s and g for s, g in decisions), sum(s for s, _ in decisions), sum(g for _, g in decisions)


def _absent_f1(row: Timed) -> Share:
    both, said, gold = _agreed(row)
    return 2 * both, said + gold


ROW_METRICS: dict[str, Callable[[Timed], Share]] = {
    "valid": lambda row: (row.valid, 1),
    "order": lambda row: (row.order, 1),
    "accepted": lambda row: (row.accepted, 1),
    "grounded": lambda row: (row.grounded, 1),
    "supported": lambda row: (sum(row.support.values()), len(row.support)),
    "f1": lambda row: (row.f1, 1),
    "rouge_l": lambda row: (row.rouge_l, 1),
    "absent_f1": _absent_f1,
    "absent_precision": lambda row: (_agreed(row)[0], _agreed(row)[1]),
    "absent_recall": lambda row: (_agreed(row)[0], _agreed(row)[2]),
    "length": lambda row: (row.length, 1),
    "tokens": lambda row: (row.tokens, 1),
    "seconds": lambda row: (row.seconds, 1),
}
"""Of a set of rows. `supported` is the mean over stated moves; the absent text's agreement is pooled over moves."""


def move_metrics(key: str) -> dict[str, Callable[[Timed], Share]]:
    """The metrics of one move over a set of rows; `grounded` and `supported` are over the rows that state it."""
    return {
        "f1": lambda row: (row.moves[key], 1),
        "rouge_l": lambda row: (row.rouge[key], 1),
        "grounded": lambda row: (key in row.support and key not in row.ungrounded, key in row.support),
        "supported": lambda row: (row.support.get(key, 0.0), key in row.support),
        "absent_f1": lambda row: (2 * all(row.absent[key]), sum(row.absent[key])),
        "absent_precision": lambda row: (all(row.absent[key]), row.absent[key][0]),
        "absent_recall": lambda row: (all(row.absent[key]), row.absent[key][1]),
    }

"""Which candidates become rows, and where: duplicates, verification, splits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from training.dataset.candidates import Candidate, Ledger
from training.dataset.split import KEPT_OUT, ORDER, Shares, place, splits
from training.dedupe import Index, clusters
from training.rows import Row, Split

OWN_ANSWERS = ("replay", "rehearsal")
"""Answers that keep a model what it is; nobody has to have verified them, and they are only trained on."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How to select.

    Args:
        shares: of the splits.
        unverified: whether rows that nobody verified may be trained on, too.
    """

    shares: Shares = field(default_factory=Shares)
    unverified: bool = False


def select(
    examples: Sequence[Candidate],
    negatives: Sequence[Candidate],
    excluded: Mapping[str, str],
    rules: Rules,
    ledger: Ledger,
) -> dict[Split, list[Row]]:
    """The rows of each split, in the order of their ids.

    Args:
        examples: right, as far as their sources say.
        negatives: wrong.
        excluded: documents of evaluation files, text by key.
        rules: how to select.
        ledger: told what is left out, and why.
    """
    index = Index(excluded)
    examples = _not_excluded(examples, excluded, index, ledger)
    negatives = _not_excluded(negatives, excluded, index, ledger)
    examples = _allowed(examples, rules, ledger)
    group = clusters({one.row.document: one.text for one in [*examples, *negatives]})
    examples = _best(_in_one_split(examples, group, rules.shares, ledger), group, ledger)
    verified = [one.row.document for one in examples if one.row.verified]
    where = splits((one.row.document for one in examples), verified, rules.shares)
    found: dict[Split, list[Row]] = {split: [] for split in ORDER}
    for one in examples:
        split = "train" if one.row.source == "rehearsal" else where[one.row.document]
        if split in KEPT_OUT and not one.row.verified:
            ledger.drop(f"not verified, and its document is kept out for {split}", one.where)
        else:
            found[split].append(one.row)
    found["negatives"] = _for_training(negatives, group, rules.shares, ledger)
    return {split: sorted(rows, key=lambda row: row.id) for split, rows in found.items()}


def _not_excluded(
    found: Iterable[Candidate], excluded: Mapping[str, str], index: Index, ledger: Ledger
) -> list[Candidate]:
    """Without the documents of evaluation files, and without what is nearly one of them."""
    kept = []
    for one in found:
        if one.row.document in excluded:
            ledger.drop("its document is in an evaluation file", one.where)
        elif next(index.near(one.text), None):
            ledger.drop("its document is nearly one of an evaluation file", one.where)
        else:
            kept.append(one)
    return kept


def _allowed(found: Iterable[Candidate], rules: Rules, ledger: Ledger) -> list[Candidate]:
    """Only what is verified, or keeps the model what it is; with `unverified` everything."""
    kept = []
    for one in found:
        if one.row.verified or rules.unverified or one.row.source in OWN_ANSWERS:
            kept.append(one)
        else:
            ledger.drop(f"nobody verified it ({one.row.source})", one.where)
    return kept


def _place(one: Candidate, shares: Shares) -> Split:
    """Where a candidate goes by its document's key; rehearsal is about none of the task's and is for training."""
    return "train" if one.row.source == "rehearsal" else place(one.row.document, shares)


def _in_one_split(
    found: Sequence[Candidate], group: Mapping[str, str], shares: Shares, ledger: Ledger
) -> list[Candidate]:
    """Near duplicates are never on both sides: of a group, what falls into the first split stays.

    Each document keeps its own split, so that none ever moves. Rows that nobody verified have no say: where a verified
    one of their group is kept out, they are left out.
    """
    claims: dict[str, set[Split]] = {}
    for one in found:
        if one.row.verified:
            claims.setdefault(group[one.row.document], set()).add(_place(one, shares))
    kept = []
    for one in found:
        own = _place(one, shares)
        claimed = claims.get(group[one.row.document], {own})
        first = next(split for split in ORDER if split in claimed)
        if own == first:
            kept.append(one)
        else:
            ledger.drop(f"nearly a document of the split {first}", one.where)
    return kept


def _best(found: Sequence[Candidate], group: Mapping[str, str], ledger: Ledger) -> list[Candidate]:
    """Of the rows that answer the same about the same document, the best."""
    kept: dict[tuple[str, str], Candidate] = {}
    for one in sorted(found, key=lambda one: one.order):
        key = group[one.row.document], one.slot
        other = kept.setdefault(key, one)
        if other is not one:
            ledger.drop(_lost_to(one, other), one.where)
    return list(kept.values())


def _lost_to(one: Candidate, other: Candidate) -> str:
    if one.row.document != other.row.document:
        return f"nearly the document of a row from {other.row.source}"
    same = one.row.completion == other.row.completion
    return f"a row from {other.row.source} {'says the same' if same else 'answers the same'}"


def _for_training(found: Sequence[Candidate], group: Mapping[str, str], shares: Shares, ledger: Ledger) -> list[Row]:
    """Negatives are for training, too: none may be about a document, or nearly one, that is kept out."""
    kept: dict[str, Row] = {}
    out = {group[document] for document in group if place(document, shares) != "train"}
    for one in found:
        if group[one.row.document] in out:
            ledger.drop("a negative whose document is kept out", one.where)
        else:
            kept.setdefault(one.row.id, one.row)
    return list(kept.values())

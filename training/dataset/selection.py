"""Which candidates become rows, and where: duplicates, verification, splits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from training.dataset.candidates import Candidate, Ledger
from training.dataset.dedupe import Index, clusters
from training.dataset.split import KEPT_OUT, ORDER, Shares, place, position, splits
from training.rows import Row, Split

OWN_ANSWERS = ("replay", "rehearsal")
"""Answers that keep a model what it is; nobody has to have verified them, and they are only trained on."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How to select.

    Args:
        shares: of the splits.
        unverified: whether rows that nobody verified may be trained on, too.
        seen: documents that the model to go on from was made from: the gate has no use for them.
        replay: the most rows of source `replay` for each verified one that is trained on.
    """

    shares: Shares = field(default_factory=Shares)
    unverified: bool = False
    seen: frozenset[str] = frozenset()
    replay: float = math.inf

    def place(self, document: str) -> Split:
        """The split of a document; one that was seen is trained on again where the gate would have had it."""
        split = place(document, self.shares)
        return "train" if split == "gate" and document in self.seen else split


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
    rules = _grown(examples, group, rules)
    examples = _best(_in_one_split(examples, group, rules, ledger), group, ledger)
    verified = [one.row.document for one in examples if one.row.verified]
    where = splits((one.row.document for one in examples), verified, rules.shares)
    where |= {document: "train" for document in rules.seen if where.get(document) == "gate"}
    found: dict[Split, list[Row]] = {split: [] for split in ORDER}
    for one in examples:
        split = "train" if one.row.source == "rehearsal" else where[one.row.document]
        if split in KEPT_OUT and not one.row.verified:
            ledger.drop(f"not verified, and its document is kept out for {split}", one.where)
        else:
            found[split].append(one.row)
    found["train"] = _less_replay(found["train"], rules, ledger)
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


def _grown(found: Sequence[Candidate], group: Mapping[str, str], rules: Rules) -> Rules:
    """The rules with a gate that is large enough: a group of near duplicates is in it if all its documents are."""
    last: dict[str, float] = {}
    for one in found:
        if one.row.verified:
            document = one.row.document
            at = 1.0 if document in rules.seen else position(document)
            last[group[document]] = max(at, last.get(group[document], 0.0))
    return replace(rules, shares=rules.shares.grown(list(last.values())))


def _less_replay(rows: Sequence[Row], rules: Rules, ledger: Ledger) -> list[Row]:
    """The rows with no more replay than the rules want: what a model said before must not outweigh what is right."""
    kept = [row for row in rows if row.source != "replay"]
    replayed = sorted((row for row in rows if row.source == "replay"), key=lambda row: row.id)
    verified = sum(row.verified for row in kept)
    most = int(min(len(replayed), rules.replay * verified)) if verified else len(replayed)
    for row in replayed[most:]:
        ledger.drop("more replay than the verified rows allow", str(row.provenance.get("run", row.id)))
    return [*kept, *replayed[:most]]


def _place(one: Candidate, rules: Rules) -> Split:
    """Where a candidate goes by its document's key; rehearsal is about none of the task's and is for training."""
    return "train" if one.row.source == "rehearsal" else rules.place(one.row.document)


def _in_one_split(
    found: Sequence[Candidate], group: Mapping[str, str], rules: Rules, ledger: Ledger
) -> list[Candidate]:
    """Near duplicates are never on both sides: of a group, what falls into the first split stays.

    Each document keeps its own split, so that none ever moves. Rows that nobody verified have no say: where a verified
    one of their group is kept out, they are left out.
    """
    claims: dict[str, set[Split]] = {}
    for one in found:
        if one.row.verified:
            claims.setdefault(group[one.row.document], set()).add(_place(one, rules))
    kept = []
    for one in found:
        own = _place(one, rules)
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

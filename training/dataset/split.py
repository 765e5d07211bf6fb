"""Which split a document belongs to: a matter of its key alone, so that it never moves as the record grows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from agent.errors import UsageError
from training.rows import Split

KEPT_OUT: tuple[Split, ...] = ("validation", "gate")
ORDER: tuple[Split, ...] = ("train", "validation", "gate")
"""Where near duplicates fall into different splits, those of the first of these stay."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How documents are split; what is left is for training.

    Args:
        validation: the share that chooses between checkpoints.
        gate: the share that decides about promotion.
        least: verified documents that the gate wants, once there are ten times as many in all.
        most: how far the gate may grow where there are fewer, so that it has `least`; 0: it does not.
    """

    validation: float = 0.1
    gate: float = 0.1
    least: int = 40
    most: float = 0.0

    def __post_init__(self) -> None:
        if min(self.validation, self.gate, self.least) < 0 or self.validation + max(self.gate, self.most) >= 1:
            raise UsageError(
                f"validation {self.validation} and gate {max(self.gate, self.most)} are no shares of one whole",
                "Each is from 0, and both together less than 1.",
            )

    def grown(self, positions: Sequence[float]) -> Shares:
        """The shares with which `least` of these positions fall into the gate, or as many as `most` allows.

        As the record grows the gate shrinks again, into what it was before: so nothing that a model was trained on
        ever gets into it.

        Args:
            positions: of verified documents, as `position` tells them.
        """
        if self.most <= self.gate:
            return self
        enough = len(positions) >= max(1, self.least)
        mark = math.nextafter(sorted(positions)[max(1, self.least) - 1], 1.0) if enough else self.most
        return replace(self, gate=min(self.most, max(self.gate, mark)), most=0.0)


def position(document: str) -> float:
    """Where a document's key stands between 0 and 1: even over all documents, and always the same."""
    return int(document, 16) / float(16 ** len(document))


def place(document: str, shares: Shares) -> Split:
    """The split of a document by its key: the gate below the first mark, validation below the second, else training.

    So a larger gate takes from validation, and never what was trained on.
    """
    at = position(document)
    if at < shares.gate:
        return "gate"
    return "validation" if at < shares.gate + shares.validation else "train"


def splits(documents: Iterable[str], verified: Iterable[str], shares: Shares) -> dict[str, Split]:
    """The split of every document.

    Where chance leaves the gate fewer than `least` verified documents although there are ten times as many in all, the
    next ones of validation join it. They may go back as the record grows; nothing ever moves into or out of training.

    Args:
        documents: keys.
        verified: those whose rows are known to be right.
        shares: how to split.
    """
    found = {document: place(document, shares) for document in documents}
    known = sorted(set(verified), key=position)
    inside = sum(found[document] == "gate" for document in known)
    if len(known) >= 10 * shares.least:
        waiting = [document for document in known if found[document] == "validation"]
        for document in waiting[: max(0, shares.least - inside)]:
            found[document] = "gate"
    return found

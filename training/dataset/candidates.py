"""A candidate: a row that may enter the dataset, with what it competes for; and the ledger of those that did not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.messages import Json
from training.rows import Row, Source

RANK: Mapping[Source, int] = {
    "gold": 1,
    "correction": 2,
    "check": 4,
    "agreement": 5,
    "curated": 6,
    "replay": 7,
    "rehearsal": 8,
    "synthetic": 9,
    "unfiltered": 10,
}
"""Which of two answers to one question is kept: the lower. A label on what a model wrote stands at LABELLED."""
REVIEWED, LABELLED = 0, 3
EXAMPLES = 5
"""Names of dropped candidates that a manifest lists for each reason."""
REDACTED = "[redacted:"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that may enter the dataset.

    Args:
        row: the row itself.
        text: its document's text, by which near duplicates are found.
        slot: what it competes for: of the rows that answer one slot about one document, the best stays.
        rank: which of them that is: the lowest.
        where: what a person finds it by: `run 1a2b3c`, `gold.csv:12`.
    """

    row: Row
    text: str
    slot: str
    rank: int
    where: str

    @property
    def order(self) -> tuple[int, str]:
        """The best first; equals by their ids, so that the order of the inputs does not matter."""
        return self.rank, self.row.id


@dataclass(slots=True)
class Ledger:
    """What was left out, and why."""

    reasons: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, reason: str, where: str) -> None:
        """Count one candidate that was left out for this reason."""
        self.reasons.setdefault(reason, []).append(where)

    def summary(self) -> list[Json]:
        """The reasons, the commonest first, each with its count and some examples."""
        entries = sorted(self.reasons.items(), key=lambda entry: (-len(entry[1]), entry[0]))
        return [{"reason": why, "count": len(names), "examples": sorted(names)[:EXAMPLES]} for why, names in entries]


def candidate(
    *,
    document: str,
    text: str,
    skill: str,
    messages: Sequence[Mapping[str, Any]],
    source: Source,
    provenance: Mapping[str, Any],
    where: str,
    tools: Sequence[Json] = (),
    slot: str = "",
    rank: int | None = None,
) -> Candidate:
    """Make a candidate. Its row's id is a hash of what it says, so that it is the same in every build.

    Args:
        document: the document's key.
        text: the document's text.
        skill: which skill it teaches.
        messages: the conversation; the last one is the assistant's.
        source: where it comes from.
        provenance: enough to find it again; a mark is added where redaction fired.
        where: as a person calls it.
        tools: schemas of the tools that the model could call.
        slot: what it competes for; empty: all that was asked, word for word.
        rank: its place among competitors; None: the source's.
    """
    kept = ("content", "weight")
    spoken = [{key: value for key, value in message.items() if value or key in kept} for message in messages]
    asked = digest([message for message in spoken if message["role"] != "assistant"])
    marks = {"redacted": True} if REDACTED in json.dumps(spoken, ensure_ascii=False) else {}
    row = Row(
        id=digest([document, spoken]),
        document=document,
        skill=skill,
        messages=tuple(spoken),
        tools=tuple(tools),
        source=source,
        provenance={**provenance, **marks},
    )
    return Candidate(row, text, slot or asked, RANK[source] if rank is None else rank, where)


def digest(value: Any) -> str:
    """16 hexadecimal digits of a JSON value's hash."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False, sort_keys=True).encode()).hexdigest()[:16]

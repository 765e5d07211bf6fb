"""A person looks at a share of the rows: yes, no, or a fix. Decisions stay in review.jsonl; builds honour them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from agent.errors import InputError
from agent.messages import Message, Trajectory
from skills.annotate import record
from skills.annotate.framework import Framework
from training.dataset.candidates import RANK, REVIEWED, Candidate, Ledger
from training.rows import Row, Split
from training.synthesis.journal import Journal


class Decision(BaseModel):
    """What a person said about one row; `completion` is their own answer, where they wrote one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    decision: Literal["yes", "no", "edit"]
    completion: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """One row of a review: its place among those to review, from 1, and how many there are."""

    row: Row
    split: Split
    number: int
    total: int


def decisions(path: Path) -> dict[str, Decision]:
    """The decisions of a review file by row; the last one about a row counts. Raises InputError."""
    found: dict[str, Decision] = {}
    for number, entry in enumerate(Journal(path).entries, start=1):
        try:
            decision = Decision.model_validate(entry)
        except ValidationError as error:
            raise InputError(f"line {number} of {path} is no decision: {error.errors()[0]['msg']}") from None
        found[decision.id] = decision
    return found


def apply(found: Iterable[Candidate], decided: Mapping[str, Decision], ledger: Ledger) -> list[Candidate]:
    """The candidates as the review leaves them: a no drops one, a fix makes it a correction, a yes a person's label."""
    kept = []
    for one in found:
        decision = decided.get(one.row.id)
        if decision is None:
            kept.append(one)
        elif decision.decision == "no":
            ledger.drop("a person rejected it in review", one.where)
        else:
            kept.append(_reviewed(one, decision))
    return kept


def _reviewed(one: Candidate, decision: Decision) -> Candidate:
    """The candidate, verified by a person. Its id stays, so that the decision finds it in the next build, too."""
    row = one.row
    edited = decision.decision == "edit"
    source = "correction" if edited else row.source if row.verified else "gold"
    messages = list(row.messages)
    if edited:
        messages[-1] = {**messages[-1], "content": decision.completion}
    provenance = {**row.provenance, "review": "edited" if edited else "accepted", "was": row.source}
    changed = row.model_copy(update={"source": source, "messages": tuple(messages), "provenance": provenance})
    return replace(one, row=changed, rank=REVIEWED if edited else min(one.rank, RANK["correction"]))


def sample(rows: Sequence[tuple[Split, Row]], share: float, seed: int) -> list[Shown]:
    """A random share of the rows, in random order; the same rows for the same seed, and a larger share has them too.

    Args:
        rows: with their splits.
        share: above 0, at most 1; at least one row is chosen.
        seed: of the choice.
    """

    def lot(entry: tuple[Split, Row]) -> str:
        return hashlib.sha256(f"{seed}/{entry[1].id}".encode()).hexdigest()

    chosen = sorted(rows, key=lot)[: math.ceil(share * len(rows))]
    return [Shown(row, split, number, len(chosen)) for number, (split, row) in enumerate(chosen, start=1)]


def framework_of(row: Row) -> Framework | None:
    """The moves that a row answers; None if it annotates nothing."""
    messages = [Message(entry["role"], str(entry.get("content", ""))) for entry in row.messages]
    return record.framework_of(Trajectory(row.id, "", messages=messages))


def editable(row: Row) -> str:
    """The row's completion as a person edits it: an annotation as indented JSON, anything else as it is.

    Raises:
        InputError: the row ends in a call.
    """
    if row.messages[-1].get("tool_calls"):
        raise InputError("this row ends in a call, which is no text to edit", "Say yes or no to it.")
    if framework_of(row) is None:
        return row.completion
    return json.dumps(json.loads(row.completion), ensure_ascii=False, indent=2) + "\n"


def edited(row: Row, text: str) -> str:
    """The completion that a person's text stands for.

    Raises:
        InputError: it is empty, or no annotation with the row's moves.
    """
    framework = framework_of(row)
    if not text.strip():
        raise InputError("the text is empty")
    if framework is None:
        return text.strip()
    return record.completion(record.checked(record.read(text), framework), framework)


def doubts(row: Row) -> list[str]:
    """What the validators say to an annotation; empty for other rows."""
    framework = framework_of(row)
    if framework is None:
        return []
    document = next(str(entry["content"]) for entry in row.messages if entry["role"] == "user")
    return record.doubts(json.loads(row.completion), document, framework)

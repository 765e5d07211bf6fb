"""One synthesis, whatever it makes: its journal, its budgets, and what is too near to something else.

Each item is made in a few steps (a task, an evolved task, an answer); every attempt, accepted or rejected, is a line of
`journal.jsonl` with what it cost. A call with the same folder goes on after the last line. `rows.jsonl` and
`summary.json` are written from the journal, whole, at every end: done, out of budget, or interrupted.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from agent.errors import InputError, UsageError
from skills.annotate.validate import token_f1
from training.convert.atomic import write_text
from training.dataset.dedupe import Index
from training.rows import Row, as_jsonl
from training.synthesis.journal import Journal

ASKED = ("abstract", "task", "prompt", "question")
"""The keys by which an evaluation case says what it asks."""
ATTEMPTS = 6
"""Attempts for each row that is wanted, when no budget is given: a teacher that never succeeds must end."""


SHORT = 25
"""Words of a short text."""
ALIKE = 0.7
"""Token F1 from which two short texts are near duplicates."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for.

    Args:
        skill: what the rows teach: annotate, tools, rehearsal.
        teacher: the address of the model that writes.
        count: rows that are wanted.
        evolve: steps that rewrite each task: harder, rarer, shorter.
        seed: of every choice that chance makes.
        tokens, seconds: the budgets, over all calls with this folder; None is no limit.
    """

    skill: str
    teacher: str
    count: int
    evolve: tuple[str, ...] = ()
    seed: int = 0
    tokens: int | None = None
    seconds: float | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a folder to be gone on with; more may be wanted, and spent, than before."""
        return {"skill": self.skill, "teacher": self.teacher, "evolve": list(self.evolve), "seed": self.seed}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at an item.

    Args:
        kind: `seed`, or the evolve step that made it.
        text: the task, by which near duplicates are found; empty if there was none.
        row: the row, if it was accepted.
        reason: why it was rejected; empty if it was accepted. The part before a colon is what is counted.
        tokens: of every reply that it took, prompts included.
        seconds: of these replies.
        detail: what else is worth keeping.
    """

    kind: str
    text: str = ""
    row: Row | None = None
    reason: str = ""
    tokens: int = 0
    seconds: float = 0.0
    detail: dict[str, Any] = field(default_factory=dict)


Make = Callable[[int, "Neighbours"], AsyncGenerator[Attempt, None]]
"""Makes an item: given its number, from 0, and the texts to keep away from, it yields one attempt or more."""


class Neighbours:
    """The texts that a new one must not be near to: evaluation cases, and what was made before.

    Long texts are compared by their shingles (dataset/dedupe.py), which says nothing of a question of ten words: a
    short text is near another one if they share most content words.

    Args:
        excluded: texts of evaluation cases by key.
    """

    def __init__(self, excluded: Iterable[tuple[str, str]]) -> None:
        self._cases, self._made = _Texts(), _Texts()
        for _, text in excluded:
            self._cases.add(text)

    def near_case(self, text: str) -> bool:
        """Whether a text is near an evaluation case."""
        return self._cases.near(text)

    def near_made(self, text: str) -> bool:
        """Whether a text is near one that was made before."""
        return self._made.near(text)

    def objection(self, text: str) -> str:
        """Why a text cannot be taken; empty if it can."""
        if self.near_case(text):
            return "near an evaluation case"
        return "near another task" if self.near_made(text) else ""

    def add(self, text: str) -> None:
        """Keep away from this text, too."""
        self._made.add(text)


class _Texts:
    def __init__(self) -> None:
        self._index = Index()
        self._count = 0
        self._short: list[str] = []

    def add(self, text: str) -> None:
        self._index.add(str(self._count), text)
        self._count += 1
        if len(text.split()) <= SHORT:
            self._short.append(text)

    def near(self, text: str) -> bool:
        if any(True for _ in self._index.near(text)):
            return True
        return len(text.split()) <= SHORT and any(token_f1(text, other) >= ALIKE for other in self._short)


@dataclass(slots=True)
class Summary:
    """What a folder holds by now. `stopped` says why the last call ended."""

    rows: int = 0
    items: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    stopped: str = ""

    def __str__(self) -> str:
        tried = self.rows + sum(self.rejected.values())
        lines = [
            f"{self.rows} rows of {tried} attempts ({self.rows / max(1, tried):.0%}), {self.tokens} tokens, "
            f"{self.seconds:.0f} s; {self.stopped}"
        ]
        lines += [f"  rejected {count:>4}: {reason}" for reason, count in sorted(self.rejected.items(), key=_commonest)]
        return "\n".join(lines)


async def synthesise(
    plan: Plan,
    out: Path,
    make: Make,
    excluded: Iterable[tuple[str, str]] = (),
    tell: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Make items until enough rows are there or a budget is spent.

    Args:
        plan: what is wanted.
        out: the folder; it is gone on with if it holds the same plan.
        make: makes one item.
        excluded: evaluation cases, as key and text, that nothing may be near to.
        tell: called after every attempt.

    Raises:
        UsageError: the folder was made by another plan.
        ModelError: the teacher failed; what was made is kept.
    """
    _check_folder(plan, out)
    summary = Summary()
    neighbours = Neighbours(excluded)
    with Journal(out / "journal.jsonl") as journal:
        for entry in journal.entries:
            _count(summary, entry)
            if entry["row"]:
                neighbours.add(entry["text"])
        tell(summary)
        try:
            while not (stop := _spent(plan, summary)):
                await _item(plan, summary, make, neighbours, journal, tell)
            summary.stopped = stop
        except BaseException:
            summary.stopped = "broken off"
            raise
        finally:
            _write(out, journal, summary)
    return summary


async def _item(
    plan: Plan, summary: Summary, make: Make, neighbours: Neighbours, journal: Journal, tell: Callable[[Summary], None]
) -> None:
    """One item, each attempt on record as it is done."""
    number = summary.items
    entry: dict[str, Any] = {}
    async with aclosing(make(number, neighbours)) as attempts:
        async for attempt in attempts:
            if attempt.row is not None:
                neighbours.add(attempt.text)
            row = attempt.row.model_dump(mode="json") if attempt.row else None
            entry = asdict(replace(attempt, row=None)) | {"item": number, "row": row}
            journal.add(entry)
            _count(summary, entry)
            tell(summary)
            if _spent(plan, summary):
                break
    if not entry:
        raise RuntimeError(f"item {number} of {plan.skill} made no attempt")


def _count(summary: Summary, entry: dict[str, Any]) -> None:
    summary.items = entry["item"] + 1
    summary.tokens += entry["tokens"]
    summary.seconds += entry["seconds"]
    if entry["row"]:
        summary.rows += 1
    else:
        kind = entry["reason"].partition(":")[0]
        summary.rejected[kind] = summary.rejected.get(kind, 0) + 1


def _spent(plan: Plan, summary: Summary) -> str:
    """Why there is to be no further attempt; empty if there is."""
    if summary.rows >= plan.count:
        return "done"
    if plan.tokens is not None and summary.tokens >= plan.tokens:
        return f"stopped after {summary.tokens} tokens (--budget-tokens)"
    if plan.seconds is not None and summary.seconds >= plan.seconds:
        return f"stopped after {summary.seconds:.0f} seconds (--budget-seconds)"
    tried = summary.rows + sum(summary.rejected.values())
    if tried >= plan.count * ATTEMPTS:
        return f"stopped after {tried} attempts: {ATTEMPTS} for each row"
    return ""


def _check_folder(plan: Plan, out: Path) -> None:
    path = out / "plan.json"
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise InputError(f"{path} is not the plan of a synthesis", "Give --out another folder.") from None
        if before != plan.identity:
            told = ", ".join(
                f"{key} {before.get(key)!r}" for key in plan.identity if before.get(key) != plan.identity[key]
            )
            raise UsageError(f"{out} was begun with {told}", "Give the same options to go on, or --out another folder.")
    else:
        write_text(path, json.dumps(plan.identity, indent=1) + "\n")


def _write(out: Path, journal: Journal, summary: Summary) -> None:
    rows = [Row.model_validate(entry["row"]) for entry in journal.entries if entry["row"]]
    write_text(out / "rows.jsonl", as_jsonl(rows))
    write_text(out / "summary.json", json.dumps(asdict(summary) | {"written": time.time()}, indent=1) + "\n")


def _commonest(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0]


def case_texts(path: Path) -> list[str]:
    """What an evaluation file asks, a text a case: its abstract, task or prompt, or a training row's user messages.

    Raises:
        InputError: the file cannot be read, or a line has none of these.
    """
    found = []
    number = 0
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            number += 1
            if line.strip():
                found.append(_case_text(json.loads(line)))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"line {number} of {path} is no case", f"A line is a JSON object with {', '.join(ASKED)} or messages."
        ) from None
    return found


def _case_text(case: dict[str, Any]) -> str:
    text = next((case[key] for key in ASKED if isinstance(case.get(key), str)), None)
    if text is None:
        text = "\n".join(str(message["content"]) for message in case["messages"] if message["role"] == "user")
    return text

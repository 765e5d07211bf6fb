"""A case of acting: a task, the tools on offer, the world behind them, the check, and a solution that passes it.

The check is a program's: which calls have to be made with which arguments, what the answer has to say and what it must
not, and what the files have to hold. No judge takes part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import InputError
from agent.messages import Json
from evals.simulated.pools import Split
from training.rows import document_key

Kind = Literal[
    "single",  # one call
    "parallel",  # two calls that do not need each other
    "chained",  # an argument is another call's result
    "conditional",  # whether the second call is made depends on the first
    "several",  # three calls, the last of which needs the results of two
    "none",  # no tool on offer does it
    "missing",  # an argument was forgotten: ask for it
    "retry",  # the tool fails once
    "corrected",  # the name is misspelt, and the error says the right one
    "outage",  # the tool fails for good: say so
    "private",  # personal data that must stay where it is
    "edit",  # a file is changed in one place
    "todo",  # a list of tasks, each closed when it is done
    "phases",  # plan first, then do, then end the job
    "beads",  # claim a bead, do it, close it
    "delegate",  # large and independent parts: hand them over
    "alone",  # a small task: do not hand it over
]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Call(Frozen):
    """A call of a tool. The arguments named in `free` may say anything."""

    name: str
    arguments: dict[str, Any]
    free: tuple[str, ...] = ()

    def fits(self, name: str, arguments: Json) -> bool:
        """Whether a call is this one: the same arguments, none left out and none added; spaces and case are free."""
        own = {key: value for key, value in self.arguments.items() if key not in self.free}
        given = {key: value for key, value in arguments.items() if key not in self.free and value is not None}
        return name == self.name and own.keys() == given.keys() and all(_same(own[key], given[key]) for key in own)


class Turn(Frozen):
    """What the solution does in one turn; the json protocol makes one call a turn."""

    thought: str
    calls: tuple[Call, ...]


class Offered(Frozen):
    """A tool on offer: a family's, or one of `work` or `files`, perhaps under other names."""

    family: str
    tool: str
    name: str = ""
    parameters: dict[str, str] = {}
    text: str = ""

    @property
    def called(self) -> str:
        return self.name or self.tool


class Check(Frozen):
    """What has to hold at the end.

    Args:
        calls: these are made and succeed. Other calls may only read.
        tried: these are made and fail. Without `calls`, `tried` and `files`, no call may be made at all.
        contains: texts that all stand in the answer.
        any: texts of which one stands in it.
        asks: the answer is a question.
        excludes: texts that stand neither in the answer nor in any argument.
        mentions: texts that stand in some argument.
        files: the texts of files, by path.
    """

    calls: tuple[Call, ...] = ()
    tried: tuple[Call, ...] = ()
    contains: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    asks: bool = False
    excludes: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    files: dict[str, str] = {}


class Work(Frozen):
    """What the tools for one's own work hold: tasks, beads, the phase, and what sub-agents would answer.

    Args:
        todos: titles of the tasks that are open from the start.
        beads: title, and the numbers of the beads that must be closed before; counted from 1.
        phase: `strategic` where the job has phases; empty where it has none.
        results: what a sub-agent reports, by a text that its task has to mention.
    """

    todos: tuple[str, ...] = ()
    beads: tuple[tuple[str, tuple[int, ...]], ...] = ()
    phase: Literal["", "strategic"] = ""
    results: dict[str, str] = {}


class Case(Frozen):
    """One case. `fails`: what a tool answers to its first calls, as errors, by its name."""

    id: str
    split: Split
    kind: Kind
    task: str = Field(min_length=1)
    instructions: str = ""
    offered: tuple[Offered, ...]
    records: dict[str, list[dict[str, Any]]] = {}
    fails: dict[str, tuple[str, ...]] = {}
    files: dict[str, str] = {}
    work: Work = Work()
    check: Check
    turns: tuple[Turn, ...]
    closing: str
    answer: str = Field(min_length=1)

    @property
    def document(self) -> str:
        return document_key(self.task)

    @property
    def calls(self) -> tuple[Call, ...]:
        """Every call of the solution, in order."""
        return tuple(call for turn in self.turns for call in turn.calls)


def read(paths: Iterable[Path]) -> list[Case]:
    """The cases of JSONL files.

    Raises:
        InputError: a file cannot be read, a line is no case, there is none, or two have one id.
    """
    cases: list[Case] = []
    for path in paths:
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the case file {path} cannot be read: {error}", "Give a JSONL file.") from None
        for number, line in enumerate(lines, 1):
            try:
                cases += [Case.model_validate_json(line)] if line.strip() else []
            except ValidationError as error:
                wrong = error.errors()[0]
                where = ".".join(map(str, wrong["loc"])) or "the line"
                raise InputError(f"line {number} of {path} is not a case: {where}: {wrong['msg']}") from None
    if not cases:
        raise InputError("there is no case", "Give a JSONL file with a case a line.")
    if len({case.id for case in cases}) < len(cases):
        raise InputError("two cases have the same id", "Ids are how rows are compared: make them differ.")
    return cases


def as_jsonl(cases: Iterable[Case]) -> str:
    """Cases as the text of a file; what is empty is left out."""
    lines = (json.dumps(case.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False) for case in cases)
    return "".join(f"{line}\n" for line in lines)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)

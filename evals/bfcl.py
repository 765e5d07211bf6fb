"""The suite `bfcl`: cases of the Berkeley Function Calling Leaderboard, version 4, read from where they lie.

The files are not ours and not shipped: `--cases` names the folder that holds `BFCL_v4_simple_python.json` and the
others (the package `bfcl-eval` carries one), or one such file. Nothing of them is ever trained on. The rules of the
checker are the published ones (gorilla.cs.berkeley.edu, "AST evaluation"): the right function, all required parameters
and no unknown ones, each value of the described type and one of those that are accepted; texts are compared without
regard to case, spaces and some signs; parallel calls in any order; and no call at all where no function is relevant.

One thing differs. Where a protocol makes one call a turn, the calls of a `parallel` case are those of all turns; each
is answered with a bare acknowledgement. Everywhere else only the first turn counts, and the run ends after it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from agent.errors import InputError
from agent.loop import Loop
from agent.messages import Json, Message, Route, ToolCall
from agent.run import Run
from agent.session import Session
from evals import acting
from evals.measured import Suite
from evals.metrics import Share
from evals.simulated.play import OF_ONE_CASE
from tools.registry import Tool, ToolContext
from training.rows import document_key

Category = Literal["simple_python", "multiple", "parallel", "irrelevance"]
CATEGORIES: tuple[Category, ...] = ("simple_python", "multiple", "parallel", "irrelevance")
KINDS = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
"""BFCL's names of types that JSON Schema calls otherwise."""
DONE = '{"status": "ok"}'


class Case(BaseModel):
    """One case: what is asked, the functions in OpenAI's form, and the accepted calls.

    `answers` has an object for each call: the function's name, and by parameter the accepted values; an empty text
    among them means that the parameter may be left out. `names` are the functions' own names, by those on offer.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    category: Category
    task: str
    instructions: str = ""
    functions: tuple[dict[str, Any], ...]
    names: dict[str, str]
    answers: tuple[dict[str, dict[str, list[Any]]], ...] = ()

    @property
    def document(self) -> str:
        return document_key(self.task)

    def described(self, name: str) -> Json:
        """The parameters of a function, by the name that is offered. Raises KeyError."""
        found: Json = next(f for f in self.functions if f["function"]["name"] == name)["function"]["parameters"]
        return found


class Row(BaseModel):
    """One case's verdict; `field` is its category, `problem` the first thing that is wrong."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    document: str
    field: str
    correct: bool
    problem: str
    calls: int
    valid: int
    tokens: int
    prompt_tokens: int
    seconds: float
    run: str
    error: str = ""


METRICS: dict[str, Callable[[Row], Share]] = {
    "correct": lambda row: (row.correct, 1),
    "valid_calls": lambda row: (row.valid, row.calls),
    "task_tokens": lambda row: (row.tokens + row.prompt_tokens, 1),
    "seconds": lambda row: (row.seconds, 1),
}


def read(path: Path, rows: int | None = None) -> list[Case]:
    """The cases of a folder's four files, or of one file.

    Args:
        path: the folder, or a file in it; the accepted calls lie in its folder `possible_answer`.
        rows: the first so many of each file; all if None.

    Raises:
        InputError: a file is not there or not of that form; the sentence names it.
    """
    cases = [case for category, file in files(path) for case in _read(file, category)[:rows]]
    if not cases:
        raise InputError(f"{path} holds no case", "Give the folder with BFCL_v4_simple_python.json and the others.")
    return cases


def files(path: Path) -> list[tuple[Category, Path]]:
    """The files of cases, by category. Raises InputError if there is none."""
    paths = [path.parent / f"BFCL_v4_{c}.json" for c in CATEGORIES] if path.is_file() else []
    found = [(c, path / f"BFCL_v4_{c}.json") for c in CATEGORIES if (path / f"BFCL_v4_{c}.json").is_file()]
    found = found or [(c, p) for c, p in zip(CATEGORIES, paths, strict=False) if p == path]
    if not found:
        raise InputError(
            f"{path} holds no cases of BFCL version 4",
            "Give the folder with BFCL_v4_simple_python.json and the others; the package bfcl-eval has it as data/.",
        )
    return found


def sha256(path: Path) -> str:
    """The hash of the case files, in the order of the categories."""
    digest = hashlib.sha256()
    for _, file in files(path):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _read(path: Path, category: Category) -> list[Case]:
    accepted = {}
    if category != "irrelevance":
        beside = path.parent / "possible_answer" / path.name
        accepted = {entry["id"]: entry["ground_truth"] for entry in _lines(beside)}
    try:
        return [_case(entry, category, accepted.get(entry["id"], [])) for entry in _lines(path)]
    except (KeyError, TypeError, IndexError, ValueError) as error:
        raise InputError(f"{path} is not of the form of BFCL version 4: {error!r}") from None


def _lines(path: Path) -> list[Json]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", "It lies beside the others.") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON, line by line: {error}") from None


def _case(entry: Json, category: Category, accepted: Sequence[Json]) -> Case:
    if category != "irrelevance" and not accepted:
        raise ValueError(f"no accepted call of {entry['id']}")
    (messages,) = entry["question"]
    names = {re.sub(r"[^\w-]", "_", function["name"]): function["name"] for function in entry["function"]}
    return Case(
        id=entry["id"],
        category=category,
        task="\n".join(message["content"] for message in messages if message["role"] == "user"),
        instructions="\n".join(message["content"] for message in messages if message["role"] == "system"),
        functions=tuple(map(_schema, entry["function"])),
        names=names,
        answers=tuple(accepted),
    )


def _schema(function: Json) -> Json:
    """A function in OpenAI's form. Names with a dot are refused by many servers: it becomes a line."""
    name = re.sub(r"[^\w-]", "_", function["name"])
    parameters = _standard(function["parameters"])
    return {
        "type": "function",
        "function": {"name": name, "description": function["description"], "parameters": parameters},
    }


def _standard(schema: Any) -> Any:
    """The schema with JSON Schema's names of types."""
    if isinstance(schema, list):
        return [_standard(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    changed = {"type": KINDS.get(kind, kind)} if isinstance(kind, str) else {}
    return {key: _standard(value) for key, value in schema.items() if key != "optional"} | changed


# The checker


def problem(case: Case, calls: Sequence[ToolCall]) -> str:
    """What is wrong with the calls of a case; empty if nothing is."""
    if case.category == "irrelevance":
        return "a function was called though none is relevant" if calls else ""
    if len(calls) != len(case.answers):
        return f"{len(calls)} calls instead of {len(case.answers)}"
    left = list(calls)
    for answer in case.answers:
        said = [mismatch(case, answer, call) for call in left]
        if "" not in said:
            return said[0]
        del left[said.index("")]
    return ""


def mismatch(case: Case, answer: Json, call: ToolCall) -> str:
    """Why a call is not the accepted one; empty if it is."""
    ((name, accepted),) = answer.items()
    if call.malformed or case.names.get(call.name) != name:
        return f"{call.name or 'no function'} instead of {name}"
    described = case.described(call.name)
    if lacking := [key for key in described.get("required", ()) if key not in call.arguments]:
        return f"{name} lacks {lacking[0]}"
    for key, value in call.arguments.items():
        if key not in described["properties"] or key not in accepted:
            return f"{name} has no {key}"
        if not _accepted(value, accepted[key], described["properties"][key]):
            return f"{key} of {name} is {json.dumps(value)}"
    if lacking := [key for key, options in accepted.items() if key not in call.arguments and "" not in options]:
        return f"{name} lacks {lacking[0]}"
    return ""


def _accepted(value: Any, options: Sequence[Any], described: Json) -> bool:
    """Whether a value is of its described type and one of the options.

    A value of another type counts where the options are of that type too: they then name a variable.
    """
    variable = any(type(value) is type(option) for option in options if option != "")
    return (_typed(value, described) or variable) and any(_same(value, option) for option in options)


def _typed(value: Any, described: Json) -> bool:
    """Whether a value is of a described type; a whole number is also a number."""
    kind = described.get("type")
    if kind == "array":
        inner = described.get("items", {})
        return isinstance(value, list) and all(_typed(entry, inner) for entry in value)
    if kind in ("integer", "number"):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole or (kind == "number" and isinstance(value, float))
    types = {"string": str, "boolean": bool, "object": dict}
    return not isinstance(kind, str) or kind not in types or isinstance(value, types[kind])


def _same(value: Any, option: Any) -> bool:
    """Whether a value is an option: an option that is an object has a list of options for each of its keys."""
    if isinstance(value, str) and isinstance(option, str):
        return _bare(value) == _bare(option)
    if isinstance(value, list) and isinstance(option, list):
        return len(value) == len(option) and all(map(_same, value, option))
    if isinstance(value, dict) and isinstance(option, dict):
        there = all(key in option and any(_same(one, o) for o in option[key]) for key, one in value.items())
        return there and all(key in value or "" in options for key, options in option.items())
    return isinstance(value, bool) == isinstance(option, bool) and bool(value == option)


def _bare(text: str) -> str:
    """A text without case, spaces and the signs , . / - _ * ^; both kinds of quotation marks are one."""
    return re.sub(r"[ ,./\-_*^]", "", text).lower().replace("'", '"')


# Answering


@dataclass(frozen=True, slots=True)
class Described(Tool):
    """A tool whose schema is given as it is, and which only acknowledges."""

    given: Json | None = None

    @property
    def schema(self) -> Json:
        assert self.given is not None
        return self.given


class Anything(BaseModel):
    """Arguments that nobody looks at: the checker reads the record."""

    model_config = ConfigDict(extra="allow")


async def _acknowledge(context: ToolContext) -> str:
    return DONE


def tools(case: Case) -> dict[str, Tool]:
    """The functions of a case as tools."""
    found: dict[str, Tool] = {}
    for schema in case.functions:
        name, text = schema["function"]["name"], schema["function"]["description"]
        found[name] = Described(name, text, Anything, _acknowledge, "read", False, "bfcl", given=schema)
    return found


async def answer(case: Case, session: Session, address: str) -> Row:
    """Let a model do one case, and check its calls."""
    offered = tools(case)
    steps = session.settings.budget.steps if case.category == "parallel" else 1
    budget = session.settings.budget.model_copy(update={"steps": steps})
    own = replace(session, settings=session.settings.model_copy(update={"budget": budget}), tools=offered)
    error = ""
    route = Route(address, "flag", "it is evaluated")
    run = Run(own, case.task, route, tools=[tool.schema for tool in offered.values()])
    try:
        async with run:
            await Loop(run, address, offered, case.instructions).answer(case.task)
    except OF_ONE_CASE as failure:
        error = failure.message
    made = [call for message in run.messages for call in message.tool_calls]
    said = error or problem(case, made)
    usage = run.trajectory.usage
    return Row(
        id=case.id,
        document=case.document,
        field=case.category,
        correct=not said,
        problem=said,
        calls=len(made),
        valid=sum(valid(case, call) for call in made),
        tokens=usage.completion_tokens,
        prompt_tokens=usage.prompt_tokens,
        seconds=max(0.0, run.trajectory.ended - run.trajectory.started),
        run=run.id,
        error=error,
    )


def valid(case: Case, call: ToolCall) -> bool:
    """Whether a call names a function on offer and fits its description."""
    if call.malformed or call.name not in case.names:
        return False
    described = case.described(call.name)
    known = described["properties"]
    return all(key in call.arguments for key in described.get("required", ())) and all(
        key in known and _typed(value, known[key]) for key, value in call.arguments.items()
    )


async def shots(session: Session, address: str) -> list[Message]:
    """The same worked examples as for acting: nothing of BFCL is shown."""
    return await acting.shots(session, address)


BFCL: Suite[Case, Row] = Suite("bfcl", Row, answer, shots)

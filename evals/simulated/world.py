"""The world of one case while it is worked on: records that tools read and change, and what they answer.

Answers are JSON and depend on nothing but the case and the calls before. A tool is a `tools.registry.Tool`, so that the
real loop runs it, checks its arguments and records what it says.
"""

from __future__ import annotations

import ast
import copy
import difflib
import json
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from random import Random
from typing import Any

from pydantic import BaseModel

from agent.errors import ToolError
from agent.messages import Json
from evals.simulated.case import Case, Offered
from evals.simulated.families import Family, Spec, families, table
from evals.simulated.pools import Split
from evals.simulated.work import TWINS, Desk
from tools import files as file_tools
from tools.registry import Tool, ToolContext
from training.synthesis.simulated import model_of

READING = ("look_up", "search", "calculate")
"""What a tool may do without changing anything."""
FILES = {tool.name: tool for tool in (file_tools.read_file, file_tools.edit_file, file_tools.write_file)}
"""The real tools for files, for cases about editing."""


class World:
    """Everything behind the tools of one case. Nothing of it is shared with another run of the case.

    `tools` are those on offer, by the names that the model sees.
    """

    def __init__(self, case: Case) -> None:
        self.case = case
        self.families = families(case.split)
        self._records: dict[str, list[Json]] = copy.deepcopy(case.records)
        self.fails = {name: list(messages) for name, messages in case.fails.items()}
        self.desk = Desk(case.work)
        self.made = 0
        self.tools: dict[str, Tool] = {offered.called: self._tool(offered) for offered in case.offered}

    def reading(self) -> frozenset[str]:
        """The names of the tools that change nothing."""
        return frozenset(offered.called for offered in self.case.offered if self._reads(offered))

    def _reads(self, offered: Offered) -> bool:
        if offered.family == "files":
            return FILES[offered.tool].effect == "read"
        if offered.family == "work":
            return TWINS[offered.tool].reads
        return self.families[offered.family].spec(offered.tool).does in READING

    def _tool(self, offered: Offered) -> Tool:
        function = schema(offered, self.case.split)["function"]
        inner = {new: old for old, new in offered.parameters.items()}

        async def run(context: ToolContext, **arguments: Any) -> str:
            given = {inner.get(key, key): value for key, value in arguments.items() if value is not None}
            if offered.family == "files":
                return await FILES[offered.tool].run(context, **given)
            return self._answer(offered, given)

        model = _model(offered.called, json.dumps(function["parameters"]))
        return Tool(offered.called, function["description"], model, run, "read", False, "simulated")

    def _answer(self, offered: Offered, given: Json) -> str:
        """What a tool says. Raises ToolError, which the model reads."""
        waiting = self.fails.get(offered.called, [])
        if waiting:
            raise ToolError(waiting.pop(0))
        if offered.family == "work":
            return self.desk.answer(offered.tool, given)
        self.desk.acts()
        family = self.families[offered.family]
        spec = family.spec(offered.tool)
        found: Json | list[Json] = ANSWERS[spec.does](self, family, spec, given)
        return json.dumps(found, ensure_ascii=False)

    def records(self, family: Family) -> list[Json]:
        """The records of a family as they are now. Those of a family that the case leaves open are drawn for it."""
        if family.name not in self._records:
            rows = table(family, self.case.split, Random(f"{self.case.id} {family.name}"))
            self._records[family.name] = [{key: value.given for key, value in row.items()} for row in rows]
        return self._records[family.name]

    def record(self, family: Family, key: Any) -> Json:
        """The record with this key. Raises ToolError, naming the nearest key."""
        records = self.records(family)
        for record in records:
            if str(record[family.key]).casefold() == str(key).strip().casefold():
                return record
        near = difflib.get_close_matches(str(key), [str(record[family.key]) for record in records], n=1, cutoff=0.5)
        raise ToolError(f"there is no {family.key} {key!r}" + (f"; the nearest is {near[0]!r}" if near else ""))


@lru_cache(maxsize=512)
def _model(name: str, parameters: str) -> type[BaseModel]:
    """The model of a tool's arguments; making one takes longer than playing a case."""
    return model_of(name, json.loads(parameters))


def schema(offered: Offered, split: Split) -> Json:
    """What the model sees of a tool: its own schema under the names on offer, the parameters in their order."""
    if offered.family == "work":
        function = TWINS[offered.tool].schema(offered.tool)["function"]
    elif offered.family == "files":
        function = FILES[offered.tool].schema["function"]
    else:
        family = families(split)[offered.family]
        function = family.function(family.spec(offered.tool), offered.text)["function"]
    parameters = function["parameters"]
    names = {old: offered.parameters.get(old, old) for old in parameters["properties"]}
    order = [old for old in offered.parameters if old in names] or list(names)
    order += [old for old in names if old not in order]
    properties = {names[old]: parameters["properties"][old] for old in order}
    required = [names[old] for old in order if old in parameters["required"]]
    changed = parameters | {"properties": properties, "required": required}
    own = offered.family in ("work", "files") and offered.text
    text = own or function["description"]
    return {"type": "function", "function": {"name": offered.called, "description": text, "parameters": changed}}


def _look_up(world: World, family: Family, spec: Spec, given: Json) -> Json:
    record = world.record(family, given[family.key])
    return {name: record[name] for name in (*spec.gives, *family.private)}


def _search(world: World, family: Family, spec: Spec, given: Json) -> list[Json]:
    records = world.records(family)
    fitting = [r for r in records if all(str(r[k]).casefold() == str(v).strip().casefold() for k, v in given.items())]
    return [{family.key: record[family.key]} for record in fitting]


def _create(world: World, family: Family, spec: Spec, given: Json) -> Json:
    world.made += 1
    return {"id": f"{family.prefix}-{world.made}", "status": "done"}


def _change(world: World, family: Family, spec: Spec, given: Json) -> Json:
    world.record(family, given[family.key]).update(given)
    return {"status": "done"}


def _remove(world: World, family: Family, spec: Spec, given: Json) -> Json:
    world.records(family).remove(world.record(family, given[family.key]))
    return {"status": "done"}


def _calculate(world: World, family: Family, spec: Spec, given: Json) -> Json:
    return {"result": calculate(str(given["expression"]))}


ANSWERS: Mapping[str, Callable[[World, Family, Spec, Json], Any]] = {
    "look_up": _look_up,
    "search": _search,
    "create": _create,
    "change": _change,
    "remove": _remove,
    "calculate": _calculate,
}
_SIGNS: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}


def calculate(expression: str) -> int:
    """The value of whole numbers joined by +, - and *. Raises ToolError for anything else."""
    try:
        if len(expression) > 100:
            raise ValueError
        return _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, KeyError):
        raise ToolError(f"{expression[:100]!r} is not an expression of digits and + - *") from None


def _value(node: ast.expr) -> int:
    if isinstance(node, ast.BinOp):
        return _SIGNS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    raise ValueError

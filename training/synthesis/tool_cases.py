"""New cases for tools: a teacher writes a task, the facts behind it and a check; then it is solved by the real loop.

The task and the solution are apart: who solves the case sees the task and the tools, never the facts or the check. The
tools are played (simulated.py). A case is accepted if its own check passes on what the loop put on record, and its row
then counts as `check`. In every fifth case no tool fits, so that a model does not learn to call one whatever is asked.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from agent.consent import Consent
from agent.errors import InputError
from agent.loop import Loop
from agent.messages import Event, Json, Message, Route, Trajectory
from agent.models.base import Model
from agent.redact import Redactor
from agent.run import Run
from agent.session import Session
from agent.settings import Settings
from agent.traces import TraceStore
from tools import registry as tools_registry
from tools.workspace import Workspace
from training.dataset.candidates import Ledger
from training.dataset.trajectories import collect
from training.synthesis import evolve
from training.synthesis.asking import Answer, Form, ask
from training.synthesis.simulated import Stage, parts
from training.synthesis.subjects import AREAS, pick
from training.synthesis.work import Attempt, Make, Neighbours, Plan

OFFERED = (2, 5)
"""How many tools a case offers, at least and at most."""
NO_TOOL_FITS = 5
"""In every so many-th case the task needs no tool."""
MOST_TOKENS = 900
TEMPERATURE = 0.9
SYSTEM = (
    "You write test cases for an assistant that has tools. A case is a task as a person would type it, facts that only "
    "the tools know, the calls that solve it, and short texts that a right answer must contain. The task never "
    "gives away the answer, and names everything that the calls need. Reply with one JSON object: "
    '{"task": "...", "facts": "...", "calls": [{"name": "...", "arguments": "<JSON object>"}], "answer": ["..."]}'
)


class Expected(Form):
    """A call that the solution must make. The arguments are JSON as text; those that are left out may be anything."""

    name: str = Field(min_length=1, max_length=64)
    arguments: str = Field(max_length=600)


class Case(Form):
    """What the teacher writes. Without calls, no tool may be called."""

    task: str = Field(min_length=12, max_length=1200)
    facts: str = Field(max_length=1600)
    calls: list[Expected] = Field(max_length=6)
    answer: list[str] = Field(min_length=1, max_length=4)


@dataclass(frozen=True, slots=True)
class ToolCases:
    """Makes rows of the generic tool-calling form.

    Args:
        teacher: the model that writes, plays the tools and solves.
        plan: its seed and evolve steps are read.
        schemas: the tools to choose from, in OpenAI's form.
        settings: the loop's budgets.
        folder: for the record of the runs.
    """

    teacher: Model
    plan: Plan
    schemas: Sequence[Json]
    settings: Settings
    folder: Path

    async def make(self, number: int, neighbours: Neighbours) -> AsyncGenerator[Attempt, None]:
        """One case, and what each evolve step makes of it; see `work.Make`."""
        chance = random.Random(f"{self.plan.seed} {number}")
        offered = chance.sample(list(self.schemas), min(len(self.schemas), chance.randint(*OFFERED)))
        bare = number % NO_TOOL_FITS == NO_TOOL_FITS - 1
        listed = "\n".join(json.dumps(schema["function"], ensure_ascii=False) for schema in offered)
        wish = "Write a task that none of them helps with, and no calls." if bare else "Write a task that needs them."
        asked = f"The tools:\n{listed}\n\nThe subject: {pick(AREAS, chance)}. {wish}"
        seed = chance.randrange(2**31)
        made = await self._write(asked, seed)
        seeded = await self._attempt("seed", made, offered, neighbours, "", bare)
        yield seeded
        if seeded.row is None or made.found is None:
            return
        for place, step in enumerate(self.plan.evolve, start=1):
            text = f"{asked}\n\n{evolve.instruction(step)}\n\n{made.found.model_dump_json()}"
            again = await self._write(text, (seed + place) % 2**31)
            yield await self._attempt(step, again, offered, neighbours, made.found.task, bare)

    async def _write(self, text: str, seed: int) -> Answer[Case]:
        messages = [Message("system", SYSTEM), Message("user", text)]
        return await ask(self.teacher, messages, Case, max_tokens=MOST_TOKENS, temperature=TEMPERATURE, seed=seed)

    async def _attempt(
        self, kind: str, made: Answer[Case], offered: Sequence[Json], neighbours: Neighbours, before: str, bare: bool
    ) -> Attempt:
        """Check a case, then solve it, and check that."""
        case = made.found
        if case is None:
            return Attempt(kind, reason=f"no case: {made.problem}", tokens=made.tokens, seconds=made.seconds)
        said = faults(case, offered, bare) or (before and evolve.changed(before, case.task, kind))
        said = said or neighbours.objection(case.task)
        if said:
            return Attempt(kind, case.task, None, said, made.tokens, made.seconds, case.model_dump())
        stage = Stage(self.teacher, case.facts)
        run = await self._solve(case, offered, stage)
        said = failed(case, run)
        tokens = made.tokens + stage.tokens + run.usage.tokens
        seconds = made.seconds + stage.seconds + run.usage.seconds
        detail = case.model_dump() | {"run": run.id}
        if said:
            return Attempt(kind, case.task, None, said, tokens, seconds, detail)
        run.labels["check"] = True
        examples = collect([run], "", Ledger()).examples
        if not examples:
            return Attempt(kind, case.task, None, "the run makes no row", tokens, seconds, detail)
        provenance = {"teacher": run.model, "step": kind, "run": run.id, "check": case.model_dump()}
        row = examples[0].row.model_copy(update={"skill": "tools", "provenance": provenance})
        return Attempt(kind, case.task, row, "", tokens, seconds, detail)

    async def _solve(self, case: Case, offered: Sequence[Json], stage: Stage) -> Trajectory:
        """The case as the real loop solves it, on a record in this folder. Raises ModelError if the teacher failed."""
        session = self._session()
        try:
            tools = {parts(schema)[0]: stage.tool(schema) for schema in offered}
            route = Route(self.teacher.address, "flag", "it is the teacher")
            schemas = [tool.schema for tool in tools.values()]
            async with Run(session, case.task, route, tools=schemas) as run:
                await Loop(run, self.teacher.address, tools).answer(case.task)
            return run.trajectory
        finally:
            session.store.close()

    def _session(self) -> Session:
        redactor = Redactor()
        workspace = self.folder / "workspace"
        workspace.mkdir(parents=True, exist_ok=True)
        store = TraceStore.open(self.folder / "traces.db", redactor)
        consent, place = Consent(), Workspace(workspace)
        context = tools_registry.ToolContext(
            place, consent, self.settings, redactor, self.folder / "outputs", self.folder
        )
        session = Session(self.settings, store, _unheard, consent, place, {}, context, {}, self.folder)
        session.models[self.teacher.address] = self.teacher
        return session


def faults(case: Case, offered: Sequence[Json], bare: bool) -> str:
    """Why a case cannot be used; empty if it can."""
    names = {parts(schema)[0] for schema in offered}
    if bare and case.calls:
        return "no case: calls where no tool fits"
    if not bare and not case.calls:
        return "no case: no calls"
    for call in case.calls:
        if call.name not in names:
            return "no case: a call of a tool that is not offered"
        if _arguments(call) is None:
            return "no case: arguments that are no JSON object"
    if any(not text.strip() or _said(text, case.task) for text in case.answer):
        return "no case: the task gives the answer away"
    if not bare and not all(_said(text, case.facts) for text in case.answer):
        return "no case: the facts do not hold the answer"
    return ""


def failed(case: Case, run: Trajectory) -> str:
    """What a run lacks by its case's own check; empty if it passes."""
    if run.outcome != "success":
        return f"not solved: {run.reason}"
    calls = [call for message in run.messages for call in message.tool_calls]
    answered = {message.tool_call_id for message in run.messages if message.role == "tool" and not message.is_error}
    for expected in case.calls:
        wanted = _arguments(expected) or {}
        fitting = [call for call in calls if call.name == expected.name and call.id in answered]
        if not any(_fits(wanted, call.arguments) for call in fitting):
            return f"not solved: {expected.name} was not called as it should be"
    if not case.calls and calls:
        return "not solved: a tool was called where none fits"
    missing = [text for text in case.answer if not _said(text, run.messages[-1].content)]
    return f"not solved: the answer lacks {missing[0]!r}" if missing else ""


def read_schemas(path: Path) -> list[Json]:
    """The tools' schemas of a JSON file, a list in OpenAI's form. Raises InputError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, list) or not found:
        raise InputError(f"{path} is not a list of tools")
    for schema in found:
        parts(schema)
    return found


def tool_cases(teacher: Model, plan: Plan, schemas: Sequence[Json], settings: Settings, folder: Path) -> Make:
    """How items of tool use are made."""
    return ToolCases(teacher, plan, schemas, settings, folder).make


def _arguments(call: Expected) -> Json | None:
    try:
        found = json.loads(call.arguments or "{}")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _fits(wanted: Json, given: Json) -> bool:
    return all(key in given and _same(value, given[key]) for key, value in wanted.items())


def _same(one: Any, other: Any) -> bool:
    """Whether two arguments mean the same: texts without regard to case and spaces."""
    if isinstance(one, str) and isinstance(other, str):
        return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
    return bool(one == other)


def _said(text: str, where: str) -> bool:
    """Whether a text occurs as whole words, without regard to case."""
    return bool(re.search(rf"(?<!\w){re.escape(text.strip().casefold())}(?!\w)", where.casefold()))


def _unheard(event: Event) -> None:
    """Nobody watches these runs."""

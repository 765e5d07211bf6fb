"""Twins of the tools for one's own work: tasks, phases, beads and sub-agents. Same names and parameters, no effect.

Where a job has phases, planning belongs to the first and doing to the second: a call in the wrong one is refused, and
counted. The job begins in the strategic phase; `next_phase_todos` opens the tactical one, which ends when every task is
completed; `job_complete` belongs to the strategic phase again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agent.errors import ToolError
from agent.messages import Json
from evals.simulated.case import Work


@dataclass(slots=True)
class Task:
    """A task of the list."""

    title: str
    done: bool = False


@dataclass(slots=True)
class Bead:
    """A bead and the ones that must be closed before."""

    title: str
    after: list[str]
    status: str = "open"


@dataclass(slots=True)
class Desk:
    """The state of one case's own work, and what is counted about it.

    Args:
        work: how it is at the start.
        planned: calls that belong to a phase, and how many of them were made in it.
    """

    work: Work
    phase: str = ""
    todos: dict[str, Task] = field(default_factory=dict)
    beads: dict[str, Bead] = field(default_factory=dict)
    closed: bool = False
    in_phase: int = 0
    phased: int = 0

    def __post_init__(self) -> None:
        self.phase = self.work.phase
        for title in self.work.todos:
            self._add(title)
        for number, (title, after) in enumerate(self.work.beads, 1):
            self.beads[f"b-{number}"] = Bead(title, [f"b-{other}" for other in after])

    def answer(self, name: str, given: Json) -> str:
        """What a twin says. Raises ToolError, which the model reads."""
        twin = TWINS[name]
        if twin.phase:
            self._belongs(twin.phase)
        found = twin.run(self, **given)
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    def acts(self) -> None:
        """A tool that does the task's own work is called. Raises ToolError where that belongs to the other phase."""
        self._belongs("tactical")

    def _belongs(self, phase: str) -> None:
        if not self.phase:
            return
        self.phased += 1
        if self.phase != phase:
            raise ToolError(f"this belongs to the {phase} phase, and the phase is {self.phase}")
        self.in_phase += 1

    def _add(self, title: str) -> str:
        identity = f"t-{len(self.todos) + 1}"
        self.todos[identity] = Task(title)
        return identity

    def todo_add(self, title: str) -> Json:
        return {"id": self._add(title)}

    def todo_complete(self, id: str, note: str) -> Json:
        if id not in self.todos:
            raise ToolError(f"there is no task {id!r}; there are {', '.join(self.todos) or 'none'}")
        self.todos[id].done = True
        if self.phase and all(task.done for task in self.todos.values()):
            self.phase = "strategic"
        return self._open()

    def todo_list(self) -> Json:
        return self._open()

    def _open(self) -> Json:
        return {"open": {key: task.title for key, task in self.todos.items() if not task.done}}

    def next_phase_todos(self, todos: list[str]) -> Json:
        if not todos:
            raise ToolError("a phase needs at least one task")
        found = {self._add(title): title for title in todos}
        self.phase = "tactical"
        return {"phase": "tactical", "open": found}

    def job_complete(self, summary: str, reason_open: str = "") -> Json:
        waiting = [key for key, task in self.todos.items() if not task.done]
        if waiting and not reason_open:
            raise ToolError(f"{', '.join(waiting)} are open: complete them, or give reason_open")
        self.closed = True
        return {"status": "complete"}

    def notes_read(self) -> str:
        return "(no notes)"

    def notes_write(self, text: str) -> Json:
        return {"status": "written"}

    def bead_create(self, title: str) -> Json:
        identity = f"b-{len(self.beads) + 1}"
        self.beads[identity] = Bead(title, [])
        return {"id": identity}

    def bead_show(self, id: str) -> Json:
        bead = self._bead(id)
        return {"id": id, "title": bead.title, "status": bead.status, "after": bead.after}

    def bead_ready(self) -> Json:
        return {
            key: bead.title
            for key, bead in self.beads.items()
            if bead.status == "open" and all(self.beads[other].status == "closed" for other in bead.after)
        }

    def bead_claim(self, id: str) -> Json:
        if id not in self.bead_ready():
            raise ToolError(f"{id} is not ready: it is {self._bead(id).status}, or waits for others")
        self.beads[id].status = "in_progress"
        return {"id": id, "status": "in_progress"}

    def bead_update(self, id: str, status: str) -> Json:
        self._bead(id).status = status
        return {"id": id, "status": status}

    def bead_depend(self, id: str, on: str) -> Json:
        self._bead(on)
        self._bead(id).after.append(on)
        return {"id": id, "after": self.beads[id].after}

    def bead_close(self, id: str, reason: str) -> Json:
        if self._bead(id).status != "in_progress":
            raise ToolError(f"{id} was not claimed: claim it before you close it")
        self.beads[id].status = "closed"
        return {"id": id, "status": "closed"}

    def _bead(self, identity: str) -> Bead:
        if identity not in self.beads:
            raise ToolError(f"there is no bead {identity!r}; there are {', '.join(self.beads) or 'none'}")
        return self.beads[identity]

    def delegate(self, tasks: list[Any], parallel: bool) -> list[Json]:
        """A short result for each part; a sub-agent that nobody told what it is about finds nothing."""
        reports = []
        for number, task in enumerate(tasks, 1):
            text = json.dumps(getattr(task, "task", task), ensure_ascii=False).casefold()
            found = [report for key, report in self.work.results.items() if key.casefold() in text]
            reports.append({"task": number, "result": " ".join(found) or "nothing was found"})
        return reports


@dataclass(frozen=True, slots=True)
class Twin:
    """A tool of the desk: its text, its parameters as JSON schemas, and the phase that it belongs to, if any."""

    text: str
    properties: dict[str, Json]
    run: Callable[..., Any]
    optional: tuple[str, ...] = ()
    phase: str = ""
    reads: bool = False

    def schema(self, name: str) -> Json:
        """The function schema in OpenAI's form."""
        required = [key for key in self.properties if key not in self.optional]
        parameters = {"type": "object", "properties": self.properties, "required": required}
        return {"type": "function", "function": {"name": name, "description": self.text, "parameters": parameters}}


def _text(description: str) -> Json:
    return {"type": "string", "description": description}


_ID = _text("its id")
_PART = {
    "type": "object",
    "properties": {
        "task": _text("everything that the sub-agent has to know"),
        "model": _text("its model"),
        "tools": {"type": "array", "items": {"type": "string"}},
        "steps": {"type": "integer"},
    },
    "required": ["task"],
}
TWINS: dict[str, Twin] = {
    "todo_add": Twin("Add a task to the list.", {"title": _text("the task")}, Desk.todo_add),
    "todo_complete": Twin(
        "Mark a task of the list as done, with a note of what was done.",
        {"id": _ID, "note": _text("what was done")},
        Desk.todo_complete,
        phase="tactical",
    ),
    "todo_list": Twin("Show the open tasks of the list.", {}, Desk.todo_list, reads=True),
    "next_phase_todos": Twin(
        "End planning: hand over the tasks of the tactical phase.",
        {"todos": {"type": "array", "items": {"type": "string"}, "description": "their titles"}},
        Desk.next_phase_todos,
        phase="strategic",
    ),
    "job_complete": Twin(
        "End the job with a summary; open tasks need a reason.",
        {"summary": _text("what was reached"), "reason_open": _text("why tasks are open") | {"default": ""}},
        Desk.job_complete,
        optional=("reason_open",),
        phase="strategic",
    ),
    "notes_read": Twin("Read the notes of the workspace.", {}, Desk.notes_read, reads=True),
    "notes_write": Twin("Write the notes of the workspace.", {"text": _text("all of them")}, Desk.notes_write),
    "bead_create": Twin("Create a bead, a piece of work.", {"title": _text("what is to be done")}, Desk.bead_create),
    "bead_show": Twin("Show a bead and what it waits for.", {"id": _ID}, Desk.bead_show, reads=True),
    "bead_ready": Twin("Show the beads that are open and wait for nothing.", {}, Desk.bead_ready, reads=True),
    "bead_claim": Twin("Claim a ready bead before working on it.", {"id": _ID}, Desk.bead_claim),
    "bead_update": Twin(
        "Set the status of a bead.", {"id": _ID, "status": _text("open or in_progress")}, Desk.bead_update
    ),
    "bead_depend": Twin(
        "Let a bead wait for another one.", {"id": _ID, "on": _text("the other's id")}, Desk.bead_depend
    ),
    "bead_close": Twin(
        "Close a claimed bead whose work is done.", {"id": _ID, "reason": _text("what was done")}, Desk.bead_close
    ),
    "delegate": Twin(
        "Hand large independent parts of a task to sub-agents, each with a context of its own.",
        {"tasks": {"type": "array", "items": _PART, "description": "the parts"}, "parallel": {"type": "boolean"}},
        Desk.delegate,
    ),
}

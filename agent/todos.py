"""The todo list of a run: what is to be done, what is done with a note of what came of it, and how a model sees it.

Every change is a tool call, so the record holds the list: replayed from it, an interrupted job goes on.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from agent.errors import ToolError
from agent.messages import Message

Phase = Literal["", "strategic", "tactical"]
MOST = 100
"""Todos of one list."""
SHOWN = 12
"""Open todos that a model is shown at every turn; todo_list gives all."""


@dataclass(slots=True)
class Todo:
    """One thing to be done. `note` says what came of it; todos are numbered from 1 in the order they were added."""

    id: int
    title: str
    done: bool = False
    note: str = ""


@dataclass(slots=True)
class Todos:
    """The list, and which phase of a job works on it; a run without phases has none."""

    items: list[Todo] = field(default_factory=list)
    phase: Phase = ""
    summary: str | None = None
    """What job_complete said; None while the job goes on."""
    reason_open: str = ""
    """Why the job ended with open todos."""

    @property
    def open(self) -> list[Todo]:
        return [todo for todo in self.items if not todo.done]

    def add(self, title: str) -> Todo:
        """Append an open todo. Raises ToolError if the list is full or the title says nothing."""
        if not title.strip():
            raise ToolError("a todo needs a title", "Say in one line what is to be done.")
        if len(self.items) >= MOST:
            raise ToolError(f"the list holds {MOST} todos and takes no more", "Complete some, or make them larger.")
        self.items.append(Todo(len(self.items) + 1, " ".join(title.split())))
        return self.items[-1]

    def complete(self, number: int, note: str) -> Todo:
        """Mark a todo as done. Raises ToolError if there is none of that number, it is done already, or has no note."""
        if not 1 <= number <= len(self.items):
            known = ", ".join(str(todo.id) for todo in self.open) or "none"
            raise ToolError(f"there is no todo {number}", f"Open are: {known}.")
        todo = self.items[number - 1]
        if todo.done:
            raise ToolError(f"todo {number} is done already: {todo.note}")
        if not note.strip():
            raise ToolError(f"todo {number} needs a note", "Say in one line what was done or found.")
        todo.done, todo.note = True, " ".join(note.split())
        return todo

    def shown(self) -> str:
        """What the model sees at every turn: the count of what is done and the open ones; empty without a list."""
        if not self.items:
            return ""
        waiting = self.open
        rows = [f"{todo.id}. {todo.title}" for todo in waiting[:SHOWN]]
        rows += [f"and {len(waiting) - SHOWN} more"] if len(waiting) > SHOWN else []
        return "\n".join([f"[todos: {len(self.items) - len(waiting)} done, {len(waiting)} open]", *rows])

    def report(self) -> str:
        """The whole list, a line each, with its notes."""
        return "\n".join(
            f"{todo.id}. [{'x' if todo.done else ' '}] {todo.title}" + (f" ({todo.note})" if todo.note else "")
            for todo in self.items
        )

    def objection(self) -> str:
        """What a model is told, once, that answers in text before its part is done; empty if it may."""
        if self.phase == "strategic":
            return "A plan in text starts nothing. Call next_phase_todos, or job_complete if nothing is left to do."
        if self.open:
            numbers = ", ".join(str(todo.id) for todo in self.open)
            return f"Still open: {numbers}. Go on and complete them, or answer again and say why they stay open."
        return ""


def with_todos(prompt: list[Message], shown: str) -> list[Message]:
    """The prompt with the list at its end, where it stands for this turn only: the next turn's takes its place.

    It goes into the last message, since some chat templates refuse two user messages in a row.
    """
    if not shown:
        return prompt
    last = prompt[-1]
    return [*prompt[:-1], replace(last, content=ended_with(last.content, shown))]


def ended_with(content: str, shown: str) -> str:
    """The text of a prompt's last message with the list behind it; as it is where there is no list."""
    return f"{content}\n\n{shown}" if shown else content

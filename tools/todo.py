"""The todo tools: todo_add, todo_complete, todo_list; and next_phase_todos and job_complete, which end a phase.

They change the list of the run that calls them (agent/todos.py), nothing else. Which of them a model is offered, and
when, is in agent/phases.py.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.errors import ToolError
from agent.run import Run
from tools.output import shown
from tools.registry import ToolContext, tool

Title = Annotated[str, Field(max_length=200)]
Note = Annotated[str, Field(max_length=400)]
Titles = Annotated[list[Title], Field(max_length=30)]


@tool(effect="read")
async def todo_add(context: ToolContext, title: Title) -> str:
    """Add a step to the todo list. You see the open ones at every turn.

    Args:
        title: what is to be done, in one line.
    """
    return f"Added {_run(context).todos.add(title).id}."


@tool(effect="read")
async def todo_complete(context: ToolContext, id: int, note: Note) -> str:
    """Mark a todo as done, as soon as it is.

    Args:
        id: its number.
        note: what was done or found, in one line.
    """
    run = _run(context)
    run.todos.complete(id, note)
    if not run.todos.open and run.todos.phase == "tactical":
        run.ended_by = "every todo of this phase is done"
    return f"Done: {id}. {len(run.todos.open)} open."


@tool(effect="read")
async def todo_list(context: ToolContext) -> str:
    """The whole todo list, with what is done and its notes."""
    return shown(context, "todo_list", _run(context).todos.report() or "There are no todos.")


@tool(effect="read")
async def next_phase_todos(context: ToolContext, todos: Titles) -> str:
    """End planning: add these todos to the open ones, to be carried out now.

    Args:
        todos: what is to be done next, a line each, with all that is needed to do it.
    """
    run = _run(context)
    added = [run.todos.add(title) for title in todos]
    if not run.todos.open:
        raise ToolError("there is no open todo to hand over", "Give some, or call job_complete if all is done.")
    run.ended_by = f"{len(added)} todos planned, {len(run.todos.open)} open"
    return f"Handed over: {len(run.todos.open)} open todos."


@tool(effect="read")
async def job_complete(context: ToolContext, summary: str, reason_open: Note = "") -> str:
    """End the whole job. Refused while todos are open, unless you say why they stay open.

    Args:
        summary: the answer for the person who gave the task.
        reason_open: why open todos are left undone.
    """
    run = _run(context)
    waiting = ", ".join(f"{todo.id}. {todo.title}" for todo in run.todos.open)
    if waiting and not reason_open.strip():
        raise ToolError(f"todos are open: {waiting}", "Plan them with next_phase_todos, or give reason_open.")
    if not summary.strip():
        raise ToolError("the summary is empty", "It is the answer that the person gets.")
    run.todos.summary, run.todos.reason_open = summary, reason_open.strip()
    run.ended_by = "job_complete" + (f" with open todos: {run.todos.reason_open}" if waiting else "")
    return "The job is complete."


def _run(context: ToolContext) -> Run:
    """The run whose list it is. Raises ToolError outside of one, and if a tool of the same turn has ended it."""
    if context.run is None:
        raise ToolError("todos belong to a run, and there is none")
    if context.run.ended_by:
        raise ToolError(f"this phase has ended: {context.run.ended_by}")
    return context.run

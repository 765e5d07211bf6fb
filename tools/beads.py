"""The bead tools: bead_create, bead_show, bead_ready, bead_claim, bead_update, bead_depend, bead_close.

Offered where the workspace has a `.beads` folder. What is written there is a write like any other, so it is asked for;
who writes is the run, by its id.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from agent.errors import ToolError
from tools.registry import ToolContext, tool

if TYPE_CHECKING:
    from agent.beads.backend import Beads
    from agent.beads.bead import Bead

LISTED = 20
"""Beads that bead_ready shows."""
SHOWN = 6000
"""Characters of each text of a bead that bead_show shows; of notes the last ones."""

Id = Annotated[str, Field(max_length=120)]
Title = Annotated[str, Field(min_length=1, max_length=500)]
Priority = Annotated[int, Field(ge=0, le=4)]
Type = Literal["task", "bug", "feature", "epic", "chore"]
Kind = Literal["blocks", "parent-child", "conditional-blocks", "waits-for", "related", "discovered-from"]

_told: set[Path] = set()
"""The workspaces whose way to their beads was told."""


def actor(run_id: str) -> str:
    """Who a run is, as a bead's assignee."""
    return f"apprentice-{run_id}"


@tool(effect="write")
async def bead_create(
    context: ToolContext,
    title: Title,
    description: str = "",
    type: Type = "task",
    priority: Priority = 2,
    depends_on: list[Id] | None = None,
    parent: Id = "",
) -> str:
    """Make a bead: a piece of work that is kept with the project and that any agent may take up.

    Args:
        title: what is to be done, in a line.
        description: all that who takes it up has to know, and when it is done.
        type: its kind.
        priority: 0 is the most urgent, 4 the least.
        depends_on: ids of beads that have to be closed before it can be begun.
        parent: the id of the bead that it is a part of; empty if of none.
    """
    from agent.beads.backend import Draft

    beads = await _open(context, f"make the bead {title!r}")
    clean = context.redactor.redact
    draft = Draft(clean(title), clean(description), type, priority, parent, tuple(depends_on or ()))
    bead = await beads.create(draft, _actor(context))
    return _said(context, beads, f"Made {bead.id}: {bead.title}")


@tool(effect="read", concurrent=True)
async def bead_show(context: ToolContext, id: Id) -> str:
    """Show a bead: its text, its notes, what it depends on, who holds it.

    Args:
        id: the bead's id, e.g. bd-a1b2.
    """
    beads = await _open(context)
    bead = await beads.show(id)
    back = [] if bead.done else await beads.held_back(id)
    return _said(context, beads, _page(bead, back))


@tool(effect="read", concurrent=True)
async def bead_ready(context: ToolContext) -> str:
    """List the beads that can be begun now: open, nobody's, and nothing holds them back. The most urgent come first."""
    beads = await _open(context)
    found = await beads.ready()
    rows = [f"{bead.id}  priority {bead.priority}  {bead.type}  {bead.title}" for bead in found[:LISTED]]
    more = [f"[{len(found) - LISTED} more]"] if len(found) > LISTED else []
    return _said(context, beads, "\n".join([*rows, *more]) or "No bead is ready.")


@tool(effect="write")
async def bead_claim(context: ToolContext, id: Id) -> str:
    """Take a bead, so that nobody else works on it. Do it before you begin; bead_close ends it.

    Args:
        id: the bead's id, as bead_ready lists it.
    """
    beads = await _open(context, f"take the bead {id}")
    bead = await beads.claim(id, _actor(context))
    return _said(context, beads, f"{id} is yours.\n{_page(bead, [])}")


@tool(effect="write")
async def bead_update(
    context: ToolContext,
    id: Id,
    status: Literal["", "open", "blocked", "deferred"] = "",
    priority: Priority | None = None,
    title: Annotated[str, Field(max_length=500)] = "",
    note: str = "",
) -> str:
    """Change a bead, or add a note to it: what was found, decided or tried. What you leave out stays as it is.

    Args:
        id: the bead's id.
        status: open gives it back, blocked and deferred set it aside. bead_claim and bead_close do the rest.
        priority: 0 is the most urgent, 4 the least.
        title: a better one.
        note: a note that is added to those that are there.
    """
    if not (status or title or note) and priority is None:
        raise ToolError("bead_update was given nothing to change", "Give a status, priority, title or note.")
    beads = await _open(context, f"change the bead {id}")
    clean = context.redactor.redact
    bead = await beads.update(
        id, _actor(context), status=status, priority=priority, title=clean(title), note=clean(note)
    )
    return _said(context, beads, f"Changed {bead.id} ({bead.status}, priority {bead.priority}): {bead.title}")


@tool(effect="write")
async def bead_depend(context: ToolContext, id: Id, on: Id, type: Kind = "blocks") -> str:
    """Let a bead depend on another, so that it is begun in its time.

    Args:
        id: the bead that depends.
        on: the bead that it depends on.
        type: blocks: it waits until the other is closed; parent-child: it is a part of the other; conditional-blocks:
            it is done only if the other fails; waits-for: it waits for the parts of the other; the rest are remarks.
    """
    beads = await _open(context, f"let the bead {id} depend on {on}")
    await beads.depend(id, on, type, _actor(context))
    return _said(context, beads, f"{id} depends on {on} ({type}).")


@tool(effect="write")
async def bead_close(context: ToolContext, id: Id, reason: Annotated[str, Field(min_length=1)]) -> str:
    """Close a bead that is done, or that will not be.

    Args:
        id: the bead's id.
        reason: what was done; if it was not done, begin with failed, rejected or canceled.
    """
    beads = await _open(context, f"close the bead {id}")
    await beads.close(id, _actor(context), context.redactor.redact(reason))
    return _said(context, beads, f"Closed {id}.")


async def _open(context: ToolContext, effect: str = "") -> Beads:
    """The workspace's beads, after the person's yes to what would be written."""
    from agent.beads.backend import open_beads
    from agent.beads.bead import are_used

    if not are_used(context.workspace.root, context.settings):
        raise ToolError("this workspace has no .beads folder", "A person sets beads.enabled to begin one.")
    if effect:
        await context.consent.require("write", effect)
    return await open_beads(context.workspace, context.settings, context.consent, context.redactor)


def _actor(context: ToolContext) -> str:
    return actor(context.run.id) if context.run else "apprentice"


def _said(context: ToolContext, beads: Beads, text: str) -> str:
    """The text, after how the beads are reached: that is told once."""
    told = context.workspace.root in _told or not beads.notice
    _told.add(context.workspace.root)
    limit = context.settings.tools.output_limit
    whole = text if told else f"[{beads.notice}]\n{text}"
    return whole if len(whole) <= limit else f"{whole[: limit - 40]}\n[the rest was left out]"


def _page(bead: Bead, held_back: list[str]) -> str:
    """A bead as a model reads it."""
    shown = replace(bead, notes=bead.notes[-SHOWN:])
    head = f"{bead.id}: {bead.title}\n{bead.status}, {bead.type}, priority {bead.priority}"
    texts = {
        "held by": bead.assignee if bead.status == "in_progress" else "",
        "closed because": bead.close_reason,
        "held back": "; ".join(held_back),
        "depends on": ", ".join(f"{one.on} ({one.type})" for one in bead.dependencies),
    }
    parts = {
        "Description": shown.description,
        "Design": shown.design,
        "Done when": shown.acceptance,
        "Notes": shown.notes,
    }
    rows = [head, *(f"{name}: {text}" for name, text in texts.items() if text)]
    return "\n".join([*rows, *(f"\n{name}:\n{text[:SHOWN]}" for name, text in parts.items() if text)])

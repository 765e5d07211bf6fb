"""The notes tools: notes_read, notes_write. The file, its budget and its trust are in agent/notes.py."""

from __future__ import annotations

import asyncio

from agent import notes
from agent.errors import ToolError
from agent.run import Run
from tools.output import shown
from tools.registry import ToolContext, tool


@tool(effect="read")
async def notes_read(context: ToolContext) -> str:
    """Read the notes about this folder that earlier runs left."""
    text = await asyncio.to_thread(notes.read, _run(context).session)
    return await asyncio.to_thread(shown, context, "notes_read", text or "There are no notes.")


@tool(effect="write")
async def notes_write(context: ToolContext, text: str) -> str:
    """Replace the notes about this folder, which the next run is shown. Keep them short: what it could not find itself.

    Args:
        text: all of the notes; what you leave out is forgotten.
    """
    run = _run(context)
    await context.consent.require("write", f"replace {notes.PATH} with {len(text):,} characters: {text[:300]}")
    count = await notes.write(run.session, run.trajectory.model, text)
    return f"Wrote {notes.PATH}: {count} of {context.settings.work.notes_tokens} tokens."


def _run(context: ToolContext) -> Run:
    if context.run is None:
        raise ToolError("notes belong to a run, and there is none")
    return context.run

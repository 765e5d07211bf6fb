"""The notes about a folder, `.apprentice/NOTES.md`: what a run learnt that the next one should know.

They are shown when a run begins, so they stay short (`work.notes_tokens`) and count only in a trusted folder: a clone
may bring notes along that say what it likes. What the agent writes itself, with consent, keeps the folder's trust.
"""

from __future__ import annotations

import asyncio

from agent import trust
from agent.config import PROJECT_FOLDER
from agent.errors import ToolError
from agent.messages import Event, Message
from agent.session import Session

NAME = "NOTES.md"
PATH = f"{PROJECT_FOLDER}/{NAME}"
LARGEST = 100_000
"""Bytes of a notes file that is read."""
HEAD = f"# Notes of earlier runs in this folder ({PATH})"


async def shown(session: Session, model: str) -> str:
    """The notes as a part of the system message; empty if there are none, or none that may be shown.

    Why some are left out is told as a notice.

    Args:
        session: its workspace has the notes.
        model: the address of the model that reads them; it counts their tokens.
    """
    most = session.settings.work.notes_tokens
    if not most or not (session.workspace.root / PATH).exists():
        return ""
    if not await asyncio.to_thread(trust.is_trusted, session.workspace.root, session.data_dir):
        return _left_out(session, "this folder is not trusted (`apprentice config trust`)")
    try:
        text = (await asyncio.to_thread(read, session)).strip()
    except ToolError as error:
        return _left_out(session, error.message)
    if text and (count := await tokens(session, model, text)) > most:
        return _left_out(session, f"they have {count} tokens, and work.notes_tokens is {most}: shorten them")
    return f"{HEAD}\n\n{text}" if text else ""


def read(session: Session) -> str:
    """The notes; empty if there are none. Raises ToolError if the file is too large or no text."""
    there = (session.workspace.root / PATH).exists()
    return session.workspace.read_text(PATH, LARGEST) if there else ""


async def write(session: Session, model: str, text: str) -> int:
    """Put new notes in place of the old ones, secrets taken out. Returns their tokens.

    Raises:
        ToolError: they have more tokens than `work.notes_tokens`, or the file cannot be written; the old ones stay.
        OutputError: they were written, and that the folder is still trusted could not be stored.
    """
    clean = session.tool_context.redactor.redact(text.strip()) + "\n"
    count, most = await tokens(session, model, clean), session.settings.work.notes_tokens
    if count > most:
        raise ToolError(f"these notes have {count} tokens, and {most} are allowed", "Keep what the next run needs.")

    def replace() -> None:
        with trust.kept(session.workspace.root, session.data_dir, NAME, clean.encode()):
            session.workspace.write_text(PATH, clean, own=True)

    await asyncio.to_thread(replace)
    return count


async def tokens(session: Session, model: str, text: str) -> int:
    """How many tokens the notes are for this model; for a server that does not count, an estimate that errs high."""
    return await session.model(model).count_tokens([Message("user", text)])


def _left_out(session: Session, why: str) -> str:
    session.emit(Event("notice", "", {"text": f"{PATH} is not shown to the model: {why}"}))
    return ""

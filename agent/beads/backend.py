"""Beads as tools and workers see them: through `bd` where it is installed, else in their file."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.beads.bead import FOLDER, Bead
from agent.beads.claims import Claims
from agent.consent import Consent
from agent.redact import Redactor
from agent.settings import Settings
from tools.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Draft:
    """A bead that is to be made."""

    title: str
    description: str = ""
    type: str = "task"
    priority: int = 2
    parent: str = ""
    depends_on: Sequence[str] = ()


class Beads(Protocol):
    """What both ways to reach beads can do. Every method raises ToolError with what a model or a person should read.

    `actor` is who does it: the assignee of what it claims. `notice` is a sentence that should be told once, or empty.
    """

    claims: Claims
    notice: str

    async def ready(self) -> list[Bead]:
        """What can be begun now, the most urgent first."""

    async def show(self, bead_id: str) -> Bead:
        """One bead as it is now."""

    async def held_back(self, bead_id: str) -> list[str]:
        """A sentence for each reason why a bead cannot be begun."""

    async def create(self, draft: Draft, actor: str) -> Bead:
        """Make a bead."""

    async def update(
        self,
        bead_id: str,
        actor: str,
        *,
        status: str = "",
        priority: int | None = None,
        title: str = "",
        note: str = "",
    ) -> Bead:
        """Change what is given and leave the rest; a note is added to those that are there."""

    async def depend(self, bead_id: str, on: str, kind: str, actor: str) -> None:
        """Let a bead depend on another. Refused if that would go in a circle."""

    async def claim(self, bead_id: str, actor: str) -> Bead:
        """Take an open bead, or one whose holder has died: compared and set as one, so that one taker wins."""

    async def release(self, bead_id: str, actor: str, *, status: str, note: str, counted: bool) -> None:
        """Give a bead back: open, or blocked. `counted`: what was done was an attempt."""

    async def close(self, bead_id: str, actor: str, reason: str, note: str = "") -> Bead:
        """Close a bead that is the actor's or nobody's, and that nothing holds back."""


async def open_beads(workspace: Workspace, settings: Settings, consent: Consent, redactor: Redactor) -> Beads:
    """The beads of a workspace.

    Raises:
        ConsentDenied: bd would run the programs in `.beads/hooks`, and nobody allowed that: a clone brings them along.
    """
    from agent.beads.bd import Bd
    from agent.beads.jsonl import BeadsFile

    claims = Claims(workspace, settings.beads.heartbeat, settings.beads.stale)
    program = shutil.which("bd") if settings.beads.bd else None
    if program is None:
        return BeadsFile(workspace, claims)
    if (workspace.root / FOLDER / "hooks").exists():
        await consent.require("shell", f"run bd, which runs the programs in {FOLDER}/hooks")
    return Bd(program, workspace, claims, redactor, sandbox=settings.privacy == "local-only")

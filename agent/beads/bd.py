"""Beads through the program bd, over `bd --json`, which keeps them in a database of its own.

Its answers are an array, an object, or either as `data` of an object with a `schema_version`. Two calls of
`bd update --claim` at the same instant may both succeed, so a claim is made under our own lock, and looked at first.

What this does not cover: bd runs with the person's rights, in a folder whose `.beads/config.yaml` somebody else may
have written; and a program that claims through bd without our lock.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from agent.beads import bead as words
from agent.beads.backend import Draft
from agent.beads.bead import Bead
from agent.beads.claims import Claims, checked
from agent.errors import ToolError
from agent.redact import Redactor
from tools.workspace import Workspace

SECONDS = 60.0
"""After these a call of bd is ended."""
MOST = "--limit=10000"


class Bd:
    """The beads of a workspace, as bd has them. See `agent.beads.backend.Beads` for what it does.

    Args:
        program: the path of bd.
        workspace: where it runs.
        claims: the lock and the holders.
        redactor: says which variables look secret: bd gets none of them.
        sandbox: bd may not synchronise by itself: nothing is to leave this machine.
    """

    notice = ""

    def __init__(
        self, program: str, workspace: Workspace, claims: Claims, redactor: Redactor, *, sandbox: bool = False
    ) -> None:
        self.program, self.workspace, self.claims, self.redactor = program, workspace, claims, redactor
        self.flags = ["--json", *(["--sandbox"] if sandbox else [])]

    async def ready(self) -> list[Bead]:
        found = _beads(await self._bd("ready", MOST))
        now = datetime.now(UTC)
        return [bead for bead in found if bead.status == "open" and not bead.assignee and words.is_work(bead, now)]

    async def show(self, bead_id: str) -> Bead:
        return _one(await self._bd("show", checked(bead_id)), bead_id)

    async def held_back(self, bead_id: str) -> list[str]:
        answer = await self._bd("show", checked(bead_id))
        bead = _one(answer, bead_id)
        if bead.status != "open" or any(other.id == bead_id for other in await self.ready()):
            return []
        shown = answer[0] if isinstance(answer, list) else answer
        known = {other.id: other for other in [*_beads(shown.get("dependencies", [])), bead]}
        return words.held_back(known).get(bead_id, ["bd does not list it as ready"])

    async def create(self, draft: Draft, actor: str) -> Bead:
        given = [f"--title={draft.title}", f"--description={draft.description}", f"--type={draft.type}"]
        given += [f"--priority={draft.priority}"] + ([f"--parent={checked(draft.parent)}"] if draft.parent else [])
        given += [f"--deps={','.join(f'blocks:{checked(on)}' for on in draft.depends_on)}"] if draft.depends_on else []
        return _one(await self._bd("create", *given, actor=actor), draft.title)

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
        given = [f"--title={title}"] if title else []
        given += [f"--priority={priority}"] if priority is not None else []
        given += [f"--append-notes={note}"] if note else []
        async with self.claims.locked_async():
            if status:
                bead = await self.show(bead_id)
                self.claims.refuse_others(bead, actor)
                given += [f"--status={status}"] + (["--assignee="] if bead.status == "in_progress" else [])
                self.claims.let_go(bead_id, counted=True, again=status == "open")
            await self._bd("update", checked(bead_id), *given, actor=actor)
            return await self.show(bead_id)

    async def depend(self, bead_id: str, on: str, kind: str, actor: str) -> None:
        await self._bd("dep", "add", checked(bead_id), checked(on), f"--type={kind}", actor=actor)

    async def claim(self, bead_id: str, actor: str) -> Bead:
        async with self.claims.locked_async():
            bead = await self.show(bead_id)
            if bead.status == "open" and (why := await self.held_back(bead_id)):
                raise ToolError(f"{bead_id} cannot be begun: {'; '.join(why)}", "bead_ready lists what can be.")
            if self.claims.take(bead, actor):
                await self._bd("update", bead_id, "--status=open", "--assignee=", actor=actor)
            await self._bd("update", bead_id, "--claim", actor=actor)
            taken = await self.show(bead_id)
            if taken.assignee != actor or taken.status != "in_progress":
                self.claims.forget(bead_id)
                raise ToolError(f"{bead_id} is held by {taken.assignee or 'nobody'} ({taken.status}), says bd")
            return taken

    async def release(self, bead_id: str, actor: str, *, status: str, note: str, counted: bool) -> None:
        async with self.claims.locked_async():
            bead = await self.show(bead_id)
            if bead.assignee != actor or bead.status != "in_progress":
                raise ToolError(f"{bead_id} is not held by {actor}")
            noted = [f"--append-notes={note}"] if note else []
            await self._bd("update", bead_id, f"--status={status}", "--assignee=", *noted, actor=actor)
            self.claims.let_go(bead_id, counted=counted, again=status == "open")

    async def close(self, bead_id: str, actor: str, reason: str, note: str = "") -> Bead:
        async with self.claims.locked_async():
            bead = await self.show(bead_id)
            if bead.done:
                raise ToolError(f"{bead_id} is closed already")
            self.claims.refuse_others(bead, actor)
            holder = bead.assignee or actor  # bd takes it from nobody else
            if note:
                await self._bd("update", bead_id, f"--append-notes={note}", actor=holder)
            await self._bd("close", bead_id, f"--reason={reason}", actor=holder)
            self.claims.forget(bead_id)
            return await self.show(bead_id)

    async def _bd(self, *arguments: str, actor: str = "") -> Any:
        """What bd answers, as JSON. Raises ToolError with bd's own words if it fails."""
        from tools.shell import scrubbed

        by = [f"--actor={actor}"] if actor else []
        try:
            process = await asyncio.create_subprocess_exec(
                self.program,
                *arguments,
                *by,
                *self.flags,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self.workspace.root,
                env=scrubbed(dict(os.environ), self.redactor),
            )
        except (OSError, ValueError) as error:
            raise ToolError(f"bd could not be started: {error}") from None
        try:
            async with asyncio.timeout(SECONDS):
                said, complained = await process.communicate()
        except TimeoutError:
            raise ToolError(f"bd {arguments[0]} took more than {SECONDS:.0f} s and was ended") from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        answer = _parsed(said)
        if process.returncode:
            raise ToolError(f"bd {arguments[0]} failed: {_complaint(answer, complained or said)}")
        if answer is None and said.strip():
            raise ToolError(f"bd {arguments[0]} did not answer with JSON: {_complaint(None, said)}")
        return answer


def _parsed(said: bytes) -> Any:
    """The answer without its envelope; None if it is no JSON."""
    try:
        answer = json.loads(said)
    except (ValueError, RecursionError):
        return None
    return answer["data"] if isinstance(answer, dict) and {"schema_version", "data"} <= set(answer) else answer


def _complaint(answer: Any, said: bytes) -> str:
    """What bd says is wrong, on one line."""
    error = answer.get("error") if isinstance(answer, dict) else None
    text = error if isinstance(error, str) and error else said.decode("utf-8", "replace")
    return " ".join(text.split())[:500].removeprefix("Error: ") or "it does not say why"


def _beads(answer: Any) -> list[Bead]:
    entries = answer if isinstance(answer, list) else [answer]
    return [found for entry in entries if (found := words.bead_of(entry))]


def _one(answer: Any, what: str) -> Bead:
    found = _beads(answer)
    if not found:
        raise ToolError(f"bd knows no bead {what}", "bead_ready lists what can be begun.")
    return found[0]

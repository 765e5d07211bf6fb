"""Beads in `.beads/issues.jsonl`, read and written here, where there is no `bd`.

The file is bd's own export, a bead a line. Every change is made under the lock on what the file holds then, and the
file is replaced as a whole. Only the line of the bead that changes is touched, and of it only what changes
(agent/beads/lines.py); lines that we do not understand stay where they are, byte for byte.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agent.beads import bead as words
from agent.beads.backend import Draft
from agent.beads.bead import FOLDER, Bead
from agent.beads.claims import Claims, checked
from agent.beads.lines import appended, changed, dump
from agent.errors import InputError, ToolError
from agent.messages import Json
from tools.workspace import Workspace

NAMES = ("issues.jsonl", "beads.jsonl")
LARGEST = 50_000_000
"""Bytes of the file."""
LETTERS = "0123456789abcdefghijklmnopqrstuvwxyz"


class BeadsFile:
    """The beads of a workspace's file. See `agent.beads.backend.Beads` for what it does."""

    def __init__(self, workspace: Workspace, claims: Claims) -> None:
        self.workspace, self.claims = workspace, claims
        folder = workspace.root / FOLDER
        name = next((name for name in NAMES if (folder / name).exists()), NAMES[0])
        self.path = f"{FOLDER}/{name}"
        self.notice = f"bd is not installed: beads are read from and written to {self.path} directly"
        if any((folder / database).exists() for database in ("beads.db", "dolt", "embeddeddolt")):
            self.notice += "; bd's own database here learns of it by `bd import`"

    async def ready(self) -> list[Bead]:
        return await asyncio.to_thread(lambda: words.ready(self._read()[1]))

    async def show(self, bead_id: str) -> Bead:
        return await asyncio.to_thread(lambda: _found(self._read()[1], bead_id))

    async def held_back(self, bead_id: str) -> list[str]:
        return await asyncio.to_thread(lambda: words.held_back(self._read()[1]).get(bead_id, []))

    async def create(self, draft: Draft, actor: str) -> Bead:
        return await asyncio.to_thread(self._create, draft, actor)

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
        given: Json = {"status": status or None, "priority": priority, "title": title or None}

        def update() -> Bead:
            with self.claims.locked():
                lines, beads = self._read()
                bead = _found(beads, bead_id)
                changes = {name: value for name, value in given.items() if value is not None} | _noted(bead, note)
                if status:
                    self.claims.refuse_others(bead, actor)
                    self.claims.let_go(bead_id, counted=True, again=status == "open")
                    changes |= {"assignee": ""} if bead.status == "in_progress" else {}
                    changes |= {"closed_at": None, "close_reason": ""} if bead.done else {}
                return self._set(lines, bead, changes)

        return await asyncio.to_thread(update)

    async def depend(self, bead_id: str, on: str, kind: str, actor: str) -> None:
        await asyncio.to_thread(self._depend, bead_id, on, kind, actor)

    async def claim(self, bead_id: str, actor: str) -> Bead:
        def claim() -> Bead:
            with self.claims.locked():
                lines, beads = self._read()
                bead = _found(beads, bead_id)
                if bead.status == "open" and (why := words.held_back(beads).get(bead_id)):
                    raise ToolError(f"{bead_id} cannot be begun: {'; '.join(why)}", "bead_ready lists what can be.")
                self.claims.take(bead, actor)
                return self._set(lines, bead, {"status": "in_progress", "assignee": actor})

        return await asyncio.to_thread(claim)

    async def release(self, bead_id: str, actor: str, *, status: str, note: str, counted: bool) -> None:
        def release() -> None:
            with self.claims.locked():
                lines, beads = self._read()
                bead = _found(beads, bead_id)
                if bead.assignee != actor or bead.status != "in_progress":
                    raise ToolError(f"{bead_id} is not held by {actor}")
                self._set(lines, bead, {"status": status, "assignee": "", **_noted(bead, note)})
                self.claims.let_go(bead_id, counted=counted, again=status == "open")

        await asyncio.to_thread(release)

    async def close(self, bead_id: str, actor: str, reason: str, note: str = "") -> Bead:
        def close() -> Bead:
            with self.claims.locked():
                lines, beads = self._read()
                bead = _found(beads, bead_id)
                self.claims.refuse_others(bead, actor)
                refuse_closing(bead, words.held_back(beads).get(bead_id, []))
                closing = {"status": "closed", "closed_at": _now(), "close_reason": reason}
                closed = self._set(lines, bead, {**closing, **_noted(bead, note)})
                self.claims.forget(bead_id)
                return closed

        return await asyncio.to_thread(close)

    def _create(self, draft: Draft, actor: str) -> Bead:
        with self.claims.locked():
            lines, beads = self._read()
            for other in filter(None, [draft.parent, *draft.depends_on]):
                _found(beads, other)
            bead_id = _new_id(beads, draft.parent)
            kinds = [(draft.parent, "parent-child")] if draft.parent else []
            kinds += [(on, "blocks") for on in dict.fromkeys(draft.depends_on)]
            now = _now()
            entry = {
                "_type": "issue",
                "id": bead_id,
                "title": draft.title,
                "description": draft.description,
                "status": "open",
                "priority": draft.priority,
                "issue_type": draft.type,
                "created_at": now,
                "created_by": actor,
                "updated_at": now,
                "dependencies": [_link(bead_id, on, kind, actor) for on, kind in kinds],
            }
            if lines and not lines[-1].endswith(b"\n"):
                lines[-1] += b"\n"
            self._write([*lines, dump(entry).encode("utf-8") + b"\n"])
            return _bead(entry)

    def _depend(self, bead_id: str, on: str, kind: str, actor: str) -> None:
        with self.claims.locked():
            lines, beads = self._read()
            bead = _found(beads, bead_id)
            _found(beads, on)
            refuse_circle(beads, bead_id, on, kind)
            if any(one.on == on for one in bead.dependencies):
                raise ToolError(f"{bead_id} depends on {on} already")
            at = _index(lines, bead_id)
            lines[at] = appended(lines[at], "dependencies", _link(bead_id, on, kind, actor))
            self._set(lines, bead, {})

    def _set(self, lines: list[bytes], bead: Bead, changes: Mapping[str, Any]) -> Bead:
        """Write a bead's changes. For use under the lock, with the lines as they are."""
        at = _index(lines, bead.id)
        lines[at] = changed(lines[at], {**changes, "updated_at": _now()})
        self._write(lines)
        return _bead(json.loads(lines[at]))

    def _read(self) -> tuple[list[bytes], dict[str, Bead]]:
        """The file's lines with their ends, and the beads in it. Of two lines for one bead the later counts."""
        data = self._bytes()
        lines = io.BytesIO(data).readlines()  # at line feeds only
        beads: dict[str, Bead] = {}
        for line in lines:
            if line.startswith((b"<<<<<<< ", b">>>>>>> ")):
                raise InputError(f"{self.path} holds an unresolved merge", "Resolve it, then try again.")
            if found := words.bead_of(_parsed(line)):
                beads[found.id] = found
        parts = words.parts_of(beads.values())
        for name, children in parts.items():
            if name in beads and not all(child.done for child in children):
                beads[name] = replace(beads[name], open_parts=True)
        return lines, beads

    def _bytes(self) -> bytes:
        if not (self.workspace.root / self.path).exists():
            self.workspace.resolve(self.path)  # a link that leads nowhere is refused
            return b""
        with self.workspace.open(self.path) as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise InputError(f"{self.path} has more than {LARGEST // 1_000_000} MB", "Install bd, or remove old beads.")
        return data

    def _write(self, lines: list[bytes]) -> None:
        self.workspace.write_bytes(self.path, b"".join(lines), own=True)


def refuse_closing(bead: Bead, held_back: list[str]) -> None:
    """Raise ToolError if a bead is closed, held back, or has parts that are open."""
    if bead.done:
        raise ToolError(f"{bead.id} is closed already")
    if held_back:
        raise ToolError(f"{bead.id} cannot be closed: {'; '.join(held_back)}")
    if bead.open_parts:
        raise ToolError(f"{bead.id} cannot be closed: some of its parts are open", "Close them first.")


def refuse_circle(beads: Mapping[str, Bead], bead_id: str, on: str, kind: str) -> None:
    """Raise ToolError if a bead would come to wait for itself."""
    if bead_id == on or (kind in words.GATES and words.reaches(beads, on, bead_id)):
        raise ToolError(f"{bead_id} cannot depend on {on}: {on} depends on {bead_id}, and both would wait for ever")


def _found(beads: Mapping[str, Bead], bead_id: str) -> Bead:
    if checked(bead_id) not in beads:
        raise ToolError(f"there is no bead {bead_id}", "bead_ready lists what can be begun.")
    return beads[bead_id]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _bead(entry: Json) -> Bead:
    found = words.bead_of(entry)
    assert found is not None
    return found


def _index(lines: list[bytes], bead_id: str) -> int:
    """Which line is the bead's: the last one."""
    for at in range(len(lines) - 1, -1, -1):
        found = words.bead_of(_parsed(lines[at])) if bead_id.encode() in lines[at] else None
        if found and found.id == bead_id:
            return at
    raise ToolError(f"there is no bead {bead_id}")


def _noted(bead: Bead, note: str) -> Json:
    """The change that adds a note; none if there is nothing to note."""
    return {"notes": f"{bead.notes}\n\n{note}" if bead.notes else note} if note else {}


def _link(bead_id: str, on: str, kind: str, actor: str) -> Json:
    return {"issue_id": bead_id, "depends_on_id": on, "type": kind, "created_at": _now(), "created_by": actor}


def _new_id(beads: Mapping[str, Bead], parent: str) -> str:
    """A free id: the next part of its parent, or a few letters after the prefix that most have here."""
    if parent:
        return next(name for number in range(1, len(beads) + 2) if (name := f"{parent}.{number}") not in beads)
    prefixes = Counter(name.rpartition("-")[0] for name in beads if "-" in name)
    prefix = prefixes.most_common(1)[0][0] if prefixes else "bd"
    while True:
        name = f"{prefix}-{''.join(secrets.choice(LETTERS) for _ in range(4))}"
        if name not in beads:
            return name


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

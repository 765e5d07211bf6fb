"""A bead: a piece of work that agents share, with what it depends on. What holds one back, and which are ready.

The fields and the four kinds of dependency that gate work are those of beads (`bd`):

blocks               waits until the other is closed
parent-child         is a part of the other, and is held back with it
conditional-blocks   waits until the other is closed as a failure: it is what is done then
waits-for            waits for the parts of the other: all of them, or the first (`any-children`)

Any other kind (related, discovered-from, ...) is a remark and holds nothing back.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.messages import Json

if TYPE_CHECKING:
    from agent.settings import Settings

FOLDER = ".beads"
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,119}")
"""What a bead may be called: its id becomes a file's name, and a word on a command line."""
GATES = ("blocks", "parent-child", "conditional-blocks", "waits-for")
STATUSES = ("open", "in_progress", "blocked", "deferred", "closed", "pinned", "hooked")
DONE = ("closed", "tombstone")
NO_WORK = frozenset({"agent", "convoy", "event", "gate", "merge-request", "message", "molecule", "role"})
"""Types of beads that are bookkeeping and nothing to do."""
FAILURE_WORDS = (
    *("failed", "rejected", "wontfix", "won't fix", "canceled", "cancelled"),
    *("abandoned", "blocked", "error", "timeout", "aborted"),
)
"""A reason for closing that has one of these says that the work failed: so `bd` reads it."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a bead depends on, by id. `gate` and `spawner` are of waits-for: which parts, and whose."""

    on: str
    type: str = "blocks"
    gate: str = ""
    spawner: str = ""


@dataclass(frozen=True, slots=True)
class Bead:
    """One bead, as far as we need it. Times are as they stand in the file (RFC 3339), empty if there are none."""

    id: str
    title: str = ""
    description: str = ""
    design: str = ""
    acceptance: str = ""
    notes: str = ""
    status: str = "open"
    priority: int = 2
    """0 is the most urgent, 4 the least."""
    type: str = "task"
    assignee: str = ""
    close_reason: str = ""
    created: str = ""
    deferred_until: str = ""
    aside: bool = False
    """It is pinned, a template or fleeting: kept, and nothing to do."""
    open_parts: bool = False
    """It has children that are not closed: the parts come first."""
    dependencies: tuple[Dependency, ...] = field(default=())

    @property
    def done(self) -> bool:
        return self.status in DONE


def are_used(root: Path, settings: Settings) -> bool:
    """Whether a workspace has beads to work with: a `.beads` folder, or the setting beads.enabled."""
    return settings.beads.enabled or (root / FOLDER).is_dir()


def bead_of(entry: Any) -> Bead | None:
    """The bead that an object of the file, or of bd's answer, describes; None if it describes none."""
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str) or not entry["id"]:
        return None
    if entry.get("_type", "issue") != "issue":
        return None
    priority = entry.get("priority", 2)
    return Bead(
        id=entry["id"],
        title=_text(entry, "title"),
        description=_text(entry, "description"),
        design=_text(entry, "design"),
        acceptance=_text(entry, "acceptance_criteria"),
        notes=_text(entry, "notes"),
        status=_text(entry, "status") or "open",
        priority=priority if isinstance(priority, int) and not isinstance(priority, bool) else 2,
        type=_text(entry, "issue_type") or "task",
        assignee=_text(entry, "assignee"),
        close_reason=_text(entry, "close_reason"),
        created=_text(entry, "created_at"),
        deferred_until=_text(entry, "defer_until"),
        aside=any(entry.get(key) is True for key in ("pinned", "is_template", "ephemeral")),
        open_parts=any(_is_open_part(other) for other in _objects(entry.get("dependents"))),
        dependencies=tuple(found for other in _objects(entry.get("dependencies")) if (found := _dependency(other))),
    )


def _text(entry: Json, key: str) -> str:
    value = entry.get(key)
    return value if isinstance(value, str) else ""


def _objects(value: Any) -> list[Json]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _is_open_part(other: Json) -> bool:
    """Whether an entry of `dependents`, in what `bd show` answers, is a child that is not closed."""
    return other.get("dependency_type") == "parent-child" and other.get("status") not in DONE


def _dependency(entry: Json) -> Dependency | None:
    """One dependency: as the file has it, or as `bd show` does: there it is the other bead itself."""
    shown = "dependency_type" in entry
    on = _text(entry, "id" if shown else "depends_on_id")
    if not on:
        return None
    details = entry.get("metadata")
    if isinstance(details, str):
        try:
            details = json.loads(details)
        except ValueError:
            details = {}
    details = details if isinstance(details, dict) else {}
    kind = _text(entry, "dependency_type" if shown else "type") or "blocks"
    return Dependency(on, kind, _text(details, "gate"), _text(details, "spawner_id"))


def held_back(beads: Mapping[str, Bead]) -> dict[str, list[str]]:
    """What holds back each bead that cannot be begun: a sentence for each reason; ready ones are not in it."""
    parts = parts_of(beads.values())
    reasons = {
        bead.id: [why for one in bead.dependencies if (why := _gate(one, beads, parts))]
        for bead in beads.values()
        if not bead.done
    }
    waiting = [name for name, why in reasons.items() if why]
    reached = set(waiting)
    while waiting:
        parent = waiting.pop()
        for part in parts[parent]:
            if part.id in reasons and part.id not in reached:
                reached.add(part.id)
                waiting.append(part.id)
                reasons[part.id].append(f"it is a part of {parent}, which is held back")
    return {name: why for name, why in reasons.items() if why}


def parts_of(beads: Iterable[Bead]) -> dict[str, list[Bead]]:
    """The children of each bead."""
    parts: dict[str, list[Bead]] = defaultdict(list)
    for bead in beads:
        for one in bead.dependencies:
            if one.type == "parent-child":
                parts[one.on].append(bead)
    return parts


def _gate(one: Dependency, beads: Mapping[str, Bead], parts: dict[str, list[Bead]]) -> str:
    """Why a dependency holds its bead back; empty if it does not.

    A bead that is no longer there holds nothing back. One of another project does: nobody here knows how it stands.
    A bead that waits for the parts of another also waits while there are none yet and the other is open: parts may be
    made as the work goes on.
    """
    other = beads.get(one.on)
    if one.type == "waits-for":
        spawner = one.spawner or one.on
        states = [part.done for part in parts[spawner]]
        if one.gate == "any-children":
            return "" if any(states) else f"it waits for the first part of {spawner}"
        begun = states or spawner not in beads or beads[spawner].done
        return "" if begun and all(states) else f"it waits for the parts of {spawner}"
    if one.type not in ("blocks", "conditional-blocks"):
        return ""
    if other is None:
        return f"it waits for {one.on}, of another project" if one.on.startswith("external:") else ""
    if one.type == "blocks":
        return "" if other.done or other.status == "pinned" else f"it waits for {other.id} ({other.status})"
    if not other.done:
        return f"it is done if {other.id} ({other.status}) fails"
    return "" if failed(other) else f"it is done if {other.id} fails, which was closed without a failure"


def failed(bead: Bead) -> bool:
    """Whether a closed bead was closed as a failure."""
    return any(word in bead.close_reason.lower() for word in FAILURE_WORDS)


def ready(beads: Mapping[str, Bead], now: datetime | None = None) -> list[Bead]:
    """The beads that can be begun by anybody now, the most urgent first, then the oldest.

    Args:
        beads: all of them, by id.
        now: the time, for those that are deferred.
    """
    back = held_back(beads)
    moment = now or datetime.now(UTC)
    found = [
        bead
        for bead in beads.values()
        if bead.status == "open" and not bead.assignee and bead.id not in back and is_work(bead, moment)
    ]
    return sorted(found, key=lambda bead: (bead.priority, bead.created, bead.id))


def is_work(bead: Bead, now: datetime) -> bool:
    """Whether there is something to do now: no bookkeeping, the parts are done, its time has come, its name can be."""
    if bead.aside or bead.open_parts or bead.type in NO_WORK or not NAME.fullmatch(bead.id):
        return False
    try:
        until = datetime.fromisoformat(bead.deferred_until)
    except ValueError:
        return True
    return (until if until.tzinfo else until.replace(tzinfo=UTC)) <= now


def reaches(beads: Mapping[str, Bead], start: str, end: str) -> bool:
    """Whether `start` depends on `end`, by gates, over any number of beads."""
    waiting, seen = [start], {start}
    while waiting:
        name = waiting.pop()
        if name == end:
            return True
        for one in beads[name].dependencies if name in beads else ():
            if one.type in GATES and one.on not in seen:
                seen.add(one.on)
                waiting.append(one.on)
    return False

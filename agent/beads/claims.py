"""Who holds which bead: the lock that claims are made under, and whether a holder is still alive.

The bead itself says that it is in progress, and whose it is. Beside it, `.beads/apprentice/ID.json` says which process
that is. A process of this machine is alive if its number, the time it started and the boot are those noted: a number
that was given out again deceives nobody. Of another machine the file's own time tells: it is set anew while the holder
lives. A claim that some other program made has no such file; it is never taken away.

What this does not cover: programs that write beads without asking for the lock, as `bd` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from agent.beads.bead import FOLDER, NAME, Bead
from agent.errors import ToolError
from tools.workspace import Workspace

OURS = f"{FOLDER}/apprentice"
LOCK_SECONDS = 20.0
"""How long to wait for the lock. It is held for milliseconds, or for one call of bd."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that holds a bead. `attempts` counts how often the bead was begun and not brought to an end."""

    actor: str = ""
    host: str = ""
    pid: int = 0
    boot: str = ""
    started: str = ""
    attempts: int = 0
    seen: float = 0.0
    """When it last gave a sign of life, in seconds since the epoch."""


class Claims:
    """The claims in one workspace.

    Args:
        workspace: the folder that has `.beads`.
        heartbeat: seconds between signs of life.
        stale: seconds without one, after which a holder on another machine counts as dead.
    """

    def __init__(self, workspace: Workspace, heartbeat: float, stale: float) -> None:
        self.workspace, self.heartbeat, self.stale = workspace, heartbeat, stale

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time, from a thread. Raises ToolError if another one keeps the lock."""
        handle = self._open_lock()
        try:
            until = time.monotonic() + LOCK_SECONDS
            while not _try(handle, until):
                time.sleep(0.005)
            yield
        finally:
            os.close(handle)

    @contextlib.asynccontextmanager
    async def locked_async(self) -> AsyncIterator[None]:
        """The same, on the event loop."""
        handle = self._open_lock()
        try:
            until = time.monotonic() + LOCK_SECONDS
            while not _try(handle, until):  # noqa: ASYNC110 - another process has it, and tells nobody
                await asyncio.sleep(0.005)
            yield
        finally:
            os.close(handle)

    def _open_lock(self) -> int:
        folder = self.workspace.resolve(OURS)
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), open(folder / ".gitignore", "x", encoding="utf-8") as ignore:
            ignore.write("*\n")
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)

    def take(self, bead: Bead, actor: str) -> bool:
        """Note that this process takes a bead. For use under the lock, before the bead itself is changed.

        Returns:
            Whether a dead process still stands in the bead as its holder.

        Raises:
            ToolError: it cannot be taken: somebody else's, or not open.
        """
        died = self.died(bead)
        if not died:
            refuse_taken(bead, actor)
        mine = replace(_this_process(), actor=actor, attempts=self.holder(bead.id).attempts + 1)
        self._write(bead.id, mine)
        _keep_alive(self._path(bead.id), self.heartbeat)
        return died

    def let_go(self, bead_id: str, *, counted: bool, again: bool) -> None:
        """Note that a bead has no holder any more.

        Args:
            bead_id: the bead.
            counted: what was done was an attempt.
            again: it may be begun again, so that earlier attempts are remembered.
        """
        attempts = self.holder(bead_id).attempts - (0 if counted else 1)
        self.forget(bead_id)
        if again and attempts > 0:
            self._write(bead_id, Holder(attempts=attempts))

    def forget(self, bead_id: str) -> None:
        """Remove every trace of a bead's holders."""
        _held_here.pop(self._path(bead_id), None)
        self._path(bead_id).unlink(missing_ok=True)

    def refuse_others(self, bead: Bead, actor: str) -> None:
        """Raise ToolError if somebody else works on a bead, who is alive as far as we can tell.

        Another run of this process is nobody else: in a conversation each turn is a run.
        """
        if bead.status != "in_progress" or bead.assignee == actor or self.died(bead):
            return
        holder = self.holder(bead.id)
        if holder.actor != bead.assignee or replace(holder, actor="", attempts=0, seen=0.0) != _this_process():
            raise ToolError(f"{bead.id} is held by {bead.assignee or 'somebody'}, and is theirs to change")

    def died(self, bead: Bead) -> bool:
        """Whether a bead is in progress and the process that holds it is dead."""
        holder = self.holder(bead.id)
        return bead.status == "in_progress" and bead.assignee == holder.actor != "" and not self.alive(holder)

    def holder(self, bead_id: str) -> Holder:
        """Who holds a bead; an empty one if nobody that we know of does."""
        path = self._path(bead_id)
        try:
            entry: Any = json.loads(path.read_bytes())
            return Holder(**(entry | {"seen": path.stat().st_mtime}))
        except (OSError, ValueError, TypeError):
            return Holder()

    def held(self) -> dict[str, Holder]:
        """The beads that have a holder, by id, dead or alive."""
        folder = self.workspace.resolve(OURS)
        found = {path.stem: self.holder(path.stem) for path in sorted(folder.glob("*.json"))}
        return {name: holder for name, holder in found.items() if holder.actor}

    def alive(self, holder: Holder) -> bool:
        """Whether a holder's process is still there."""
        here = _this_process()
        if holder.host == here.host:
            return holder.boot == here.boot and start_of(holder.pid) == holder.started
        return time.time() - holder.seen < self.stale

    def _path(self, bead_id: str) -> Path:
        return self.workspace.resolve(f"{OURS}/{checked(bead_id)}.json")

    def _write(self, bead_id: str, holder: Holder) -> None:
        entry = {name: value for name, value in asdict(holder).items() if name != "seen"}
        self.workspace.write_bytes(f"{OURS}/{checked(bead_id)}.json", json.dumps(entry).encode(), own=True)


def checked(bead_id: str) -> str:
    """The id of a bead. Raises ToolError if it cannot be one."""
    if not NAME.fullmatch(bead_id):
        raise ToolError(f"{bead_id!r} is not the id of a bead", "bead_ready lists some.")
    return bead_id


def refuse_taken(bead: Bead, actor: str) -> None:
    """Raise ToolError if a bead is not open, or is somebody else's."""
    if bead.done:
        raise ToolError(f"{bead.id} is closed already")
    if bead.assignee and bead.assignee != actor:
        raise ToolError(f"{bead.id} is held by {bead.assignee}", "bead_ready lists what is free.")
    if bead.status != "open":
        raise ToolError(f"{bead.id} is {bead.status}, not open")


def start_of(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty where the system does not say; `dead` if there is none."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "dead" if Path("/proc/self").exists() or not _answers(pid) else ""
    return "dead" if state in "ZX" else rest[18]


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


@cache
def _namespace() -> tuple[str, str]:
    """This machine, and its boot. Containers of one machine may share its name, not their processes."""
    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}", _boot()
    except OSError:
        return socket.gethostname(), ""


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _this_process() -> Holder:
    host, boot = _namespace()
    return Holder(host=host, pid=os.getpid(), boot=boot, started=start_of(os.getpid()))


def _try(handle: int, until: float) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if time.monotonic() > until:
            raise ToolError(
                f"the lock of {FOLDER} was held by another process for {LOCK_SECONDS:.0f} s", "Try again."
            ) from None
        return False
    return True


_held_here: dict[Path, float] = {}
"""The files of the beads that this process holds, and the seconds between its signs of life."""


def _keep_alive(path: Path, heartbeat: float) -> None:
    _held_here[path] = heartbeat
    _heart()


@cache
def _heart() -> None:
    """Start the one thread that gives signs of life, for as long as the process lives."""

    def beat() -> None:
        while True:
            time.sleep(min([1.0, *_held_here.values()]))
            for path, heartbeat in list(_held_here.items()):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime >= heartbeat:
                        os.utime(path)

    threading.Thread(target=beat, name="beads-heartbeat", daemon=True).start()

"""What an evaluation leaves in its folder: every answer as a run in a store of its own, and the finished rows.

The store is OUT/traces.db, never the user's: what was measured on must not become what is trained on. OUT/rows.jsonl is
append-only, a line a row, each on the disk before the next row begins; so a run that was killed goes on where it was.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from agent import config
from agent.consent import Consent
from agent.errors import InputError, OutputError
from agent.messages import Event
from agent.session import Session
from agent.settings import Settings


def open_session(settings: Settings, out: Path, emit: Callable[[Event], None]) -> Session:
    """A session as the user's settings make it, without tools, and with the evaluation's own store.

    Args:
        settings: as the user has them: time-outs, retries, grounding, privacy.
        out: the evaluation's folder; it is made.
        emit: where events go.

    Raises:
        OutputError: the folder cannot be made.
        StoreError: the store cannot be used.
    """
    from agent.redact import Redactor
    from agent.traces import TraceStore
    from skills import registry
    from tools.registry import ToolContext
    from tools.workspace import Workspace

    make_folder(out)
    redactor = Redactor(os.environ)
    store = TraceStore.open(out / "traces.db", redactor)
    consent = Consent(local_only=settings.privacy == "local-only")
    workspace = Workspace(out.resolve())
    context = ToolContext(workspace, consent, settings, redactor, out / "outputs", config.cache_dir())
    known, _ = registry.load(config.config_dir() / "skills", None)
    return Session(settings, store, emit, consent, workspace, {}, context, known, config.data_dir(settings))


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror}", "Give --out another one.") from None


def fingerprint(*parts: Any) -> str:
    """What a piece of work is known by: 16 hexadecimal digits of everything that decides its outcome."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class FinishedRows:
    """The rows that are done, by key. Use it as `with FinishedRows(path) as rows:`; a key is written once.

    A line that a kill cut off is passed over, and its row is done again.

    Raises:
        InputError: the file exists and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, Mapping[str, Any]] = {}
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}", "Give --out another folder.") from None
        for line in lines:
            entry = _entry(line)
            self._rows |= {entry["key"]: entry["row"]} if entry else {}

    def __enter__(self) -> FinishedRows:
        self._file = open(self.path, "ab", buffering=0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def get(self, key: str) -> Mapping[str, Any] | None:
        """The row that is done under this key, or None."""
        return self._rows.get(key)

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Keep a row. Returns when it is on the disk; raises OutputError if it is not."""
        line = json.dumps({"key": key, "row": row}, ensure_ascii=False)
        try:
            data = f"\n{line}\n".encode()  # the first line break ends a line that was cut off
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, "no space is left")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}", "The rows before it stand.") from None
        self._rows[key] = row


def _entry(line: str) -> dict[str, Any] | None:
    """A line of the file, or None if it is empty or was cut."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and {"key", "row"} <= entry.keys() else None

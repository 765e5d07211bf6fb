"""A file of JSON lines that only grows: what a long job has done so far, so that a killed one goes on where it was."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from agent.errors import InputError, OutputError


class Journal:
    """Entries, one a line. Use it as `with Journal(path) as journal:`; `journal.entries` holds what was there before.

    Args:
        path: the file; it is made with the first entry, with its folder. A last line that a killed process left
            unfinished is cut off.

    Raises:
        InputError: a line that is whole is no JSON object; the sentence names it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[dict[str, Any]] = list(_entries(path))

    def __enter__(self) -> Journal:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "ab", buffering=0)
            self._file.truncate(_whole(self.path))
        except OSError as error:
            raise OutputError(f"{self.path} cannot be written: {error.strerror}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, entry: dict[str, Any]) -> None:
        """Append an entry; it is in the hands of the system when this returns. Raises OutputError."""
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with suppress(OSError):
                self._file.truncate(_whole(self.path))
            raise OutputError(
                f"{self.path} cannot be written: {error.strerror}",
                "What stands there is kept; go on when there is room.",
            ) from None
        self.entries.append(entry)


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    try:
        lines = path.read_bytes()[: _whole(path)].splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict):
            raise InputError(f"line {number} of {path} is no entry of ours", "Give another file, or remove that line.")
        yield entry


def _whole(path: Path) -> int:
    """How many bytes of a file are whole lines."""
    data = path.read_bytes() if path.exists() else b""
    return data.rfind(b"\n") + 1

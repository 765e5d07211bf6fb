"""The output of a tool: what fits is shown, and what is longer goes whole into a file that read_file can read."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from tools.registry import ToolContext


class Output:
    """An output while it comes in, redacted across its chunks.

    Args:
        context: says how much is shown (`tools.output_limit`, characters) and where the file goes.
        name: begins the file's name, e.g. the tool's.
    """

    def __init__(self, context: ToolContext, name: str) -> None:
        self._context = context
        self._limit = context.settings.tools.output_limit
        self._redaction = context.redactor.stream()
        self._length = 0
        self._head = self._tail = ""
        self._path = context.outputs / f"{name}-{secrets.token_hex(4)}.txt"
        self._file: TextIO | None = None
        self._lost = ""

    def add(self, text: str) -> None:
        """Take the next piece."""
        self._keep(self._redaction.feed(text))

    def close(self) -> str:
        """What the model is shown: all of it, or its beginning and end with the path of the file between them."""
        try:
            self._keep(self._redaction.close())
        finally:
            self._close_file()
        if self._length <= self._limit:
            return self._head
        before = self._head[: self._limit * 3 // 4]
        left_out = self._length - len(before) - len(self._tail)
        return f"{before}\n[{left_out:,} characters are left out here; {self._place()}]\n{self._tail}"

    def discard(self) -> None:
        """Close the file early; what it holds until then stays."""
        self._close_file()

    def _keep(self, text: str) -> None:
        self._length += len(text)
        self._tail = (self._tail + text)[-(self._limit // 4) :]
        if self._length <= self._limit:
            self._head += text
            return
        if self._file is None and not self._lost:
            self._begin_file(self._head + text)
        elif self._file is not None:
            self._write(text)
        self._head += text[: self._limit - len(self._head)]

    def _begin_file(self, text: str) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            self._lost = error.strerror or str(error)
            return
        self._file = os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline="")
        self._context.workspace.allow_reading(self._path)
        self._write(text)

    def _write(self, text: str) -> None:
        assert self._file is not None
        try:
            self._file.write(text)
        except OSError as error:
            self._lost = error.strerror or str(error)

    def _close_file(self) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except OSError as error:
            self._lost = error.strerror or str(error)

    def _place(self) -> str:
        if self._lost:
            return f"they could not be saved: {self._lost}"
        return f"read_file reads the whole output in {self._path}"


def shown(context: ToolContext, name: str, text: str) -> str:
    """A complete text as an output: see `Output`."""
    output = Output(context, name)
    output.add(text)
    return output.close()

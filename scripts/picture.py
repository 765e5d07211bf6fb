"""The README's picture: run the demo in a terminal of its own, and draw what it printed.

python scripts/picture.py                          the Makefile's demo, in docs/terminal.svg
python scripts/picture.py OUT.svg "COMMAND"        another command, another file
"""

from __future__ import annotations

import io
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
SIZE = (40, 110)
"""Rows and columns of the terminal."""


def in_terminal(
    command: Sequence[str],
    *,
    folder: Path = ROOT,
    environment: Mapping[str, str] = os.environ,
    answer: str = "",
    seconds: float = 300,
) -> tuple[int, str]:
    """Run a command at a terminal.

    Args:
        command: the program and its arguments.
        folder: where it runs.
        environment: its variables.
        answer: what the person types; it waits in the terminal until the program reads.
        seconds: after so long it is ended.

    Returns:
        The exit code, and what the terminal was sent, colours and all.

    Raises:
        TimeoutError: the command did not end in time.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, SIZE)
    size = {"TERM": "xterm-256color", "LINES": str(SIZE[0]), "COLUMNS": str(SIZE[1])}
    try:
        child = subprocess.Popen(
            command, cwd=folder, env={**environment, **size}, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        os.write(ours, answer.encode())
        printed = _read(ours, child, time.monotonic() + seconds)
        return child.wait(), printed.decode("utf-8", "replace").replace("\r\n", "\n")
    finally:
        os.close(ours)


def draw(typed: str, printed: str) -> str:
    """An SVG of a terminal in which a command was typed and printed something (with its ANSI colours)."""
    console = Console(record=True, width=SIZE[1], file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {typed}", style="bold"))
    console.print(Text.from_ansi(printed.rstrip("\n")), "")  # the frame cuts into the last line
    svg = console.export_svg(title="apprentice", unique_id="terminal")
    return re.sub(r"\s*@font-face \{[^}]*\}", "", svg)  # rich's fonts come from a server; a picture loads nothing


def demo() -> str:
    """The command that `make demo` runs."""
    found = re.search(r"(?m)^demo:.*\n\t(.+)$", (ROOT / "Makefile").read_text())
    assert found
    return found[1]


def _read(terminal: int, child: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Everything until the program has left the terminal."""
    printed = b""
    while True:
        if time.monotonic() > deadline:
            child.kill()
            child.wait()
            raise TimeoutError(f"{shlex.join(map(str, child.args))} did not end in time")  # type: ignore[arg-type]
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # Linux says so when the last program has closed the terminal
                return printed
            if not piece:
                return printed
            printed += piece
        elif child.poll() is not None:
            return printed


def main(arguments: Sequence[str]) -> None:
    out, typed = (Path(arguments[0]), arguments[1]) if arguments else (ROOT / "docs" / "terminal.svg", demo())
    started_by = typed.replace(".venv/bin/python", shlex.quote(sys.executable))
    code, printed = in_terminal(["sh", "-c", started_by])
    partial = out.with_suffix(".tmp")
    partial.write_text(draw(typed, printed), encoding="utf-8")
    partial.replace(out)
    print(f"{out} drawn; the command ended with {code}")


if __name__ == "__main__":
    main(sys.argv[1:])

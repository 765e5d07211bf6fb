"""What a person's own words say beside the task: where to save, what may be read, and a `-` for what is piped in.

Only what was typed goes through these functions, never piped text, a file's or a model's.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from agent.errors import InputError

STDIN_LIMIT = 10_000_000
"""Bytes of standard input."""
SAVE_TO = re.compile(r"""(?is)\s+save\s+to\s+(?:"([^"]+)"|'([^']+)'|(\S+))\s*$""")
FILE_NAME = re.compile(r"/|\w\.\w+$")


def save_target(task: str) -> tuple[str, str]:
    """The task without its closing `save to FILE`, and FILE; empty if it does not end so.

    A bare word is a file only if it looks like one: `what does this save to disk` is a question.
    """
    match = SAVE_TO.search(task)
    if not match or (match[3] and not FILE_NAME.search(match[3])):
        return task, ""
    return task[: match.start()], next(filter(None, match.groups()))


def readable_paths(typed: str, root: Path) -> Iterable[Path]:
    """The paths that a person's words name: in the workspace, else in the folder where the command was typed.

    A lone `/` is a stroke between words and no folder.
    """
    for quoted in re.findall(r""""([^"]+)"|'([^']+)'|(\S+)""", save_target(typed)[0]):
        word = os.path.expanduser(next(filter(None, quoted)))
        places = (root / word, Path.cwd() / word) if word.strip("/") and len(word) < 4096 else ()
        yield from (Path(os.path.realpath(place)) for place in [place for place in places if _exists(place)][:1])


def read_stdin(task: str) -> str | None:
    """What was piped in, if the task has a lone `-`; without one, standard input is left alone.

    At the task's beginning (after its /names) or end the dash is meant so; between words it may be one of them, and
    stands for standard input only where a skill is named and something is piped in.

    Raises:
        InputError: nothing is piped in, or it is empty, too long, or not UTF-8.
    """
    words = save_target(task)[0].split()
    while words and re.fullmatch(r"/[\w-]+", words[0]):
        words = words[1:]
    if "-" not in words:
        return None
    meant = "-" in (words[0], words[-1])
    alone = sys.stdin is None or sys.stdin.isatty()
    if not meant and (alone or not task.lstrip().startswith("/")):
        return None
    if alone:
        raise InputError(
            "`-` stands for standard input, and nothing is piped in", 'E.g. cat paper.txt | apprentice "/annotate -"'
        )
    data = _read()
    if len(data) > STDIN_LIMIT:
        raise InputError(f"standard input is longer than {STDIN_LIMIT:,} bytes", "Put it into a file, or give less.")
    if not data.strip():
        if not meant:
            return None
        raise InputError("standard input is empty", "Pipe the text in, or name a file.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"standard input is not UTF-8 (byte {error.start})", "Convert it first, e.g. with iconv."
        ) from None


def _read() -> bytes:
    """Standard input, which may never end: asyncio's own handler of Ctrl-C would wait for it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return sys.stdin.buffer.read(STDIN_LIMIT + 1)
    finally:
        signal.signal(signal.SIGINT, before)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False

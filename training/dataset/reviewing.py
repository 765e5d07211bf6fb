"""The review on the screen: a row, its doubts, a key. Without a terminal the keys come from standard input."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import termios
import tty
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import ApprenticeError
from training.dataset import review
from training.dataset.review import Shown
from training.synthesis.journal import Journal

if TYPE_CHECKING:
    from rich.console import Console

KEYS = "y(es)  n(o)  e(dit)  q(uit)"
WORDS = {"y": "yes", "n": "no", "e": "edit"}


async def go_through(chosen: Sequence[Shown], path: Path) -> str:
    """Show the rows that have no decision yet, one after the other, and keep what the person decides.

    Args:
        chosen: the rows of the review.
        path: where decisions go; each is written when it is made, so the same command goes on where it was left.

    Returns:
        A sentence that says how far the review is.

    Raises:
        OutputError: a decision cannot be written.
    """
    from rich.console import Console

    console = Console()
    decided = review.decisions(path)
    with Journal(path) as journal, _single_keys():
        for shown in chosen:
            if shown.row.id in decided:
                continue
            _show(console, shown)
            decision = await _decide(console, shown)
            if decision is None:
                break
            journal.add(decision.model_dump(exclude_defaults=True))
            decided[shown.row.id] = decision
    counts: Counter[str] = Counter(decided[shown.row.id].decision for shown in chosen if shown.row.id in decided)
    told = ", ".join(f"{counts[word]} {word}" for word in WORDS.values())
    return f"{counts.total()} of {len(chosen)} reviewed: {told}"


async def _decide(console: Console, shown: Shown) -> review.Decision | None:
    """The person's decision; None to leave. A fix that cannot be used is told, and the question asked again."""
    while True:
        console.print(KEYS, style="bold", end=" ")
        key = await _key()
        console.print(WORDS.get(key, "quit" if key in ("q", "") else f"there is no key {key!r}"), markup=False)
        if key in ("q", ""):
            return None
        if key == "e":
            fixed = _fixed(console, shown)
            if fixed is not None:
                return fixed
        elif key in WORDS:
            return review.Decision(id=shown.row.id, decision="yes" if key == "y" else "no")


def _fixed(console: Console, shown: Shown) -> review.Decision | None:
    from agent import editor

    try:
        before = review.editable(shown.row)
        with _usual_keys():
            after = editor.edit(before, ".json" if before.startswith("{") else ".md")
        if after.strip() == before.strip():
            console.print("nothing was changed")
            return None
        return review.Decision(id=shown.row.id, decision="edit", completion=review.edited(shown.row, after))
    except ApprenticeError as error:
        console.print(error.in_one_line, markup=False, style="red")
        return None


def _show(console: Console, shown: Shown) -> None:
    """A row: where it comes from, what was asked, what is answered, what the validators doubt."""
    from rich.table import Table
    from rich.text import Text

    from agent.terminal import clean

    row = shown.row
    console.rule(f"{shown.number} of {shown.total}")
    named = {key: row.provenance[key] for key in ("file", "line", "run", "title") if key in row.provenance}
    about = ", ".join([row.source, shown.split, *(f"{key} {value}" for key, value in named.items())])
    console.print(Text(clean(about), style="dim"))
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _lines(shown):
        table.add_row(Text(clean(name)), Text(clean(text)))
    console.print(table)
    for doubt in review.doubts(row):
        console.print(Text(clean(f"! {doubt}"), style="yellow"))


def _lines(shown: Shown) -> Iterator[tuple[str, str]]:
    """What stands in the table: the messages, and an annotation move by move."""
    moves = review.framework_of(shown.row)
    for message in shown.row.messages if moves is None else shown.row.messages[:-1]:
        if moves is not None and message["role"] == "system":
            continue
        if message.get("thought"):
            yield "thought", message["thought"]
        calls = [f"→ {call['name']} {json.dumps(call['arguments'])}" for call in message.get("tool_calls", ())]
        yield message["role"], "\n".join(filter(None, [str(message.get("content", "")), *calls]))
    if moves is not None:
        yield from json.loads(shown.row.completion).items()


async def _key() -> str:
    """The next key in small letters, spaces left out; empty at the end of the input."""
    while True:
        data = await _byte()
        key = data.decode("ascii", "replace").lower()
        if not key or key.strip():
            return "" if key == "\x04" else key


async def _byte() -> bytes:
    """One byte of standard input, without holding up the event loop, so that Ctrl-C ends the wait."""
    loop, number = asyncio.get_running_loop(), sys.stdin.fileno()
    ready = asyncio.Event()
    try:
        loop.add_reader(number, ready.set)
    except PermissionError:  # a regular file is always ready, and epoll does not take it
        return os.read(number, 1)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(number)
    return os.read(number, 1)


@contextmanager
def _single_keys() -> Iterator[None]:
    """At a terminal, keys come one by one and without Enter."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


@contextmanager
def _usual_keys() -> Iterator[None]:
    """While an editor has the terminal, it begins as the editor expects it."""
    if not sys.stdin.isatty():
        yield
        return
    single = termios.tcgetattr(sys.stdin)
    usual = termios.tcgetattr(sys.stdin)
    usual[3] |= termios.ICANON | termios.ECHO
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, usual)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, single)

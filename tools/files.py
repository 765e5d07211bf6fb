"""The file tools: read_file, write_file, edit_file, list_files, search_files. All stay inside the workspace.

What they do to the disk happens in threads, but for reading one file: to wake a thread takes longer than that does. A
regular expression comes from the model and may take for ever, and Python cannot interrupt one: it is matched in a child
process that is ended after SEARCH_SECONDS.
"""

from __future__ import annotations

import asyncio
import difflib
import fnmatch
import json
from collections.abc import Sequence
from itertools import islice
from typing import Annotated

from pydantic import Field

from agent.errors import ToolError
from tools import child
from tools.output import shown
from tools.registry import ToolContext, tool
from tools.workspace import Workspace

FILES = 50_000
"""Files that a listing or search looks at."""
SEARCH_BYTES = 50_000_000
"""Characters that one search reads."""
SEARCH_FILE_BYTES = 2_000_000
"""Bytes of the largest file that is searched."""
SEARCH_SECONDS = 5.0
MATCHES = 1000
LINE = 300
"""Characters shown of a matching line."""

PathName = Annotated[str, Field(max_length=400)]
Pattern = Annotated[str, Field(max_length=200)]
"""Their lengths are bounded so that a small model under a schema cannot fill its reply with one of them."""
Texts = Sequence[tuple[str, str]]
"""Paths and their texts."""
Hits = list[tuple[int, int]]
"""For each matching line, which text, and which line of it; both counted from 0."""

_MATCHER = """
import json, re, sys
pattern, most, texts = json.load(sys.stdin)
try:
    search = re.compile(pattern).search
except (re.error, RecursionError, OverflowError) as error:
    sys.exit(json.dump(str(error), sys.stdout))
hits = ([i, j] for i, text in enumerate(texts) for j, line in enumerate(text.split("\\n")) if search(line))
json.dump([hit for hit, _ in zip(hits, range(most))], sys.stdout)
"""


@tool(effect="read", concurrent=True)
async def read_file(context: ToolContext, path: PathName, start: int = 1, end: int | None = None) -> str:
    """Read a text file, or some of its lines.

    Args:
        path: the file, relative to the workspace.
        start: the first line to show, counted from 1.
        end: the last line to show; as many as fit if left out.
    """
    text = context.workspace.read_text(path)
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    if not lines:
        return f"{path} is empty."
    if not 1 <= start <= len(lines) or (end is not None and end < start):
        raise ToolError(f"{path} has the lines 1 to {len(lines)}, and {start} to {end or 'the end'} was asked for")
    return _window(path, lines, start, min(end or len(lines), len(lines)), context.settings.tools.output_limit)


@tool(effect="write")
async def write_file(context: ToolContext, path: PathName, content: str) -> str:
    """Write a text file, new or in place of the one that is there. To change a part of a file use edit_file.

    Args:
        path: the file, relative to the workspace.
        content: all of its text.
    """
    there = context.workspace.resolve(path, write=True)
    size = f"{len(content):,} characters"
    exists = there.exists()
    if there.is_file():
        _check_rewrite(context, path, there.stat().st_size)
    question = f"overwrite {path} with {size}" if exists else f"write the new file {path}, {size}"
    await context.consent.require("write", question, path=path)
    await asyncio.to_thread(context.workspace.write_text, path, content)
    return f"{'Overwrote' if exists else 'Wrote'} {path}: {size}."


@tool(effect="write")
async def edit_file(context: ToolContext, path: PathName, old: str, new: str) -> str:
    """Replace a piece of a text file. The piece must occur exactly once.

    Args:
        path: the file, relative to the workspace.
        old: the piece as it stands in the file, with its spaces and line ends.
        new: what takes its place.
    """
    context.workspace.resolve(path, write=True)
    _, line = await asyncio.to_thread(_edited, context.workspace, path, old, new)
    question = f"edit {path} at line {line}: {_brief(old)} becomes {_brief(new)}"
    await context.consent.require("write", question, path=path)
    # A person may have taken a while to answer: the edit is made on what the file holds now.
    text, line = await asyncio.to_thread(_edited, context.workspace, path, old, new)
    await asyncio.to_thread(context.workspace.write_text, path, text)
    return f"Edited {path} at line {line}."


@tool(effect="read", concurrent=True)
async def list_files(context: ToolContext, path: PathName = ".", pattern: Pattern = "*") -> str:
    """List the files below a folder, subfolders included. Folders like .git and node_modules are left out.

    Args:
        path: the folder, relative to the workspace.
        pattern: which files: a name or path with * and ?, e.g. *.md or src/*.py.
    """
    names, more = await asyncio.to_thread(_listed, context.workspace, path, pattern)
    if not names:
        return f"No files in {path} fit {pattern}."
    if more:
        names.append(f"[only the first {FILES:,} files were looked at]")
    return await asyncio.to_thread(shown, context, "list_files", "\n".join(_printable(name) for name in names))


@tool(effect="read", concurrent=True)
async def search_files(
    context: ToolContext, pattern: Pattern, path: PathName = ".", glob: Pattern = "*", regex: bool = False
) -> str:
    """Find the lines of text files that contain a text. Answers with path:line: text.

    Args:
        pattern: the text to find, upper and lower case as written.
        path: the folder or file to search, relative to the workspace.
        glob: which files: a name or path with * and ?, e.g. *.py.
        regex: whether the pattern is a Python regular expression, matched line by line.
    """
    if not pattern:
        raise ToolError("the pattern is empty", "list_files lists files; search_files needs a text to find.")
    texts, notes = await asyncio.to_thread(_texts, context.workspace, path, glob)
    hits = await _regex_hits(pattern, texts) if regex else await asyncio.to_thread(_plain_hits, pattern, texts)
    if len(hits) == MATCHES:
        notes.append(f"only the first {MATCHES} lines are given")
    rows = await asyncio.to_thread(_rows, texts, hits)
    rows = rows or [f"Nothing in {path} ({len(texts)} files that fit {glob}) contains {pattern}."]
    rows += [f"[{note}]" for note in notes]
    return await asyncio.to_thread(shown, context, "search_files", "\n".join(rows))


def _check_rewrite(context: ToolContext, path: str, size: int) -> None:
    """Raise ToolError if a file is too large to be replaced whole: what a model leaves out by mistake would be lost."""
    limit = context.settings.tools.rewrite_limit
    asked_for = context.run is not None and bool(context.run.session.options.get("overwrite"))
    if size > limit and not asked_for:
        raise ToolError(
            f"{path} exists and has {size:,} bytes, more than the {limit:,} that are replaced whole",
            "Change the parts that differ with edit_file. (A person allows it with --overwrite.)",
        )


def _window(path: str, lines: Sequence[str], start: int, end: int, limit: int) -> str:
    """Whole lines from `start` to `end` as far as `limit` characters go, under a line that says which."""
    taken: list[str] = []
    length = 0
    for line in lines[start - 1 : end]:
        length += len(line) + 1
        if length > limit:
            break
        taken.append(line)
    if not taken:
        cut = f"{path}, line {start} of {len(lines)}: its first {limit:,} of {len(lines[start - 1]):,} characters"
        return f"{cut}\n{lines[start - 1][:limit]}"
    last = start + len(taken) - 1
    more = f"; read on with start={last + 1}" if last < end else ""
    return f"{path}, lines {start} to {last} of {len(lines)}{more}\n" + "\n".join(taken)


def _edited(workspace: Workspace, path: str, old: str, new: str) -> tuple[str, int]:
    """The text after the edit, and the line where it begins. Raises ToolError if the piece is not there once."""
    if not old or old == new:
        raise ToolError("nothing to edit: old is empty or the same as new", "write_file writes a whole file.")
    text = workspace.read_text(path)
    if old not in text and "\r\n" in text:  # read_file shows such line ends as \n
        old, new = (piece.replace("\r\n", "\n").replace("\n", "\r\n") for piece in (old, new))
    count = text.count(old)
    if count == 0:
        raise ToolError(f"{path} does not contain that text", _nearest(text, old))
    if count > 1:
        lines = ", ".join(str(line) for line in islice(_lines_of(text, old), 10))
        raise ToolError(
            f"{path} contains that text {count} times, at the lines {lines}{', ...' if count > 10 else ''}",
            "Give more of the text around it.",
        )
    return text.replace(old, new), text.count("\n", 0, text.index(old)) + 1


def _lines_of(text: str, piece: str) -> Sequence[int]:
    found, at = [], text.find(piece)
    while at >= 0:
        found.append(text.count("\n", 0, at) + 1)
        at = text.find(piece, at + len(piece))
    return found


def _nearest(text: str, old: str) -> str:
    """Where the file comes closest to the first line of what was looked for."""
    wanted = next((line.strip() for line in old.splitlines() if line.strip()), "")
    lines = [line.strip() for line in text[:200_000].splitlines()]
    near = difflib.get_close_matches(wanted, lines, n=1) if len(wanted) < 500 else []
    return f"The nearest is line {lines.index(near[0]) + 1}: {near[0][:200]}" if near else "Read it with read_file."


def _listed(workspace: Workspace, path: str, pattern: str) -> tuple[list[str], bool]:
    """The files that fit, and whether there are more than were looked at."""
    files = list(islice(workspace.walk(path), FILES + 1))
    start = "" if path in (".", "") else f"{workspace.relative(workspace.resolve(path))}/"
    return [name for name in files[:FILES] if _fits(name.removeprefix(start), pattern)], len(files) > FILES


def _fits(path: str, pattern: str) -> bool:
    """Whether a path fits: a pattern with a slash is for the path, one without for its last part."""
    if "/" not in pattern:
        return fnmatch.fnmatchcase(path.rpartition("/")[2], pattern)
    pattern = pattern.removeprefix("./")
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, pattern.replace("**/", ""))


def _texts(workspace: Workspace, path: str, glob: str) -> tuple[list[tuple[str, str]], list[str]]:
    """The texts of the files that fit, and notes about what was left out."""
    names, more = _listed(workspace, path, glob)
    notes = [f"only the first {FILES:,} files were looked at"] if more else []
    texts: list[tuple[str, str]] = []
    room, skipped = SEARCH_BYTES, 0
    for name in names:
        try:
            text = workspace.read_text(name, SEARCH_FILE_BYTES)
        except ToolError:
            skipped += 1
            continue
        room -= len(text)
        if room < 0:
            notes.append(f"the search ended before {_printable(name)}, after {SEARCH_BYTES:,} characters")
            break
        texts.append((_printable(name), text.replace("\r\n", "\n")))
    if skipped:
        notes.append(f"{skipped} files were not searched: binary, not UTF-8, or over {SEARCH_FILE_BYTES:,} bytes")
    return texts, notes


def _plain_hits(pattern: str, texts: Texts) -> Hits:
    hits = (
        (which, line)
        for which, (_, text) in enumerate(texts)
        if pattern in text
        for line, content in enumerate(text.split("\n"))
        if pattern in content
    )
    return list(islice(hits, MATCHES))


async def _regex_hits(pattern: str, texts: Texts) -> Hits:
    """The same for a regular expression, in a process of its own that ends in any case."""
    question = await asyncio.to_thread(json.dumps, [pattern, MATCHES, [text for _, text in texts]])
    try:
        output = await child.ask(["-I", "-S", "-c", _MATCHER], question.encode(), SEARCH_SECONDS)
    except TimeoutError:
        raise ToolError(
            f"the pattern {pattern} took more than {SEARCH_SECONDS:.0f} s", "Use a simpler one, or regex=false."
        ) from None
    answer = json.loads(output)
    if isinstance(answer, str):
        raise ToolError(f"{pattern} is not a valid regular expression: {answer}")
    return [(which, line) for which, line in answer]


def _rows(texts: Texts, hits: Hits) -> list[str]:
    rows: list[str] = []
    current, lines = -1, [""]
    for which, line in hits:
        if which != current:
            current, lines = which, texts[which][1].split("\n")
        rows.append(f"{texts[which][0]}:{line + 1}: {lines[line].strip()[:LINE]}")
    return rows


def _brief(text: str) -> str:
    """A piece of text as a question shows it: on one line, and never all of a long one."""
    return json.dumps(text if len(text) <= 200 else f"{text[:200]}...", ensure_ascii=False)


def _printable(name: str) -> str:
    """A file's name as text: bytes of it that are not UTF-8 become question marks."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

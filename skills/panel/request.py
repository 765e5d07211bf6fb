"""What the person asked the panel: which text, what about it, and where the verdict goes.

Only typed words are parsed here; what is piped in is the text to judge and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from agent.errors import InputError, OutputError, ToolError, UsageError

if TYPE_CHECKING:
    from agent.session import Session
    from skills.registry import Job

EXAMPLES = 'For example: /panel paper.txt, /panel paper.txt save to verdict.md, cat paper.txt | apprentice "/panel -"'
FEWEST_WORDS = 15
"""A typed text of fewer words is a question without a paper."""
PASTED_WORDS = 60
"""In a text so long, a word that happens to be a file's name is only a word."""
SUFFIXES = (".txt", ".md", ".markdown", ".tex", ".rst", ".pdf")
_SAVE_TO = re.compile(r"""(?:^|\s)save\s+to\s+(?:"([^"]+)"|'([^']+)'|(\S+))\s*$""", re.IGNORECASE)
_WORD = re.compile(r""""([^"]+)"|'([^']+)'(?!\w)|(\S+)""")


@dataclass(frozen=True, slots=True)
class Request:
    """One text for the panel. `save_to` is a path inside the workspace; empty prints only."""

    source: str
    text: str
    question: str
    save_to: str


def parse(job: Job) -> Request:
    """Find the text and read it.

    Raises:
        UsageError: no text, or several.
        InputError: a file that is not there or holds no text.
        OutputError: the file to save in exists, or cannot be one.
    """
    match = _SAVE_TO.search(job.task)
    rest = (job.task[: match.start()] if match else job.task).strip()
    save_to = _target(job, next(filter(None, match.groups()))) if match else ""
    words = [(found[0], next(filter(None, found.groups()))) for found in _WORD.finditer(rest)]
    if any(word == "-" for _, word in words):
        question = " ".join(typed for typed, word in words if word != "-")
        return Request("standard input", _checked(job.session.stdin or "", "standard input"), question, save_to)
    files = [] if len(words) >= PASTED_WORDS else [(typed, path) for typed, path in _files(words, job.session)]
    if len(files) > 1:
        raise UsageError(f"the panel judges one text, and {len(files)} files are named", "Give them one after another.")
    if files:
        typed, path = files[0]
        question = rest.replace(typed, "", 1)
        return Request(path.name, _checked(_read(path, job.session), path.name), " ".join(question.split()), save_to)
    missing = [word for _, word in words if _is_path(word)]
    if missing and len(words) < PASTED_WORDS:
        raise InputError(f"there is no file {missing[0]}", f"I looked in {job.session.workspace.root}.")
    if len(words) < FEWEST_WORDS:
        raise UsageError("there is no text for the panel to judge", EXAMPLES)
    return Request("the text in the task", rest, "", save_to)


def _target(job: Job, name: str) -> str:
    """Where the verdict goes. In a chain the skill before has taken NAME: then it is NAME.panel.md."""
    try:
        path = job.session.workspace.resolve(name, write=True)
        if job.earlier and path.suffix:
            name = str(PurePath(name).with_suffix(".panel.md"))
            path = job.session.workspace.resolve(name, write=True)
    except ToolError as error:
        raise UsageError(
            f"cannot save to {name}: {error.message}", "Results are written inside the workspace."
        ) from None
    if path.is_dir():
        raise OutputError(f"cannot save to {name}: it is a folder", "Give a file name, such as verdict.md.")
    if path.exists() and job.session.options.get("overwrite", "").lower() in ("", "0", "no", "false"):
        raise OutputError(f"{name} exists already and is kept", "Give --overwrite to replace it, or another name.")
    return name


def _files(words: list[tuple[str, str]], session: Session) -> Iterator[tuple[str, Path]]:
    """The words that name a file: in the workspace, else in the folder where the command was typed."""
    for typed, word in words:
        if len(words) > 1 and not re.search(r"[./]", word):
            continue
        for folder in (session.workspace.root, Path.cwd()):
            try:
                path = (folder / Path(word).expanduser()).resolve()
                found = path.is_file()
            except (OSError, ValueError, RuntimeError):  # too long, or holds what no name can hold
                break
            if found:
                yield typed, path
                break


def _is_path(word: str) -> bool:
    return word.startswith(("./", "../", "~/", "/")) or word.lower().endswith(SUFFIXES)


def _read(path: Path, session: Session) -> str:
    """A typed file's text; of a PDF that of its first pages."""
    session.workspace.allow_reading(path)
    try:
        with session.workspace.open(str(path)) as file:
            is_pdf = file.read(5) == b"%PDF-"
        if not is_pdf:
            return session.workspace.read_text(str(path))
    except ToolError as error:
        raise InputError(error.message, EXAMPLES) from None
    from skills.annotate.pdf import PAGES, pdf_text

    return f"{pdf_text(path)[1]}\n(At most the first {PAGES} pages.)"


def _checked(text: str, source: str) -> str:
    if not text.strip():
        raise InputError(f"{source} is empty", EXAMPLES)
    return text.strip()

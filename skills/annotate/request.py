"""What the user asked for: the grammar of `/annotate SOURCES... [save to OUT]`.

Only what the user typed is parsed here; what was piped in is paper text and nothing else.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

from agent.errors import ApprenticeError, InputError, OutputError, UsageError
from agent.settings import BestBy
from skills.annotate.best_of import Best
from tools.arxiv import paper_id

if TYPE_CHECKING:
    from agent.session import Session
    from skills.registry import Job
    from tools.workspace import Workspace

Kind = Literal["file", "folder", "stdin", "arxiv", "text", "topic"]
Format = Literal["md", "json", "jsonl", "csv"]

FORMATS: dict[str, Format] = {"md": "md", "markdown": "md", "json": "json", "jsonl": "jsonl", "csv": "csv"}
ALLOWED = "Allowed: .md, .json, .jsonl, .csv (or --format md, json, jsonl, csv)."
PAPER_SUFFIXES = (".txt", ".md", ".tex", ".pdf", ".jsonl", ".csv")
EXAMPLES = (
    "For example: /annotate paper.pdf, /annotate papers/ save to out.jsonl, /annotate 2402.11651, or paste an abstract."
)
BEST_BY: tuple[BestBy, ...] = get_args(BestBy)
MOST_REPLIES = 16
ABSTRACT_WORDS = 40
"""A text of so many words is an abstract; a shorter one is too if it has several sentences, else it is a topic."""

_SAVE_TO = re.compile(r"(?:^|\s)save\s+to\s+(\"[^\"]+\"|'[^']+'|\S+)\s*$", re.IGNORECASE)
_SAVE_TO_SPACES = re.compile(
    r"(?:^|\s)save\s+to\s+((?:\S+\s+){1,6}\S+\.(?:md|markdown|json|jsonl|csv))\s*$", re.IGNORECASE
)
_TOKEN = re.compile(r"(?<!\S)(?:\"[^\"]+\"|'[^']+')(?=,?(?:\s|$))|\S+")
_FILLER = (
    "annotate the a an all and of in from for please this these that paper papers abstract abstracts file files "
    "folder arxiv my"
)
_DOCUMENT_SUFFIXES = (*PAPER_SUFFIXES, ".json", ".docx", ".doc", ".html", ".rtf", ".ps", ".epub", ".odt")


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to read papers from. `value` is a path, an arXiv id, or the text itself, by `kind`."""

    kind: Kind
    value: str


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed task. `save_to` is absolute and inside the workspace; None prints the result."""

    sources: tuple[Source, ...]
    save_to: Path | None
    format: Format
    framework: str
    grounding: str
    column: str = ""
    overwrite: bool = False
    explain: bool = False
    best: Best = field(default_factory=Best)


def parse(job: Job) -> Request:
    """Parse the task and the flags.

    Raises:
        UsageError: nothing to annotate, an unknown or contradictory format, `save to` outside the workspace.
        InputError: a path that does not exist.
        OutputError: the folder to save in does not exist.
    """
    session, options = job.session, job.session.options
    rest, name = _split_save_to(job.task)
    save_to = _target(name, session.workspace) if name else None
    folders = (session.workspace.root, Path.cwd())
    sources = _sources(rest, folders, piped=bool(session.stdin and session.stdin.strip()))
    form = _format(name, options)
    if form == "csv" and _flag(options, "explain"):
        raise UsageError("--explain does not fit into CSV", "Choose Markdown, JSON or JSONL.")
    if save_to and any(Path(source.value) == save_to for source in sources if source.kind == "file"):
        raise UsageError(f"{name} is both read and saved to", "Choose another name after `save to`.")
    return Request(
        sources=tuple(sources),
        save_to=save_to,
        format=form,
        framework=options.get("framework") or session.settings.annotate.framework,
        grounding=options.get("grounding") or session.settings.annotate.grounding,
        column=options.get("column", ""),
        overwrite=_flag(options, "overwrite"),
        explain=_flag(options, "explain"),
        best=_best(session),
    )


def _best(session: Session) -> Best:
    """How many replies, and how the best is chosen: `--best-of N[:agreement|:likelihood]`, else the settings'."""
    settings, typed = session.settings.annotate, session.options.get("best_of", "")
    count, _, by = typed.partition(":")
    if not typed:
        return Best(settings.best_of, settings.best_by)
    if not count.isascii() or not count.isdigit() or not 1 <= int(count) <= MOST_REPLIES or by not in (*BEST_BY, ""):
        ways = " or ".join(f"N:{way}" for way in BEST_BY)
        raise UsageError(f"--best-of {typed} is not understood", f"Give N from 1 to {MOST_REPLIES}, {ways}.")
    return Best(int(count), cast(BestBy, by) if by else settings.best_by)


def _flag(options: Mapping[str, str], name: str) -> bool:
    return options.get(name, "").lower() not in ("", "0", "no", "false")


def _split_save_to(task: str) -> tuple[str, str]:
    """The task without its closing `save to OUT`, and OUT. A long text that only happens to end so keeps its words."""
    match = _SAVE_TO.search(task)
    if match is None:
        spaced = _SAVE_TO_SPACES.search(task)
        if spaced:
            raise UsageError(f"the name to save to has spaces: {spaced[1]}", f'Quote it: save to "{spaced[1]}".')
        return task.strip(), ""
    typed, rest = match[1], task[: match.start()].strip()
    quoted = typed[0] in "\"'" and len(typed) > 1
    name = typed.strip("\"'")
    if not quoted and "/" not in name and not re.search(r"\w\.\w+$", name) and len(rest.split()) >= ABSTRACT_WORDS:
        return task.strip(), ""
    return rest, name


def _target(name: str, workspace: Workspace) -> Path:
    try:
        path = workspace.resolve(name, write=True)
    except ApprenticeError as error:
        raise UsageError(
            f"cannot save to {name}: {error.message}",
            f"Results are written inside the workspace {workspace.root} only.",
        ) from None
    if path.is_dir():
        raise OutputError(f"cannot save to {name}: it is a folder", "Give a file name, such as output.md.")
    if not path.parent.is_dir():
        raise OutputError(
            f"cannot save to {name}: there is no folder {path.parent}", f"Make it: mkdir -p {path.parent}"
        )
    return path


def _format(name: str, options: Mapping[str, str]) -> Format:
    chosen = options.get("format", "").lower().lstrip(".")
    suffix = Path(name).suffix.lower().lstrip(".")
    if chosen and chosen not in FORMATS:
        raise UsageError(f"there is no format {options['format']!r}", ALLOWED)
    if name and suffix not in FORMATS and not chosen:
        raise UsageError(f"the name {name!r} does not say which format to write", ALLOWED)
    if chosen and suffix in FORMATS and FORMATS[suffix] != FORMATS[chosen]:
        raise UsageError(f"save to {name} and --format {chosen} contradict each other", "Drop one of the two.")
    return FORMATS[chosen or suffix or "md"]


def _sources(rest: str, folders: Sequence[Path], *, piped: bool) -> list[Source]:
    if not rest:
        if piped:
            return [Source("stdin", "")]
        raise UsageError("there is nothing to annotate", EXAMPLES)
    whole = _existing(rest, folders)  # a name with spaces, unquoted
    if whole:
        return [whole]
    tokens = [
        token.rstrip(",").strip("\"'") if token[0] in "\"'" else token.rstrip(",") for token in _TOKEN.findall(rest)
    ]
    words = [token for token in tokens if token.lower() not in _FILLER.split() or _existing(token, folders)]
    found = [_source(word, folders) for word in words]
    if words and all(found):
        return [source for source in found if source]
    if words and all(source or _looks_like_path(word) for word, source in zip(words, found, strict=True)):
        raise _no_such_file(next(w for w, s in zip(words, found, strict=True) if not s), folders)
    if len(words) == 1 and "." in words[0] and _near(words[0], folders, cutoff=0.8):
        raise _no_such_file(words[0], folders)
    if _is_abstract(rest):
        return [Source("text", rest)]
    for word, source in zip(words, found, strict=True):
        if not source and _surely_path(word):
            raise _no_such_file(word, folders)
        if source and (source.kind != "folder" or "/" in word) and _surely_source(word, source):
            odd = next(w for w, s in zip(words, found, strict=True) if not s)
            raise UsageError(
                f"{odd!r} is neither a file nor an arXiv id", "Give only files, folders and ids, or only text."
            )
    return [Source("topic", rest)]


def _source(word: str, folders: Sequence[Path]) -> Source | None:
    if word == "-":
        return Source("stdin", "")
    existing = _existing(word, folders)
    if existing:
        return existing
    number = paper_id(word)
    return Source("arxiv", number) if number else None


def _existing(word: str, folders: Sequence[Path]) -> Source | None:
    """The file or folder of this name: in the workspace, else in the folder where the command was typed."""
    for folder in folders:
        try:
            path = (folder / os.path.expanduser(word)).resolve()
            if path.exists():
                return Source("folder" if path.is_dir() else "file", str(path))
        except (OSError, RuntimeError, ValueError):  # a name that is too long, or holds a NUL
            return None
    return None


def _surely_path(word: str) -> bool:
    return word.startswith(("./", "../", "~/", "/")) or word.lower().endswith(_DOCUMENT_SUFFIXES)


def _looks_like_path(word: str) -> bool:
    return _surely_path(word) or ("/" in word and not word.startswith("http"))


def _surely_source(word: str, source: Source) -> bool:
    return source.kind in ("arxiv", "stdin") or _looks_like_path(word)


def _no_such_file(word: str, folders: Sequence[Path]) -> InputError:
    folder = (folders[0] / os.path.expanduser(word)).parent
    if not folder.is_dir():
        return InputError(f"there is no file {word}: the folder {folder} does not exist")
    near = _near(word, folders, cutoff=0.65)
    return InputError(f"there is no file {word}", f"Did you mean {near!r}?" if near else f"I looked in {folder}.")


def _near(word: str, folders: Sequence[Path], cutoff: float) -> str:
    """The name most like a path's, in the folder that the path names; empty if none is as like as `cutoff`, 0 to 1."""
    path = folders[0] / os.path.expanduser(word)
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return ""
    near = difflib.get_close_matches(path.name, names, n=1, cutoff=cutoff)
    return str(Path(word).with_name(near[0])) if near else ""


def _is_abstract(text: str) -> bool:
    words = len(text.split())
    sentences = len(re.findall(r"[.!?](?=\s|$)", text))
    return words >= ABSTRACT_WORDS or (words >= 15 and sentences >= 2)

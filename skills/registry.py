"""Skills: folders with a SKILL.md (the Agent Skills format), read in three levels, and what activates them.

Level one is the frontmatter, always read; level two the body, once a skill is active; level three its files, when
they are asked for. Three folders hold skills: this one, the user's, and a trusted project's. The user's may replace a
built-in skill, and a notice says so; a project's may replace nothing.

What activates a skill is only what the person typed: `/name` at the very start, several in a row combine. Without
one, the first trigger in the first line of the task activates its skill; a guess never activates more than one.
"""

from __future__ import annotations

import difflib
import importlib
import os
import re
import stat
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from agent.errors import ConfigError, InputError, UsageError
from agent.messages import Route
from skills import frontmatter

if TYPE_CHECKING:
    from agent.session import Session
    from tools.registry import Tool

Origin = Literal["built-in", "user", "project"]


@dataclass(frozen=True, slots=True)
class Skill:
    """Level one of a skill: what stands in its frontmatter. The body and the files are read when asked for."""

    name: str
    description: str
    folder: Path
    origin: Origin
    allowed_tools: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Job:
    """What a skill's own pipeline (skill.py) is given.

    Args:
        session: what the process holds.
        task: what the person typed, less the leading /names.
        typed: the same with them, for the record.
        route: the model that takes it, why, and who takes over when validators fail.
        skills: all active skills, in the order of their /names.
        earlier: what the pipeline of the skill before this one answered; empty for the first.
    """

    session: Session
    task: str
    typed: str
    route: Route
    skills: tuple[Skill, ...]
    earlier: str = ""


Pipeline = Callable[[Job], Awaitable[str]]
"""`async def run(job: Job) -> str` in a skill.py: does the task, writes what was asked for, returns the answer."""


BUILT_IN = Path(__file__).resolve().parent
LARGEST_FILE = 1_000_000
"""Bytes of one file that `read` returns."""
FOREIGN_TOOLS = {
    "Read": "read_file",
    "Write": "write_file",
    "Edit": "edit_file",
    "Glob": "list_files",
    "LS": "list_files",
    "Grep": "search_files",
    "Bash": "run_shell",
    "WebFetch": "fetch_url",
}
"""What skills written for other agents call our tools."""
Offered = TypeVar("Offered")


class Skills(dict[str, Skill]):
    """Skills by name. `broken` keeps, for each skill that was left out, the file and what is wrong with it."""

    def __init__(self) -> None:
        super().__init__()
        self.broken: dict[str, InputError] = {}


@dataclass(frozen=True, slots=True)
class Activation:
    """A skill that takes part in a task, and why, as a person reads it."""

    skill: Skill
    reason: str


def load(user: Path, project: Path | None) -> tuple[Skills, list[str]]:
    """Read level one of every skill.

    Args:
        user: the user's skills folder; it need not exist.
        project: the project's skills folder; None if there is none or nobody trusts it.

    Returns:
        The skills by name, and a sentence for each skill that is left out or replaces another.
    """
    skills, notices = Skills(), []
    folders: list[tuple[Origin, Path | None]] = [("built-in", BUILT_IN), ("user", user), ("project", project)]
    for origin, folder in folders:
        for path in sorted(folder.glob("*/SKILL.md")) if folder else []:
            try:
                skill = _skill(path, origin)
            except InputError as error:
                notices.append(f"a skill is left out: {error.message}")
                skills.broken.setdefault(path.parent.name, error)
                continue
            before = skills.get(skill.name)
            if before and origin == "project":
                notices.append(
                    f"{path} is left out: {skill.name} is a {before.origin} skill, which no project replaces"
                )
                continue
            if before:
                notices.append(f"your skill {skill.name} in {path.parent} replaces the built-in one")
            skills[skill.name] = skill
    return skills, notices


def body(skill: Skill) -> str:
    """Level two: the instructions. Raises InputError if the file cannot be read."""
    return frontmatter.body(skill.folder / "SKILL.md")


def files(skill: Skill) -> list[str]:
    """The names of level three's files, relative to the skill's folder; hidden ones and caches are left out."""
    found = []
    for folder, folders, names in os.walk(skill.folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        found += [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
    return [path.relative_to(skill.folder).as_posix() for path in found if path.name != "SKILL.md"]


def read(skill: Skill, relative_path: str) -> str:
    """Level three: one text file of the skill's folder.

    Raises:
        InputError: there is no such file, it lies outside the folder (through `..` or a link), it is no plain file,
            is too large, or is not UTF-8.
    """
    root = skill.folder.resolve()
    try:
        path = (root / relative_path).resolve()
        if not path.is_relative_to(root):
            raise InputError(f"{relative_path!r} lies outside the skill {skill.name}")
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{relative_path!r} of the skill {skill.name} is no plain file")
            data = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"{relative_path!r} of the skill {skill.name} cannot be read: {reason}", f"It has: {_listed(skill)}."
        ) from None
    if len(data) > LARGEST_FILE:
        raise InputError(f"{relative_path!r} of the skill {skill.name} is larger than {LARGEST_FILE} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{relative_path!r} of the skill {skill.name} is not UTF-8 text") from None


def activate(task: str, skills: Mapping[str, Skill]) -> tuple[list[Activation], str]:
    """Which skills take a task.

    A word at the very start is a skill's name if it is `/` and letters, digits, `-` or `_`, with no further `/` and no
    dot: `/annotate`, but not `/home/x/paper.txt`. If no skill bears it and such a file or folder exists, e.g. `/tmp`,
    it is a path too. The names end at the first word that is none.

    Args:
        task: what the person typed, and nothing else.
        skills: as `load` returns them.

    Returns:
        The activations in order, and the task without the leading names.

    Raises:
        UsageError: no skill has that name; the hint gives the nearest.
        InputError: the skill is there but its SKILL.md is broken.
    """
    named: dict[str, Activation] = {}
    rest = task.strip()
    while match := re.match(r"/([A-Za-z0-9_-]+)(?:\s+|$)", rest):
        name = match[1]
        if name not in skills and os.path.exists(f"/{name}"):
            break
        named[name] = Activation(_named(name, skills), f"you typed /{name}")
        rest = rest[match.end() :]
    return (list(named.values()), rest) if named else (_triggered(rest, skills), rest)


def pipeline(skill: Skill) -> Pipeline | None:
    """The `run` of the skill's own skill.py; None if it has none, and the loop works by its instructions.

    Raises:
        ConfigError: the file fails to import or has no `run`.
    """
    path = skill.folder / "skill.py"
    if not path.is_file():
        return None
    if skill.origin == "built-in":
        module = importlib.import_module(f"skills.{skill.name}.skill")
    else:
        from agent.trust import import_file

        module = import_file(path, f"{skill.origin}_skill_{skill.name.replace('-', '_')}", "skill file")
    run = getattr(module, "run", None)
    if not callable(run):
        raise ConfigError(f"{path} has no function `run`", "Write `async def run(job: Job) -> str`.")
    found: Pipeline = run
    return found


def allowed_tools(active: Iterable[Skill], tools: Mapping[str, Offered]) -> dict[str, Offered]:
    """The tools that active skills leave.

    A skill that names tools narrows the offer to them, several such skills to those that any of them names; a skill
    that names none changes nothing. No skill adds a tool.
    """
    lists = [skill.allowed_tools for skill in active if skill.allowed_tools]
    plain = {name.partition("(")[0] for names in lists for name in names}
    names = plain | {FOREIGN_TOOLS[name] for name in plain if name in FOREIGN_TOOLS} | {READER}
    return {name: found for name, found in tools.items() if not lists or name in names}


def instructions(active: Sequence[Skill], skills: Mapping[str, Skill]) -> str:
    """The skills' part of the system prompt: the active ones with their bodies, the others by name and description."""
    parts = []
    for skill in active:
        named = _listed(skill)
        parts.append(f"# Skill: {skill.name}\n\n{body(skill)}" + (f"\n\nFiles of this skill: {named}" if named else ""))
    others = [f"- {skill.name}: {skill.description}" for skill in skills.values() if skill not in active]
    if others:
        parts.append("# Other skills, which the person can start with /name\n\n" + "\n".join(others))
    return "\n\n".join(parts)


READER = "read_skill_file"


def reader(skills: Mapping[str, Skill]) -> Tool:
    """A tool with which a model reads level three; it reaches the skills' folders and nothing else."""
    from tools.registry import tool

    @tool(effect="read", concurrent=True)
    async def read_skill_file(context: object, skill: str, path: str) -> str:
        """Read a file that belongs to a skill.

        Args:
            skill: the skill's name.
            path: the file, relative to the skill's folder, e.g. SKILL.md.
        """
        return read(_named(skill, skills), path)

    return read_skill_file


def _skill(path: Path, origin: Origin) -> Skill:
    head = frontmatter.read(path)
    skill = Skill(head.name, head.description, path.parent, origin, head.allowed_tools, head.metadata)
    for phrase in _triggers(skill):
        if _is_pattern(phrase):
            _pattern(phrase, path)
    return skill


def _listed(skill: Skill) -> str:
    names = files(skill)
    return ", ".join(names[:50]) + (f" and {len(names) - 50} more" if len(names) > 50 else "")


def _named(name: str, skills: Mapping[str, Skill]) -> Skill:
    if name in skills:
        return skills[name]
    if name in getattr(skills, "broken", {}):
        raise skills.broken[name]  # type: ignore[attr-defined]
    near = difflib.get_close_matches(name.lower(), skills, n=1)
    hint = f"Did you mean /{near[0]}? " if near else ""
    raise UsageError(f"there is no skill /{name}", f"{hint}`apprentice skills` lists them; a path begins with ./")


def _triggers(skill: Skill) -> list[str]:
    """The parts of metadata's `triggers`, between semicolons that are not inside a /pattern/."""
    parts = re.findall(r"\s*(/(?:\\.|[^/\\])+/(?=\s*(?:;|$))|[^;]+)(?:;|$)?", skill.metadata.get("triggers", ""))
    return [part.strip() for part in parts if part.strip()]


def _is_pattern(phrase: str) -> bool:
    return len(phrase) > 2 and phrase[0] == phrase[-1] == "/"


def _pattern(phrase: str, path: Path) -> re.Pattern[str]:
    """A trigger's /pattern/. What could run for ages on a short text, a repeat inside a repeat, is refused."""
    text = phrase[1:-1]
    if len(text) > 200 or re.search(r"[*+}][^()]*\)\s*[*+{]", text):
        raise InputError(f"{path}: the trigger {phrase} is too long, or repeats a repeat", "Write a simpler pattern.")
    try:
        return re.compile(text, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: the trigger {phrase} is no regular expression: {error}") from None


def _triggered(task: str, skills: Mapping[str, Skill]) -> list[Activation]:
    """The skill whose trigger comes first in the task's first line (its first 300 characters), if any."""
    line = task.partition("\n")[0][:300]
    hits = []
    for skill in skills.values():
        for phrase in _triggers(skill):
            if _is_pattern(phrase) and skill.origin == "project":
                continue  # a project's author does not choose what runs against the person's words
            if match := _find(phrase, line, skill):
                hits.append((match.start(), -len(match[0]), match[0], skill))
    if not hits:
        return []
    *_, words, skill = min(hits, key=lambda hit: hit[:2])
    return [Activation(skill, f"the task says {words!r}")]


def _find(phrase: str, line: str, skill: Skill) -> re.Match[str] | None:
    if _is_pattern(phrase):
        return _pattern(phrase, skill.folder / "SKILL.md").search(line)
    words = phrase.split()
    if not all(word.lower() in line.lower() for word in words):  # cheaper than compiling what cannot match
        return None
    text = r"\s+".join(map(re.escape, words))
    return re.search(rf"(?<![\w./-]){text}(?![\w/-]|\.\w)", line, re.IGNORECASE)

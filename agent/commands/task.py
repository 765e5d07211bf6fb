"""`apprentice "TASK"`: open a session, activate skills, route, run, and put the answer where it was asked for."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import config, trust
from agent.consent import Ask, Consent
from agent.errors import InputError, OutputError, ToolError, UsageError
from agent.messages import Event, Message
from agent.session import Session

if TYPE_CHECKING:
    from skills.registry import Skill
    from tools.registry import Tool

STDIN_LIMIT = 10_000_000
EFFECT = re.compile(r"shell|net:[\w.-]+(:\d+)?")
SAVE_TO = re.compile(r"""(?is)\s+save\s+to\s+(?:"([^"]+)"|'([^']+)'|(\S+))\s*$""")


async def run(options: argparse.Namespace) -> int:
    """Do one task. Returns the exit code; raises ApprenticeError for whatever a person should be told."""
    from agent import terminal

    sink = terminal.choose(as_json=options.json, quiet=options.quiet)
    outcomes: list[str] = []

    def emit(event: Event) -> None:
        if event.kind == "end":
            outcomes.append(event.data["outcome"])
        sink(event)

    session = await open_session(options, emit, ask=ask_on_terminal if at_terminal() else None, typed=options.task)
    try:
        session.stdin = read_stdin(options.task)
        answer = await do(session, options.task, model=options.model)
        session.emit(Event("answer", "", {"text": answer}))
    finally:
        await session.close()
    return 0 if outcomes and outcomes[-1] == "success" else 1


async def open_session(
    options: argparse.Namespace, emit: Callable[[Event], None], *, ask: Ask | None, typed: str = ""
) -> Session:
    """Everything a run needs, from the settings, the flags and the folders.

    Args:
        options: as parsed by `agent.cli.add_run_options`.
        emit: where events go.
        ask: how a person is asked; None where there is nobody.
        typed: the person's own words: paths that stand in them are readable.

    Raises:
        ApprenticeError: a bad setting, a missing workspace, an unusable trace store.
    """
    from agent.redact import Redactor
    from agent.traces import TraceStore
    from tools.registry import ToolContext
    from tools.workspace import Workspace

    root = workspace_root(options.workspace)
    settings, trusted, notices = settings_for(root, options)
    data, cache = config.data_dir(settings), config.cache_dir()
    redactor = Redactor(os.environ)
    found = known_tools(root, settings, trusted)
    known, problems = known_skills(root, trusted)
    store = TraceStore.open(data / "traces.db", redactor)
    workspace = Workspace(root, typed_paths(typed, root))
    consent = Consent(
        yes=options.yes,
        allowed=frozenset([*settings.consent.allow, *effects(options.allow)]),
        ask=ask,
        local_only=settings.privacy == "local-only",
    )
    context = ToolContext(workspace, consent, settings, redactor, data / "outputs", cache)
    for notice in (*notices, *problems, *filter(None, [store.notice])):
        emit(Event("notice", "", {"text": notice}))
    chosen = {name: str(getattr(options, name)) for name in SKILL_OPTIONS if getattr(options, name, None)}
    return Session(settings, store, emit, consent, workspace, found, context, known, data, options=chosen)


SKILL_OPTIONS = ("format", "overwrite", "explain", "framework", "column", "grounding")


def known_skills(root: Path, trusted: bool) -> tuple[dict[str, Skill], list[str]]:
    """The built-in skills, the user's, and the project's if its folder is trusted; and what is wrong with any."""
    from skills import registry

    project = root / config.PROJECT_FOLDER / "skills"
    return registry.load(config.config_dir() / "skills", project if trusted else None)


def known_tools(root: Path, settings: config.Settings, trusted: bool) -> dict[str, Tool]:
    """The built-in tools, the user's, and the project's if its folder is trusted, less the disabled ones."""
    from tools import registry

    project = [root / config.PROJECT_FOLDER / "tools"] if trusted else []
    return registry.load([config.config_dir() / "tools", *project], settings.tools.disabled)


def workspace_root(folder: Path) -> Path:
    """The folder to work in. Raises InputError if there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"the workspace {folder} is not a folder", "Give --workspace a folder that exists.")
    return folder.resolve()


def settings_for(root: Path, options: argparse.Namespace) -> tuple[config.Settings, bool, list[str]]:
    """The settings for a workspace, whether its project files are trusted, and what a person should know of that."""
    steps = getattr(options, "max_steps", None)
    flags: dict[str, Any] = {} if steps is None else {"budget.steps": steps}
    user_settings, _ = config.load(Path(os.devnull), trusted=False)
    trusted = trust.is_trusted(root, config.data_dir(user_settings))
    settings, notices = config.load(root, trusted=trusted, flags=flags)
    if not trusted and trust.what(root) and not notices:
        notices = [f"{root / config.PROJECT_FOLDER} is not trusted and is left out (`apprentice config trust`)"]
    return settings, trusted, notices


def effects(given: Sequence[str]) -> list[str]:
    """The effects given as --allow. Raises UsageError for one that does not exist."""
    for effect in given:
        if not EFFECT.fullmatch(effect):
            raise UsageError(f"--allow {effect} is not an effect", "There are: shell, net:HOST.")
    return list(given)


def typed_paths(typed: str, root: Path) -> Iterable[Path]:
    """The paths outside the workspace that a person's own words name: readable for this run."""
    words = re.findall(r""""([^"]+)"|'([^']+)'|(\S+)""", SAVE_TO.sub("", typed))
    paths = (Path(next(filter(None, word))).expanduser() for word in words)
    return [path.resolve() for path in paths if len(str(path)) < 4096 and _exists(root / path)]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_stdin(task: str) -> str | None:
    """What was piped in, if the task has a lone `-`; without one, standard input is left alone.

    Raises:
        InputError: nothing is piped in, or it is empty, too long, or not UTF-8.
    """
    if not re.search(r"(?<!\S)-(?!\S)", task):
        return None
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            "`-` stands for standard input, and nothing is piped in", 'E.g. cat paper.txt | apprentice "/annotate -"'
        )
    data = sys.stdin.buffer.read(STDIN_LIMIT + 1)
    if len(data) > STDIN_LIMIT:
        raise InputError(f"standard input is longer than {STDIN_LIMIT:,} bytes", "Put it into a file, or give less.")
    if not data.strip():
        raise InputError("standard input is empty", "Pipe the text in, or name a file.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"standard input is not UTF-8 (byte {error.start})", "Convert it first, e.g. with iconv."
        ) from None


async def do(session: Session, typed: str, *, model: str, earlier: Sequence[Message] = ()) -> str:
    """Do a task with the skills that it activates: their pipelines in order, else the loop.

    Args:
        session: what the process holds.
        typed: the person's words.
        model: the address given as --model; empty if none.
        earlier: the conversation so far, in a REPL.
    """
    from skills import registry as skills

    activations, task = skills.activate(typed, session.skills)
    for activation in activations:
        session.emit(Event("skill", "", {"name": activation.skill.name, "reason": activation.reason}))
    active = tuple(activation.skill for activation in activations)
    with_pipeline = [(skill, pipeline) for skill in active if (pipeline := skills.pipeline(skill))]
    said = ""
    for skill, pipeline in with_pipeline:
        said = await pipeline(skills.Job(session, task, typed, _route(session, model, [skill]), active, earlier=said))
    if len(with_pipeline) < len(active) or not active:
        free = [skill for skill in active if not skills.pipeline(skill)]
        said = await _work_freely(session, typed, task, free, model, [*earlier, *_as_context(said)])
    return said


def _route(session: Session, model: str, active: Sequence[Skill]) -> Any:
    from agent.router import route

    return route(session.settings, flag=model, skills=active)


def _as_context(said: str) -> list[Message]:
    """What a pipeline said, as the conversation before the free part of the same task."""
    return (
        [Message("user", "The result of the step before:\n" + said), Message("assistant", "Understood.")]
        if said
        else []
    )


async def _work_freely(
    session: Session, typed: str, task: str, active: Sequence[Skill], model: str, earlier: Sequence[Message]
) -> str:
    """The ReAct loop on one task, with the bodies of the active skills as instructions."""
    from agent.loop import Loop
    from agent.run import Run
    from skills import registry as skills

    route = _route(session, model, active)
    target = SAVE_TO.search(task)
    name = next(filter(None, target.groups())) if target else ""
    _check_target(session, name)  # before anything is asked of a model
    wanted = SAVE_TO.sub("", task)
    if session.stdin is not None:
        wanted += f"\n\nStandard input:\n{session.stdin}"
    reader = skills.reader(session.skills)
    offered = skills.allowed_tools(active, session.tools | {reader.name: reader})
    names = [skill.name for skill in active]
    schemas = [tool.schema for tool in offered.values()]
    async with Run(session, typed, route, skills=names, tools=schemas) as run:
        instructions = skills.instructions(active, session.skills)
        answer = await Loop(run, route.model, offered, instructions).answer(wanted, earlier)
    return _save(session, answer, name) if name and answer else answer


def _check_target(session: Session, name: str) -> None:
    """Raise UsageError if the file to save to cannot be one, or exists and --overwrite was not given."""
    if not name:
        return
    try:
        target = session.workspace.resolve(name, write=True)
    except ToolError as error:
        raise UsageError(f"cannot save to {name}: {error.message}", error.hint) from None
    if target.is_dir():
        raise UsageError(f"cannot save to {name}: it is a folder", "Give a file name, such as answer.md.")
    if target.exists() and not session.options.get("overwrite"):
        raise UsageError(f"{name} exists and is kept", "Give --overwrite to replace it, or save to another name.")


def _save(session: Session, answer: str, name: str) -> str:
    """Write the answer where the person asked for it. Raises ApprenticeError; the answer then is on record."""
    on_record = "The answer is on record: `apprentice traces show last`."
    try:
        _check_target(session, name)  # somebody may have made it meanwhile
        session.workspace.write_text(name, answer + "\n")
    except UsageError as error:
        raise UsageError(error.message, on_record) from None
    except ToolError as error:
        raise OutputError(f"the answer could not be saved: {error.message}", on_record) from None
    session.emit(Event("notice", "", {"text": f"saved to {name}"}))
    return answer


def at_terminal() -> bool:
    """Whether a person can be asked: both what they type and what they read are a terminal."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr.isatty())


async def ask_on_terminal(question: str) -> bool:
    """Ask a yes-or-no question on the terminal; anything but y or yes is no."""
    from agent.terminal import clean

    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin.fileno(), read)
    try:
        return (await line).strip().lower() in ("y", "yes")
    finally:
        loop.remove_reader(sys.stdin.fileno())

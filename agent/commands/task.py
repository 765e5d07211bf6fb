"""`apprentice "TASK"`: open a session, activate skills, route, run, and put the answer where it was asked for."""

from __future__ import annotations

import argparse
import asyncio
import copy
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import config, trust
from agent.commands import typed
from agent.consent import Ask, Consent
from agent.errors import InputError, OutputError, ToolError, UsageError
from agent.messages import Event, Message, Route, Trajectory
from agent.session import Session
from agent.settings import EFFECT, Settings

if TYPE_CHECKING:
    from agent.mcp.config import Server
    from agent.resuming import Resumed
    from skills.registry import Job, Skill
    from tools.registry import Tool


async def run(options: argparse.Namespace) -> int:
    """Do one task. Returns the exit code; raises ApprenticeError for whatever a person should be told."""
    from agent import terminal

    sink = terminal.choose(as_json=options.json, quiet=options.quiet, prose=options.format in (None, "md"))
    outcomes: list[str] = []

    def emit(event: Event) -> None:
        if event.kind == "end":
            outcomes.append(event.data["outcome"])
        sink(event)

    session = await open_session(options, emit, ask=ask_on_terminal if at_terminal() else None, task=options.task)
    try:
        session.stdin = typed.read_stdin(options.task)
        answer = await do(session, options.task, model=options.model)
        session.emit(Event("answer", "", {"text": answer}))
        if outcomes and outcomes[-1] == "success":
            improve_if_due(session)
    finally:
        await session.close()
    return 0 if outcomes and outcomes[-1] == "success" else 1


def improve_if_due(session: Session) -> None:
    """After a task that ended well: start `improve` in the background if `improve.every` says so, and tell it."""
    if session.settings.improve.every:
        from agent import improving

        session.store.flush()
        if said := improving.start_if_due(session.settings, session.store):
            session.emit(Event("notice", "", {"text": said}))


async def open_session(
    options: argparse.Namespace,
    emit: Callable[[Event], None],
    *,
    ask: Ask | None,
    task: str = "",
    how: str = "give",
) -> Session:
    """Everything a run needs, from the settings, the flags and the folders.

    Args:
        options: as parsed by `agent.cli.add_run_options`.
        emit: where events go.
        ask: how a person is asked; None where there is nobody.
        task: the person's own words: paths that stand in them are readable.
        how: what a person does with a flag that allows something, where giving it to the same command again is not it.

    Raises:
        ApprenticeError: a bad setting, a missing workspace, an unusable trace store.
    """
    from agent.policy import Rules
    from agent.redact import Redactor
    from agent.traces import TraceStore
    from tools.registry import ToolContext
    from tools.workspace import Workspace

    root = workspace_root(options.workspace)
    settings, trusted, notices = settings_for(root, options)
    data, cache = config.data_dir(settings), config.cache_dir()
    servers, odd = mcp_servers(root, settings)
    redactor = Redactor({**os.environ, **mcp_secrets(servers)})
    found = known_tools(root, settings, trusted)
    known, problems = known_skills(root, trusted)
    store = TraceStore.open(data / "traces.db", redactor)
    workspace = Workspace(root, typed.readable_paths(task, root))
    consent = Consent(
        yes=options.yes,
        allowed=frozenset([*settings.consent.allow, *effects(options.allow)]),
        ask=ask,
        local_only=settings.privacy == "local-only",
        how=how,
        after_outside=frozenset(
            [*settings.consent.allow_after_outside, *effects(options.allow_after_outside, "--allow-after-outside")]
        ),
        rules=Rules(settings.policy.rules, root),
        redactor=redactor,
    )
    workspace.hidden = consent.rules.on_file
    context = ToolContext(workspace, consent, settings, redactor, data / "outputs", cache)
    for notice in (*notices, *problems, *odd, *filter(None, [store.notice])):
        emit(Event("notice", "", {"text": notice}))
    chosen = {name: str(getattr(options, name)) for name in SKILL_OPTIONS if getattr(options, name, None)}
    session = Session(settings, store, emit, consent, workspace, found, context, known, data, options=chosen)
    if servers:
        from agent.mcp.elicitation import Person
        from agent.mcp.tools import Servers

        person, disabled = Person(ask, line_on_terminal if ask else None, consent.turn), settings.tools.disabled
        session.mcp = Servers(servers, data, person, emit, local_only=consent.local_only, disabled=disabled)
    return session


SKILL_OPTIONS = ("format", "overwrite", "explain", "framework", "column", "grounding", "best_of")


def known_skills(root: Path, trusted: bool) -> tuple[dict[str, Skill], list[str]]:
    """The built-in skills, the user's, and the project's if its folder is trusted; and what is wrong with any."""
    from skills import registry

    project = root / config.PROJECT_FOLDER / "skills"
    return registry.load(config.config_dir() / "skills", project if trusted else None)


def known_tools(root: Path, settings: Settings, trusted: bool) -> dict[str, Tool]:
    """The built-in tools, the user's, and the project's if its folder is trusted, less those disabled or of no use."""
    from agent.beads.bead import are_used
    from tools import registry

    project = [root / config.PROJECT_FOLDER / "tools"] if trusted else []
    work = settings.work
    used = {
        "beads": are_used(root, settings),
        "todo": work.todos or work.phases,
        "notes": work.notes,
        "delegate": work.delegate,
    }
    without = [family for family, wanted in used.items() if not wanted]  # each costs milliseconds of every start
    return registry.load([config.config_dir() / "tools", *project], settings.tools.disabled, without)


def mcp_servers(root: Path, settings: Settings) -> tuple[dict[str, Server], list[str]]:
    """The MCP servers of the settings and of the folder's .mcp.json, and what is wrong with any."""
    if not settings.mcp.servers and not os.path.lexists(root / ".mcp.json"):
        return {}, []
    from agent.mcp import config as mcp_config

    return mcp_config.servers(settings, root)


def mcp_secrets(servers: dict[str, Server]) -> dict[str, str]:
    """What the servers' definitions hold that must not be on record."""
    if not servers:
        return {}
    from agent.mcp import config as mcp_config

    return mcp_config.secrets(servers)


def workspace_root(folder: Path) -> Path:
    """The folder to work in. Raises InputError if there is no such folder."""
    if not folder.is_dir():
        raise InputError(f"the workspace {folder} is not a folder", "Give --workspace a folder that exists.")
    return folder.resolve()


def settings_for(root: Path, options: argparse.Namespace) -> tuple[Settings, bool, list[str]]:
    """The settings for a workspace, whether its project files are trusted, and what a person should know of that."""
    steps = getattr(options, "max_steps", None)
    flags: dict[str, Any] = {} if steps is None else {"budget.steps": steps}
    if getattr(options, "phases", False):
        flags["work.phases"] = True
    user_settings, _ = config.load(Path(os.devnull), trusted=False)
    trusted = trust.is_trusted(root, config.data_dir(user_settings))
    settings, notices = config.load(root, trusted=trusted, flags=flags)
    if not trusted and trust.what(root) and not notices:
        notices = [f"{root / config.PROJECT_FOLDER} is not trusted and is left out (`apprentice config trust`)"]
    return settings, trusted, notices


def effects(given: Sequence[str], flag: str = "--allow") -> list[str]:
    """The effects given with a flag. Raises UsageError for one that does not exist."""
    for effect in given:
        if not re.fullmatch(EFFECT, effect):
            raise UsageError(f"{flag} {effect} is not an effect", "There are: shell, net:HOST, mcp:SERVER.")
    return list(given)


async def do(
    session: Session, words: str, *, model: str, earlier: Sequence[Message] = (), by_person: bool = True
) -> str:
    """Do a task with the skills that it activates: their pipelines in order, else the loop.

    Args:
        session: what the process holds.
        words: the task.
        model: the address given as --model; empty if none.
        earlier: the conversation so far, in a REPL.
        by_person: whether a person typed the words; in others no skill and no `save to` is looked for.
    """
    from skills import registry as skills

    if by_person and session.mcp and (prompt := await session.mcp.prompt(words)) != words:
        words, by_person = prompt, False  # the rest is the server's text: no skill and no `save to` is looked for
    activations, task = skills.activate(words, session.skills) if by_person else ([], words)
    if by_person:
        session.consent.begin(words)
        session.placeholders.said(words)
    for activation in activations:
        session.emit(Event("skill", "", {"name": activation.skill.name, "reason": activation.reason}))
    active = tuple(activation.skill for activation in activations)
    with_pipeline = [(skill, pipeline) for skill in active if (pipeline := skills.pipeline(skill))]
    said = ""
    for skill, pipeline in with_pipeline:
        began = time.time()
        said = await pipeline(skills.Job(session, task, words, _route(session, model, [skill]), active, earlier=said))
        session.consent.taint.expose(f"/{skill.name}", began)  # the document that it read may be a stranger's
    free = tuple(skill for skill in active if skill not in [skill for skill, _ in with_pipeline])
    if free or not active:
        task, target = typed.save_target(task) if by_person else (task, "")
        job = skills.Job(session, task, words, _route(session, model, free), free)
        said = await work_freely(job, target, [*earlier, *_as_context(said)])
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


async def work_freely(
    job: Job, target: str = "", earlier: Sequence[Message] = (), resumed: Resumed | None = None
) -> str:
    """The ReAct loop on one task, or several in phases, with the bodies of the active skills as instructions.

    What the model could not do (not what cost too much) `models.strong` tries anew, in a run of its own.

    Args:
        job: the task, its route and its active skills.
        target: the file to save the answer to; empty if none.
        earlier: the conversation so far.
        resumed: the interrupted run that this one goes on with.
    """
    from agent import notes, phases, router, selection
    from agent.loop import Loop
    from agent.run import Run
    from skills import registry as skills

    session = job.session
    _check_target(session, target)  # before anything is asked of a model
    task = job.task + (f"\n\nStandard input:\n{session.stdin}" if session.stdin is not None else "")
    reader = skills.reader(session.skills)
    known = session.tools | ({} if reader.name in session.settings.tools.disabled else {reader.name: reader})
    if session.mcp:
        known |= await session.mcp.tools()
    work = session.settings.work
    allowed = skills.allowed_tools(job.skills, known)
    in_phases = resumed.in_phases if resumed else work.phases
    offered = {} if in_phases else selection.choose(phases.offered(allowed, work), task, session.settings.mcp.shown)
    names = [skill.name for skill in job.skills]
    about_skills = skills.instructions(job.skills, session.skills)

    async def attempt(route: Route) -> tuple[Trajectory, str, bool]:
        todos, labels = (copy.deepcopy(resumed.todos), {"resumes": resumed.id}) if resumed else (None, {})
        instructions = "\n\n".join(filter(None, [about_skills, await notes.shown(session, route.model)]))
        if in_phases:
            tools = allowed | phases.own(known)
            return await phases.work(replace(job, route=route), task, tools, instructions, earlier, todos, labels)
        schemas = [tool.schema for tool in offered.values()]
        async with Run(session, job.typed, route, skills=names, tools=schemas, todos=todos, labels=labels) as run:
            loop = Loop(run, route.model, offered, instructions)
            return run.trajectory, await loop.answer(task, earlier), loop.gave_up

    run, answer = await router.with_escalation(job.route, attempt)
    if target and run.outcome == "success":
        _save(session, answer, target)
    elif target:
        session.emit(Event("notice", "", {"text": f"nothing was saved to {target}: {run.reason}"}))
    return answer


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


def _save(session: Session, answer: str, name: str) -> None:
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


def at_terminal() -> bool:
    """Whether a person can be asked: both what they type and what they read are a terminal."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stderr.isatty())


async def ask_on_terminal(question: str) -> bool:
    """Ask a yes-or-no question on the terminal; anything but y or yes is no."""
    return (await line_on_terminal(f"{question} [y/N]")).strip().lower() in ("y", "yes")


async def line_on_terminal(question: str) -> str:
    """Ask a question on the terminal; the line that the person types."""
    from agent.terminal import clean

    sys.stderr.write(f"{clean(question)} ")
    sys.stderr.flush()
    loop = asyncio.get_running_loop()
    line: asyncio.Future[str] = loop.create_future()

    def read() -> None:
        if not line.done():
            line.set_result(sys.stdin.readline())

    loop.add_reader(sys.stdin.fileno(), read)
    try:
        return await line
    except asyncio.CancelledError:
        sys.stderr.write("\n")  # what comes next must not stand behind the question
        raise
    finally:
        loop.remove_reader(sys.stdin.fileno())

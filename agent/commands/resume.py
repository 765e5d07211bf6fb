"""`apprentice resume RUN`: go on with a run that was killed, stopped, or ran out of its budget."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.commands.record import OpenStore, resolve
from agent.errors import UsageError
from agent.messages import Event, Trajectory
from agent.session import Session

if TYPE_CHECKING:
    from agent.resuming import Resumed
    from agent.traces import TraceStore
    from skills.registry import Skill


def add_resume(parser: argparse.ArgumentParser) -> None:
    from agent.cli import add_run_options

    parser.description = "Go on with an interrupted run, from its record. RUN is an id, its start, or `last`."
    parser.add_argument("id", metavar="RUN")
    add_run_options(parser)
    parser.set_defaults(run=resume)


async def resume(options: argparse.Namespace) -> int:
    """Go on with the run. Returns the exit code; raises ApprenticeError for whatever a person should be told."""
    from agent import terminal
    from agent.commands import task
    from agent.resuming import read_again, read_back

    with OpenStore() as store:
        run_id = resolve(store, options.id)
        old = store.get(run_id)
        parts = _parts(store, old)
        found = read_back(old, parts)
        summary = next(run for run in store.runs(limit=-1, since=old.started) if run.id == run_id)
    if summary.state == "running":
        raise UsageError(f"run {run_id} is still going on", "Stop it first, with Ctrl-C where it runs.")
    _check_workspace(options, old)
    options.phases = options.phases or found.in_phases
    outcomes: list[str] = []
    sink = terminal.choose(as_json=options.json, quiet=options.quiet, out=sys.stdout, err=sys.stderr)

    def emit(event: Event) -> None:
        if event.kind == "end":
            outcomes.append(event.data["outcome"])
        sink(event)

    session = await task.open_session(options, emit, ask=task.ask_on_terminal if task.at_terminal() else None)
    try:
        read_again([old, *parts], session)
        answer = await go_on(session, old, replace(found, in_phases=options.phases), options.model)
        session.emit(Event("answer", "", {"text": answer}))
    finally:
        await session.close()
    return 0 if outcomes and outcomes[-1] == "success" else 1


async def go_on(session: Session, old: Trajectory, found: Resumed, model: str) -> str:
    """Do the rest of a run, in a new one. Returns the answer.

    Args:
        session: what the process holds.
        old: the interrupted run.
        found: its state.
        model: the address given as --model; if empty, the one that the person gave then, or the router's choice.

    Raises:
        UsageError: a skill of its own way of working took the task, or is not there any more.
    """
    from agent.commands import task
    from agent.router import route
    from skills.registry import Job

    given = old.route.model if old.route and old.route.rule == "flag" else ""
    active = tuple(_skill(session, name, old) for name in old.skills)
    chosen = route(session.settings, flag=model or given, skills=active)
    job = Job(session, found.task, old.task, chosen, active)
    return await task.work_freely(job, "", found.earlier, found)


def _parts(store: TraceStore, run: Trajectory) -> list[Trajectory]:
    """The runs that were a part of this one, or of those that it went on with; oldest first. Raises StoreError."""
    before = _parts(store, store.get(run.labels["resumes"])) if "resumes" in run.labels else []
    return before + [store.get(part.id) for part in store.runs(limit=-1, parent=run.id)[::-1]]


def _skill(session: Session, name: str, old: Trajectory) -> Skill:
    from skills.registry import pipeline

    if name not in session.skills:
        raise UsageError(f"run {old.id} needs the skill {name}, and there is none", "`apprentice skills` lists them.")
    if pipeline(session.skills[name]):
        raise UsageError(f"run {old.id} was done by the skill {name}, which goes on by itself", "Repeat the command.")
    return session.skills[name]


def _check_workspace(options: argparse.Namespace, old: Trajectory) -> None:
    """Raise UsageError if the run worked in another folder: its files and todos are about that one."""
    from agent.commands.task import workspace_root

    if str(workspace_root(options.workspace)) != old.workspace:
        raise UsageError(f"run {old.id} worked in {old.workspace}", "Go there, or give it as --workspace.")

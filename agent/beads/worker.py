"""One ready bead after another: claim it, do it, close it; what was done is on record with the bead's id.

A bead is closed once: closing compares and sets under the lock. It may be begun more than once, since a worker that is
killed leaves its bead in progress; whoever comes next sees that its process is dead and begins it anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from agent import phases, taint
from agent.beads.backend import Beads
from agent.beads.bead import GATES, Bead
from agent.beads.claims import Holder
from agent.errors import ApprenticeError, ContextOverflow, ModelCut, ToolError
from agent.loop import Loop
from agent.messages import Event, Route, Trajectory
from agent.router import route, with_escalation
from agent.run import Run
from agent.session import Session
from tools.beads import actor
from tools.registry import Tool

INSTRUCTIONS = (
    "The task is a bead: a piece of work from a list that several agents share. It is yours, and nobody else works on "
    "it. Your answer is kept as its note, and is all that the next one learns from you: say what you did and what they "
    "have to know. If it cannot be done now, give it back with bead_update (status blocked, and a note that says why)."
)
OWN = frozenset({"bead_claim", "bead_close"})
"""Tools that the worker uses itself, and the model therefore not."""
NOTES = 4000
"""Characters of the notes of one bead that the task quotes: the last ones."""
KEPT = 8000
"""Characters of an answer that are kept as the bead's note."""


@dataclass
class Tally:
    """What a worker did: ids of the beads that it closed, gave back after an attempt, and set aside as blocked."""

    closed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)

    @property
    def begun(self) -> int:
        return len(self.closed) + len(self.failed) + len(self.blocked)


async def work(session: Session, beads: Beads, *, model: str = "", most: int = 0) -> Tally:
    """Take up ready beads until there are none, and nobody else holds one whose end could make another ready.

    Args:
        session: what the process holds.
        beads: the beads of its workspace.
        model: the address given as --model; empty if none.
        most: how many beads to begin at most; 0 is any number.

    Raises:
        ApprenticeError: no bead can be done (the model cannot be reached, no model is set); the one that was begun was
            given back.
    """
    way = route(session.settings, flag=model)
    tally, waiting = Tally(), False
    if beads.notice:
        _tell(session, "", beads.notice)
    while not most or tally.begun < most:
        session = _for_the_next(session)
        if found := await _take(session, beads, way, tally):
            waiting = False
            await _attempt(session, beads, *found, tally)
            continue
        others = {name: holder for name, holder in beads.claims.held().items() if beads.claims.alive(holder)}
        if not others:
            break
        if not waiting:
            _tell(session, "", f"waiting for {', '.join(f'{name} ({who.actor})' for name, who in others.items())}")
        waiting = True
        await asyncio.sleep(session.settings.beads.poll)
    return tally


def _for_the_next(session: Session) -> Session:
    """The session for the next bead, which is a task of its own: what an earlier one read from outside is not in its
    prompt, so that permissions hold again.

    Unless it may come across it: a bead that wrote or ran something after it had read from outside may have put a
    stranger's words, or a stranger's program, into the workspace, and then all that follow count as exposed too. The
    note that a bead leaves for others in any case names where its words may come from (`Taint.handed_on`), and whoever
    reads that is exposed, in other processes as well. What is not covered: files that a bead of another process wrote.
    """
    consent = session.consent.for_another_task()
    return replace(session, consent=consent, tool_context=replace(session.tool_context, consent=consent))


async def _take(session: Session, beads: Beads, way: Route, tally: Tally) -> tuple[Bead, Run] | None:
    """Claim the next bead, in the name of the run that will do it; None if there is none to be had now.

    What a dead worker left comes first. Then beads that were tried and given back wait until the others had their turn.
    """
    held = beads.claims.held()
    left = [bead for name in held if (bead := await _left_by_the_dead(session, beads, name, held, tally))]
    fresh = await beads.ready()
    tried = {bead.id: beads.claims.holder(bead.id).attempts for bead in fresh}
    for bead in [*left, *sorted(fresh, key=lambda bead: tried[bead.id])]:
        run = _new_run(session, bead, way)
        try:
            if not (await beads.show(bead.id)).open_parts:
                return await beads.claim(bead.id, actor(run.id)), run
        except ToolError:  # somebody was faster
            continue
    return None


async def _left_by_the_dead(
    session: Session, beads: Beads, name: str, held: Mapping[str, Holder], tally: Tally
) -> Bead | None:
    """The bead of that name, if its holder died with it; set aside if it was begun too often."""
    if beads.claims.alive(held[name]):
        return None
    try:
        bead = await beads.show(name)
    except ToolError:  # somebody removed it
        return None
    if not beads.claims.died(bead):  # it was closed or given back, and the process died before it could tell
        return None
    if held[name].attempts < session.settings.beads.attempts:
        return bead
    note = f"Set aside: begun {held[name].attempts} times, and each time the process ended before the work did."
    await beads.update(name, bead.assignee, status="blocked", note=note)
    tally.blocked.append(name)
    _tell(session, "", f"{name} is blocked now: {note}")
    return None


def _new_run(session: Session, bead: Bead, way: Route) -> Run:
    """The run for a bead. It is not open yet: its id is needed for the claim."""
    schemas = [tool.schema for tool in _offered(session).values()]
    run = Run(session, f"{bead.id}: {bead.title}", way, tools=schemas)
    run.trajectory.labels["bead"] = bead.id
    return run


def _offered(session: Session) -> dict[str, Tool]:
    offered = phases.offered(session.tools, session.settings.work)
    return {name: tool for name, tool in offered.items() if name not in OWN}


async def _attempt(session: Session, beads: Beads, bead: Bead, run: Run, tally: Tally) -> None:
    """Do a claimed bead, then close it or give it back.

    Raises:
        ApprenticeError: what no bead can be done with; this one was given back and not counted as tried.
    """
    me = actor(run.id)
    _tell(session, run.id, f"{bead.id} is begun")
    try:
        task = await _task(beads, bead)
        if taint.is_handed_on(task):
            session.consent.taint.expose("the notes of a bead", time.time())
        last, answer = await _done_by_a_model(session, task, bead, run)
    except (ModelCut, ContextOverflow) as error:
        await _give_back(session, beads, bead, run, tally, error.in_one_line)
    except BaseException as error:
        why = error.in_one_line if isinstance(error, ApprenticeError) else type(error).__name__
        note = f"Run {run.id} was stopped before its end: {session.store.redactor.redact(why)}"
        with suppress(ToolError):  # it is not held any more: the model gave it back itself
            await asyncio.shield(beads.release(bead.id, me, status="open", note=note, counted=False))
        raise
    else:
        if last.outcome == "success":
            await _close(session, beads, bead, run, tally, answer)
        else:
            await _give_back(session, beads, bead, run, tally, last.reason)


async def _done_by_a_model(session: Session, task: str, bead: Bead, run: Run) -> tuple[Trajectory, str]:
    """The run that came last and its answer: a stronger model's, where the first gave up and there is one."""
    tools, way = _offered(session), run.trajectory.route
    assert way is not None

    async def attempt(route: Route) -> tuple[Trajectory, str, bool]:
        async with run if route is way else _new_run(session, bead, route) as one:
            loop = Loop(one, route.model, tools, INSTRUCTIONS)
            return one.trajectory, await loop.answer(task), loop.gave_up

    return await with_escalation(way, attempt)


async def _task(beads: Beads, bead: Bead) -> str:
    """What the model is told to do: the bead's text, and the notes of what it depended on."""
    parts = [f"Bead {bead.id}: {bead.title}"]
    texts = {"": bead.description, "Design": bead.design, "Done when": bead.acceptance, "Notes": bead.notes[-NOTES:]}
    parts += [f"{name}:\n{text}" if name else text for name, text in texts.items() if text.strip()]
    for one in bead.dependencies:
        if one.type in GATES:
            try:
                other = await beads.show(one.on)
            except ToolError:  # of another project, or removed
                continue
            if other.notes.strip():
                parts.append(f"Notes of {other.id} ({other.title}), which came before:\n{other.notes[-NOTES:]}")
    return "\n\n".join(parts)


async def _close(session: Session, beads: Beads, bead: Bead, run: Run, tally: Tally, answer: str) -> None:
    """Close a bead that is done; if it cannot be closed (it came to depend on others meanwhile), give it back."""
    if await _is_lost(session, beads, bead, run, tally):
        return
    note = session.store.redactor.redact(answer)
    note = note if len(note) <= KEPT else f"{note[:KEPT]}\n[the rest is in run {run.id}]"
    note = session.consent.taint.handed_on(note)
    try:
        await beads.close(bead.id, actor(run.id), f"done in run {run.id}", note)
    except ToolError as error:
        await _give_back(session, beads, bead, run, tally, error.in_one_line)
    else:
        tally.closed.append(bead.id)
        _tell(session, run.id, f"{bead.id} is closed")


async def _give_back(session: Session, beads: Beads, bead: Bead, run: Run, tally: Tally, why: str) -> None:
    """Note that an attempt failed. The bead is open again, or blocked if it was the last attempt."""
    if await _is_lost(session, beads, bead, run, tally):
        return
    attempts, most = beads.claims.holder(bead.id).attempts, session.settings.beads.attempts
    note = f"Attempt {attempts} of {most} failed (run {run.id}): {session.store.redactor.redact(why)}"
    last = attempts >= most
    await beads.release(bead.id, actor(run.id), status="blocked" if last else "open", note=note, counted=True)
    (tally.blocked if last else tally.failed).append(bead.id)
    _tell(session, run.id, f"{bead.id} is {'blocked now' if last else 'open again'}: {note}")


async def _is_lost(session: Session, beads: Beads, bead: Bead, run: Run, tally: Tally) -> bool:
    """Whether a bead is not this run's any more: its model gave it back, or somebody who knows of no claims did."""
    now = await beads.show(bead.id)
    if now.status == "in_progress" and now.assignee == actor(run.id):
        return False
    holder = beads.claims.holder(bead.id)
    if holder.actor == actor(run.id):
        beads.claims.forget(bead.id)
    if now.status == "open" and holder.attempts >= session.settings.beads.attempts:
        note = f"Set aside: begun {holder.attempts} times, and given back by its run."
        now = await beads.update(bead.id, actor(run.id), status="blocked", note=note)
    (tally.failed if now.status == "open" else tally.blocked).append(bead.id)
    _tell(session, run.id, f"{bead.id} is {now.status} now: that was set while it was worked on")
    return True


def _tell(session: Session, run_id: str, text: str) -> None:
    session.emit(Event("notice", run_id, {"text": text}))

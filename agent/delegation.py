"""Sub-agents: a part of a task done by a run of its own, with its own context, tools, model and share of the budget.

A sub-agent knows its one task and nothing of the conversation; what comes back is its answer, cut to a few lines, and
the id of its run. Its failure is told like its success. Whoever stops the run that started it stops it too.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from agent import phases, router
from agent.errors import ApprenticeError, ToolError
from agent.messages import Route
from agent.run import Run
from agent.session import Session
from agent.settings import Settings
from tools.registry import Tool

ANSWER = 1500
"""Characters of one sub-agent's answer that come back."""
INSTRUCTIONS = (
    "You are a sub-agent: another agent gave you this one task and sees only your answer. "
    "Answer in a few lines: what you did, what you found, what is still open."
)


class SubTask(BaseModel):
    """What one sub-agent is to do."""

    model_config = ConfigDict(extra="forbid")

    task: str = Field(max_length=4000, description="all that the sub-agent needs to know: it sees nothing else")
    model: str = Field("", max_length=200, description="a configured model's address; yours if left out")
    tools: list[str] = Field([], max_length=50, description="names of your tools that it may use; all if left out")
    steps: int = Field(0, ge=0, description="the most turns that it may take; 0: no other limit than yours")


@dataclass(frozen=True, slots=True)
class Result:
    """How one sub-agent ended, and its run."""

    ok: bool
    text: str
    run_id: str


async def delegate(parent: Run, tasks: Sequence[SubTask], parallel: bool) -> list[Result]:
    """Have each task done by a sub-agent, one after the other or at once.

    Args:
        parent: the run that hands them out; what the sub-agents use is paid from its budget.
        tasks: at least one.
        parallel: at once, `work.parallel` at a time; each then gets an equal part of the tokens.

    Returns:
        One result a task, in their order.

    Raises:
        ToolError: sub-agents go no deeper here, or a task asks for a model or tool that there is none of; then none
            has begun.
    """
    work = parent.session.settings.work
    if parent.depth >= work.depth:
        raise ToolError(f"sub-agents go no deeper than {work.depth} (work.depth)", "Do it yourself.")
    plans = [(task, *_plan(parent, task)) for task in tasks]
    if not parallel:
        return [await _do(parent, number, *plan) for number, plan in enumerate(plans, 1)]
    at_once = asyncio.Semaphore(work.parallel)

    async def one(number: int, task: SubTask, route: Route, tools: dict[str, Tool]) -> Result:
        async with at_once:
            return await _do(parent, number, task, route, tools, among=len(plans))

    async with asyncio.TaskGroup() as group:  # if this is cancelled, all are, and their records are closed first
        begun = [group.create_task(one(number, *plan)) for number, plan in enumerate(plans, 1)]
    return [task.result() for task in begun]


def _plan(parent: Run, task: SubTask) -> tuple[Route, dict[str, Tool]]:
    """The model and the tools of a sub-agent. Raises ToolError if the task asks for what there is none of."""
    settings = parent.session.settings
    known = models(settings, parent.trajectory.model)
    if task.model and task.model not in known:
        raise ToolError(f"a sub-agent cannot have the model {task.model!r}", f"There are: {', '.join(known)}.")
    chosen = task.model or settings.work.delegate_model or parent.trajectory.model
    route = router.route(settings, flag=chosen)
    tools = phases.offered(parent.offered, settings.work, parent.depth + 1)
    tools.pop("find_tools", None)  # it adds to the parent's offer: what it found there, a sub-agent has
    if unknown := [name for name in task.tools if name not in tools]:
        raise ToolError(f"a sub-agent cannot have the tool {unknown[0]!r}", f"There are: {', '.join(tools) or 'none'}.")
    offered = {name: tools[name] for name in task.tools} or tools
    return replace(route, rule="delegated", reason=f"a sub-agent of run {parent.id}", escalation=""), offered


def models(settings: Settings, own: str) -> list[str]:
    """The addresses that a model may choose from: its own and those a person configured. Others could be anywhere."""
    work, configured = settings.work, settings.models
    named = (own, work.delegate_model, configured.default, configured.strong, work.strategic_model, work.tactical_model)
    return list(dict.fromkeys(filter(None, named)))


async def _do(
    parent: Run, number: int, task: SubTask, route: Route, tools: dict[str, Tool], *, among: int = 1
) -> Result:
    """Run one sub-agent to its end. `among` sub-agents share the tokens."""
    from agent.loop import Loop

    share = parent.left(parent.session.settings.work.share)
    budget = share.model_copy(
        update={"tokens": share.tokens // among, "steps": min(task.steps or share.steps, share.steps)}
    )
    run = Run(
        _session(parent, number, task),
        task.task,
        route,
        tools=[tool.schema for tool in tools.values()],
        parent_id=parent.id,
        budget=budget,
        depth=parent.depth + 1,
    )
    try:
        async with run:
            answer = await Loop(run, route.model, tools, INSTRUCTIONS).answer(task.task)
    except ApprenticeError as error:
        return Result(False, error.in_one_line, run.id)
    finally:
        parent.parts += run.spent
    ended = run.trajectory
    return Result(ended.outcome == "success", answer or ended.reason, run.id)


def _session(parent: Run, number: int, task: SubTask) -> Session:
    """The parent's session, but for consent: its questions name the sub-agent."""
    title = json.dumps(" ".join(task.task.split())[:60], ensure_ascii=False)
    consent = parent.session.consent.on_behalf_of(f"Sub-agent {number} of run {parent.id}, {title},")
    context = replace(parent.session.tool_context, consent=consent)
    return replace(parent.session, consent=consent, tool_context=context)


def report(results: Sequence[Result], limit: int) -> str:
    """What the parent reads: for each sub-agent how it ended, its run's id, and its answer as far as it fits.

    Args:
        results: in the order of the tasks.
        limit: characters of the whole.
    """
    most = max(80, min(ANSWER, limit // len(results) - 60))
    return "\n\n".join(
        f"{number}. {'done' if result.ok else 'failed'} · run {result.run_id}\n{_cut(result.text, most)}"
        for number, result in enumerate(results, 1)
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}… [{len(text) - most} more characters are in its run]"

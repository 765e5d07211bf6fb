"""A job in phases: planned in strategic ones, carried out in tactical ones, until job_complete.

strategic   reading tools, todo_add, next_phase_todos (hands over to tactical), job_complete (ends the job)
tactical    the working tools and todo_complete; when every todo is done, strategic comes back

Each phase is a run of its own, a part of the job's: with its own model, tools, prompt and context. What one phase
knows of those before it are the todos and their notes, so the prompt does not grow with the job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agent import router, selection
from agent.errors import UsageError
from agent.loop import Loop
from agent.messages import Message, Route, Trajectory
from agent.run import Run
from agent.settings import Work
from agent.todos import Phase, Todos

if TYPE_CHECKING:
    from skills.registry import Job
    from tools.registry import Tool

STRATEGIC = ("todo_add", "next_phase_todos", "job_complete")
"""What plans; reading tools are offered beside it."""
TACTICAL = ("todo_complete",)
TODOS = ("todo_add", "todo_complete", "todo_list")
NOTES = ("notes_read", "notes_write")
OWN = frozenset({*STRATEGIC, *TODOS, *NOTES, "delegate"})
"""The tools that settings or phases switch on."""

INSTRUCTIONS: dict[Phase, str] = {
    "strategic": "You plan this job, in phases. Look around as far as the plan needs it, then call next_phase_todos "
    "with the steps to be done now: few, each complete in itself, since whoever does them sees the task and the todos "
    "but not what you read. When they are done you plan on, or call job_complete. You change nothing yourself.",
    "tactical": "You carry out the open todos with your tools, one after the other. When one is done, and only then, "
    "call todo_complete, beside the next call where you can, with a note of what was done or found: it is all that is "
    "known of it later. If one cannot be "
    "done, say why as your answer.",
}


def offered(tools: Mapping[str, Tool], work: Work, depth: int = 0) -> dict[str, Tool]:
    """The tools of a run without phases: the working ones, and those of todos, notes and delegation if switched on.

    Args:
        tools: all that there are.
        work: what is switched on.
        depth: how many sub-agents the run is away from the person's own.
    """
    on = {*(TODOS if work.todos else ()), *(NOTES if work.notes and work.notes_tokens else ())}
    on |= {"delegate"} if work.delegate and depth < work.depth else set()
    return {name: tool for name, tool in tools.items() if name not in OWN or name in on}


def offered_in(phase: Phase, tools: Mapping[str, Tool], work: Work) -> dict[str, Tool]:
    """The tools of a phase. Raises UsageError if one that it cannot do without is disabled."""
    needed = STRATEGIC if phase == "strategic" else TACTICAL
    if missing := [name for name in needed if name not in tools]:
        raise UsageError(f"phases need the tool {missing[0]}, and it is disabled", "Take it out of tools.disabled.")
    plain = {name: tool for name, tool in offered(tools, work).items() if name not in TODOS}
    if phase == "strategic":
        plain = {name: tool for name, tool in plain.items() if tool.effect == "read" and name != "delegate"}
    return plain | {name: tools[name] for name in needed}


def own(tools: Mapping[str, Tool]) -> dict[str, Tool]:
    """The tools that make the phases: no skill's `allowed-tools` takes them away."""
    return {name: tools[name] for name in (*STRATEGIC, *TACTICAL) if name in tools}


async def work(
    job: Job,
    task: str,
    tools: Mapping[str, Tool],
    instructions: str,
    earlier: Sequence[Message] = (),
    todos: Todos | None = None,
    labels: Mapping[str, Any] | None = None,
) -> tuple[Trajectory, str, bool]:
    """Do a job in phases, on a record that names them.

    Args:
        job: its session, its route and its active skills.
        task: the task as a model reads it.
        tools: all that there are; each phase is offered its own.
        instructions: for both phases, beside what each is told.
        earlier: the conversation so far, in a REPL.
        todos: the list of an interrupted job that this one goes on with; open todos are carried out first.
        labels: put on the job's record.

    Returns:
        The job's trajectory, the summary (empty if it was stopped before), and whether the model was the reason.

    Raises:
        ModelError: a model failed; the record says so.
        UsageError: a tool that phases need is disabled.
    """
    names = [skill.name for skill in job.skills]
    async with Run(job.session, job.typed, job.route, skills=names, todos=todos, labels=labels) as run:
        await run.add(Message("user", task))
        phases = Phases(job, run, task, tools, instructions, earlier)
        gave_up = await phases.alternate()
        return run.trajectory, run.todos.summary or "", gave_up


@dataclass(slots=True)
class Phases:
    """The phases of one job, on its open record."""

    job: Job
    run: Run
    task: str
    tools: Mapping[str, Tool]
    instructions: str
    earlier: Sequence[Message]
    said: str = ""
    """What the phase before answered in text."""

    @property
    def todos(self) -> Todos:
        return self.run.todos

    async def alternate(self) -> bool:
        """Plan and carry out in turn until the job ends; close its record. Returns whether a model gave up."""
        phase: Phase = "tactical" if self.todos.open else "strategic"
        while not (spent := self.spent()):
            part, gave_up = await self.phase(phase)
            if self.todos.summary is not None:
                self.run.finish("success", part.reason)
                return False
            if part.outcome != "success":
                self.run.finish(part.outcome, f"{part.reason}, in the {phase} phase, run {part.id}")
                return gave_up
            if phase == "strategic" and not self.todos.open:
                self.run.finish("failure", f"the strategic phase ended without a plan, in run {part.id}")
                return True
            phase = "tactical" if phase == "strategic" else "strategic"
        self.run.finish("failure", spent)
        return False

    def spent(self) -> str:
        """What of the job's budget is spent; empty if some of it is left."""
        left = self.run.left()
        if left.steps < 1:
            return f"stopped after {self.run.turns} steps (budget.steps)"
        return f"stopped after {self.run.spent.tokens} tokens (budget.tokens)" if left.tokens < 1 else ""

    async def phase(self, name: Phase) -> tuple[Trajectory, bool]:
        """Do one phase. Returns its run as it ended, and whether its model gave up."""
        session, todos = self.job.session, self.todos
        tools = offered_in(name, self.tools, session.settings.work)
        tools = selection.choose(tools, self.brief(), session.settings.mcp.shown)
        route = self.route(name)
        todos.phase = name
        part = Run(
            session,
            self.run.trajectory.task,
            route,
            skills=self.run.trajectory.skills,
            tools=[tool.schema for tool in tools.values()],
            parent_id=self.run.id,
            budget=self.run.left(),
            todos=todos,
        )
        async with part:
            loop = Loop(part, route.model, tools, f"{INSTRUCTIONS[name]}\n\n{self.instructions}".strip())
            self.said = await loop.answer(self.brief(), self.earlier)
        self.run.turns += part.turns
        self.run.parts += part.spent
        ended = f"{name} phase, run {part.id}: {part.trajectory.reason}"
        await self.run.add(Message("user", "\n".join(filter(None, [ended, todos.report()])), name=name))
        return part.trajectory, loop.gave_up

    def brief(self) -> str:
        """What a phase is told: the task, what is done, and what the one before it said."""
        parts = [self.task]
        if done := [todo for todo in self.todos.items if todo.done]:
            parts.append("Done so far:\n" + "\n".join(f"{todo.id}. {todo.title}: {todo.note}" for todo in done))
        if self.said:
            parts.append(f"The phase before ended with these words:\n{self.said}")
        return "\n\n".join(parts)

    def route(self, name: Phase) -> Route:
        """The model of a phase: the one that the person gave or that took over, the one configured, or the task's."""
        given, settings = self.job.route, self.job.session.settings
        configured = settings.work.strategic_model if name == "strategic" else settings.work.tactical_model
        insisted = given.rule in ("flag", "escalation")
        model = given.model if insisted or not configured else configured
        route = router.route(settings, flag=model)
        return replace(route, rule="phase", reason=f"the {name} phase of run {self.run.id}", escalation="")

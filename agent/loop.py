"""The ReAct loop: think, act, observe, until a stop.

Stop                   how a run ended: its outcome and the sentence that goes on record
├── Answered           the model gave its answer
├── Ended              a tool ended the run: job_complete, or the last todo of a phase
├── Cut                the answer was cut at its token limit
├── Silence            the answer is empty: whether the task is done, nobody said
├── StepBudget         too many turns
├── TokenBudget        too many tokens
├── TimeBudget         too much time
├── Repetition         the same call with the same result, three times
└── Unreadable         two turns in a row whose calls could not be read

Ctrl-C is no stop: it cancels the task, and Run closes the record. A tool's failure is an observation.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from agent import context, protocols, registry
from agent.errors import ApprenticeError, ConsentDenied
from agent.messages import Detail, Json, Message, Outcome, ToolCall
from agent.misspelt import Heard
from agent.run import Run, detail_of
from agent.taint import Fence
from agent.todos import with_todos
from agent.toolshim import Prose, Shim
from tools import registry as tools_registry
from tools.registry import Tool

SYSTEM = (
    "You are Apprentice, an agent that works for a person in their terminal. "
    "Do the task, use tools where they help, and say only what is so."
)


class Stop(Exception):
    outcome: Outcome = "failure"
    gave_up = False
    """Whether it was the model that failed, so that a stronger one may do better; a spent budget is spent."""


class Answered(Stop):
    outcome: Outcome = "success"


class Ended(Stop):
    outcome: Outcome = "success"


class Cut(Stop):
    gave_up = True


class Silence(Stop):
    outcome: Outcome = "unknown"


class StepBudget(Stop):
    pass


class TokenBudget(Stop):
    pass


class TimeBudget(Stop):
    pass


class Repetition(Stop):
    gave_up = True


class Unreadable(Stop):
    gave_up = True


class Loop:
    """One task by one model with some tools, on one record.

    Args:
        run: the open record; it holds the budget and the todos, its session the models.
        address: the model.
        tools: what the model may call, by name; find_tools adds to them while the run goes on.
        instructions: of the active skills; they go into the system message.
    """

    def __init__(self, run: Run, address: str, tools: dict[str, Tool], instructions: str = "") -> None:
        settings = run.session.settings
        self.run, self.address, self.tools = run, address, tools
        self.budget, self.model = run.budget, run.session.model(address)
        self.context = replace(run.session.tool_context, run=run)
        run.offered = tools
        self.shim = Shim(run.session) if settings.models.toolshim else None
        chosen = settings.models.protocol
        self.protocol = Prose() if self.shim else protocols.choose(chosen, self.model.capabilities)
        self.schemas: list[Json] = [tool.schema for tool in tools.values()]
        self.request = self.protocol.request(self.schemas) | {
            "max_tokens": settings.models.max_tokens,
            "temperature": settings.models.temperature,
        }
        self.instructions = "\n\n".join(filter(None, [SYSTEM, instructions, self.protocol.instructions(self.schemas)]))
        self.heard = Heard() if self.protocol.name in ("json", "text") else None
        """For models that have no tool calls of their own: they are the small ones, which misspell what they copy."""
        self.fence = Fence()
        self.is_local = registry.is_local(address, settings)
        self.prompt: list[Message] = []
        self.observations: list[int] = []
        self.repeats: Counter[str] = Counter()
        self.commits: list[asyncio.Future[None]] = []
        self.turn = self.unreadable = 0
        self.gave_up = self.objected = False

    async def answer(self, task: str, earlier: Sequence[Message] = ()) -> str:
        """Work until a stop and close the record.

        Args:
            task: what the user message says.
            earlier: the conversation so far, without its system message.

        Returns:
            The answer, or the summary of job_complete, as far as it goes; empty if the run was stopped before one.
            `gave_up` says whether the model was the reason.

        Raises:
            ModelError: the model failed; the record says so.
        """
        rules = [self.fence.rule] if any(tool.outside or tool.effect == "shell" for tool in self.tools.values()) else []
        system = Message("system", self.instructions)
        await self.put(system, shown=Message("system", "\n\n".join([self.instructions, *rules])))
        for message in (*earlier, Message("user", task)):
            told = replace(message, content=self.masked(message.content))
            await self.put(told, shown=self.fenced(told) if told.role == "tool" else None)
        try:
            stop = await self.work()
        finally:  # whatever ends the run, what was observed is on record before its end is
            await self.settle()
        self.gave_up = stop.gave_up
        self.run.finish(stop.outcome, str(stop))
        said = self.run.messages[-1].content if isinstance(stop, Answered | Cut) else ""
        if isinstance(stop, Ended):
            said = self.run.todos.summary or ""
        return self.run.session.placeholders.restore(said)

    async def work(self) -> Stop:
        """Turn after turn, until one is the last or the time is up: that also ends the turn that is going on."""
        try:
            async with asyncio.timeout(self.budget.seconds - self.run.seconds) as limit:
                while True:
                    await self.step()
        except Stop as stop:
            return stop
        except TimeoutError:
            if not limit.expired():
                raise
            return TimeBudget(f"stopped after {self.run.seconds:.0f} seconds (budget.seconds)")

    async def step(self) -> None:
        """One turn: ask, record, act, observe."""
        self.check_budgets()
        if len(self.tools) > len(self.schemas):
            self.offer_more()
        todos = self.masked(self.run.todos.shown())
        reserve = self.request["max_tokens"] + len(todos) // 2
        shortened = await context.fit(
            self.model, self.prompt, self.observations, self.request.get("tools", ()), reserve
        )
        if shortened:
            self.run.emit("notice", text=f"{len(shortened)} old observations were shortened to fit the context")
        started = time.perf_counter()
        visible = protocols.Visible(self.protocol)
        try:
            prompt = with_todos(self.prompt, todos)
            reply = await self.run.ask(self.address, prompt, visible=visible, **self.request)
        finally:
            await self.settle()
        self.turn += 1
        message, corrected = self.as_said(self.protocol.parse(reply.message, self.turn))
        request = self.request | {"todos": todos or None, "corrected": corrected or None}
        detail = detail_of(reply, request, time.perf_counter() - started)
        if self.shim:
            message, detail = await self.shim.read(self.run, message, detail, self.schemas, self.turn)
        await self.put(message, detail)
        self.run.emit(
            "step",
            number=self.turn,
            seconds=round(detail.seconds, 3),
            prompt_tokens=detail.usage.prompt_tokens,
            completion_tokens=detail.usage.completion_tokens,
        )
        if message.tool_calls:
            await self.act(message.tool_calls)
        else:
            await self.end(ending(message.content, reply.finish_reason))

    def as_said(self, message: Message) -> tuple[Message, dict[str, str]]:
        """A turn with the words that it copied wrong put right, and those words: wrong to right. What writes files or
        runs commands may have new words."""
        if self.heard is None:
            return message, {}
        content, slips = self.heard.corrected_answer(message.content)
        calls: list[ToolCall] = []
        for call in message.tool_calls:
            tool = self.tools.get(call.name)
            copies = tool is not None and tool.effect not in ("write", "shell")
            right, found = self.heard.corrected(call) if copies else (call, {})
            calls.append(right)
            slips |= found
        for wrong, said in slips.items():
            self.run.emit("notice", text=f"the model wrote {wrong}, which nobody said: {said} is taken")
        return replace(message, content=content, tool_calls=tuple(calls)), slips

    async def end(self, stop: Stop) -> None:
        """End the run, unless its todos say that the model answered too early; that it is told once."""
        objection = self.run.todos.objection()
        if not objection or self.objected or not isinstance(stop, Answered):
            raise stop
        self.objected = True
        await self.put(Message("user", objection))

    def offer_more(self) -> None:
        """Offer the tools that were found since the last turn; the observation that found them said what they are."""
        self.schemas = [tool.schema for tool in self.tools.values()]
        self.request |= self.protocol.request(self.schemas)
        self.run.offer(self.schemas)

    def check_budgets(self) -> None:
        if self.turn >= self.budget.steps:
            raise StepBudget(f"stopped after {self.turn} steps (budget.steps)")
        if self.run.spent.tokens >= self.budget.tokens:
            raise TokenBudget(f"stopped after {self.run.spent.tokens} tokens (budget.tokens)")

    async def act(self, calls: Sequence[ToolCall]) -> None:
        """Run the calls of one turn, side by side if all are declared safe for it, and record what they gave."""
        for call in calls:
            self.run.emit("action", id=call.id, name=call.name, arguments=call.malformed or call.arguments)
        if len(calls) > 1 and all(call.name in self.tools and self.tools[call.name].concurrent for call in calls):
            results = await asyncio.gather(*(self.observe(call) for call in calls))
        else:
            results = [await self.observe(call) for call in calls]
        self.unreadable = self.unreadable + 1 if any(call.malformed for call in calls) else 0
        if self.unreadable > 1:
            raise Unreadable("two turns in a row could not be read as calls")
        for call, result in zip(calls, results, strict=True):
            key = json.dumps([call.name, call.arguments, result.content], sort_keys=True)
            self.repeats[key] += 1
            if self.repeats[key] >= 3:
                raise Repetition(f"{call.name} was called three times with the same arguments and result")
        if self.run.ended_by:
            raise Ended(self.run.ended_by)

    async def observe(self, call: ToolCall) -> Message:
        """Run one call and record its observation."""
        started, began = time.perf_counter(), time.time()
        try:
            content, error = await self.perform(call), ""
        except ApprenticeError as failure:
            content, error = failure.in_one_line, type(failure).__name__
        session, tool = self.run.session, self.tools.get(call.name)
        outside = False
        if tool is not None and error != ConsentDenied.__name__:  # then nothing was read
            outside = session.consent.taint.take(
                tool, call.arguments, content, session.workspace, began, failed=bool(error)
            )
        seconds = time.perf_counter() - started
        told = {"content": content, "is_error": bool(error), "seconds": round(seconds, 3)}
        content = self.masked(content)
        message = Message("tool", content, tool_call_id=call.id, name=call.name, is_error=bool(error))
        shown = self.fenced(message) if outside else message
        self.commits.append(self.put(message, Detail(seconds=seconds, error=error), shown=shown))
        self.commits[-1].add_done_callback(
            lambda done: None if _failed(done) else self.run.emit("observation", id=call.id, name=call.name, **told)
        )
        return message

    async def settle(self) -> None:
        """Return when every observation is on record: the next question need not wait for it. Raises StoreError."""
        commits, self.commits = self.commits, []
        for commit in commits:
            await commit

    async def perform(self, call: ToolCall) -> str:
        """The tool's output. Raises ApprenticeError with what the model should read."""
        if call.malformed:
            raise ApprenticeError(f"That was not a call that can be read: {call.malformed[:200]}", "Write it again.")
        if call.name not in self.tools:
            near = difflib.get_close_matches(call.name, self.tools, n=1)
            known = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(self.tools) or 'none'}."
            raise ApprenticeError(f"There is no tool {call.name!r}.", known)
        session, tool = self.run.session, self.tools[call.name]
        try:
            arguments = session.placeholders.fill(tool.name, tool.effect, call.arguments)
            return await tools_registry.call(tool, self.context, arguments)
        except (ApprenticeError, asyncio.CancelledError):
            raise
        except Exception as crash:  # a tool may be anybody's code; its crash is an observation
            raise ApprenticeError(f"{call.name} crashed: {type(crash).__name__}: {crash}") from crash

    def fenced(self, observation: Message) -> Message:
        """An observation as the model sees it if it may come from outside; an earlier run's may."""
        return replace(observation, content=self.fence.mark(observation.content, observation.name))

    def masked(self, text: str) -> str:
        """The text as this model may see it: a model that is not local gets placeholders for secrets and people."""
        if self.is_local:
            return text
        session = self.run.session
        personal = session.settings.policy.personal == "redact"
        return session.placeholders.mask(text, session.tool_context.redactor, personal=personal)

    def put(self, message: Message, detail: Detail | None = None, shown: Message | None = None) -> asyncio.Future[None]:
        """Put a message on record, and as the protocol renders it into the prompt; done when it is committed.

        `shown` is what the model sees of it: with the marks of content from outside, which are worth nothing later.
        """
        if message.role == "tool":
            self.observations.append(len(self.prompt))
        if self.heard and message.role in ("user", "tool"):
            self.heard.take(message.content)
        self.prompt.append(self.protocol.render(shown or message))
        return self.run.put(message, detail)


def _failed(commit: asyncio.Future[None]) -> bool:
    return commit.cancelled() or commit.exception() is not None


def ending(answer: str, finish_reason: str) -> Stop:
    """How a turn without calls ends the run."""
    if finish_reason == "length":
        return Cut("the answer was cut at its token limit (models.max_tokens)")
    return Answered("answer") if answer.strip() else Silence("the answer was empty")

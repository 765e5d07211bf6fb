"""A run on record: opened before the first model call, each message committed as it happens, closed in any case.

The loop and the skills' own pipelines both work through this, so nothing that a model or a tool says is missed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from agent.errors import ApprenticeError, ModelCut, StoreError
from agent.messages import Detail, Event, EventKind, Json, Message, Outcome, Route, Trajectory, Usage
from agent.models.base import Delta, Reply
from agent.session import Session
from agent.settings import Budget
from agent.todos import Todos

if TYPE_CHECKING:
    from tools.registry import Tool

Visible = Callable[[Delta], Delta | None]


class Run:
    """One trajectory while it grows. Use it as `async with Run(...) as run:`.

    Args:
        session: what the process holds.
        task: what the person typed, or one part of it.
        route: the model that takes it, and why.
        skills: names of the active skills.
        tools: schemas of the tools that the model is offered.
        parent_id: the run that this one is a part of.
        messages: what the conversation already holds, oldest first (a REPL's earlier turns).
        budget: what it may spend; the settings' if it is not a part of another run.
        depth: how many sub-agents it is away from the run that a person started.
        todos: the list that it works on; an empty one of its own if none is given.
        labels: put on record with it.
    """

    def __init__(
        self,
        session: Session,
        task: str,
        route: Route,
        *,
        skills: Sequence[str] = (),
        tools: Sequence[Json] = (),
        parent_id: str = "",
        messages: Sequence[Message] = (),
        budget: Budget | None = None,
        depth: int = 0,
        todos: Todos | None = None,
        labels: Mapping[str, Any] | None = None,
    ) -> None:
        self.session = session
        self.budget = budget or session.settings.budget
        self.depth = depth
        self.todos = Todos() if todos is None else todos
        self.offered: dict[str, Tool] = {}
        """What the model may call; the loop sets it."""
        self.ended_by = ""
        """Why a tool ended the run: the loop stops after that turn. Empty: none did."""
        self.turns = 0
        self.parts = Usage()
        """What runs that are a part of this one used: it is paid from this one's budget."""
        self.trajectory = Trajectory(
            id=secrets.token_hex(6),
            task=task,
            parent_id=parent_id,
            skills=list(skills),
            model=route.model,
            tools=list(tools),
            route=route,
            labels=({"source": session.source} if session.source else {}) | dict(labels or {}),
            started=time.time(),
            workspace=str(session.workspace.root),
            messages=[],
        )
        self._given = list(messages)
        self._started = time.perf_counter()

    @property
    def id(self) -> str:
        return self.trajectory.id

    @property
    def messages(self) -> list[Message]:
        return self.trajectory.messages

    @property
    def seconds(self) -> float:
        """Wall time since the run began."""
        return time.perf_counter() - self._started

    @property
    def spent(self) -> Usage:
        """What this run and its parts used."""
        return self.trajectory.usage + self.parts

    def left(self, share: float = 1.0) -> Budget:
        """This part of what is left of the budget; a budget of 0 or less is spent."""
        steps = math.ceil((self.budget.steps - self.turns) * share)
        tokens = int((self.budget.tokens - self.spent.tokens) * share)
        seconds = (self.budget.seconds - self.seconds) * share
        return Budget.model_construct(steps=steps, tokens=tokens, seconds=seconds)

    def emit(self, kind: EventKind, **data: Any) -> None:
        self.session.emit(Event(kind, self.id, data))

    async def __aenter__(self) -> Run:
        try:
            await self._open()
        except StoreError:
            raise
        except BaseException as error:  # cancelled meanwhile: `async with` does not call __aexit__ then
            self._end_with(error)
            raise
        return self

    async def _open(self) -> None:
        await self.session.store.open_run(self.trajectory)
        route = self.trajectory.route
        assert route is not None
        run = self.trajectory
        how = {"model": route.model, "rule": route.rule, "reason": route.reason}
        self.emit("run", task=run.task, **how, skills=run.skills, parent=run.parent_id)
        for message in self._given:
            await self.add(message)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._end_with(error)
        elif not self.trajectory.ended:
            self.finish("unknown", "ended without an outcome")

    def _end_with(self, error: BaseException) -> None:
        cancelled = isinstance(error, asyncio.CancelledError | KeyboardInterrupt)
        self.finish("unknown" if cancelled else "failure", "cancelled" if cancelled else _sentence(error), raised=True)

    def finish(self, outcome: Outcome, reason: str, score: float | None = None, *, raised: bool = False) -> None:
        """Close the run. Not awaited: an awaited write can be cancelled, and this one must not be.

        Args:
            outcome: how it ended.
            reason: why, as it goes on record.
            score: 0 to 1, where there is a measure.
            raised: an error ended the run, which its caller tells the person.
        """
        run = self.trajectory
        if run.ended:
            return
        run.outcome, run.reason, run.score, run.ended = outcome, reason, score, time.time()
        self.session.store.close_run(run)
        usage = self.spent
        self.emit(
            "end",
            outcome=outcome,
            reason=reason,
            seconds=round(self.seconds, 3),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cost=usage.cost,
            raised=raised,
        )

    def offer(self, tools: Sequence[Json]) -> None:
        """Put on record that the model is offered these tools from now on, by their schemas."""
        self.trajectory.tools = list(tools)
        self.session.store.offer_tools(self.id, self.trajectory.tools)

    async def add(self, message: Message, detail: Detail | None = None) -> None:
        """Append a message and return when it is committed."""
        await self.put(message, detail)

    def put(self, message: Message, detail: Detail | None = None) -> asyncio.Future[None]:
        """Append a message; the future is done when it is committed."""
        detail = detail or Detail()
        self.trajectory.messages.append(message)
        self.trajectory.details.append(detail)
        return self.session.store.add_message(self.id, len(self.trajectory.messages) - 1, message, detail)

    async def ask(
        self,
        address: str,
        messages: Sequence[Message],
        *,
        stream: bool = True,
        visible: Visible | None = None,
        **request: Any,
    ) -> Reply:
        """Ask a model, show its reply as it streams, and count what it used. It is not yet on record: see `add`.

        A reply's `others` are counted, not shown.

        Args:
            address: the model's address.
            messages: the prompt, as the protocol renders it.
            stream: whether the pieces are shown.
            visible: picks what a person sees of each piece; None shows it as it is.
            request: as for `Model.chat`.

        Raises:
            ModelError: what the backend raises; what had streamed until then is put on record first.
        """
        model = self.session.model(address)
        started = time.perf_counter()
        pieces: list[str] = []
        reply: Reply | None = None
        try:
            async for piece in model.chat(messages, **request):
                if isinstance(piece, Delta):
                    pieces.append(piece.text)
                    shown = visible(piece) if visible else piece
                    if stream and shown:
                        self.emit(shown.kind, text=shown.text)
                else:
                    reply = piece
        except (ApprenticeError, asyncio.CancelledError) as error:
            await asyncio.shield(self._add_partial("".join(pieces), address, request, started, error))
            raise
        if reply is None:
            raise ModelCut(f"{address} ended its reply without saying so")
        self.turns += 1
        for one in (reply, *reply.others):
            self.trajectory.usage += one.usage
        return reply

    async def _add_partial(self, text: str, address: str, request: Json, started: float, error: BaseException) -> None:
        detail = Detail(
            model=address,
            sampling=sampling(request),
            finish_reason="error",
            seconds=time.perf_counter() - started,
            error=_sentence(error),
        )
        await self.add(Message("assistant", text), detail)


def detail_of(reply: Reply, request: Json, seconds: float = 0.0, **more: Any) -> Detail:
    """What the record keeps beside a reply."""
    return Detail(
        model=reply.model,
        adapter=reply.adapter,
        sampling=sampling(request),
        usage=reply.usage,
        finish_reason=reply.finish_reason,
        seconds=seconds or reply.usage.seconds,
        token_ids=reply.token_ids,
        logprobs=reply.logprobs,
        **more,
    )


def sampling(request: Json) -> Json:
    """The parameters of a request as the record keeps them: long ones (schema, template) by hash. Also what was shown
    with it (todos) and put right afterwards (corrected)."""
    kept = {
        key: entry
        for key, entry in request.items()
        if key in ("temperature", "seed", "max_tokens", "todos", "corrected") and entry is not None
    }
    if request.get("stop"):
        kept["stop"] = list(request["stop"])
    for key in ("schema", "template"):
        if request.get(key):
            text = json.dumps(request[key], sort_keys=True, default=repr)
            kept[f"{key}_sha256"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return kept


def _sentence(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return str(error) or type(error).__name__

"""One call of another agent: its runs go on record under its name, their events go to it as progress.

The SDK cancels a call again and again until its handler has ended. A run expects to be cancelled once, as Ctrl-C does
it, so that its last words reach the record: each call's work is therefore a task of its own, and is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, ResourceLink, TextContent
from pydantic import BaseModel, ValidationError

from agent.errors import ApprenticeError, InputError
from agent.messages import Event, Json
from agent.redact import Redactor
from agent.session import Session

RUNS = "apprentice://runs/"
"""What stands before a run's id in the address of its record."""
Request = Context[Any, Any]
Result = TypeVar("Result")
Arguments = TypeVar("Arguments", bound=BaseModel)


@dataclass(slots=True)
class Service:
    """What all calls share.

    Args:
        session: what the process holds.
        model: the address given as --model; empty if none.
    """

    session: Session
    model: str = ""
    served: set[str] = field(default_factory=set)
    """The runs that calls began: of the record, clients may read these and no others."""
    working: set[asyncio.Task[Any]] = field(default_factory=set)
    """The work of calls that are going on."""

    async def end(self) -> None:
        """Cancel every call's work, once, and return when its runs are closed."""
        for task in (tasks := list(self.working)):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@dataclass(slots=True)
class Call:
    """One call while it goes on. `session` is the service's, with this call's client and progress."""

    session: Session
    model: str
    runs: list[str] = field(default_factory=list)
    """The ids of its runs in the order in which they began, without those that are parts of another."""
    ends: list[Event] = field(default_factory=list)
    """How its runs ended."""


async def on_record(
    service: Service,
    request: Request,
    work: Callable[[Call], Coroutine[Any, Any, Result]],
    *,
    thoughts: bool = False,
) -> Result:
    """Do the work of one call, and tell the client how it goes.

    Args:
        service: what all calls share.
        request: the SDK's: who calls, and where progress goes.
        work: is given the Call; every run that it begins uses that one's session.
        thoughts: whether each piece of a thought is news, as the names of annotate's moves are.

    Raises:
        ToolError: the work failed with a sentence for whoever called.
    """
    events: asyncio.Queue[Event | None] = asyncio.Queue()
    call = Call(service.session, service.model)

    def emit(event: Event) -> None:
        if event.kind == "run":
            call.runs += [] if event.data["parent"] else [event.run_id]
            service.served.add(event.run_id)
        elif event.kind == "end":
            call.ends.append(event)
        events.put_nowait(event)

    call.session = replace(service.session, emit=emit, source=_caller(request))
    telling = asyncio.create_task(_tell(request, events, service.session.tool_context.redactor, thoughts))
    working = asyncio.create_task(work(call))
    service.working.add(working)
    working.add_done_callback(service.working.discard)
    try:
        return await _to_its_end(working)
    except ApprenticeError as error:
        raise ToolError(service.session.tool_context.redactor.redact(error.in_one_line)) from None
    finally:
        events.put_nowait(None)
        await _to_its_end(telling)


def result(call: Call, text: str, structured: BaseModel | None, *, failed: bool = False) -> CallToolResult:
    """What the client gets: the text, where its runs stand, and the same as data; less any secret that is in it."""
    redactor = call.session.tool_context.redactor
    said = TextContent(type="text", text=redactor.redact(text))
    links = [ResourceLink(name=f"run {run}", uri=RUNS + run, mime_type="application/json") for run in call.runs]
    data = redactor.redact_json(structured.model_dump(mode="json")) if structured else None
    return CallToolResult(content=[said, *links], structured_content=data, is_error=failed)


def schema_of(arguments: type[BaseModel]) -> Json:
    """The JSON schema of a flat model, without titles, which cost tokens and say nothing."""
    schema = arguments.model_json_schema()
    properties = {
        name: {key: entry for key, entry in given.items() if key != "title"}
        for name, given in schema["properties"].items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def checked(name: str, arguments: type[Arguments], given: Json) -> Arguments:
    """A call's arguments as the model that its tool declares. Raises InputError, saying what does not fit."""
    try:
        return arguments.model_validate(given)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}" for wrong in error.errors()]
        raise InputError(
            f"{name} was not run: {'; '.join(problems)}", f"Its arguments are: {', '.join(arguments.model_fields)}."
        ) from None


async def _to_its_end(task: asyncio.Task[Result]) -> Result:
    """The task's result. When the call is cancelled so is the task, once, and its end is waited for."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():  # it is not the call that was cancelled: `Service.end` did it
            raise ToolError("the server was told to end; the run is on record as cancelled") from None
        task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task])
        raise


def _caller(request: Request) -> str:
    """How the record names who asked: `mcp:` and the client's own name for itself, which it may choose to mislead."""
    params = request.request_context.session.client_params
    name = params.client_info.name if params else "a client"
    return f"mcp:{re.sub(r'[^a-zA-Z0-9.@/-]+', '_', name)[:60]}"


async def _tell(request: Request, events: asyncio.Queue[Event | None], redactor: Redactor, thoughts: bool) -> None:
    """Send what a person would see on the screen, a line at a time; pieces of streamed text are no news."""
    number = 0
    while (event := await events.get()) is not None:
        if line := event.data["text"].strip() if thoughts and event.kind == "thought" else _line(event):
            number += 1
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the client went away
                await request.report_progress(number, message=redactor.redact(line))


def _line(event: Event) -> str:
    data = event.data
    if event.kind == "run":
        return f"run {event.run_id} by {data['model']}" if data["model"] else ""
    if event.kind == "action":
        return f"calls {data['name']}"
    if event.kind == "observation":
        return f"{data['name']} {'failed' if data['is_error'] else 'answered'}"
    if event.kind == "step":
        return f"step {data['number']}: {data['completion_tokens']} tokens in {data['seconds']:.1f} s"
    return str(data["text"]) if event.kind == "notice" else ""

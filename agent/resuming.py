"""Going on with a run that was killed or stopped: its conversation and its todo list, read back from the record.

A call that has no observation on record may or may not have happened: the model is told so, and nothing is repeated
by itself. What the person's words once activated beside the task (`save to`, paths outside the workspace) is not read
back: such words count only when they are typed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from agent.errors import ToolError, UsageError
from agent.messages import Message, ToolCall, Trajectory
from agent.session import Session
from agent.todos import Todos

UNKNOWN = "The run was interrupted here: nobody knows whether this was done."
GO_ON = "You were interrupted. See how things stand, then go on with the task."


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a new run needs to go on with an old one.

    `task` is what the model is told now; `earlier` is the conversation before that, without its system message.
    """

    id: str
    task: str
    earlier: tuple[Message, ...]
    todos: Todos
    in_phases: bool


def read_back(run: Trajectory, parts: Sequence[Trajectory]) -> Resumed:
    """The state of a run as its record has it.

    Args:
        run: the interrupted one.
        parts: the runs that were a part of it, oldest first.

    Raises:
        UsageError: it ended well, or is itself a part of another run.
    """
    if run.parent_id:
        raise UsageError(f"run {run.id} is a part of {run.parent_id}", f"`apprentice resume {run.parent_id}`")
    if run.outcome == "success":
        raise UsageError(f"run {run.id} was done", f"`apprentice traces show {run.id}` shows it.")
    phases = [part for part in parts if part.route and part.route.rule == "phase"]
    said = [message for message in run.messages if message.role != "system"]
    if phases:
        return Resumed(run.id, said[0].content, (), todos_of(phases), True)
    if not any(message.role == "assistant" for message in said):
        task = said.pop().content if said else run.task
        return Resumed(run.id, task, tuple(said), Todos(), False)
    return Resumed(run.id, GO_ON, conversation(run), todos_of([run]), False)


def conversation(run: Trajectory) -> tuple[Message, ...]:
    """What was said, each call with an observation; a reply that broke off is left out."""
    pairs = list(zip(run.messages, run.details, strict=True))
    if pairs and pairs[-1][0].role == "assistant" and pairs[-1][1].error:
        pairs.pop()
    told: list[Message] = []
    for message, calls, observed in _turns([message for message, _ in pairs if message.role != "system"]):
        told.append(message)
        told += observed
        seen = {observation.tool_call_id for observation in observed}
        for call in calls:
            if call.id not in seen:
                told.append(Message("tool", UNKNOWN, tool_call_id=call.id, name=call.name, is_error=True))
    return tuple(told)


def read_again(runs: Iterable[Trajectory], session: Session) -> None:
    """What these runs read from outside counts as read by the one that goes on with them: see agent/taint.py.

    A tool that is not known here, as those of MCP servers are not yet, counts as one from outside.
    """
    from skills.registry import READER

    taint, workspace = session.consent.taint, session.workspace
    for run in runs:
        for _, calls, observed in _turns(run.messages):
            arguments = {call.id: call.arguments for call in calls}
            for message in observed:
                tool = session.tools.get(message.name)
                if tool is not None:
                    given = arguments.get(message.tool_call_id, {})
                    taint.take(tool, given, message.content, workspace, run.started, failed=message.is_error)
                elif not message.is_error and message.name != READER:
                    taint.expose(message.name, run.started)


def todos_of(runs: Iterable[Trajectory]) -> Todos:
    """The todo list as the calls that succeeded left it. It begins anew with none, as the runs themselves did."""
    listed = Todos()
    for _, calls, observed in itertools.chain.from_iterable(_turns(run.messages) for run in runs):
        done = {observation.tool_call_id for observation in observed if not observation.is_error}
        for call in calls:
            if call.id in done:
                _apply(listed, call)
    return listed


def _apply(listed: Todos, call: ToolCall) -> None:
    with suppress(
        ToolError, AttributeError, KeyError, TypeError, ValueError
    ):  # a tool of the user's own may bear one of these names
        if call.name == "todo_add":
            listed.add(call.arguments["title"])
        elif call.name == "next_phase_todos":
            for title in call.arguments["todos"]:
                listed.add(title)
        elif call.name == "todo_complete":
            listed.complete(int(call.arguments["id"]), call.arguments["note"])


def _turns(messages: Sequence[Message]) -> Iterator[tuple[Message, tuple[ToolCall, ...], list[Message]]]:
    """Each message that is no observation, its calls, and the observations that follow it."""
    at = 0
    while at < len(messages):
        following = itertools.takewhile(lambda message: message.role == "tool", messages[at + 1 :])
        observed = list(following)
        yield messages[at], messages[at].tool_calls, observed
        at += 1 + len(observed)

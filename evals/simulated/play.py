"""A case played: the real loop, a model, and the case's own world, in a workspace of its own, on record.

The solution of a case is played in the same way by a scripted model, which says what the protocol would have a model
say. So what is trained on is what the loop showed and read, and nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from agent import protocols
from agent.consent import Consent
from agent.errors import ContextOverflow, ModelCut
from agent.loop import Loop
from agent.messages import Json, Message, Route, ToolCall, Trajectory
from agent.models.base import Capabilities
from agent.models.scripted import Scripted
from agent.personal import Placeholders
from agent.run import Run
from agent.session import Session
from evals.simulated.case import Case
from evals.simulated.world import World
from tools.workspace import Workspace

OF_ONE_CASE = (ContextOverflow, ModelCut)
"""What a model can fail with that says something of the case and nothing of the next one."""
EXPERT = "scripted:expert"
"""The address of the model that plays solutions: a local one, which is shown what any local one is."""


@dataclass(frozen=True, slots=True)
class Played:
    """How a case went: the record, the world as it was left, and the files' texts."""

    run: Trajectory
    world: World
    files: dict[str, str]
    error: str = ""


async def play(case: Case, session: Session, address: str) -> Played:
    """Let a model do a case.

    Args:
        case: what is to be done.
        session: its models, store and budgets; its workspace and consent are not used.
        address: the model.

    Raises:
        ModelError: the model failed in a way that says nothing of this case.
    """
    world = World(case)
    tools = world.tools
    with tempfile.TemporaryDirectory(prefix="case-") as folder:
        place = _written(case, Path(folder))
        consent = Consent(yes=True, local_only=session.consent.local_only)
        context = replace(session.tool_context, workspace=place, consent=consent)
        typed = Placeholders()
        typed.said(case.task)
        own = replace(session, workspace=place, consent=consent, tool_context=context, tools=tools, placeholders=typed)
        route = Route(address, "flag", "it is evaluated")
        schemas = [tool.schema for tool in tools.values()]
        error = ""
        run = Run(own, case.task, route, tools=schemas)
        try:
            async with run:
                await Loop(run, address, tools, case.instructions).answer(case.task)
        except OF_ONE_CASE as failure:
            error = failure.message
        return Played(run.trajectory, world, dict(_read(place)), error)


async def solve(case: Case, session: Session, protocol: str = "json") -> Played:
    """Play a case's own solution, as this protocol writes it: `json`, `text` or `native`."""
    models = session.settings.models.model_copy(update={"protocol": protocol})
    session.models[EXPERT] = scripted(case, protocol)
    own = replace(session, settings=session.settings.model_copy(update={"models": models}))
    return await play(case, own, EXPERT)


def scripted(case: Case, protocol: str = "json") -> Scripted:
    """A model that says a case's solution, as a protocol has models say it."""
    messages = [
        Message(
            "assistant",
            thought=turn.thought,
            tool_calls=tuple(ToolCall(f"call_{number}", call.name, call.arguments) for call in turn.calls),
        )
        for number, turn in enumerate(case.turns, 1)
    ]
    messages.append(Message("assistant", case.answer, thought=case.closing))
    if protocol == "native":
        return Scripted([_native(message) for message in messages], Capabilities(native_tools=True), EXPERT)
    shown = protocols.choose(protocol, Capabilities(json_schema=True))
    replies: list[Json] = [{"content": shown.render(message).content} for message in messages]
    return Scripted(replies, Capabilities(json_schema=True), EXPERT)


def _native(message: Message) -> Json:
    calls = [{"name": call.name, "arguments": call.arguments} for call in message.tool_calls]
    return {"thought": message.thought, "content": message.content, "tool_calls": calls}


def _written(case: Case, folder: Path) -> Workspace:
    for path, text in case.files.items():
        there = folder / path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(text, encoding="utf-8")
    return Workspace(folder.resolve())


def _read(place: Workspace) -> Iterator[tuple[str, str]]:
    for path in place.walk("."):
        yield path, (place.root / path).read_text(encoding="utf-8", errors="replace")

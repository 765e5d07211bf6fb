"""The toolshim: one model says in prose what to do next, a second one turns the prose into a call.

So a model that was never trained to call tools can act, and the small one needs to do no more than translate. The
record holds the generic form: the prose is the thought of the call. An answer stays in the words of the first model;
the second only decides that it is one. `models.toolshim` is the second one's address.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent import protocols, registry
from agent.errors import ApprenticeError, ConsentDenied, UsageError
from agent.messages import Detail, Json, Message
from agent.models.base import Reply
from agent.run import Run, sampling
from agent.session import Session

SYSTEM = (
    "You read what an assistant said it does next and write it as one JSON object. If it uses a tool, write that "
    "tool's name and its arguments, with the values that the assistant gave: "
    '{"action": {"name": "...", "arguments": {...}}}. If it uses none, what it said is the answer: {"answer": true}.'
)
ENDING: Json = {"answer": {"const": True}}


@dataclass(slots=True)
class Prose:
    """Plain words both ways: the protocol of the first model. Nothing is parsed; the Shim reads what it said."""

    name: str = "prose"

    def instructions(self, tools: Sequence[Json]) -> str:
        if not tools:
            return ""
        return (
            "You work in turns and in plain words. To use a tool, say which one, and state the value of each argument "
            "in full; one tool a turn. You are then told what it gave. When the task is done, write the answer "
            f"itself and mention no tool.\nTools:\n{protocols.listed(tools)}"
        )

    def request(self, tools: Sequence[Json]) -> Json:
        return {}

    def render(self, message: Message) -> Message:
        if message.role == "tool":
            return Message("user", f"{message.name or 'The tool'} gave: {message.content}")
        if message.role == "assistant" and message.tool_calls:
            return Message("assistant", message.thought or _said(message))
        return message

    def parse(self, message: Message, turn: int) -> Message:
        return message

    def stream(self, seen: str) -> protocols.Piece:
        return "text", seen


class Shim:
    """The second model.

    Args:
        session: its settings name the model.

    Raises:
        UsageError: the model cannot be held to a JSON schema.
        ConsentDenied: it would leave this machine, and privacy is local-only.
    """

    def __init__(self, session: Session) -> None:
        settings = session.settings
        self.address = settings.models.toolshim
        if settings.privacy == "local-only" and not registry.is_local(self.address, settings):
            raise ConsentDenied(
                f"the toolshim {self.address} would leave this machine, and privacy is local-only",
                "Set models.toolshim to a local one (local, gguf:PATH, ollama:NAME), or change `privacy`.",
            )
        if not session.model(self.address).capabilities.json_schema:
            raise UsageError(
                f"the toolshim {self.address} cannot be held to a JSON schema", "Set models.toolshim to one that can."
            )
        self.most = settings.models.max_tokens

    async def read(
        self, run: Run, said: Message, detail: Detail, tools: Sequence[Json], turn: int
    ) -> tuple[Message, Detail]:
        """What the first model said as the record holds it: a call with the prose as its thought, or the answer.

        Args:
            run: counts what the second model uses.
            said: the first model's reply.
            detail: how it came to be.
            tools: what may be called.
            turn: number of the turn, for the call's id.

        Returns:
            The message, and the detail with the second model's part: its usage is added, `sampling` names it.

        Raises:
            ModelError: the second model failed; what the first one said is then on record by itself.
        """
        if not tools or not said.content.strip():
            return said, detail
        request: Json = {"schema": decision_schema(tools), "max_tokens": self.most, "temperature": 0.0}
        try:
            reply = await run.ask(self.address, prompt(said.content, tools), stream=False, **request)
        except (ApprenticeError, asyncio.CancelledError):
            run.put(said, detail)
            raise
        detail = _with(detail, reply, request)
        read = protocols.ConstrainedJson().parse(reply.message, turn)
        if not read.tool_calls:
            return said, detail
        thought = "\n\n".join(filter(None, [said.thought, said.content]))
        return Message("assistant", thought=thought, tool_calls=read.tool_calls), detail


def decision_schema(tools: Sequence[Json]) -> Json:
    """The JSON schema of what the second model writes: one call, or that the prose is the answer."""
    return protocols.turn_schema(tools, {}, ENDING)


def prompt(prose: str, tools: Sequence[Json]) -> list[Message]:
    """What the second model is asked. What is the same in every turn comes first, so that it is evaluated once."""
    return [Message("system", f"{SYSTEM}\nTools:\n{protocols.listed(tools)}"), Message("user", prose)]


def _with(detail: Detail, reply: Reply, request: Json) -> Detail:
    """The first model's detail with the second one's part in it."""
    shim: Json = {"model": reply.model, "adapter": reply.adapter, "finish_reason": reply.finish_reason}
    shim |= {"prompt_tokens": reply.usage.prompt_tokens, "completion_tokens": reply.usage.completion_tokens}
    return replace(
        detail,
        usage=detail.usage + reply.usage,
        seconds=detail.seconds + reply.usage.seconds,
        sampling=detail.sampling | {"shim": shim | sampling(request)},
    )


def _said(message: Message) -> str:
    """Calls that were recorded without a thought, in words."""
    return " ".join(
        call.malformed or f"I use {call.name} with {json.dumps(call.arguments, ensure_ascii=False)}."
        for call in message.tool_calls
    )

"""A model that sees worked examples first: the few-shot baseline, through the same path as every other model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from agent.messages import Json, Message
from agent.models.base import Delta, Model, Reply


class FewShot:
    """A model whose every prompt has a conversation put in after its system message.

    Args:
        model: who answers.
        shots: user and assistant messages in turn.
    """

    def __init__(self, model: Model, shots: Sequence[Message]) -> None:
        self.address = model.address
        self.capabilities = model.capabilities
        self._model = model
        self._shots = list(shots)

    def chat(self, messages: Sequence[Message], **request: Any) -> AsyncIterator[Delta | Reply]:
        """Generate one reply: see `Model.chat`."""
        return self._model.chat(self._with_shots(messages), **request)

    async def count_tokens(self, messages: Sequence[Message], tools: Sequence[Json] = ()) -> int:
        """How many tokens the prompt takes, the examples included."""
        return await self._model.count_tokens(self._with_shots(messages), tools)

    async def close(self) -> None:
        """Give back what the model holds."""
        await self._model.close()

    def _with_shots(self, messages: Sequence[Message]) -> list[Message]:
        opening = [message for message in messages[:1] if message.role == "system"]
        return [*opening, *self._shots, *messages[len(opening) :]]

"""A model that is asked for JSON though its backend cannot hold it to a schema: what it writes by itself is measured.

So what was just trained can be measured where there is no llama.cpp (`hf:`). The product never does this: there such a
model speaks the text protocol.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from agent.messages import Json, Message
from agent.models.base import Delta, Model, Reply


class Unheld:
    """A model whose requests lose their schema on the way."""

    def __init__(self, model: Model) -> None:
        self.address = model.address
        self.capabilities = replace(model.capabilities, json_schema=True)
        self._model = model

    def chat(
        self, messages: Sequence[Message], *, schema: Json | None = None, **more: Any
    ) -> AsyncIterator[Delta | Reply]:
        """Generate one reply, whatever its form: see `Model.chat`."""
        return self._model.chat(messages, **more)

    async def count_tokens(self, messages: Sequence[Message], tools: Sequence[Json] = ()) -> int:
        return await self._model.count_tokens(messages, tools)

    async def close(self) -> None:
        """Give back what the model holds."""
        await self._model.close()

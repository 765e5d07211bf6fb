"""How a conversation is made to fit a model's context: by a stated rule, or refused; never cut silently.

The oldest observations are shortened first, to their beginning and a line that says how much is missing. The system
message and the task are never touched. What still does not fit is refused with both numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agent.errors import ContextOverflow
from agent.messages import Json, Message
from agent.models.base import Model
from agent.taint import CLOSING

KEPT = 200
"""Characters that remain of a shortened observation."""


async def fit(
    model: Model, messages: list[Message], observations: Sequence[int], tools: Sequence[Json], reserve: int
) -> list[int]:
    """Shorten observations in place until the prompt and `reserve` tokens of reply fit.

    Args:
        model: counts the tokens and knows its context.
        messages: the prompt as rendered; entries are replaced, never removed.
        observations: which of them are observations, oldest first.
        tools: schemas that go with the prompt.
        reserve: tokens kept free for the reply.

    Returns:
        The indices that were shortened.

    Raises:
        ContextOverflow: it does not fit even so; the tokens kept free for the reply count as needed.
    """
    limit = model.capabilities.context_length
    if limit is None:
        return []
    room = limit - min(reserve, limit // 4)
    needed = await model.count_tokens(messages, tools)
    shortened: list[int] = []
    for index in observations:
        if needed <= room:
            return shortened
        text = messages[index].content
        if len(text) > KEPT * 2:
            messages[index] = replace(messages[index], content=shorten(text))
            shortened.append(index)
            needed = await model.count_tokens(messages, tools)
    if needed > room:
        raise ContextOverflow(needed + limit - room, limit, "Give less text, or a model with a longer context.")
    return shortened


def shorten(text: str) -> str:
    """The beginning of an observation, and how much is left out; the line that ends what is from outside stays."""
    last = text.rpartition("\n")[2]
    closing = f"\n{last}" if last.startswith(CLOSING) else ""
    return (
        f"{text[:KEPT]}\n[shortened to fit the context: {len(text) - KEPT} of {len(text)} characters left out]{closing}"
    )

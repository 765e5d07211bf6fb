"""A prompt is made to fit by the stated rule, or refused with both numbers."""

from __future__ import annotations

import asyncio

import pytest

from agent import context
from agent.errors import ContextOverflow
from agent.messages import Message
from agent.models.base import Capabilities
from agent.models.scripted import Scripted


def model(limit: int | None) -> Scripted:
    return Scripted([], Capabilities(native_tools=True, context_length=limit))


def talk(*observations: str) -> list[Message]:
    task = [Message("system", "s" * 300), Message("user", "t" * 300)]
    return task + [Message("tool", text, tool_call_id="c", name="f") for text in observations]


def test_what_fits_is_left_as_it_is() -> None:
    messages = talk("x" * 3000)
    assert asyncio.run(context.fit(model(10_000), messages, [2], [], 100)) == []
    assert messages == talk("x" * 3000)


def test_a_model_of_unknown_context_is_never_shortened_for() -> None:
    messages = talk("x" * 300_000)
    assert asyncio.run(context.fit(model(None), messages, [2], [], 100)) == []


def test_the_oldest_observation_is_shortened_first_and_says_by_how_much() -> None:
    messages = talk("a" * 3000, "b" * 3000)
    assert asyncio.run(context.fit(model(1800), messages, [2, 3], [], 100)) == [2]
    assert messages[2].content.startswith("a" * context.KEPT)
    assert "2800 of 3000 characters left out" in messages[2].content
    assert messages[3].content == "b" * 3000


def test_the_system_message_and_the_task_are_never_touched() -> None:
    messages = talk("a" * 900)
    with pytest.raises(ContextOverflow) as raised:
        asyncio.run(context.fit(model(256), messages, [2], [], 100))
    assert messages[:2] == talk()[:2]
    assert f"needs {raised.value.needed} tokens" in raised.value.message
    assert f"holds {raised.value.limit}" in raised.value.message
    assert raised.value.needed > raised.value.limit

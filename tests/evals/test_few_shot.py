"""The few-shot baseline's model: examples go in after the system message, and nothing else changes."""

from __future__ import annotations

import asyncio

from agent.messages import Message
from agent.models.base import Capabilities, Reply
from agent.models.scripted import Scripted
from evals.few_shot import FewShot

SHOTS = [Message("user", "example"), Message("assistant", "its answer")]


def test_examples_stand_between_the_system_message_and_the_question() -> None:
    inner = Scripted([{"content": "yes"}, {"content": "no"}], Capabilities(json_schema=True), "inner")
    model = FewShot(inner, SHOTS)

    async def ask(*messages: Message) -> str:
        reply = [piece async for piece in model.chat(messages, schema={"type": "object"}, max_tokens=5)][-1]
        assert isinstance(reply, Reply)
        return reply.message.content

    system, question = Message("system", "rules"), Message("user", "question")
    assert asyncio.run(ask(system, question)) == "yes"
    assert asyncio.run(ask(question)) == "no"
    assert inner.requests[0].messages == (system, *SHOTS, question)
    assert inner.requests[1].messages == (*SHOTS, question)
    assert (inner.requests[0].schema, inner.requests[0].max_tokens) == ({"type": "object"}, 5)


def test_it_is_called_and_counted_as_the_model_behind_it_with_the_examples() -> None:
    inner = Scripted([], Capabilities(grammar=True), "inner")
    model = FewShot(inner, SHOTS)
    question = [Message("user", "question")]
    assert (model.address, model.capabilities) == ("inner", inner.capabilities)

    async def count() -> tuple[int, int]:
        counts = await model.count_tokens(question), await inner.count_tokens([*SHOTS, *question])
        await model.close()
        return counts

    with_shots, same = asyncio.run(count())
    assert with_shots == same

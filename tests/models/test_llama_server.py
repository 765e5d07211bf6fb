"""The openai@ backend against a real server: llama-cpp-python's own, with the embedded model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from agent.errors import ModelCut
from agent.messages import Message
from agent.models.base import Delta, Reply
from agent.models.openai import OpenAI
from agent.models.wire import message_tokens
from agent.settings import Settings
from tests.wire import llama_server as wire

pytestmark = [pytest.mark.llama, pytest.mark.xdist_group("llama_server")]
ASK = [Message("user", "What is the capital of France?")]
CONTEXT = 1024


@pytest.fixture(scope="session")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running server's address."""
    with wire.llama_server(tmp_path_factory.mktemp("llama"), CONTEXT) as url:
        yield url


def run(url: str, messages: list[Message] = ASK, **request: Any) -> tuple[list[Delta], Reply]:
    async def read() -> list[Delta | Reply]:
        model = OpenAI("smollm2", Settings.model_validate({"models": {"retries": 0}}), url=url)
        try:
            return [piece async for piece in model.chat(messages, **request)]
        finally:
            await model.close()

    *deltas, reply = asyncio.run(read())
    assert isinstance(reply, Reply)
    return [delta for delta in deltas if isinstance(delta, Delta)], reply


def test_a_reply_streams_token_by_token_and_is_greedy(llama_server: str) -> None:
    deltas, reply = run(llama_server, max_tokens=12)
    assert len(deltas) > 3
    assert "".join(delta.text for delta in deltas) == reply.message.content
    assert reply.finish_reason == "length"
    assert reply.model == f"openai@{llama_server}:smollm2"
    assert run(llama_server, max_tokens=12)[1].message == reply.message


def test_usage_that_the_server_does_not_send_is_estimated_high(llama_server: str) -> None:
    _, reply = run(llama_server, max_tokens=12)
    assert reply.usage.prompt_tokens == sum(map(message_tokens, ASK))
    assert reply.usage.completion_tokens >= 12


def test_a_stop_text_ends_the_reply_and_is_not_part_of_it(llama_server: str) -> None:
    whole = run(llama_server, max_tokens=12)[1].message.content
    stop = whole.split()[2]
    cut = run(llama_server, max_tokens=12, stop=[stop])[1]
    assert cut.message.content == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"


def test_a_schema_constrains_the_reply(llama_server: str) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Lyon", "Nice"]}, "sure": {"type": "boolean"}},
        "required": ["city", "sure"],
    }
    _, reply = run(llama_server, schema=schema, max_tokens=60)
    answer = json.loads(reply.message.content)
    assert answer["city"] in ("Lyon", "Nice")
    assert isinstance(answer["sure"], bool)


def test_a_prompt_longer_than_the_context_is_an_error_and_the_server_goes_on(llama_server: str) -> None:
    with pytest.raises(ModelCut):  # this server starts a stream and drops it
        run(llama_server, [Message("user", "word " * CONTEXT)], max_tokens=4)
    assert run(llama_server, max_tokens=4)[1].message.content


TEXTS = {
    "prose": "The river carried the boats slowly past the old mill, where nobody had lived for thirty years.",
    "json": json.dumps({"name": "add", "arguments": {"a": [1, 2, 3], "flags": {"x": None, "y": True}}}, indent=2),
    "code": "def total(rows):\n    return sum(row['price'] * row.get('count', 1) for row in rows if row['ok'])\n",
    "numbers": "3.14159 2.71828 1,048,576 0.5772 99.97% +/- 0.023 2026-11-21T10:56:00Z",
    "accents": "Über den Flüssen öffnen sich größere Häfen; el niño comió piñas y jamón.",
    "chinese": "河水缓缓流过老磨坊那里已经三十年没有人居住了。",
    "symbols": "{{[[((<<>>))]]}} ||| &&& === !!! ??? ~~~ ### $$$ %%% @@@ ^^^",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_estimated_tokens_err_high_but_not_wildly(kind: str) -> None:
    from llama_cpp import Llama

    from agent.models.wire import estimate_tokens

    model = Llama(str(wire.embedded_model()), vocab_only=True, verbose=False)
    try:
        real = len(model.tokenize(TEXTS[kind].encode(), add_bos=False))
    finally:
        model.close()
    assert real <= estimate_tokens(TEXTS[kind]) <= 3 * real

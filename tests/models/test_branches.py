"""Several replies in one batch, on the real embedded model with one thread."""

from __future__ import annotations

import asyncio
import ctypes
import json
from collections.abc import Iterator

import numpy as np
import pytest

from agent.errors import ContextOverflow, ModelError
from agent.messages import Message
from agent.models.base import Delta, Draw, Fixed, Hole, Reply
from agent.models.branches import Branches, fill_all
from agent.models.chat_prompt import prompt_tokens
from agent.models.decoding import Picker, logprob
from agent.models.embedded import find
from agent.models.filling import fill, most_tokens
from agent.models.llama_context import BATCH, Context, Stopped
from agent.models.llamacpp import LlamaCpp
from agent.settings import Models, Settings

pytestmark = pytest.mark.llama

ABORT = ctypes.create_string_buffer(2)
ASK = [Message("user", "Name three animals of the forest, as JSON.")]
WORD = r'root ::= [a-z]{3,9} "\","'
LAST = r'root ::= [a-z]{3,9} "\"}"'
TEMPLATE = [Fixed('{"a": "'), Hole(WORD, '",', 12), Fixed(' "longer": "'), Hole(LAST, '"}', 12)]


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    loaded = Context(find(Settings()), 1024, ABORT)
    loaded.reserve(1024, 3)
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def prompt(context: Context) -> list[int]:
    return prompt_tokens(context, ASK)


def ignore(_: Delta) -> None:
    pass


def draws() -> list[Picker]:
    return [Picker(), Picker(1.0, 1), Picker(1.0, 2)]


def test_each_reply_fits_the_template_and_keeps_its_tokens_and_log_probabilities(
    context: Context, prompt: list[int]
) -> None:
    shown: list[Delta] = []
    replies = fill_all(context, prompt, TEMPLATE, draws(), shown.append)
    assert [list(json.loads(reply.text)) for reply in replies] == [["a", "longer"]] * 3
    assert len({reply.text for reply in replies}) > 1
    for reply in replies:
        assert b"".join(map(context.piece, reply.token_ids)).decode() == reply.text
        assert len(reply.logprobs) == len(reply.token_ids)
    assert "".join(delta.text for delta in shown) == replies[0].text


def test_a_reply_s_log_probabilities_are_those_that_its_tokens_have_alone(context: Context, prompt: list[int]) -> None:
    """A batch rounds otherwise than a single token, so that they are near and not equal."""
    for reply in fill_all(context, prompt, TEMPLATE, draws(), ignore):
        for place, (token, given) in enumerate(zip(reply.token_ids, reply.logprobs, strict=True)):
            if given < 0:
                context.advance(prompt + reply.token_ids[:place])
                assert logprob(context.logits(), token) == pytest.approx(given, abs=0.5)


def test_the_first_reply_is_what_it_is_alone(context: Context, prompt: list[int]) -> None:
    (first, *_) = fill_all(context, prompt, TEMPLATE, draws(), ignore)
    assert first.text == fill(context, prompt, TEMPLATE, Picker(), ignore).text


def test_the_prompt_is_evaluated_once_and_kept_for_the_next_request(context: Context, prompt: list[int]) -> None:
    context.forget()
    before = context.evaluated
    first = fill_all(context, prompt, TEMPLATE, draws(), ignore)
    written = sum(len(reply.token_ids) for reply in first)
    assert context.evaluated - before <= len(prompt) + written
    before = context.evaluated
    assert [r.text for r in fill_all(context, prompt, TEMPLATE, draws(), ignore)] == [r.text for r in first]
    assert context.evaluated - before <= 2 + written


def test_a_sequence_s_logits_are_those_of_its_own_tokens(context: Context, prompt: list[int]) -> None:
    tails = [context.tokenize(" fox and"), context.tokenize(" owl"), context.tokenize(" very long " * BATCH)[:300]]
    context.begin(prompt)
    with Branches(context, prompt, 3) as branches:
        found = branches.advance({number: prompt + tail for number, tail in enumerate(tails)})
        again = branches.advance({1: prompt + tails[0]})
    for number, tail in enumerate(tails):
        context.advance(prompt + tail)
        assert np.corrcoef(found[number], context.logits())[0, 1] > 0.999
    assert np.corrcoef(again[1], found[0])[0, 1] > 0.999
    assert np.corrcoef(found[0], found[1])[0, 1] < 0.99


def test_a_stop_leaves_the_context_as_good_as_new(context: Context, prompt: list[int]) -> None:
    whole = fill_all(context, prompt, TEMPLATE, draws(), ignore)

    def stop(_: Delta) -> None:
        ABORT[0] = b"\1"

    with pytest.raises(Stopped):
        fill_all(context, prompt, TEMPLATE, draws(), stop)
    ABORT[0] = b"\0"
    assert [r.text for r in fill_all(context, prompt, TEMPLATE, draws(), ignore)] == [r.text for r in whole]
    assert fill(context, prompt, TEMPLATE, Picker(), ignore).text == whole[0].text


def test_what_does_not_fit_is_refused(context: Context) -> None:
    with pytest.raises(ContextOverflow):
        fill_all(context, [5] * 1020, TEMPLATE, draws(), ignore)
    assert most_tokens(context, TEMPLATE) > 4


def test_the_backend_gives_one_reply_with_the_others_and_counts_the_prompt_once() -> None:
    settings = Settings(models=Models(threads=1))
    model = LlamaCpp(find(settings), settings)

    async def go() -> tuple[Reply, Reply]:
        try:
            many = [p async for p in model.chat(ASK, template=TEMPLATE, others=[Draw(1.0, 1), Draw(1.0, 2)])]
            one = [p async for p in model.chat(ASK, template=TEMPLATE)]
            with pytest.raises(ModelError, match="by a template only"):
                [p async for p in model.chat(ASK, others=[Draw(1.0, 1)])]
            assert isinstance(many[-1], Reply)
            assert isinstance(one[-1], Reply)
            return many[-1], one[-1]
        finally:
            await model.close()

    many, one = asyncio.run(go())
    assert many.message == one.message
    assert [reply.usage.prompt_tokens for reply in many.others] == [0, 0]
    assert many.usage.prompt_tokens == one.usage.prompt_tokens > 0
    for reply in many.others:
        assert json.loads(reply.message.content)
        assert len(reply.token_ids) == len(reply.logprobs) == reply.usage.completion_tokens
        assert reply.mean_logprob is not None
        assert reply.model == one.model
    assert one.others == ()

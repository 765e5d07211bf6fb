"""Asking a model for a form: what comes back, what it cost, and who may not be asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent.errors import ConsentDenied, ModelCut
from agent.messages import Message
from agent.models.base import Capabilities, Delta, Reply
from agent.models.scripted import Scripted
from agent.settings import Settings
from training.synthesis.asking import Answer, Form, ask, last, open_model

QUESTION = [Message("user", "How many?")]


class Count(Form):
    number: int
    unit: str


def answer(reply: dict[str, Any], schema: bool = True, **sampling: Any) -> tuple[Answer[Count], Scripted]:
    model = Scripted([reply], Capabilities(json_schema=schema))
    return asyncio.run(ask(model, QUESTION, Count, max_tokens=50, **sampling)), model


def test_a_reply_that_is_the_form_is_read_and_its_cost_is_counted() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 7}
    found, model = answer({"content": '{"number": 3, "unit": "km"}', "usage": usage}, temperature=0.5, seed=4)
    assert found.found == Count(number=3, unit="km")
    assert (found.problem, found.tokens) == ("", 12)
    request = model.requests[0]
    assert request.schema is not None
    assert request.schema["required"] == ["number", "unit"]
    assert (request.temperature, request.seed, request.max_tokens) == (0.5, 4, 50)


def test_a_model_without_schemas_is_read_leniently() -> None:
    found, model = answer({"content": 'Sure:\n```json\n{"number": 3, "unit": "km"}\n```'}, schema=False)
    assert found.found == Count(number=3, unit="km")
    assert model.requests[0].schema is None


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("no object here", "holds no JSON object"),
        ('{"number": "many", "unit": "km"}', "number: "),
        ('{"number": 1, "unit": "km", "more": 1}', "more: "),
        (json.dumps({"number": 1, "unit": "word " * 100}), "cut by its token limit"),
    ],
)
def test_a_reply_that_is_not_the_form_is_told_and_still_counted(content: str, problem: str) -> None:
    found, _ = answer({"content": content})
    assert found.found is None
    assert problem in found.problem
    assert found.tokens > 0


def test_a_stream_that_ends_without_a_reply_is_an_error() -> None:
    class Mute(Scripted):
        async def chat(self, *args: Any, **more: Any) -> AsyncIterator[Delta | Reply]:
            yield Delta("and then")

    with pytest.raises(ModelCut, match="without saying so"):
        asyncio.run(last(Mute([]), QUESTION))


def test_local_only_refuses_a_model_elsewhere() -> None:
    settings = Settings(privacy="local-only")
    with pytest.raises(ConsentDenied, match="openai:gpt would leave this machine"):
        open_model("openai:gpt", settings)
    assert open_model("openai@http://127.0.0.1:9/v1:m", settings).address == "openai@http://127.0.0.1:9/v1:m"

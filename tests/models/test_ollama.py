from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from agent.errors import ModelRefused, ModelUnavailable
from agent.messages import Json, Message, ToolCall
from agent.models.base import Delta, Reply
from agent.models.ollama import Ollama
from agent.settings import Settings
from tests.wire.model_server import Fault, Say
from tests.wire.ollama_server import OllamaServer

ASK = [Message("system", "Be brief."), Message("user", "What is 2 + 2?")]
SCHEMA: Json = {"type": "object", "properties": {"sum": {"type": "integer"}}}
TOOL: Json = {
    "type": "function",
    "function": {"name": "add", "description": "Add.", "parameters": {"type": "object", "properties": {}}},
}
REAL = os.environ.get("APPRENTICE_TEST_OLLAMA", "")
"""A server's address, and APPRENTICE_TEST_OLLAMA_MODEL a model on it."""


@pytest.fixture
def server() -> Iterator[OllamaServer]:
    with OllamaServer() as running:
        yield running


def open_model(url: str, name: str = "m", **models: Any) -> Ollama:
    return Ollama(name, Settings.model_validate({"models": {"ollama_url": url, **models}}))


def run(model: Ollama, messages: list[Message] = ASK, **request: Any) -> list[Delta | Reply]:
    async def read() -> list[Delta | Reply]:
        try:
            return [piece async for piece in model.chat(messages, **request)]
        finally:
            await model.close()

    return asyncio.run(read())


def ask(model: Ollama, messages: list[Message] = ASK, **request: Any) -> Reply:
    last = run(model, messages, **request)[-1]
    assert isinstance(last, Reply)
    return last


@pytest.mark.parametrize("where", ["wire", *(["real"] if REAL else [])])
def test_a_reply_streams_and_ends_in_one_reply(server: OllamaServer, where: str) -> None:
    server.script(Say("The sum is 4."))
    name = os.environ.get("APPRENTICE_TEST_OLLAMA_MODEL", "m")
    *deltas, reply = run(open_model(REAL if where == "real" else server.url, name), max_tokens=50)
    assert isinstance(reply, Reply)
    said = "".join(delta.text for delta in deltas if isinstance(delta, Delta) and delta.kind == "text")
    assert said == reply.message.content != ""
    assert reply.usage.prompt_tokens > 0
    assert reply.usage.completion_tokens > 0


def test_what_is_asked_is_sent_with_the_window(server: OllamaServer) -> None:
    ask(open_model(server.url, context=5000), schema=SCHEMA, stop=["END"], max_tokens=9, temperature=0.5, seed=3)
    body = server.requests[0].body
    assert body["options"] == {"num_ctx": 5000, "temperature": 0.5, "seed": 3, "num_predict": 9, "stop": ["END"]}
    assert body["format"] == SCHEMA
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 2 + 2?"},
    ]


def test_a_schema_is_never_sent_together_with_tools(server: OllamaServer) -> None:
    ask(open_model(server.url), schema=SCHEMA, tools=[TOOL])
    body = server.requests[0].body
    assert "format" not in body
    assert [tool["function"]["name"] for tool in body["tools"]] == ["add"]


def test_thinking_text_and_calls_are_put_together(server: OllamaServer) -> None:
    server.script(Say("I add.", "Two and two.", (("add", '{"a": 2}'), ("add", '{"a": 3}')), logprob=-0.5))
    first, *_, reply = run(open_model(server.url))
    assert first == Delta("Two and two.", kind="thought")
    assert isinstance(reply, Reply)
    assert (reply.message.content, reply.message.thought) == ("I add.", "Two and two.")
    assert [(call.name, call.arguments) for call in reply.message.tool_calls] == [("add", {"a": 2}), ("add", {"a": 3})]
    assert len({call.id for call in reply.message.tool_calls}) == 2
    assert reply.finish_reason == "tool_calls"
    assert reply.mean_logprob == -0.5
    assert reply.model == "ollama:served-1"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (11, 7)


def test_a_history_with_calls_and_results_is_sent_as_ollama_reads_it(server: OllamaServer) -> None:
    call, broken = ToolCall("c1", "add", {"a": 2}), ToolCall("c2", "add", {}, malformed="{broken")
    history = [
        *ASK,
        Message("assistant", "", "Hm.", (call, broken)),
        Message("tool", "4", tool_call_id="c1", name="add"),
    ]
    ask(open_model(server.url), history)
    assistant, result = server.requests[0].body["messages"][2:]
    assert [entry["function"] for entry in assistant["tool_calls"]] == [
        {"name": "add", "arguments": {"a": 2}},
        {"name": "add", "arguments": {"malformed_arguments": "{broken"}},
    ]
    assert result == {"role": "tool", "content": "4", "tool_name": "add"}


def test_a_reply_cut_by_its_token_limit_says_so(server: OllamaServer) -> None:
    server.script(Say("The sum", finish="length"))
    assert ask(open_model(server.url)).finish_reason == "length"


def test_a_model_that_is_not_there_is_to_be_pulled(server: OllamaServer) -> None:
    server.script(Fault(404, 'model "m" not found, try pulling it first'))
    with pytest.raises(ModelUnavailable) as caught:
        ask(open_model(server.url))
    assert caught.value.hint == "Run `ollama pull m` first."


def test_what_the_model_can_do() -> None:
    model = open_model("http://127.0.0.1:1", context=4096)
    assert (model.capabilities.native_tools, model.capabilities.json_schema) == (True, True)
    assert model.capabilities.context_length == 4096
    assert repr(model) == "Ollama('ollama:m')"
    assert asyncio.run(model.count_tokens(ASK, [TOOL])) > asyncio.run(model.count_tokens(ASK)) > 5


def private(url: str) -> Ollama:
    return Ollama("m", Settings.model_validate({"privacy": "local-only", "models": {"ollama_url": url}}))


def test_local_only_refuses_a_model_that_the_server_runs_elsewhere_before_it_is_sent_anything(
    server: OllamaServer,
) -> None:
    server.remote_host = "https://ollama.com:443"
    with pytest.raises(ModelRefused, match=r"ollama:m runs at https://ollama\.com:443, and privacy is local-only"):
        ask(private(server.url))
    assert server.requests == []


def test_local_only_asks_a_model_that_runs_here(server: OllamaServer) -> None:
    server.script(Say("4"))
    assert ask(private(server.url)).message.content == "4"

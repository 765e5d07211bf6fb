from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest

from agent.errors import ModelRefused
from agent.messages import Json, Message, ToolCall
from agent.models.anthropic import CONTEXT, Anthropic
from agent.models.base import Delta, Reply
from agent.settings import Settings
from tests.wire.anthropic_server import AnthropicServer
from tests.wire.model_server import Fault, Raw, Say, sse

ASK = [Message("system", "Be brief."), Message("user", "What is 2 + 2?")]
TOOL: Json = {
    "type": "function",
    "function": {"name": "add", "description": "Add.", "parameters": {"type": "object", "properties": {}}},
}
REAL = os.environ.get("APPRENTICE_TEST_ANTHROPIC", "")
"""A server's address, with APPRENTICE_TEST_ANTHROPIC_MODEL and APPRENTICE_TEST_ANTHROPIC_KEY."""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", os.environ.get("APPRENTICE_TEST_ANTHROPIC_KEY", "sk-ant-test"))


@pytest.fixture
def server() -> Iterator[AnthropicServer]:
    with AnthropicServer() as running:
        yield running


def open_model(url: str, name: str = "m") -> Anthropic:
    return Anthropic(name, Settings.model_validate({"models": {"anthropic_url": url}}))


def run(model: Anthropic, messages: list[Message] = ASK, **request: Any) -> list[Delta | Reply]:
    async def read() -> list[Delta | Reply]:
        try:
            return [piece async for piece in model.chat(messages, **request)]
        finally:
            await model.close()

    return asyncio.run(read())


def ask(model: Anthropic, messages: list[Message] = ASK, **request: Any) -> Reply:
    last = run(model, messages, **request)[-1]
    assert isinstance(last, Reply)
    return last


@pytest.mark.parametrize("where", ["wire", *(["real"] if REAL else [])])
def test_a_reply_streams_and_ends_in_one_reply(server: AnthropicServer, where: str) -> None:
    server.script(Say("The sum is 4."))
    name = os.environ.get("APPRENTICE_TEST_ANTHROPIC_MODEL", "m")
    *deltas, reply = run(open_model(REAL if where == "real" else server.url, name), max_tokens=50)
    assert isinstance(reply, Reply)
    said = "".join(delta.text for delta in deltas if isinstance(delta, Delta) and delta.kind == "text")
    assert said == reply.message.content != ""
    assert reply.usage.prompt_tokens > 0
    assert reply.usage.completion_tokens > 0


def test_what_is_asked_is_sent(server: AnthropicServer) -> None:
    ask(open_model(server.url), tools=[TOOL], stop=["END"], max_tokens=9, temperature=1.5, seed=3)
    request = server.requests[0]
    assert request.headers["x-api-key"] == "sk-ant-test"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    assert request.body == {
        "model": "m",
        "stream": True,
        "max_tokens": 9,
        "temperature": 1.0,
        "system": "Be brief.",
        "stop_sequences": ["END"],
        "tools": [{"name": "add", "description": "Add.", "input_schema": {"type": "object", "properties": {}}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "What is 2 + 2?"}]}],
    }


def test_max_tokens_comes_from_the_settings_where_none_is_asked(server: AnthropicServer) -> None:
    ask(open_model(server.url))
    assert server.requests[0].body["max_tokens"] == 1024


def test_thinking_text_and_calls_are_put_together(server: AnthropicServer) -> None:
    server.script(Say("I add.", "Two and two.", (("add", '{"a": 2}'), ("now", ""))))
    first, *_, reply = run(open_model(server.url))
    assert first == Delta("Two and two.", kind="thought")
    assert isinstance(reply, Reply)
    assert reply.message == Message(
        "assistant",
        "I add.",
        "Two and two.",
        (ToolCall("toolu_0", "add", {"a": 2}), ToolCall("toolu_1", "now", {})),
    )
    assert reply.finish_reason == "tool_calls"
    assert reply.model == "anthropic:served-1"
    assert reply.mean_logprob is None


def test_input_that_is_no_object_is_malformed(server: AnthropicServer) -> None:
    server.script(Say(tool_calls=(("add", '{"a": '),)))
    call = ask(open_model(server.url)).message.tool_calls[0]
    assert (call.arguments, call.malformed) == ({}, '{"a": ')


def test_input_that_comes_whole_is_taken(server: AnthropicServer) -> None:
    block = {"type": "tool_use", "id": "t", "name": "add", "input": {"a": 1}}
    events = [{"type": "content_block_start", "index": 0, "content_block": block}, {"type": "message_stop"}]
    server.script(Raw(b"".join(map(sse, events))))
    assert ask(open_model(server.url)).message.tool_calls == (ToolCall("t", "add", {"a": 1}),)


def test_cached_tokens_count_as_prompt(server: AnthropicServer) -> None:
    server.script(Say("4", prompt_tokens=100, completion_tokens=3))
    usage = ask(open_model(server.url)).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cost) == (100, 3, None)


def test_a_reply_cut_by_its_token_limit_says_so(server: AnthropicServer) -> None:
    server.script(Say("The sum", finish="length"))
    assert ask(open_model(server.url)).finish_reason == "length"


def test_a_refusal_is_refused(server: AnthropicServer) -> None:
    events = [{"type": "message_delta", "delta": {"stop_reason": "refusal"}}, {"type": "message_stop"}]
    server.script(Raw(b"".join(map(sse, events))))
    with pytest.raises(ModelRefused, match="declined"):
        ask(open_model(server.url))


def test_results_that_follow_each_other_are_one_turn(server: AnthropicServer) -> None:
    calls = (ToolCall("c.1", "add", {"a": 2}), ToolCall("c2", "add", {}, malformed="{broken"))
    history = [
        *ASK,
        Message("assistant", "I add. \n", tool_calls=calls),
        Message("tool", "4", tool_call_id="c.1", name="add"),
        Message("tool", "", tool_call_id="c2", name="add", is_error=True),
        Message("user", "Go on."),
        Message("assistant", "  "),
    ]
    ask(open_model(server.url), history)
    body = server.requests[0].body
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert body["messages"][1]["content"] == [
        {"type": "text", "text": "I add."},
        {"type": "tool_use", "id": "c_1", "name": "add", "input": {"a": 2}},
        {"type": "tool_use", "id": "c2", "name": "add", "input": {"malformed_arguments": "{broken"}},
    ]
    assert body["messages"][2]["content"] == [
        {"type": "tool_result", "tool_use_id": "c_1", "content": "4"},
        {"type": "tool_result", "tool_use_id": "c2", "is_error": True},
        {"type": "text", "text": "Go on."},
    ]


def test_only_a_conversation_that_goes_on_is_cached_by_the_server(server: AnthropicServer) -> None:
    ask(open_model(server.url))
    ask(open_model(server.url), [*ASK, Message("assistant", "x"), Message("tool", "4", tool_call_id="c")])
    assert [request.body.get("cache_control") for request in server.requests] == [None, {"type": "ephemeral"}]


def test_a_temperature_that_is_refused_is_left_out_from_then_on(server: AnthropicServer) -> None:
    server.script(Fault(400, "`temperature` is not supported by this model"), Say("4"))
    assert ask(open_model(server.url)).message.content == "4"
    assert "temperature" not in server.requests[1].body


def test_a_missing_key_is_named() -> None:
    os.environ.pop("ANTHROPIC_API_KEY")
    with pytest.raises(ModelRefused) as caught:
        ask(Anthropic("claude", Settings()))
    assert "ANTHROPIC_API_KEY" in caught.value.hint


def test_what_the_model_can_do() -> None:
    model = open_model("http://127.0.0.1:1")
    assert model.capabilities.native_tools
    assert not model.capabilities.json_schema
    assert model.capabilities.context_length == CONTEXT
    assert repr(model) == "Anthropic('anthropic:m')"
    assert asyncio.run(model.count_tokens(ASK, [TOOL])) > asyncio.run(model.count_tokens(ASK)) > 5


def test_a_name_that_the_server_refuses_is_sent_back_in_letters_that_it_accepts(server: AnthropicServer) -> None:
    ask(open_model(server.url), [*ASK, Message("assistant", "", tool_calls=(ToolCall("c1", "functions.add", {}),))])
    assert server.requests[0].body["messages"][1]["content"][0]["name"] == "functions_add"

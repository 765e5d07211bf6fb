from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from agent.errors import ModelRefused
from agent.messages import Json, Message, ToolCall
from agent.models import wire
from agent.models.base import Delta, Model, Reply
from agent.models.openai import OpenAI, fits_strict
from agent.settings import Settings
from tests.wire.model_server import Fault, Raw, Say, sse
from tests.wire.openai_server import OpenAIServer

ASK = [Message("system", "Be brief."), Message("user", "What is 2 + 2?")]
SCHEMA: Json = {
    "type": "object",
    "properties": {"sum": {"type": "integer"}},
    "required": ["sum"],
    "additionalProperties": False,
}
TOOL: Json = {
    "type": "function",
    "function": {"name": "add", "description": "Add.", "parameters": {"type": "object", "properties": {}}},
}
REAL = os.environ.get("APPRENTICE_TEST_OPENAI", "")
"""A server's address up to /v1, and APPRENTICE_TEST_OPENAI_MODEL a model on it."""


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def model(server: OpenAIServer) -> OpenAI:
    return OpenAI("m", Settings(), url=f"{server.url}/v1")


def run(model: Model, messages: list[Message] = ASK, **request: Any) -> list[Delta | Reply]:
    async def read() -> list[Delta | Reply]:
        try:
            return [piece async for piece in model.chat(messages, **request)]
        finally:
            await model.close()

    return asyncio.run(read())


def ask(model: Model, messages: list[Message] = ASK, **request: Any) -> Reply:
    last = run(model, messages, **request)[-1]
    assert isinstance(last, Reply)
    return last


@pytest.mark.parametrize("where", ["wire", *(["real"] if REAL else [])])
def test_a_reply_streams_and_ends_in_one_reply(server: OpenAIServer, where: str) -> None:
    server.script(Say("The sum is 4."))
    name = os.environ.get("APPRENTICE_TEST_OPENAI_MODEL", "m")
    *deltas, reply = run(OpenAI(name, Settings(), url=REAL if where == "real" else f"{server.url}/v1"), max_tokens=50)
    assert all(isinstance(delta, Delta) for delta in deltas)
    assert isinstance(reply, Reply)
    said = "".join(delta.text for delta in deltas if isinstance(delta, Delta) and delta.kind == "text")
    assert said == reply.message.content != ""
    assert reply.usage.prompt_tokens > 0
    assert reply.usage.completion_tokens > 0
    assert reply.usage.seconds > 0


def test_the_reply_holds_usage_model_and_log_probability(server: OpenAIServer, model: OpenAI) -> None:
    server.script(Say("The sum is 4.", prompt_tokens=21, completion_tokens=6, logprob=-0.25))
    reply = ask(model)
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.cost) == (21, 6, None)
    assert reply.model == f"openai@{server.url}/v1:served-1"
    assert reply.finish_reason == "stop"
    assert reply.mean_logprob == -0.25
    assert len(reply.logprobs) == 3


def test_what_is_asked_is_sent(server: OpenAIServer, model: OpenAI) -> None:
    ask(model, tools=[TOOL], stop=["END"], max_tokens=9, temperature=0.5, seed=3)
    body = server.requests[0].body
    assert body.pop("messages") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is 2 + 2?"},
    ]
    assert body == {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "logprobs": True,
        "tools": [TOOL],
        "stop": ["END"],
        "max_tokens": 9,
        "seed": 3,
    }


def test_tool_calls_are_put_together_from_fragments(server: OpenAIServer, model: OpenAI) -> None:
    server.script(Say("", "I add.", (("add", '{"a": 2, "b": [1, 1]}'), ("add", ""))))
    reply = ask(model)
    assert reply.message.tool_calls == (
        ToolCall("call_0", "add", {"a": 2, "b": [1, 1]}),
        ToolCall("call_1", "add", {}),
    )
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize("arguments", ['{"a": 2', "[1, 2]", '"two"', "a=2"])
def test_arguments_that_are_no_object_are_malformed_and_never_invented(
    server: OpenAIServer, model: OpenAI, arguments: str
) -> None:
    server.script(Say(tool_calls=(("add", arguments),)))
    call = ask(model).message.tool_calls[0]
    assert call.arguments == {}
    assert call.malformed == arguments


def test_calls_that_come_whole_and_without_index_or_id_stay_apart(server: OpenAIServer, model: OpenAI) -> None:
    calls = [{"function": {"name": name, "arguments": {"x": 1}}} for name in ("one", "two")]
    chunk = {"choices": [{"delta": {"tool_calls": calls}, "finish_reason": "tool_calls"}]}
    server.script(Raw(sse(chunk) + sse("[DONE]")))
    found = ask(model).message.tool_calls
    assert [(call.name, call.arguments) for call in found] == [("one", {"x": 1}), ("two", {"x": 1})]
    assert len({call.id for call in found}) == 2


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_becomes_thought(server: OpenAIServer, model: OpenAI, key: str) -> None:
    chunks = [
        {"choices": [{"delta": {key: "Hm."}}]},
        {"choices": [{"delta": {"content": "4"}, "finish_reason": "stop"}]},
    ]
    server.script(Raw(b"".join(map(sse, chunks))))
    first, second, reply = run(model)
    assert first == Delta("Hm.", kind="thought")
    assert second == Delta("4")
    assert isinstance(reply, Reply)
    assert (reply.message.thought, reply.message.content) == ("Hm.", "4")


def test_a_reply_cut_by_its_token_limit_says_so(server: OpenAIServer, model: OpenAI) -> None:
    server.script(Say("The sum", finish="length"))
    assert ask(model).finish_reason == "length"


def test_a_withheld_reply_is_refused(server: OpenAIServer, model: OpenAI) -> None:
    server.script(Raw(sse({"choices": [{"delta": {}, "finish_reason": "content_filter"}]})))
    with pytest.raises(ModelRefused, match="content filter"):
        ask(model)


def test_a_history_with_calls_results_and_a_malformed_call_is_sent_as_servers_read_it(
    server: OpenAIServer, model: OpenAI
) -> None:
    calls = (ToolCall("c1", "add", {"a": 2}), ToolCall("c2", "add", {}, malformed="{broken"))
    history = [
        *ASK,
        Message("assistant", "", "I add.", calls),
        Message("tool", "4", tool_call_id="c1", name="add"),
        Message("tool", "not JSON", tool_call_id="c2", name="add", is_error=True),
    ]
    ask(model, history)
    sent = server.requests[0].body["messages"][2:]
    assert sent[0]["content"] is None
    assert [json.loads(call["function"]["arguments"]) for call in sent[0]["tool_calls"]] == [
        {"a": 2},
        {"malformed_arguments": "{broken"},
    ]
    assert sent[1:] == [
        {"role": "tool", "content": "4", "tool_call_id": "c1"},
        {"role": "tool", "content": "not JSON", "tool_call_id": "c2"},
    ]


def test_a_lone_surrogate_does_not_stop_a_request(server: OpenAIServer, model: OpenAI) -> None:
    ask(model, [Message("user", "caf\u00e9 \ud800")])
    assert server.requests[0].body["messages"][0]["content"] == "caf\u00e9 \ud800"


# What servers refuse


def test_a_schema_is_asked_for_in_strict_form_where_it_fits(server: OpenAIServer, model: OpenAI) -> None:
    ask(model, schema=SCHEMA)
    assert server.requests[0].body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True},
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"type": "string"}}},
        {"anyOf": [SCHEMA]},
        {**SCHEMA, "properties": {"sum": {"type": "string", "minLength": 3}}},
        {**SCHEMA, "properties": {"sum": {"type": "array", "items": {"type": "object"}}}},
    ],
)
def test_a_schema_that_strict_mode_would_refuse_is_sent_as_not_strict(schema: Json) -> None:
    assert not fits_strict(schema)


def test_a_property_named_like_a_keyword_does_not_make_a_schema_unfit() -> None:
    assert fits_strict({**SCHEMA, "properties": {"default": {"enum": ["oneOf"]}}, "required": ["default"]})


def test_a_server_without_json_schema_gets_the_older_form_and_is_remembered(
    server: OpenAIServer, model: OpenAI
) -> None:
    server.script(Fault(500, "response_format.type: Input should be 'text' or 'json_object'"), Say("{}"), Say("{}"))

    async def twice() -> None:
        for _ in range(2):
            assert [piece async for piece in model.chat(ASK, schema=SCHEMA)]
        await model.close()

    asyncio.run(twice())
    assert [request.body["response_format"]["type"] for request in server.requests] == [
        "json_schema",
        "json_object",
        "json_object",
    ]
    assert server.requests[2].body["response_format"]["schema"] == SCHEMA


def test_what_a_server_refuses_by_name_is_left_out_from_then_on(server: OpenAIServer) -> None:
    settings = Settings.model_validate({"models": {"retries": 0}})
    model = OpenAI("m", settings, url=f"{server.url}/v1")
    server.script(
        Fault(400, "Unsupported parameter: 'max_tokens', use 'max_completion_tokens' instead."),
        Fault(403, "You are not allowed to request logprobs from this model"),
        Fault(400, "Unsupported value: 'temperature' does not support 0"),
        Say("4"),
    )
    assert ask(model, max_tokens=5).message.content == "4"
    last = server.requests[-1].body
    assert last["max_completion_tokens"] == 5
    assert not {"max_tokens", "logprobs", "temperature"} & set(last)


def test_a_model_named_like_a_parameter_loses_nothing(server: OpenAIServer) -> None:
    model = OpenAI("seed-temperature", Settings(), url=f"{server.url}/v1")
    server.script(Fault(400, "the messages are no good"))
    with pytest.raises(ModelRefused, match="no good"):
        ask(model, seed=1)
    ask(model, seed=1)
    assert {"seed", "temperature"} <= set(server.requests[1].body)


def test_a_parameter_that_is_refused_again_ends_the_request(server: OpenAIServer, model: OpenAI) -> None:
    server.script(Fault(400, "logprobs are not allowed"), Fault(400, "logprobs are still not allowed"))
    with pytest.raises(ModelRefused, match="still not allowed"):
        ask(model)
    assert len(server.requests) == 2


# Addresses, keys, tokens


def test_openai_itself_needs_a_key() -> None:
    with pytest.raises(ModelRefused) as caught:
        ask(OpenAI("gpt", Settings()))
    assert "OPENAI_API_KEY" in caught.value.hint


def test_openais_key_goes_to_openai_and_nowhere_else(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai-alone")
    ask(OpenAI("gpt", Settings(), url=f"{server.url}/v1"))
    assert "authorization" not in server.requests[0].headers
    ask(OpenAI("gpt", Settings.model_validate({"models": {"openai_url": f"{server.url}/v1"}})))
    assert server.requests[1].headers["authorization"] == "Bearer sk-for-openai-alone"


def test_a_configured_address_takes_the_place_of_openai(server: OpenAIServer) -> None:
    settings = Settings.model_validate({"models": {"openai_url": f"{server.url}/v1/"}})
    model = OpenAI("gpt", settings)
    assert ask(model, max_tokens=5).model == "openai:served-1"
    assert server.requests[0].body["max_completion_tokens"] == 5
    assert repr(model) == "OpenAI('openai:gpt')"


def test_the_context_is_unknown_for_openai_and_assumed_for_another_server() -> None:
    told = Settings.model_validate({"models": {"context": 4096}})
    assert OpenAI("gpt", Settings()).capabilities.context_length is None
    assert OpenAI("gpt", told).capabilities.context_length == 4096
    assert OpenAI("m", Settings(), url="http://127.0.0.1:1/v1").capabilities.context_length == 8192


def test_usage_is_estimated_where_the_server_does_not_count(server: OpenAIServer, model: OpenAI) -> None:
    server.script(Say("The sum is 4.", prompt_tokens=None))
    usage = ask(model).usage
    assert usage.prompt_tokens == asyncio.run(model.count_tokens(ASK)) > 10
    assert 4 <= usage.completion_tokens <= 30


def test_other_tools_are_counted_anew_also_in_the_same_list() -> None:
    counts = wire.Renderings(lambda message: b"")
    tools = [{"name": "a"}]
    first = counts.tokens([], tools)
    tools.append({"name": "another one"})
    more = counts.tokens([], tools)
    tools[1] = {"name": "b"}
    assert first < counts.tokens([], tools) < more
    assert counts.tokens([], []) == 0


def test_tools_count_as_tokens(model: OpenAI) -> None:
    assert asyncio.run(model.count_tokens(ASK, [TOOL])) > asyncio.run(model.count_tokens(ASK)) + 20


def test_each_message_is_rendered_once() -> None:
    rendered: list[Message] = []

    def render(message: Message) -> bytes:
        rendered.append(message)
        return wire.dumps(message.content)

    renderings = wire.Renderings(render)
    messages = [Message("user", f"question {number}") for number in range(5)]
    for end in range(1, 6):
        assert renderings.rendered(messages[:end])[-1] == wire.dumps(f"question {end - 1}")
        renderings.tokens(messages[:end])
    assert rendered == messages


def test_equal_messages_are_told_apart_and_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "REMEMBERED", 3)
    renderings = wire.Renderings(lambda message: wire.dumps(message.content))
    for number in range(20):  # each message may get the memory, and so the id, of one before it
        assert renderings.rendered([Message("user", str(number))]) == [wire.dumps(str(number))]


def test_a_name_that_no_server_accepts_is_sent_back_in_letters_that_it_does(
    server: OpenAIServer, model: OpenAI
) -> None:
    calls = (ToolCall("c1", "functions.add numbers", {}), ToolCall("c2", "", {}))
    ask(model, [*ASK, Message("assistant", "", tool_calls=calls)])
    sent = server.requests[0].body["messages"][2]["tool_calls"]
    assert [call["function"]["name"] for call in sent] == ["functions_add_numbers", "call"]

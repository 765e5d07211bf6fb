from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from agent.errors import InputError, ModelCut, ModelUnavailable
from agent.messages import Message, ToolCall
from agent.models.base import Capabilities, Delta, Reply
from agent.models.scripted import Scripted

ASK = [Message("user", "What is 2 + 2?")]


def run(model: Scripted, **request: Any) -> list[Delta | Reply]:
    async def read() -> list[Delta | Reply]:
        return [piece async for piece in model.chat(ASK, **request)]

    return asyncio.run(read())


def ask(model: Scripted, **request: Any) -> Reply:
    last = run(model, **request)[-1]
    assert isinstance(last, Reply)
    return last


def write(folder: Path, text: str) -> Path:
    path = folder / "replies.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_reply_streams_word_by_word() -> None:
    *deltas, reply = run(Scripted([{"thought": "Two and two.", "content": " The sum\n is 4. "}]))
    assert [delta.text for delta in deltas if isinstance(delta, Delta)] == [
        "Two ",
        "and ",
        "two.",
        " ",
        "The ",
        "sum\n ",
        "is ",
        "4. ",
    ]
    assert isinstance(reply, Reply)
    assert reply.message == Message("assistant", " The sum\n is 4. ", "Two and two.")
    assert (reply.finish_reason, reply.model) == ("stop", "scripted")
    assert reply.usage.completion_tokens == 8
    assert reply.usage.prompt_tokens > 0


def test_replies_are_used_in_order_and_then_run_out() -> None:
    model = Scripted([{"content": "one"}, {"content": "two"}])
    assert [ask(model).message.content for _ in range(2)] == ["one", "two"]
    with pytest.raises(ModelUnavailable, match="no reply left: all 2 were used"):
        ask(model)


def test_calls_are_replayed_with_ids_that_differ() -> None:
    calls = [{"name": "add", "arguments": {"a": 1}}, {"name": "add", "arguments": {"a": 2}, "id": "mine"}]
    reply = ask(Scripted([{"tool_calls": calls}]))
    assert reply.message.tool_calls == (ToolCall("call_1_1", "add", {"a": 1}), ToolCall("mine", "add", {"a": 2}))
    assert reply.finish_reason == "tool_calls"


def test_arguments_given_as_text_may_be_malformed() -> None:
    reply = ask(Scripted([{"tool_calls": [{"name": "add", "arguments": "{broken"}]}]))
    assert reply.message.tool_calls[0] == ToolCall("call_1_1", "add", {}, malformed="{broken")


def test_usage_can_be_given() -> None:
    usage = ask(Scripted([{"content": "4", "usage": {"prompt_tokens": 100, "completion_tokens": 50}}])).usage
    assert (usage.prompt_tokens, usage.completion_tokens) == (100, 50)


def test_requests_are_kept() -> None:
    model = Scripted([{"content": "4"}])
    ask(model, tools=[{"type": "function"}], stop=["END"], max_tokens=5, temperature=0.5, seed=3, schema={})
    request = model.requests[0]
    assert request.messages == tuple(ASK)
    assert (request.tools, request.stop, request.max_tokens) == (({"type": "function"},), ("END",), 5)
    assert (request.temperature, request.seed, request.schema, request.template) == (0.5, 3, {}, None)


def test_text_ends_before_a_stop_text() -> None:
    reply = ask(Scripted([{"content": "Action: add Observation: 4"}]), stop=["Observation:", "never"])
    assert reply.message.content == "Action: add "
    assert reply.finish_reason == "stop"


def test_text_breaks_off_after_max_tokens_words() -> None:
    reply = ask(Scripted([{"content": "one two three"}]), max_tokens=2)
    assert (reply.message.content, reply.finish_reason) == ("one two ", "length")


def test_a_delay_passes_before_the_reply_and_can_be_cancelled() -> None:
    async def cancel() -> None:
        async with asyncio.timeout(0.1):
            async for _ in Scripted([{"content": "4", "delay": 60}]).chat(ASK):
                pass

    started = time.perf_counter()
    ask(Scripted([{"content": "4", "delay": 0.05}]))
    assert time.perf_counter() - started >= 0.05
    with pytest.raises(TimeoutError):
        asyncio.run(cancel())


def test_an_error_breaks_the_reply_off_where_it_had_begun() -> None:
    with pytest.raises(ModelUnavailable, match="the server fell over"):
        ask(Scripted([{"error": "the server fell over"}]))
    with pytest.raises(ModelCut, match="the cable was pulled"):
        ask(Scripted([{"content": "The sum", "error": "the cable was pulled"}]))


def test_a_file_holds_replies_and_what_the_model_can_do(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"capabilities": {"native_tools": false, "json_schema": true}}\n\n{"content": "4"}\n{"content": "5"}\n',
    )
    model = Scripted.from_file(path)
    assert model.capabilities == Capabilities(native_tools=False, json_schema=True)
    assert model.address == f"scripted:{path}"
    assert [ask(model).message.content for _ in range(2)] == ["4", "5"]


def test_a_file_without_capabilities_calls_tools_natively(tmp_path: Path) -> None:
    assert Scripted.from_file(write(tmp_path, '{"content": "4"}')).capabilities == Capabilities(native_tools=True)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"content": "4"', "is not valid JSON"),
        ("[1]", "is not an object"),
        ('{"contents": "4"}', "has unknown keys: contents"),
        ('{"content": 4}', "that is not a text"),
        ('{"tool_calls": [{"arguments": {}}]}', "a tool call without a name"),
        ('{"delay": "soon"}', "a delay that is not a number"),
        ('{"delay": -1}', "a delay that is not a number"),
        ('{"usage": 3}', "a usage that is not an object"),
        ('{"capabilities": {}}', "has unknown keys: capabilities"),
    ],
)
def test_a_line_that_is_no_reply_is_named_by_its_number(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        Scripted.from_file(write(tmp_path, f'{{"content": "fine"}}\n{line}\n'))
    assert problem in caught.value.message
    assert "2" in caught.value.message.replace(str(tmp_path), "")


def test_unknown_capabilities_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="native_tools, json_schema"):
        Scripted.from_file(write(tmp_path, '{"capabilities": {"telepathy": true}}'))


def test_a_file_that_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="No such file"):
        Scripted.from_file(tmp_path / "none.jsonl")
    (tmp_path / "latin").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelUnavailable, match="not UTF-8"):
        Scripted.from_file(tmp_path / "latin")


def test_a_wrong_reply_given_in_the_process_is_refused() -> None:
    with pytest.raises(InputError, match="reply 2 has unknown keys"):
        Scripted([{"content": "4"}, {"text": "4"}])


def test_tokens_are_counted_and_closing_is_harmless() -> None:
    model = Scripted([])
    assert asyncio.run(model.count_tokens(ASK)) > 5
    asyncio.run(model.close())

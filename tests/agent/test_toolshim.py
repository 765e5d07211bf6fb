"""The toolshim: one model says what to do, a second one writes it as a call; both are counted and on record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from agent.errors import ConsentDenied, ModelUnavailable, UsageError
from agent.loop import Loop
from agent.messages import Json, Message, Route, ToolCall, Trajectory
from agent.models.base import Capabilities
from agent.models.json_grammar import json_grammar
from agent.models.scripted import Scripted
from agent.run import Run
from agent.toolshim import Prose, decision_schema, prompt
from tools import registry

Make = Callable[..., Any]
JSON = Capabilities(json_schema=True)
SHIMMED = {"models": {"toolshim": "shim"}}
ANSWERS = {"content": '{"answer": true}', "usage": {"prompt_tokens": 30, "completion_tokens": 4}}


def writes(name: str, **arguments: Any) -> Json:
    """The second model's reply that calls a tool."""
    call = json.dumps({"action": {"name": name, "arguments": arguments}})
    return {"content": call, "usage": {"prompt_tokens": 40, "completion_tokens": 10}}


def says(prose: str) -> Json:
    """The first model's reply."""
    return {"content": prose, "usage": {"prompt_tokens": 100, "completion_tokens": 7}}


def work(bench: Any, shim: list[Json], capabilities: Capabilities = JSON, **tools: Any) -> tuple[str, Trajectory]:
    """Do a task with the bench's model and this one as the shim; the answer, and the run as the store has it."""
    bench.session.models.setdefault("shim", Scripted(shim, capabilities, "shim"))

    async def go() -> str:
        async with Run(bench.session, "do it", Route("scripted", "flag", "you gave --model")) as run:
            return await Loop(run, "scripted", tools.get("tools", bench.session.tools)).answer("do it")

    try:
        answer = asyncio.run(go())
    finally:
        bench.session.store.flush()
        run = bench.session.store.get(bench.session.store.runs(limit=1)[0].id)
    return answer, run


def test_prose_becomes_a_call_with_the_prose_as_its_thought(bench: Make) -> None:
    made = bench([says("I read the file a.txt."), says("It says hi.")], settings=SHIMMED)
    made.session.workspace.write_text("a.txt", "hi\n")
    answer, run = work(made, [writes("read_file", path="a.txt"), ANSWERS])
    act, seen, last = run.messages[2:]
    assert (act.thought, act.content) == ("I read the file a.txt.", "")
    assert act.tool_calls == (ToolCall("call_1", "read_file", {"path": "a.txt"}),)
    assert (seen.role, seen.tool_call_id, seen.is_error) == ("tool", "call_1", False)
    assert "hi" in seen.content
    assert (last.content, last.tool_calls, answer, run.outcome) == ("It says hi.", (), "It says hi.", "success")


def test_the_first_model_gets_words_and_the_second_a_schema(bench: Make) -> None:
    made = bench([says("I read a.txt."), says("Done.")], settings=SHIMMED)
    made.session.workspace.write_text("a.txt", "hi\n")
    work(made, [writes("read_file", path="a.txt"), ANSWERS])
    first, second = made.model.requests
    assert (first.tools, first.schema) == ((), None)
    assert "- read_file(path: string" in first.messages[0].content
    assert [message.role for message in second.messages[2:]] == ["assistant", "user"]
    assert second.messages[2].content == "I read a.txt."
    assert second.messages[3].content.startswith("read_file gave: ")
    asked = made.session.models["shim"].requests[0]
    assert asked.messages[-1] == Message("user", "I read a.txt.")
    assert asked.schema == decision_schema([tool.schema for tool in made.session.tools.values()])


def test_both_replies_are_on_record_and_both_are_counted(bench: Make) -> None:
    made = bench([says("I list the files."), says("None.")], settings=SHIMMED)
    _, run = work(made, [writes("list_files"), ANSWERS])
    detail = run.details[2]
    assert detail.model == "scripted"
    assert (detail.usage.prompt_tokens, detail.usage.completion_tokens) == (140, 17)
    shim = detail.sampling["shim"]
    assert (shim["model"], shim["prompt_tokens"], shim["completion_tokens"]) == ("shim", 40, 10)
    assert shim["schema_sha256"]
    assert (run.usage.prompt_tokens, run.usage.completion_tokens) == (270, 28)
    assert [step["prompt_tokens"] for step in made.of("step")] == [140, 130]


def test_the_token_budget_counts_the_second_model_too(bench: Make) -> None:
    made = bench([says("I list the files.")], settings={**SHIMMED, "budget": {"tokens": 120}})
    _, run = work(made, [writes("list_files")])
    assert run.reason == "stopped after 157 tokens (budget.tokens)"


def test_only_the_first_models_words_are_shown_while_they_stream(bench: Make) -> None:
    made = bench([says("I list the files."), says("None.")], settings=SHIMMED)
    work(made, [writes("list_files"), ANSWERS])
    assert "".join(piece["text"] for piece in made.of("text")) == "I list the files.None."
    assert [action["name"] for action in made.of("action")] == ["list_files"]


def test_without_tools_the_second_model_is_not_asked(bench: Make) -> None:
    answer, run = work(bench([says("Forty-two.")], settings=SHIMMED), [], tools={})
    assert (answer, run.outcome) == ("Forty-two.", "success")
    assert "shim" not in run.details[-1].sampling


def test_an_empty_reply_is_no_answer_and_needs_no_second_model(bench: Make) -> None:
    _, run = work(bench([says(" ")], settings=SHIMMED), [])
    assert (run.outcome, run.reason) == ("unknown", "the answer was empty")


def test_what_the_second_model_leaves_unfinished_goes_back_to_the_first(bench: Make) -> None:
    """A grammar does not cover a reply that its token limit cut."""
    made = bench([says("I list the files."), says("None.")], settings=SHIMMED)
    answer, run = work(made, [{"content": '{"action": {"name": "list_'}, ANSWERS])
    assert run.messages[2].tool_calls[0].malformed == '{"action": {"name": "list_'
    assert run.messages[3].is_error
    assert answer == "None."


def test_arguments_that_do_not_fit_are_an_observation(bench: Make) -> None:
    made = bench([says("I read it."), says("No.")], settings=SHIMMED)
    _, run = work(made, [writes("read_file", file="a.txt"), ANSWERS])
    assert "read_file was not run" in run.messages[3].content
    assert run.outcome == "success"


def test_when_the_second_model_fails_the_prose_is_on_record(bench: Make) -> None:
    made = bench([says("I list the files.")], settings=SHIMMED)
    with pytest.raises(ModelUnavailable, match="fell over"):
        work(made, [{"error": "it fell over"}])
    made.session.store.flush()
    run = made.session.store.get(made.session.store.runs(limit=1)[0].id)
    assert "I list the files." in [message.content for message in run.messages]
    assert (run.outcome, "fell over" in run.reason) == ("failure", True)


def test_a_model_that_cannot_be_held_to_a_schema_is_no_shim(bench: Make) -> None:
    with pytest.raises(UsageError, match="the toolshim shim cannot be held to a JSON schema"):
        work(bench([says("Hm.")], settings=SHIMMED), [], Capabilities())


def test_under_local_only_the_second_model_must_be_local_too(bench: Make) -> None:
    settings = {"privacy": "local-only", "models": {"toolshim": "openai:gpt-4.1-mini"}}
    with pytest.raises(ConsentDenied, match=r"the toolshim openai:gpt-4\.1-mini would leave"):
        work(bench([says("Hm.")], settings=settings), [])


def test_calls_of_another_protocol_are_shown_in_words() -> None:
    call = Message("assistant", tool_calls=(ToolCall("call_1", "read_file", {"path": "a.txt"}),))
    assert Prose().render(call).content == 'I use read_file with {"path": "a.txt"}.'
    broken = Message("assistant", tool_calls=(ToolCall("call_1", "", {}, malformed="read a.txt"),))
    assert Prose().render(broken).content == "read a.txt"


def test_the_schema_has_a_choice_for_each_tool_and_one_for_the_answer() -> None:
    schemas = [tool.schema for tool in registry.load([]).values()]
    choices = decision_schema(schemas)["anyOf"]
    assert len(choices) == len(schemas) + 1
    assert choices[-1]["properties"] == {"answer": {"const": True}}
    assert json_grammar(decision_schema(schemas)).startswith("root ::= ")


@pytest.mark.llama
def test_the_embedded_model_as_the_shim_writes_only_what_fits(bench: Make) -> None:
    """What it chooses is no news of this test; that it fits a tool's schema, or is the answer, is."""
    prose = "I use read_file with the path notes.txt."
    made = bench([says(prose)], settings={"models": {"toolshim": "local"}, "budget": {"steps": 1}})
    made.session.workspace.write_text("notes.txt", "hello\n")
    tools = {name: made.session.tools[name] for name in ("read_file", "list_files")}
    try:
        answer, run = work(made, [], tools=tools)
    finally:
        asyncio.run(made.session.model("local").close())
    message, detail = run.messages[2], run.details[2]
    assert detail.sampling["shim"]["model"].startswith("SmolLM2-135M-Instruct")
    assert detail.usage.prompt_tokens > 100 + len(prompt(prose, [])[0].content.split())
    for call in message.tool_calls:
        assert (call.malformed, message.thought) == ("", prose)
        assert registry.validate(tools[call.name], call.arguments)
    assert message.tool_calls or answer == prose

"""The loop: what it does with a model's turns, how it stops, and what stands on record afterwards."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from agent import phases
from agent.commands.task import do
from agent.errors import ModelError
from agent.loop import Loop
from agent.messages import Json, Message, Route, Trajectory
from agent.models.base import Capabilities
from agent.models.scripted import Scripted
from agent.run import Run
from tools.registry import Tool, ToolContext, tool

Make = Callable[..., Any]
JSON = Capabilities(json_schema=True)
TEXT = Capabilities()
ANSWER = {"content": "done"}


def calling(name: str, **arguments: Any) -> Json:
    return {"thought": "I act.", "tool_calls": [{"name": name, "arguments": arguments}]}


def work(bench: Any, task: str = "do it", tools: dict[str, Tool] | None = None) -> tuple[str, Trajectory]:
    """Run the loop to its end; the answer, and the run as the store has it."""

    async def go() -> str:
        route = Route("scripted", "flag", "you gave --model")
        async with Run(bench.session, task, route) as run:
            return await Loop(run, "scripted", bench.session.tools if tools is None else tools).answer(task)

    answer = asyncio.run(go())
    return answer, newest(bench)


def newest(bench: Any) -> Trajectory:
    """The last run as the store has it."""
    store = bench.session.store
    store.flush()
    run: Trajectory = store.get(store.runs(limit=1)[0].id)
    return run


@tool(effect="read", concurrent=True)
async def nap(context: ToolContext, seconds: float) -> str:
    """Wait.

    Args:
        seconds: how long.
    """
    await asyncio.sleep(seconds)
    return f"slept {seconds}"


@tool(effect="read")
async def crash(context: ToolContext) -> str:
    """Fail as other people's code does."""
    raise ZeroDivisionError("by nothing")


def test_an_answer_ends_the_run_with_success(bench: Make) -> None:
    answer, run = work(bench([ANSWER]))
    assert (answer, run.outcome, run.reason) == ("done", "success", "answer")
    assert [message.role for message in run.messages] == ["system", "user", "assistant"]


@pytest.mark.parametrize(
    ("capabilities", "replies"),
    [
        (
            Capabilities(native_tools=True),
            [calling("read_file", path="a.txt"), {"content": "It says hi.", "thought": "Seen."}],
        ),
        (
            JSON,
            [
                {"content": '{"thought": "I act.", "action": {"name": "read_file", "arguments": {"path": "a.txt"}}}'},
                {"content": '{"thought": "Seen.", "answer": "It says hi."}'},
            ],
        ),
        (
            TEXT,
            [
                {"content": 'Thought: I act.\nAction: {"name": "read_file", "arguments": {"path": "a.txt"}}'},
                {"content": "Thought: Seen.\nAnswer: It says hi."},
            ],
        ),
    ],
    ids=["native", "json", "text"],
)
def test_every_protocol_leaves_the_same_record(bench: Make, capabilities: Capabilities, replies: list[Json]) -> None:
    made = bench(replies, capabilities=capabilities)
    made.session.workspace.write_text("a.txt", "hi\n")
    answer, run = work(made)
    assert answer == "It says hi."
    act, seen, last = run.messages[2:]
    assert (act.thought, act.content) == ("I act.", "")
    assert [(call.name, call.arguments) for call in act.tool_calls] == [("read_file", {"path": "a.txt"})]
    assert (seen.role, seen.name, seen.tool_call_id, seen.is_error) == (
        "tool",
        "read_file",
        act.tool_calls[0].id,
        False,
    )
    assert "hi" in seen.content
    assert (last.thought, last.content) == ("Seen.", "It says hi.")


def test_a_step_is_told_only_after_it_is_on_record(bench: Make) -> None:
    made = bench([calling("list_files"), ANSWER])
    store = made.session.store
    on_record: list[int] = []

    def look(event: Any) -> None:
        if event.kind == "step":
            on_record.append(len(store.get(event.run_id).messages))

    made.session.emit = look
    work(made)
    assert on_record == [3, 5]


def test_a_malformed_call_is_repaired_with_its_error_as_observation(bench: Make) -> None:
    made = bench(
        [{"content": '{"thought": "cut'}, {"content": '{"thought": "x", "answer": "done"}'}], capabilities=JSON
    )
    answer, run = work(made)
    assert answer == "done"
    assert run.messages[2].tool_calls[0].malformed == '{"thought": "cut'
    assert run.messages[3].is_error
    assert "not a call that can be read" in run.messages[3].content
    assert made.model.requests[1].messages[-2].content == '{"thought": "cut'


def test_two_malformed_turns_in_a_row_end_the_run(bench: Make) -> None:
    answer, run = work(bench([{"content": "{"}, {"content": "{"}, ANSWER], capabilities=JSON))
    assert (answer, run.outcome) == ("", "failure")
    assert "two turns in a row" in run.reason


def test_malformed_arguments_of_a_native_call_do_not_run_the_tool(bench: Make) -> None:
    reply = {"tool_calls": [{"name": "write_file", "arguments": '{"path": "x.txt", "te'}]}
    made = bench([reply, ANSWER], yes=True)
    _, run = work(made)
    assert run.messages[3].is_error
    assert not (made.session.workspace.root / "x.txt").exists()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (calling("read_fil", path="a"), "Did you mean read_file?"),
        (calling("sing"), "There are: "),
        (calling("read_file", file="a"), "path: Field required"),
        (calling("read_file", path="none.txt"), "none.txt"),
    ],
)
def test_a_tools_failure_is_an_observation(bench: Make, call: Json, said: str) -> None:
    answer, run = work(bench([call, ANSWER]))
    assert answer == "done"
    assert run.messages[3].is_error
    assert said in run.messages[3].content


def test_what_a_model_without_tool_calls_of_its_own_copies_wrong_is_put_right(bench: Make, workspace: Any) -> None:
    """They are the small ones. The record says so, and a model with calls of its own may name new files."""
    (workspace / "minutes.txt").write_text("Nobody came.\n")
    turns = [calling("read_file", path="minuets.txt"), ANSWER]
    own = bench([{"content": _as_json(turn)} for turn in turns], capabilities=JSON)
    _, run = work(own, "read minutes.txt")
    assert run.messages[2].tool_calls[0].arguments == {"path": "minutes.txt"}
    assert run.details[2].sampling["corrected"] == {"minuets.txt": "minutes.txt"}
    assert "Nobody came." in run.messages[3].content
    assert [event.data["text"] for event in own.events if event.kind == "notice"] == [
        "the model wrote minuets.txt, which nobody said: minutes.txt is taken"
    ]
    _, run = work(bench(turns, capabilities=Capabilities(native_tools=True)), "read minutes.txt")
    assert "there is no file minuets.txt" in run.messages[3].content


def test_what_is_written_may_have_new_words(bench: Make, workspace: Any) -> None:
    turns = [calling("write_file", path="minuets.txt", content="Nobody came."), ANSWER]
    work(bench([{"content": _as_json(turn)} for turn in turns], capabilities=JSON, yes=True), "copy minutes.txt")
    assert (workspace / "minuets.txt").exists()


def _as_json(turn: Json) -> str:
    if "content" in turn:
        return json.dumps({"thought": "", "answer": turn["content"]})
    (call,) = turn["tool_calls"]
    return json.dumps({"thought": turn["thought"], "action": call})


def test_a_crash_in_somebodys_tool_is_an_observation_too(bench: Make) -> None:
    answer, run = work(bench([calling("crash"), ANSWER]), tools={"crash": crash})
    assert answer == "done"
    assert "ZeroDivisionError: by nothing" in run.messages[3].content


def test_the_step_budget_ends_the_run(bench: Make) -> None:
    calls = [calling("list_files", path=".", pattern=f"{n}*") for n in range(5)]
    answer, run = work(bench(calls, settings={"budget": {"steps": 3}}))
    assert (answer, run.outcome, run.reason) == ("", "failure", "stopped after 3 steps (budget.steps)")
    assert sum(message.role == "assistant" for message in run.messages) == 3


def test_the_token_budget_ends_the_run(bench: Make) -> None:
    replies = [calling("list_files") | {"usage": {"prompt_tokens": 90, "completion_tokens": 20}}, ANSWER]
    _, run = work(bench(replies, settings={"budget": {"tokens": 100}}))
    assert run.reason == "stopped after 110 tokens (budget.tokens)"


def test_the_time_budget_ends_the_run(bench: Make) -> None:
    replies = [calling("list_files") | {"delay": 0.05}, ANSWER]
    _, run = work(bench(replies, settings={"budget": {"seconds": 0.04}}))
    assert run.reason.endswith("(budget.seconds)")


def test_the_same_call_with_the_same_result_three_times_ends_the_run(bench: Make) -> None:
    answer, run = work(bench([calling("list_files")] * 4))
    assert (answer, run.outcome) == ("", "failure")
    assert "list_files was called three times" in run.reason


def test_calls_of_one_turn_run_side_by_side_if_all_are_declared_safe(bench: Make) -> None:
    calls = {"tool_calls": [{"name": "nap", "arguments": {"seconds": 0.2}} for _ in range(4)]}
    started = time.perf_counter()
    _, run = work(bench([calls, ANSWER]), tools={"nap": nap})
    assert time.perf_counter() - started < 0.6
    observed = {message.tool_call_id for message in run.messages if message.role == "tool"}
    assert observed == {call.id for call in run.messages[2].tool_calls}


def test_calls_run_one_after_another_if_one_of_them_is_not_safe(bench: Make) -> None:
    log: list[str] = []

    @tool(effect="write")
    async def note(context: ToolContext, text: str) -> str:
        """Note.

        Args:
            text: what.
        """
        log.append(f"begin {text}")
        await asyncio.sleep(0.01)
        log.append(f"end {text}")
        return text

    calls = {"tool_calls": [{"name": "note", "arguments": {"text": text}} for text in "ab"]}
    work(bench([calls, ANSWER]), tools={"note": note})
    assert log == ["begin a", "end a", "begin b", "end b"]


def test_a_models_failure_is_raised_and_stands_on_record_with_what_had_streamed(bench: Make) -> None:
    made = bench([{"content": "half an", "error": "the server fell over"}])
    with pytest.raises(ModelError, match="fell over"):
        work(made)
    run = newest(made)
    assert (run.outcome, run.messages[-1].content) == ("failure", "half an")
    assert "fell over" in run.reason
    assert "fell over" in run.details[-1].error


def test_cancelling_keeps_the_record(bench: Make) -> None:
    made = bench([calling("list_files"), {"content": "never", "delay": 30}])

    observed = asyncio.Event()
    made.session.emit = lambda event: observed.set() if event.kind == "observation" else None

    async def cancel_soon() -> None:
        route = Route("scripted", "flag", "you gave --model")

        async def go() -> None:
            async with Run(made.session, "t", route) as run:
                await Loop(run, "scripted", made.session.tools).answer("t")

        task = asyncio.create_task(go())
        await observed.wait()
        await asyncio.sleep(0.2)  # until the second reply, which takes half a minute, is being waited for
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_soon())
    run = newest(made)
    assert (run.outcome, run.reason) == ("unknown", "cancelled")
    assert [message.role for message in run.messages] == ["system", "user", "assistant", "tool", "assistant"]


def test_old_observations_are_shortened_before_the_context_overflows(bench: Make, workspace: Any) -> None:
    for name in ("one.txt", "two.txt"):
        (workspace / name).write_text(f"{name} " * 300)
    made = bench(
        [calling("read_file", path="one.txt"), calling("read_file", path="two.txt"), ANSWER],
        capabilities=Capabilities(native_tools=True, context_length=3000),
        settings={
            "models": {"max_tokens": 100},
            "tools": {"disabled": ["fetch_url", "run_shell", "arxiv", *phases.OWN]},
        },
    )
    answer, run = work(made)
    last = made.model.requests[-1].messages
    assert answer == "done"
    assert "shortened to fit the context" in last[3].content
    assert "shortened" not in last[0].content + last[1].content
    assert "shortened" not in run.messages[3].content  # the record keeps the whole


def test_the_record_says_how_each_reply_came_to_be(bench: Make) -> None:
    _, run = work(bench([ANSWER], settings={"models": {"temperature": 0.5}}))
    detail = run.details[-1]
    assert detail.sampling["temperature"] == 0.5
    assert detail.sampling["max_tokens"] == 1024
    assert detail.finish_reason == "stop"
    assert detail.usage.tokens > 0


def test_the_conversation_before_a_task_is_part_of_its_record(bench: Make) -> None:
    made = bench([ANSWER])

    async def go() -> None:
        async with Run(made.session, "t", Route("scripted", "flag", "r")) as run:
            await Loop(run, "scripted", {}).answer("now", [Message("user", "before"), Message("assistant", "yes")])

    asyncio.run(go())
    assert [message.content for message in made.model.requests[0].messages[1:]] == ["before", "yes", "now"]


def test_events_are_plain_json(bench: Make) -> None:
    made = bench([calling("list_files"), ANSWER])
    work(made)
    assert [event.kind for event in made.events if event.kind not in ("text", "thought")] == [
        "run",
        "step",
        "action",
        "observation",
        "step",
        "end",
    ]
    json.dumps([event.data for event in made.events])


@pytest.mark.parametrize(
    ("reply", "settings", "said", "ended"),
    [
        (
            {"content": "one two three"},
            {"models": {"max_tokens": 2}},
            "one two ",
            ("failure", "cut at its token limit"),
        ),
        ({"content": "", "thought": "Hm."}, {}, "", ("unknown", "empty")),
    ],
    ids=["cut", "empty"],
)
def test_an_answer_that_is_cut_or_empty_is_no_success(
    bench: Make, reply: Json, settings: Json, said: str, ended: tuple[str, str]
) -> None:
    answer, run = work(bench([reply], settings=settings))
    assert (answer, run.outcome) == (said, ended[0])
    assert ended[1] in run.reason


@pytest.mark.parametrize(
    "replies", [[{"content": "late", "delay": 20}], [calling("nap", seconds=20), ANSWER]], ids=["reply", "tool"]
)
def test_the_time_budget_also_ends_a_step_that_is_going_on(bench: Make, replies: list[Json]) -> None:
    started = time.perf_counter()
    answer, run = work(bench(replies, settings={"budget": {"seconds": 0.3}}), tools={"nap": nap})
    assert time.perf_counter() - started < 3
    assert (answer, run.outcome) == ("", "failure")
    assert run.reason.endswith("(budget.seconds)")


def test_a_stronger_model_takes_over_what_the_first_could_not_write_as_calls(bench: Make) -> None:
    made = bench([calling("list_files")] * 3, settings={"models": {"default": "scripted", "strong": "strong"}})
    made.session.models["strong"] = Scripted([{"content": "done"}], address="strong")
    assert asyncio.run(do(made.session, "do it", model="")) == "done"
    weak, strong = reversed(made.session.store.runs())
    assert (weak.outcome, strong.outcome, strong.model) == ("failure", "success", "strong")
    route = made.session.store.get(strong.id).route
    assert (route.rule, route.reason) == ("escalation", f"scripted gave up in run {weak.id}: {weak.reason}")
    assert [data["model"] for data in made.of("run")] == ["scripted", "strong"]


def test_a_budget_that_is_spent_is_not_spent_again_by_a_stronger_model(bench: Make) -> None:
    settings = {"models": {"default": "scripted", "strong": "strong"}, "budget": {"steps": 1}}
    made = bench([calling("list_files")], settings=settings)
    made.session.models["strong"] = Scripted([ANSWER], address="strong")
    assert asyncio.run(do(made.session, "do it", model="")) == ""
    assert made.session.store.count() == 1


@tool(effect="read")
async def number(context: ToolContext) -> str:
    """Answer with what is no text."""
    return 42  # type: ignore[return-value]


def test_a_tool_that_answers_with_no_text_is_an_observation_too(bench: Make) -> None:
    _, run = work(bench([calling("number"), ANSWER]), tools={"number": number})
    assert run.messages[3].is_error
    assert run.messages[3].content == "number answered with int, and a tool answers with text"
    assert run.outcome == "success"


def test_a_person_allows_a_large_file_to_be_rewritten(bench: Make, workspace: Any) -> None:
    (workspace / "large.txt").write_text("x" * 5000)
    write = calling("write_file", path="large.txt", content="short")
    made = bench([write, ANSWER], yes=True)
    _, run = work(made)
    assert "Change the parts that differ with edit_file." in run.messages[3].content
    made = bench([write, ANSWER], yes=True)
    made.session.options["overwrite"] = "True"
    _, run = work(made)
    assert run.messages[3].content == "Overwrote large.txt: 5 characters."

"""The todo list: how it changes, what a model sees of it, and how it holds back an answer that comes too early."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agent import todos
from agent.commands.task import do
from agent.commands.traces import render
from agent.errors import ToolError
from agent.messages import Json, Trajectory
from agent.models.base import Capabilities
from agent.todos import Todos

Make = Callable[..., Any]
ON = {"models": {"default": "scripted"}, "work": {"todos": True}}


def calling(*calls: tuple[str, Json]) -> Json:
    return {"tool_calls": [{"name": name, "arguments": arguments} for name, arguments in calls]}


def work(made: Any) -> tuple[str, Trajectory]:
    """The answer, and the run as the store has it."""
    answer = asyncio.run(do(made.session, "do it", model=""))
    made.session.store.flush()
    return answer, made.session.store.get(made.session.store.runs(limit=1)[0].id)


def test_the_list_counts_what_is_done_and_shows_what_is_open() -> None:
    listed = Todos()
    assert listed.shown() == ""
    for title in ("read  the\nfile", "fix it"):
        listed.add(title)
    listed.complete(1, "it has 3 lines")
    assert listed.shown() == "[todos: 1 done, 1 open]\n2. fix it"
    assert listed.report() == "1. [x] read the file (it has 3 lines)\n2. [ ] fix it"
    listed.complete(2, "done")
    assert listed.shown() == "[todos: 2 done, 0 open]"


def test_a_long_list_is_shown_in_part() -> None:
    listed = Todos()
    for number in range(todos.SHOWN + 3):
        listed.add(f"step {number}")
    assert listed.shown().splitlines()[-2:] == [f"{todos.SHOWN}. step {todos.SHOWN - 1}", "and 3 more"]
    assert len(listed.report().splitlines()) == todos.SHOWN + 3


@pytest.mark.parametrize(
    ("number", "note", "said"),
    [(3, "x", "Open are: 2."), (0, "x", "no todo 0"), (1, "again", "done already: first"), (2, " ", "needs a note")],
)
def test_only_an_open_todo_is_completed_and_with_a_note(number: int, note: str, said: str) -> None:
    listed = Todos()
    for title in ("a", "b"):
        listed.add(title)
    listed.complete(1, "first")
    with pytest.raises(ToolError) as caught:
        listed.complete(number, note)
    assert said in caught.value.in_one_line
    assert [todo.done for todo in listed.items] == [True, False]


def test_the_list_is_bounded_and_titles_say_something() -> None:
    listed = Todos()
    with pytest.raises(ToolError, match="needs a title"):
        listed.add(" ")
    for number in range(todos.MOST):
        listed.add(str(number))
    with pytest.raises(ToolError, match="takes no more"):
        listed.add("one too many")


@pytest.mark.parametrize("capabilities", [Capabilities(native_tools=True), Capabilities()], ids=["native", "text"])
def test_each_turn_sees_the_newest_list_and_no_older_one(bench: Make, capabilities: Capabilities) -> None:
    replies = [
        calling(("todo_add", {"title": "read"}), ("todo_add", {"title": "write"})),
        calling(("todo_complete", {"id": 1, "note": "read it"})),
        calling(("todo_complete", {"id": 2, "note": "wrote it"})),
        {"content": "all done"},
    ]
    if not capabilities.native_tools:
        replies[:1] = [
            {"content": 'Action: {"name": "todo_add", "arguments": {"title": "read"}}'},
            {"content": 'Action: {"name": "todo_add", "arguments": {"title": "write"}}'},
        ]
        replies[2:4] = [
            {"content": f'Action: {{"name": "todo_complete", "arguments": {{"id": {n}, "note": "x"}}}}'} for n in (1, 2)
        ]
        replies[4:] = [{"content": "Answer: all done"}]
    made = bench(replies, capabilities=capabilities, settings=ON)
    answer, run = work(made)
    assert (answer, run.outcome) == ("all done", "success")
    prompts = ["\n".join(message.content for message in request.messages) for request in made.model.requests]
    assert [prompt.count("[todos:") for prompt in prompts] == [0, *[1] * (len(prompts) - 1)]
    assert prompts[-2].endswith("[todos: 1 done, 1 open]\n2. write")
    assert prompts[-1].endswith("[todos: 2 done, 0 open]")
    assert all("[todos:" not in message.content for message in run.messages)


def test_what_a_turn_was_shown_is_on_record_and_in_the_trace(bench: Make) -> None:
    made = bench([calling(("todo_add", {"title": "read"})), {"content": "no"}, {"content": "no need"}], settings=ON)
    _, run = work(made)
    shown = [detail.sampling.get("todos") for detail in run.details if detail.sampling]
    assert shown == [None, "[todos: 0 done, 1 open]\n1. read", "[todos: 0 done, 1 open]\n1. read"]
    assert "shown: [todos: 0 done, 1 open]\n1. read" in render(run)


def test_an_answer_with_open_todos_is_questioned_once(bench: Make) -> None:
    replies = [
        calling(("todo_add", {"title": "a"}), ("todo_add", {"title": "b"})),
        {"content": "done"},
        calling(("todo_complete", {"id": 1, "note": "did a"})),
        {"content": "b is not needed"},
    ]
    answer, run = work(bench(replies, settings=ON))
    assert answer == "b is not needed"
    questions = [message.content for message in run.messages if message.role == "user"]
    assert questions[1:] == [
        "Still open: 1, 2. Go on and complete them, or answer again and say why they stay open.",
    ]


def test_without_the_setting_no_todo_is_offered(bench: Make) -> None:
    made = bench([{"content": "done"}], settings={"models": {"default": "scripted"}})
    _, run = work(made)
    named = {schema["function"]["name"] for schema in run.tools}
    own = {"todo_add", "todo_complete", "todo_list", "next_phase_todos", "job_complete", "notes_write", "delegate"}
    assert named & own == set()
    assert {schema["function"]["name"] for schema in made.model.requests[0].tools} == named


def test_a_todo_names_nobody_to_a_model_elsewhere(bench: Make, workspace: Any) -> None:
    (workspace / "who.txt").write_text("write to ann.lee@example.org\n")
    replies = [
        calling(("read_file", {"path": "who.txt"})),
        calling(("todo_add", {"title": "write to [EMAIL-1]"})),
        calling(("todo_complete", {"id": 1, "note": "no mail here"})),
        {"content": "done"},
    ]
    made = bench(replies, settings=ON | {"policy": {"personal": "redact"}})
    _, run = work(made)
    prompts = [message.content for request in made.model.requests for message in request.messages]
    assert any(prompt.endswith("1. write to [EMAIL-1]") for prompt in prompts)
    assert "ann.lee" not in "".join([*prompts, *(str(detail.sampling) for detail in run.details)])


def test_the_whole_list_can_be_asked_for(bench: Make) -> None:
    replies = [
        calling(("todo_list", {}), ("todo_add", {"title": "a"})),
        calling(("todo_complete", {"id": 1, "note": "did a"})),
        calling(("todo_list", {}), ("todo_complete", {"id": 1, "note": "again"})),
        {"content": "done"},
    ]
    _, run = work(bench(replies, settings=ON))
    observed = [message.content for message in run.messages if message.role == "tool"]
    assert observed == [
        "There are no todos.",
        "Added 1.",
        "Done: 1. 0 open.",
        "1. [x] a (did a)",
        "todo 1 is done already: did a",
    ]


def test_a_list_is_kept_free_of_the_context_that_observations_fill(bench: Make, workspace: Any) -> None:
    (workspace / "long.txt").write_text("word " * 1200)
    made = bench(
        [
            calling(*[("todo_add", {"title": f"step {n} of the plan"}) for n in range(10)]),
            calling(("read_file", {"path": "long.txt"})),
            {"content": "no"},
            {"content": "the rest is not needed"},
        ],
        capabilities=Capabilities(native_tools=True, context_length=4600),
        settings=ON | {"models": {"default": "scripted", "max_tokens": 100}},
    )
    answer, _ = work(made)
    assert answer == "the rest is not needed"
    last = made.model.requests[2].messages[-1].content
    assert "shortened to fit the context" in last
    assert "10. step 9 of the plan" in last

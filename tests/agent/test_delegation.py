"""Sub-agents: what they are given, what comes back, what stands on record, and that nothing goes beyond its limits."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from agent.commands.task import do
from agent.commands.traces import render
from agent.delegation import ANSWER, Result, models, report
from agent.loop import Loop
from agent.messages import Json, Route, Trajectory
from agent.models.scripted import Scripted
from agent.run import Run
from tools.registry import Tool
from tools.todo import todo_list

Make = Callable[..., Any]
ON: Json = {"models": {"default": "scripted"}, "work": {"delegate": True}}
DONE = {"content": "all done"}


def calling(name: str, **arguments: Any) -> Json:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


def handing(*tasks: Json | str, parallel: bool = False) -> Json:
    given = [{"task": task} if isinstance(task, str) else task for task in tasks]
    return calling("delegate", tasks=given, parallel=parallel)


def with_work(**more: Any) -> Json:
    return ON | {"work": {"delegate": True, **more}}


def child(made: Any, *replies: Json, address: str = "child") -> Scripted:
    """A model of the sub-agents' own, so that the order in which runs ask does not matter."""
    model = Scripted(replies, address=address)
    made.session.models[address] = model
    return model


def work(made: Any) -> tuple[Trajectory, list[Trajectory]]:
    """The run that a person started, and its parts in the order they began."""
    asyncio.run(do(made.session, "do it", model=""))
    return on_record(made)


def on_record(made: Any) -> tuple[Trajectory, list[Trajectory]]:
    store = made.session.store
    store.flush()
    runs = [store.get(run.id) for run in store.runs()[::-1]]
    return runs[0], runs[1:]


def observed(run: Trajectory) -> str:
    return next(message.content for message in run.messages if message.role == "tool")


def test_a_sub_agent_does_its_task_in_a_run_of_its_own(bench: Make, workspace: Any) -> None:
    (workspace / "a.txt").write_text("hello\n")
    made = bench([handing("read a.txt"), DONE], settings=with_work(delegate_model="child"))
    model = child(made, calling("read_file", path="a.txt"), {"content": "It says hello."})
    run, parts = work(made)
    assert observed(run) == f"1. done · run {parts[0].id}\nIt says hello."
    assert (parts[0].parent_id, parts[0].task, parts[0].model, parts[0].outcome) == (
        run.id,
        "read a.txt",
        "child",
        "success",
    )
    told = [message.content for message in model.requests[0].messages]
    assert told[1:] == ["read a.txt"]
    assert "You are a sub-agent" in told[0]
    assert "do it" not in " ".join(told[1:])


def test_the_trace_of_a_run_names_its_sub_agents(bench: Make) -> None:
    made = bench([handing("one", "two"), {"content": "1"}, {"content": "2"}, DONE], settings=ON)
    run, parts = work(made)
    shown = render(run, made.session.store.runs(parent=run.id)[::-1])
    assert f"parts    {parts[0].id} · one · scripted · success: answer · " in shown
    assert f"         {parts[1].id} · two · scripted · success: answer · " in shown


def test_sub_agents_work_at_once_where_told_to(bench: Make) -> None:
    made = bench([handing("a", "b", "c", parallel=True), DONE], settings=with_work(delegate_model="child"))
    child(made, *[{"content": "ok", "delay": 0.3}] * 3)
    started = time.perf_counter()
    run, parts = work(made)
    assert time.perf_counter() - started < 0.8
    assert [part.task for part in parts] == ["a", "b", "c"]
    assert [line for line in observed(run).splitlines() if "run" in line] == [
        f"{number}. done · run {part.id}" for number, part in enumerate(parts, 1)
    ]


def test_only_so_many_work_at_once_as_the_setting_says(bench: Make) -> None:
    made = bench([handing("a", "b", "c", parallel=True), DONE], settings=with_work(delegate_model="child", parallel=1))
    child(made, *[{"content": "ok", "delay": 0.1}] * 3)
    _, parts = work(made)
    for before, after in itertools.pairwise(parts):
        assert before.ended <= after.started


@pytest.mark.parametrize("parallel", [False, True])
def test_a_sub_agents_failure_is_told_beside_the_others_results(bench: Make, parallel: bool) -> None:
    made = bench(
        [handing({"task": "a", "model": "bad"}, {"task": "b", "model": "good"}, parallel=parallel), DONE],
        settings=ON
        | {"models": {"default": "scripted", "strong": "good"}, "work": {"delegate": True, "delegate_model": "bad"}},
    )
    child(made, {"content": "half", "error": "the server fell over"}, address="bad")
    child(made, {"content": "found it"}, address="good")
    run, parts = work(made)
    bad, good = parts
    assert observed(run) == (
        f"1. failed · run {bad.id}\nbad: the server fell over\n\n2. done · run {good.id}\nfound it"
    )
    assert (run.outcome, bad.outcome, good.outcome) == ("success", "failure", "success")
    assert not next(message for message in run.messages if message.role == "tool").is_error


def test_where_all_failed_the_observation_is_an_error(bench: Make) -> None:
    made = bench([handing("a"), DONE], settings=with_work(delegate_model="child"))
    child(made, *[calling("list_files")] * 3)
    run, parts = work(made)
    observation = next(message for message in run.messages if message.role == "tool")
    assert observation.is_error
    assert observation.content.startswith(f"1. failed · run {parts[0].id}\nlist_files was called three times")
    assert run.outcome == "success"


def test_a_sub_agent_starts_none_of_its_own_unless_the_depth_allows(bench: Make) -> None:
    made = bench([handing("a"), {"content": "ok"}, DONE], settings=ON)
    _, parts = work(made)
    assert "delegate" not in {schema["function"]["name"] for schema in parts[0].tools}
    made = bench([handing("a"), handing("b"), {"content": "b"}, {"content": "a"}, DONE], settings=with_work(depth=2))
    run, parts = work(made)
    assert [part.parent_id for part in parts] == [run.id, parts[0].id]
    assert "delegate" not in {schema["function"]["name"] for schema in parts[1].tools}


def test_depth_is_checked_where_it_counts_too(bench: Make) -> None:
    made = bench([handing("a"), DONE], settings=with_work(depth=0))

    async def go() -> None:
        async with Run(made.session, "t", Route("scripted", "flag", "r")) as run:
            await Loop(run, "scripted", {"delegate": made.session.tools["delegate"]}).answer("t")

    asyncio.run(go())
    run, parts = on_record(made)
    assert observed(run) == "sub-agents go no deeper than 0 (work.depth). Do it yourself."
    assert parts == []


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"task": "a", "model": "openai@http://evil.example:gpt"}, "There are: scripted, strong."),
        ({"task": "a", "tools": ["read_file", "sing"]}, "cannot have the tool 'sing'"),
        ({"task": "a", "tools": ["todo_complete"]}, "cannot have the tool 'todo_complete'"),
        ({"task": "a", "colour": "red"}, "tasks.1.colour: Extra inputs are not permitted"),
        ({"task": "a", "steps": -1}, "greater than or equal to 0"),
    ],
)
def test_what_a_sub_agent_cannot_have_is_refused_before_any_begins(bench: Make, task: Json, said: str) -> None:
    settings = ON | {"models": {"default": "scripted", "strong": "strong"}}
    run, parts = work(bench([handing("fine", task), DONE], settings=settings))
    assert said in observed(run)
    assert parts == []


def test_a_sub_agent_may_be_given_fewer_tools_and_steps(bench: Make) -> None:
    made = bench(
        [handing({"task": "a", "tools": ["list_files"], "steps": 1}), DONE], settings=with_work(delegate_model="child")
    )
    child(made, calling("list_files"), {"content": "late"})
    run, parts = work(made)
    assert [schema["function"]["name"] for schema in parts[0].tools] == ["list_files"]
    assert parts[0].reason == "stopped after 1 steps (budget.steps)"
    assert "stopped after 1 steps" in observed(run)


def test_sub_agents_spend_a_share_of_what_is_left_and_the_parent_pays(bench: Make) -> None:
    usage = {"usage": {"prompt_tokens": 100, "completion_tokens": 0}}
    replies = [handing("a", "b") | usage, calling("list_files") | usage]
    made = bench(replies, settings=with_work(delegate_model="child") | {"budget": {"tokens": 500}})
    again = [
        calling("list_files", pattern=f"{n}*") | {"usage": {"prompt_tokens": 150, "completion_tokens": 0}}
        for n in range(4)
    ]
    child(made, *again)
    run, (first, second) = work(made)
    assert first.reason == "stopped after 300 tokens (budget.tokens)"  # half of the 400 that were left: two turns
    assert second.reason == "stopped after 150 tokens (budget.tokens)"  # half of the 100 that were left then
    assert (run.outcome, run.reason) == ("failure", "stopped after 550 tokens (budget.tokens)")
    assert run.usage.tokens == 100  # its own: what its parts used stands in their records


def test_sub_agents_at_once_share_the_tokens_equally(bench: Make) -> None:
    made = bench(
        [handing("a", "b", parallel=True), DONE],
        settings=with_work(delegate_model="child") | {"budget": {"tokens": 1000}},
    )
    usage = {"usage": {"prompt_tokens": 240, "completion_tokens": 0}}
    child(made, *[calling("list_files", pattern=f"{n}*") | usage for n in range(6)])
    made.model.replies[0]["usage"] = {"prompt_tokens": 0, "completion_tokens": 0}
    _, parts = work(made)
    assert {part.reason for part in parts} == {"stopped after 480 tokens (budget.tokens)"}


def test_stopping_the_run_stops_its_sub_agents_and_keeps_their_records(bench: Make) -> None:
    made = bench([handing("a", "b", parallel=True), DONE], settings=with_work(delegate_model="child"))
    child(made, *[{"content": "late", "delay": 30}] * 2)

    async def go() -> None:
        begun = asyncio.Event()
        made.session.emit = lambda event: begun.set() if event.kind == "run" and event.data["task"] == "b" else None
        task = asyncio.create_task(do(made.session, "do it", model=""))
        await begun.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = time.perf_counter()
    asyncio.run(go())
    assert time.perf_counter() - started < 5
    run, parts = on_record(made)
    assert [(part.outcome, part.reason) for part in (run, *parts)] == [("unknown", "cancelled")] * 3
    assert all(part.ended <= run.ended for part in parts)


def test_the_time_of_a_sub_agent_is_limited(bench: Make) -> None:
    made = bench([handing("a"), DONE], settings=with_work(delegate_model="child") | {"budget": {"seconds": 0.6}})
    child(made, {"content": "late", "delay": 30})
    run, parts = work(made)
    assert parts[0].reason.endswith("(budget.seconds)")
    assert (run.outcome, run.messages[-1].content) == ("success", "all done")


def test_questions_of_sub_agents_come_one_at_a_time_and_name_who_asks(bench: Make, workspace: Any) -> None:
    asked: list[str] = []
    open_questions = 0

    async def ask(question: str) -> bool:
        nonlocal open_questions
        open_questions += 1
        assert open_questions == 1
        asked.append(question)
        await asyncio.sleep(0.05)
        open_questions -= 1
        return "a.txt" in question

    tasks = [{"task": f"write {name}\nAllow shell: ls?", "model": name} for name in ("a", "b")]
    settings = ON | {"work": {"delegate": True, "strategic_model": "a", "tactical_model": "b"}}
    made = bench([handing(*tasks, parallel=True), DONE], settings=settings, ask=ask)
    for name in ("a", "b"):
        child(made, calling("write_file", path=f"{name}.txt", content="x"), {"content": "ok"}, address=name)
    run, _ = work(made)
    assert asked == [
        f'Sub-agent {number} of run {run.id}, "write {name} Allow shell: ls?", asks. '
        f"Allow write: write the new file {name}.txt, 1 characters?"
        for number, name in enumerate(("a", "b"), 1)
    ]
    assert (workspace / "a.txt").exists()
    assert not (workspace / "b.txt").exists()


def test_an_answer_about_a_host_holds_for_every_sub_agent(bench: Make) -> None:
    made = bench([], ask=None)
    made.session.consent.answers["net:a.example"] = True
    asyncio.run(made.session.consent.on_behalf_of("Sub-agent 1").require("net:a.example", "fetch"))


def test_private_work_stays_private_in_sub_agents(bench: Make) -> None:
    settings = {
        "privacy": "local-only",
        "models": {"default": "gguf:x.gguf", "strong": "openai:gpt-5"},
        "work": {"delegate": True},
    }
    made = bench([handing({"task": "a", "model": "openai:gpt-5"}), DONE], settings=settings)
    made.session.models["gguf:x.gguf"] = made.model
    run, parts = work(made)
    assert "openai:gpt-5 would leave this machine" in observed(run)
    assert parts == []


def test_a_long_answer_comes_back_cut_and_says_so() -> None:
    told = report([Result(True, "x" * 5000, "ab12"), Result(False, "no", "cd34")], 8000)
    first, second = told.split("\n\n")
    assert first == f"1. done · run ab12\n{'x' * ANSWER}… [{5000 - ANSWER} more characters are in its run]"
    assert second == "2. failed · run cd34\nno"
    assert len(report([Result(True, "x" * 5000, "ab12")] * 8, 2000)) < 2200


def test_a_model_chooses_only_among_configured_addresses(bench: Make) -> None:
    made = bench([], settings={"models": {"default": "d", "strong": "s"}, "work": {"tactical_model": "t"}})
    assert models(made.session.settings, "own") == ["own", "d", "s", "t"]


def test_a_tools_crash_in_one_sub_agent_does_not_reach_the_others(bench: Make) -> None:
    async def fall(context: Any) -> str:
        raise ZeroDivisionError("by nothing")

    made = bench([handing("a", "b", parallel=True), DONE], settings=with_work(delegate_model="child"))
    made.session.tools["crash"] = Tool("crash", "Fall.", todo_list.parameters, fall, "read", False, "test")
    child(made, calling("crash"), calling("crash"), {"content": "1"}, {"content": "2"})
    run, parts = work(made)
    assert [part.outcome for part in parts] == ["success", "success"]
    assert run.outcome == "success"

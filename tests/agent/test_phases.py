"""Phases: which tools each is offered, how they hand over, and what stands on record of a job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agent import phases
from agent.commands.task import do
from agent.errors import ModelError, UsageError
from agent.loop import Loop
from agent.messages import Json, Route, Trajectory
from agent.models.scripted import Scripted
from agent.run import Run
from agent.settings import Work
from skills import registry as skills_registry
from tests.program import run, script
from tools import registry as tools_registry
from tools.todo import todo_list

Make = Callable[..., Any]
ON: Json = {"models": {"default": "scripted"}, "work": {"phases": True}}


def calling(name: str, **arguments: Any) -> Json:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


PLAN = calling("next_phase_todos", todos=["write a.txt", "check it"])
WROTE = calling("todo_complete", id=1, note="a.txt has 2 letters")
CHECKED = calling("todo_complete", id=2, note="it is there")
END = calling("job_complete", summary="a.txt is written")


def with_work(**more: Any) -> Json:
    return ON | {"work": {"phases": True, **more}}


def work(made: Any, model: str = "") -> tuple[str, Trajectory, list[Trajectory]]:
    """The summary, the job's run, and the runs of its phases in order."""
    summary = asyncio.run(do(made.session, "make a file", model=model))
    return summary, *on_record(made)


def on_record(made: Any) -> tuple[Trajectory, list[Trajectory]]:
    store = made.session.store
    store.flush()
    runs = [store.get(run.id) for run in store.runs()[::-1]]
    return runs[0], runs[1:]


def offered(request: Any) -> set[str]:
    return {schema["function"]["name"] for schema in request.tools}


def test_a_job_is_planned_carried_out_and_completed(bench: Make, workspace: Any) -> None:
    write = calling("write_file", path="a.txt", content="hi")
    made = bench([PLAN, write, WROTE, CHECKED, END], settings=ON, yes=True)
    summary, job, parts = work(made)
    assert summary == "a.txt is written"
    assert (workspace / "a.txt").read_text() == "hi"
    assert (job.outcome, job.reason) == ("success", "job_complete")
    assert [part.reason for part in parts] == [
        "2 todos planned, 2 open",
        "every todo of this phase is done",
        "job_complete",
    ]
    assert {part.parent_id for part in parts} == {job.id}
    assert [part.route.rule for part in parts if part.route] == ["phase"] * 3


def test_each_phase_has_tools_of_its_own(bench: Make) -> None:
    made = bench([PLAN, WROTE, CHECKED, END], settings=ON)
    work(made)
    strategic, tactical, *_, again = made.model.requests
    read = {"read_file", "list_files", "search_files", "read_skill_file"}
    assert offered(strategic) == offered(again) == {*read, "todo_add", "next_phase_todos", "job_complete"}
    assert offered(tactical) == {
        *read,
        "write_file",
        "edit_file",
        "run_shell",
        "fetch_url",
        "arxiv",
        "todo_complete",
    }


def test_a_phase_cannot_call_what_the_other_is_offered(bench: Make, workspace: Any) -> None:
    write = calling("write_file", path="a.txt", content="hi")
    made = bench([write, PLAN, END, WROTE, CHECKED, END], settings=ON, yes=True)
    summary, _, parts = work(made)
    refused = [message.content for part in parts for message in part.messages if message.is_error]
    assert refused[0].startswith("There is no tool 'write_file'.")
    assert refused[1].startswith("There is no tool 'job_complete'.")
    assert not (workspace / "a.txt").exists()
    assert summary == "a.txt is written"


def test_a_phase_knows_the_task_the_todos_and_the_notes_and_nothing_else(bench: Make) -> None:
    look = calling("list_files", path=".")
    made = bench([look, PLAN, WROTE, CHECKED, END], settings=ON)
    work(made)
    tactical, last = made.model.requests[2].messages, made.model.requests[4].messages
    assert [message.role for message in tactical] == ["system", "user"]
    assert tactical[1].content == "make a file\n\n[todos: 0 done, 2 open]\n1. write a.txt\n2. check it"
    done = "Done so far:\n1. write a.txt: a.txt has 2 letters\n2. check it: it is there"
    assert last[1].content == f"make a file\n\n{done}\n\n[todos: 2 done, 0 open]"
    assert "You plan this job" in last[0].content
    assert "You carry out" in tactical[0].content


def test_each_phase_has_the_model_that_is_configured_for_it(bench: Make) -> None:
    made = bench([], settings=with_work(strategic_model="planner", tactical_model="worker"))
    made.session.models["planner"] = Scripted([PLAN, END], address="planner")
    made.session.models["worker"] = Scripted([WROTE, CHECKED], address="worker")
    summary, _, parts = work(made)
    assert summary == "a.txt is written"
    assert [part.model for part in parts] == ["planner", "worker", "planner"]


def test_the_model_that_the_person_gave_takes_both_phases(bench: Make) -> None:
    made = bench([PLAN, WROTE, CHECKED, END], settings=with_work(strategic_model="planner"))
    _, _, parts = work(made, model="scripted")
    assert {part.model for part in parts} == {"scripted"}


def test_a_model_that_would_leave_the_machine_takes_no_phase_in_private(bench: Make) -> None:
    settings = with_work(tactical_model="openai:gpt-5") | {"privacy": "local-only"}
    made = bench([PLAN], settings=settings | {"models": {"default": "gguf:x.gguf"}})
    made.session.models["gguf:x.gguf"] = made.model
    with pytest.raises(Exception, match="openai:gpt-5 would leave this machine"):
        work(made)
    job, parts = on_record(made)
    assert (job.outcome, len(parts)) == ("failure", 1)


def test_a_job_does_not_end_with_open_todos_unless_it_says_why(bench: Make) -> None:
    stuck = {"content": "The disk is full."}
    early = calling("job_complete", summary="as far as it went")
    why = calling("job_complete", summary="as far as it went", reason_open="the disk is full")
    made = bench([PLAN, WROTE, stuck, stuck, early, why], settings=ON)
    summary, job, parts = work(made)
    assert summary == "as far as it went"
    assert job.reason == "job_complete with open todos: the disk is full"
    refused = [message.content for message in parts[-1].messages if message.is_error]
    assert refused == ["todos are open: 2. check it. Plan them with next_phase_todos, or give reason_open."]
    assert "The phase before ended with these words:\nThe disk is full." in parts[-1].messages[1].content


def test_a_plan_in_text_is_sent_back_once(bench: Make) -> None:
    made = bench([{"content": "First I would write."}, PLAN, WROTE, CHECKED, END], settings=ON)
    summary, _, parts = work(made)
    assert summary == "a.txt is written"
    assert "A plan in text starts nothing." in parts[0].messages[3].content


def test_a_model_that_only_talks_ends_the_job_and_a_stronger_one_takes_it(bench: Make) -> None:
    settings = ON | {"models": {"default": "scripted", "strong": "strong"}}
    made = bench([{"content": "First."}, {"content": "Second."}], settings=settings)
    made.session.models["strong"] = Scripted([PLAN, WROTE, CHECKED, END], address="strong")
    assert asyncio.run(do(made.session, "make a file", model="")) == "a.txt is written"
    made.session.store.flush()
    jobs = [run for run in made.session.store.runs()[::-1] if not run.parent_id]
    assert [(job.outcome, job.model) for job in jobs] == [("failure", "scripted"), ("success", "strong")]
    assert jobs[0].reason.startswith("the strategic phase ended without a plan")


def test_a_second_plan_goes_on_where_the_first_ended(bench: Make) -> None:
    more = calling("next_phase_todos", todos=["tell them"])
    told = calling("todo_complete", id=3, note="told")
    made = bench([PLAN, WROTE, CHECKED, more, told, END], settings=ON)
    _, job, parts = work(made)
    assert len(parts) == 5
    assert job.messages[-1].content.splitlines()[1:] == [
        "1. [x] write a.txt (a.txt has 2 letters)",
        "2. [x] check it (it is there)",
        "3. [x] tell them (told)",
    ]


def test_the_jobs_record_tells_each_phase_and_how_the_list_stood(bench: Make) -> None:
    made = bench([PLAN, WROTE, CHECKED, END], settings=ON)
    _, job, parts = work(made)
    assert [(message.role, message.name) for message in job.messages] == [
        ("user", ""),
        ("user", "strategic"),
        ("user", "tactical"),
        ("user", "strategic"),
    ]
    first = f"strategic phase, run {parts[0].id}: 2 todos planned, 2 open\n1. [ ] write a.txt\n2. [ ] check it"
    assert job.messages[1].content == first


def test_all_phases_together_have_one_budget(bench: Make) -> None:
    usage = {"usage": {"prompt_tokens": 60, "completion_tokens": 0}}
    replies = [PLAN | usage, WROTE | usage, CHECKED | usage, END]
    _, job, parts = work(bench(replies, settings=ON | {"budget": {"tokens": 100}}))
    assert (job.outcome, len(parts)) == ("failure", 2)
    assert job.reason == f"stopped after 60 tokens (budget.tokens), in the tactical phase, run {parts[1].id}"


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"steps": 3}, "stopped after 3 steps (budget.steps)"),
        ({"tokens": 300}, "stopped after 300 tokens (budget.tokens)"),
    ],
)
def test_no_phase_begins_when_the_budget_is_spent(bench: Make, budget: Json, said: str) -> None:
    usage = {"usage": {"prompt_tokens": 100, "completion_tokens": 0}}
    made = bench([PLAN | usage, WROTE | usage, CHECKED | usage, END], settings=ON | {"budget": budget})
    _, job, parts = work(made)
    assert (job.outcome, job.reason, len(parts)) == ("failure", said, 2)


def test_a_models_failure_ends_phase_and_job(bench: Make) -> None:
    made = bench([PLAN, {"error": "the server fell over"}], settings=ON)
    with pytest.raises(ModelError, match="fell over"):
        work(made)
    job, parts = on_record(made)
    assert [run.outcome for run in (job, *parts)] == ["failure", "success", "failure"]


def test_two_endings_in_one_turn_do_not_both_count(bench: Make) -> None:
    both = {"tool_calls": PLAN["tool_calls"] + END["tool_calls"]}
    made = bench([both, WROTE, CHECKED, END], settings=ON)
    _, _, parts = work(made)
    assert parts[0].messages[-1].content == "this phase has ended: 2 todos planned, 2 open"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (calling("next_phase_todos", todos=[]), "there is no open todo to hand over"),
        (calling("job_complete", summary=" "), "the summary is empty"),
        (calling("next_phase_todos", todos=["x"] * 31), "at most 30 items"),
    ],
)
def test_a_handing_over_of_nothing_is_refused(bench: Make, call: Json, said: str) -> None:
    _, _, parts = work(bench([call, PLAN, WROTE, CHECKED, END], settings=ON))
    assert said in parts[0].messages[3].content


def test_a_tool_that_ends_a_run_gives_its_answer_too(bench: Make) -> None:
    made = bench([END], settings=ON)

    async def go() -> str:
        async with Run(made.session, "t", Route("scripted", "flag", "r")) as run:
            return await Loop(run, "scripted", made.session.tools).answer("t")

    assert asyncio.run(go()) == "a.txt is written"


def test_a_skill_that_narrows_the_tools_does_not_stop_the_phases(bench: Make) -> None:
    made = bench([PLAN, WROTE, CHECKED, END], settings=ON)
    folder = made.session.workspace.root / "only-read"
    folder.mkdir()
    (folder / "SKILL.md").write_text("---\nname: only-read\ndescription: Reads.\nallowed-tools: Read\n---\nRead.\n")
    made.session.skills, _ = skills_registry.load(folder.parent, None)
    assert asyncio.run(do(made.session, "/only-read make a file", model="")) == "a.txt is written"
    assert offered(made.model.requests[1]) == {"read_file", "read_skill_file", "todo_complete"}


def test_phases_say_which_tool_they_miss() -> None:
    tools = tools_registry.load([], ["job_complete"])
    with pytest.raises(UsageError, match="need the tool job_complete"):
        phases.offered_in("strategic", tools, Work())


def test_settings_offer_notes_and_sub_agents_in_the_working_phase(bench: Make) -> None:
    tools = tools_registry.load([])
    on = Work(notes=True, delegate=True, todos=True)
    assert {"notes_read"} == {name for name in phases.offered_in("strategic", tools, on) if name in phases.OWN} - {
        *phases.STRATEGIC
    }
    tactical = phases.offered_in("tactical", tools, on)
    assert {name for name in tactical if name in phases.OWN} == {
        "notes_read",
        "notes_write",
        "delegate",
        "todo_complete",
    }


def test_phases_are_switched_on_by_a_flag(workspace: Any) -> None:
    address = script(workspace, [PLAN, calling("write_file", path="a.txt", content="hi"), WROTE, CHECKED, END])
    done = run("make a file", "--model", address, "--phases", "--yes", "--workspace", str(workspace), cwd=workspace)
    assert (done.returncode, done.stdout) == (0, "a.txt is written\n")
    assert (workspace / "a.txt").read_text() == "hi"
    shown = run("traces", "show", "last", cwd=workspace).stdout
    assert shown.count("success: ") == 4
    assert "usage    0+0 tokens, 0.00 s, its parts " in shown
    assert "· success: 2 todos planned, 2 open ·" in shown
    assert "(part of" not in shown
    left = run("traces", "delete", "last", "--yes", cwd=workspace).stdout
    assert left.startswith("1 run deleted\n3 runs that were a part of that stay: `apprentice traces delete ")
    parts = left.split("`")[1].split()[1:]
    assert run(*parts, "--yes", cwd=workspace).stdout == "3 runs deleted\n"
    assert run("traces", cwd=workspace).stdout == "no runs\n"


def serving_tools(made: Any, *names: str) -> None:
    """MCP tools as a server's would be: two of them, with one place in the offer."""
    parameters = todo_list.parameters

    async def answer(context: Any) -> str:
        return "served"

    for name in names:
        made.session.tools[name] = tools_registry.Tool(
            name, f"Does {name}.", parameters, answer, "mcp", False, "test", outside=True
        )


@pytest.mark.parametrize("in_phases", [True, False])
def test_a_tool_that_was_searched_for_can_be_called(bench: Make, in_phases: bool) -> None:
    found = [calling("find_tools", query="weather"), calling("srv__weather")]
    replies = [PLAN, *found, WROTE, CHECKED, END] if in_phases else [*found, {"content": "served"}]
    made = bench(replies, settings=with_work(phases=in_phases) | {"mcp": {"shown": 1}})
    serving_tools(made, "srv__file", "srv__weather")
    _, job, parts = work(made)
    run = parts[1] if in_phases else job
    served = [message for message in run.messages if message.name == "srv__weather"]
    assert [(message.content, message.is_error) for message in served] == [("served", False)]
    assert "srv__weather" not in offered(made.model.requests[1 if in_phases else 0])
    if in_phases:
        assert {name for name in offered(made.model.requests[0]) if "__" in name or name == "find_tools"} == set()

"""Runs of the loop with todos and phases as examples: what ends them, who verifies them, what each turn was shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agent.commands.task import do
from agent.loop import Loop
from agent.messages import Json, Message, Route, Trajectory
from agent.models.base import Capabilities
from agent.run import Run
from tests.training import tiny
from tests.training.dataset.material import tool_run
from training.dataset.candidates import Ledger
from training.dataset.trajectories import Found, collect, on_record

Make = Callable[..., Any]
PHASES: Json = {"models": {"default": "scripted"}, "work": {"phases": True}}
TODOS: Json = {"models": {"default": "scripted"}, "work": {"todos": True}}


def calling(name: str, **arguments: Any) -> Json:
    return {"tool_calls": [{"name": name, "arguments": arguments}]}


JOB = (
    calling("next_phase_todos", todos=["look", "tell"]),
    calling("todo_complete", id=1, note="there is one file"),
    calling("todo_complete", id=2, note="told"),
    calling("job_complete", summary="There is one file."),
)


def done(made: Any, **labels: Any) -> list[Trajectory]:
    """The runs of a task, oldest first; the one that a person sees is labelled."""
    asyncio.run(do(made.session, "how many files are here?", model=""))
    store = made.session.store
    store.flush()
    (seen,) = [run.id for run in store.runs(limit=-1) if not store.get(run.id).parent_id]
    if labels:
        store.label(seen, **labels)
        store.flush()
    return list(on_record(store))


def collected(runs: list[Trajectory]) -> tuple[Found, dict[str, list[str]]]:
    ledger = Ledger()
    return collect(runs, "", ledger), ledger.reasons


# What ends a run


@pytest.mark.parametrize(("labels", "source"), [({"verdict": "good"}, "gold"), ({"check": True}, "check")])
def test_each_phase_of_a_verified_job_is_an_example_that_ends_in_the_call_that_ended_it(
    bench: Make, labels: Json, source: str
) -> None:
    found, dropped = collected(done(bench(JOB, settings=PHASES), **labels))
    rows = [one.row for one in found.examples]
    ends = [[call["name"] for call in row.messages[-1]["tool_calls"]] for row in rows]
    assert ends == [["next_phase_todos"], ["todo_complete"], ["job_complete"]]
    assert [row.source for row in rows] == [source] * 3
    assert rows[2].messages[-1]["tool_calls"][0]["arguments"] == {"summary": "There is one file."}
    assert rows[0].provenance["verified_by"].endswith("(the whole job)")
    assert (found.negatives, dropped) == ([], {})


def test_the_phases_of_one_job_are_one_document_so_that_no_split_parts_them(bench: Make) -> None:
    found, _ = collected(done(bench(JOB, settings=PHASES), verdict="good"))
    assert len({one.row.document for one in found.examples}) == 1
    assert {one.text for one in found.examples} == {"how many files are here?"}
    assert len({one.slot for one in found.examples}) == 3, "nor does one take another's place"


def test_a_phase_that_nobody_judged_is_not_verified(bench: Make) -> None:
    found, _ = collected(done(bench(JOB, settings=PHASES)))
    assert [one.row.source for one in found.examples] == ["unfiltered"] * 3


def test_of_a_job_that_was_wrong_nobody_knows_which_phase_was(bench: Make) -> None:
    found, dropped = collected(done(bench(JOB, settings=PHASES), verdict="bad"))
    assert (found.examples, found.negatives) == ([], [])
    assert {why: len(runs) for why, runs in dropped.items()} == {"its job was wrong, and nobody said in which phase": 3}


def test_a_phase_has_its_own_verdict_before_its_jobs(bench: Make) -> None:
    runs = done(bench(JOB, settings=PHASES), verdict="bad")
    runs[2].labels["verdict"] = "good"
    found, _ = collected(runs)
    assert [one.row.provenance["run"] for one in found.examples] == [runs[2].id]


def test_a_phase_that_failed_is_wrong_whatever_became_of_its_job(bench: Make) -> None:
    settings = PHASES | {"budget": {"steps": 2}}
    looking = [JOB[0], calling("list_files"), calling("list_files")]
    found, dropped = collected(done(bench(looking, settings=settings), verdict="good"))
    assert [len(found.examples), len(found.negatives)] == [1, 1]
    assert any(why.startswith("known to be wrong: stopped after 1 steps") for why in dropped)


def test_a_correction_of_a_job_is_the_summary_that_its_last_phase_should_have_given(bench: Make) -> None:
    runs = done(bench(JOB, settings=PHASES))
    runs[0].correction = "There are no files."
    found, dropped = collected(runs)
    (row,) = [one.row for one in found.examples]
    (call,) = row.messages[-1]["tool_calls"]
    assert (row.source, call["name"]) == ("correction", "job_complete")
    assert call["arguments"] == {"summary": "There are no files."}
    (negative,) = [one.row for one in found.negatives]
    assert negative.messages[-1]["tool_calls"][0]["arguments"] == {"summary": "There is one file."}
    assert negative.provenance["chosen"] == "There are no files."
    assert [len(names) for names in dropped.values()] == [2], "whether the other phases were right, nobody said"


def test_a_correction_cannot_be_the_answer_of_a_run_whose_last_call_says_nothing_to_a_person() -> None:
    found, dropped = collected([tool_run(answer="", correction="Two.")])
    assert found.examples == []
    assert list(dropped) == ["a person's correction, but it has no answer"]


def test_a_failure_in_the_last_turn_is_marked_though_its_observation_is_not_in_the_row(bench: Make) -> None:
    both = {"tool_calls": [*JOB[1]["tool_calls"], *JOB[2]["tool_calls"], *calling("read_file", path="x")["tool_calls"]]}
    found, _ = collected(done(bench([JOB[0], both, JOB[3]], settings=PHASES), verdict="good"))
    assert [one.row.provenance.get("recovered") for one in found.examples] == [None, True, None]


def test_the_question_about_open_todos_is_not_what_the_run_was_about(bench: Make) -> None:
    replies = [calling("todo_add", title="look"), {"content": "One."}, {"content": "One; the todo is not needed."}]
    found, _ = collected(done(bench(replies, settings=TODOS), verdict="good"))
    assert [one.text for one in found.examples] == ["how many files are here?"]
    assert found.examples[0].row.messages[-2]["content"].startswith("Still open: 1.")


# What each turn was shown


@pytest.mark.parametrize(
    "capabilities",
    [Capabilities(native_tools=True), Capabilities(json_schema=True), Capabilities()],
    ids=["native", "json", "text"],
)
def test_what_is_trained_on_is_what_the_loop_showed_todos_and_all(bench: Make, capabilities: Capabilities) -> None:
    from training.learning.encode import Encoder

    protocol = "native" if capabilities.native_tools else "json" if capabilities.json_schema else "text"
    calls = [
        ("todo_add", {"title": "look"}),
        ("todo_add", {"title": "tell"}),
        ("todo_complete", {"id": 1, "note": "seen"}),
        ("todo_complete", {"id": 2, "note": "told"}),
    ]
    made = bench([spoken(protocol, *call) for call in calls] + [ended(protocol)], capabilities=capabilities)
    run = asyncio.run(by_the_loop(made))
    run.labels["verdict"] = "good"
    row = collected([run])[0].examples[0].row
    lists = [message.get("todos", "").partition("\n")[0] for message in row.messages if message["role"] == "assistant"]
    counts = ["", "[todos: 0 done, 1 open]", "[todos: 0 done, 2 open]", "[todos: 1 done, 1 open]"]
    assert lists == [*counts, "[todos: 2 done, 0 open]"]
    encoder = Encoder(tiny.tokenizer(), protocol)
    examples = encoder.examples(row)
    prompts = [prompt for example in examples for prompt in prompts_of(example.tokens, example.trained)]
    shown = [
        encoder.prompt([{"role": message.role, "content": message.content} for message in request.messages])
        for request in made.model.requests
    ]
    decode = encoder.tokenizer.decode
    assert [decode(prompt) for prompt in prompts] == [decode(prompt) for prompt in shown]
    assert len(examples) > 1, "a list that was replaced stands in no later prompt"


def spoken(protocol: str, name: str, arguments: Json) -> Json:
    """A reply that calls a tool, in the words of the protocol."""
    import json

    if protocol == "native":
        return calling(name, **arguments)
    if protocol == "json":
        return {"content": json.dumps({"thought": "", "action": {"name": name, "arguments": arguments}})}
    return {"content": f"Action: {name}\nAction Input: {json.dumps(arguments)}"}


def ended(protocol: str) -> Json:
    plain = {"native": "It is told.", "json": '{"thought": "", "answer": "It is told."}', "text": "Answer: It is told."}
    return {"content": plain[protocol]}


async def by_the_loop(made: Any) -> Trajectory:
    """A run with the todo tools alone: others would add a rule to the system message that no row holds."""
    from tools import registry

    tools = {name: tool for name, tool in registry.load([], []).items() if name in ("todo_add", "todo_complete")}
    schemas = [tool.schema for tool in tools.values()]
    async with Run(made.session, "look and tell", Route("scripted", "flag", ""), tools=schemas) as run:
        await Loop(run, "scripted", tools).answer("look and tell")
    return run.trajectory


def prompts_of(tokens: list[int], trained: list[bool]) -> list[list[int]]:
    """All that stands before each reply of an example."""
    begins = [at for at in range(1, len(tokens)) if trained[at] and not trained[at - 1]]
    return [tokens[:at] for at in begins]


def test_a_corrected_answer_is_learned_after_the_list_that_the_wrong_one_followed(bench: Make) -> None:
    runs = done(bench([calling("todo_add", title="look"), {"content": "a"}, {"content": "b"}], settings=TODOS))
    runs[0].correction = "One file; the todo is not needed."
    found, _ = collected(runs)
    assert found.examples[0].row.messages[-1] == {
        "role": "assistant",
        "content": "One file; the todo is not needed.",
        "todos": "[todos: 0 done, 1 open]\n1. look",
    }


def test_a_conversation_without_todos_has_none_in_its_row() -> None:
    found, _ = collected([tool_run(Message("user", "and?"), labels={"verdict": "good"})])
    assert all("todos" not in message for message in found.examples[0].row.messages)

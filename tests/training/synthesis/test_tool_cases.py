"""Synthetic cases for tools: written, solved by the real loop with tools that the teacher plays, and checked."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent.errors import InputError, ToolError
from agent.messages import Message, ToolCall, Trajectory
from agent.models.base import Capabilities
from agent.models.scripted import Scripted
from agent.redact import Redactor
from agent.registry import open_model
from agent.settings import Settings
from agent.traces import TraceStore
from tests.training.synthesis.teacher import TOOLS, Teacher, a_case
from tests.wire.model_server import Say
from tools.registry import validate
from training.rows import Row, read_rows
from training.synthesis.simulated import Stage, model_of
from training.synthesis.tool_cases import Case, failed, faults, read_schemas, tool_cases
from training.synthesis.work import Plan, Summary, synthesise

SETTINGS = Settings.model_validate({"models": {"retries": 0}})
CASE = Case.model_validate(a_case(1))
HARBOUR = json.loads(CASE.calls[0].arguments)["harbour"]


def synthesis(server: Teacher, out: Path, count: int, **more: Any) -> Summary:
    plan = Plan("tools", "big", count, **more)

    async def work() -> Summary:
        model = open_model(f"openai@{server.url}/v1:big", SETTINGS)
        try:
            return await synthesise(plan, out, tool_cases(model, plan, TOOLS, SETTINGS, out))
        finally:
            await model.close()

    return asyncio.run(work())


def rows_of(out: Path) -> list[Row]:
    return list(read_rows(out / "rows.jsonl"))


def test_a_case_that_passes_its_own_check_becomes_a_verified_row(tmp_path: Path) -> None:
    with Teacher() as server:
        summary = synthesis(server, tmp_path, 4)
    assert (summary.rows, summary.rejected) == (4, {})
    row = rows_of(tmp_path)[0]
    assert (row.source, row.verified, row.skill) == ("check", True, "tools")
    assert [message["role"] for message in row.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert row.messages[1]["content"] == CASE.task
    assert row.messages[2]["tool_calls"][0]["arguments"] == {"harbour": HARBOUR}
    assert row.messages[3]["content"] == CASE.facts
    assert CASE.answer[0] in row.completion
    assert {tool["function"]["name"] for tool in row.tools} == {"look_up_tide", "list_ferries"}
    assert row.provenance["check"] == CASE.model_dump()


def test_every_fifth_case_has_no_tool_that_fits(tmp_path: Path) -> None:
    with Teacher() as server:
        synthesis(server, tmp_path, 5)
    rows = rows_of(tmp_path)
    assert [any(message.get("tool_calls") for message in row.messages) for row in rows] == [True] * 4 + [False]
    assert rows[4].completion == "Try seaside."
    assert rows[4].tools


def test_who_solves_the_case_never_sees_its_facts_or_its_check(tmp_path: Path) -> None:
    with Teacher() as server:
        synthesis(server, tmp_path, 1)
        written, solving, playing, answering = (request.body["messages"] for request in server.requests)
    assert "test cases" in written[0]["content"]
    assert CASE.facts not in json.dumps(solving)
    assert CASE.facts in playing[0]["content"]
    assert json.loads(playing[1]["content"]) == {"harbour": HARBOUR}
    assert answering[-1]["role"] == "tool"


def test_the_runs_are_on_record_as_any_run_is(tmp_path: Path) -> None:
    with Teacher() as server:
        synthesis(server, tmp_path, 1)
    store = TraceStore.open(tmp_path / "traces.db", Redactor({}))
    run = store.get(str(rows_of(tmp_path)[0].provenance["run"]))
    store.close()
    assert (run.task, run.outcome, len(run.messages)) == (CASE.task, "success", 5)


def test_a_case_that_is_not_solved_is_rejected_with_what_it_lacks(tmp_path: Path) -> None:
    with Teacher() as server:
        server.script(Say(json.dumps(a_case(1))), Say("I do not know."))
        summary = synthesis(server, tmp_path, 1)
    assert summary.rejected == {"not solved": 1}
    entry = json.loads((tmp_path / "journal.jsonl").read_text().splitlines()[0])
    assert entry["reason"] == "not solved: look_up_tide was not called as it should be"
    assert entry["detail"]["task"] == CASE.task
    assert entry["tokens"] == 36


def test_evolved_cases_are_solved_and_checked_too(tmp_path: Path) -> None:
    with Teacher() as server:
        summary = synthesis(server, tmp_path, 4, evolve=("rarer",))
    assert [row.provenance["step"] for row in rows_of(tmp_path)] == ["seed", "rarer"] * 2
    assert summary.rejected == {}


@pytest.mark.parametrize(
    ("change", "bare", "said"),
    [
        ({}, False, ""),
        ({"calls": []}, False, "no calls"),
        ({}, True, "calls where no tool fits"),
        ({"calls": [{"name": "fly", "arguments": "{}"}]}, False, "a tool that is not offered"),
        ({"calls": [{"name": "look_up_tide", "arguments": "{harbour"}]}, False, "no JSON object"),
        ({"calls": [{"name": "look_up_tide", "arguments": "[1]"}]}, False, "no JSON object"),
        ({"task": f"Is the tide {CASE.answer[0]}, or how high is it?"}, False, "gives the answer away"),
        ({"answer": ["purple"]}, False, "the facts do not hold the answer"),
        ({"answer": [" "]}, False, "gives the answer away"),
    ],
)
def test_a_case_that_proves_nothing_is_not_used(change: dict[str, Any], bare: bool, said: str) -> None:
    case = Case.model_validate(CASE.model_dump() | change)
    assert bool(faults(case, TOOLS, bare)) == bool(said)
    assert said in faults(case, TOOLS, bare)


def a_run(*messages: Message, outcome: str = "success") -> Trajectory:
    return Trajectory("r", CASE.task, outcome=outcome, reason="a reason", messages=list(messages))  # type: ignore[arg-type]


def test_the_check_wants_the_calls_answered_and_the_answer_said() -> None:
    def calling(harbour: str) -> Message:
        return Message("assistant", tool_calls=(ToolCall("c1", "look_up_tide", {"harbour": harbour, "hour": 3}),))

    told = Message("tool", CASE.facts, tool_call_id="c1", name="look_up_tide")
    error = Message("tool", "no", tool_call_id="c1", name="look_up_tide", is_error=True)
    right, wrong = Message("assistant", f"It is {CASE.answer[0]}."), Message("assistant", f"It is {CASE.answer[0]}9.")
    assert failed(CASE, a_run(calling(f" {HARBOUR.upper()}"), told, right)) == ""
    assert "not called as it should be" in failed(CASE, a_run(calling("Elsewhere"), told, right))
    assert "not called as it should be" in failed(CASE, a_run(calling(HARBOUR), error, right))
    assert "the answer lacks" in failed(CASE, a_run(calling(HARBOUR), told, wrong))
    assert failed(CASE, a_run(calling(HARBOUR), told, right, outcome="failure")) == "not solved: a reason"
    bare = Case.model_validate(a_case(1, bare=True))
    said = Message("assistant", "Try seaside.")
    assert failed(bare, a_run(said)) == ""
    assert "called where none fits" in failed(bare, a_run(calling(HARBOUR), told, said))


def test_a_schema_becomes_a_tool_that_checks_its_arguments() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "who"},
            "size": {"type": "number"},
            "colour": {"enum": ["red", "blue"]},
            "days": {"type": "array", "items": {"type": "integer"}},
            "place": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]},
            "other": {},
            "loud": {"type": "boolean", "default": True},
        },
        "required": ["name", "colour"],
    }
    stage = Stage(Scripted([]), "")
    tool = stage.tool(
        {"type": "function", "function": {"name": "paint", "description": "Paints.", "parameters": schema}}
    )
    given = {"name": "A", "colour": "red", "days": [1], "place": {"town": "Ulm"}, "other": [1, "x"]}
    checked = validate(tool, given)
    assert (checked["loud"], checked["size"], checked["days"]) == (True, None, [1])
    made = tool.schema["function"]["parameters"]
    assert made["properties"]["name"] == {"type": "string", "description": "who"}
    assert made["required"] == ["name", "colour"]
    for wrong in (
        {"name": "A"},
        given | {"colour": "green"},
        given | {"size": "big"},
        given | {"place": {}},
        given | {"x": 1},
    ):
        with pytest.raises(ToolError):
            validate(tool, wrong)
    assert model_of("nothing", {}).model_fields == {}


def test_an_argument_of_two_types_takes_both_and_nothing_else() -> None:
    schema = {"properties": {"end": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}
    model = model_of("read", schema)
    assert model.model_json_schema()["properties"]["end"]["anyOf"] == schema["properties"]["end"]["anyOf"]
    assert [model.model_validate(given).model_dump() for given in ({"end": 3}, {"end": None}, {})] == [
        {"end": 3},
        {"end": None},
        {"end": None},
    ]
    with pytest.raises(ValidationError):
        model.model_validate({"end": "three"})


def test_the_same_call_is_answered_the_same_way_and_asked_once() -> None:
    replies = [
        {"content": '{"output": "It is 3 m.", "error": false}'},
        {"content": '{"output": "Closed.", "error": true}'},
    ]
    teacher = Scripted(replies, Capabilities(json_schema=True))
    stage = Stage(teacher, "It is 3 m.")

    async def play() -> list[str]:
        first = await stage.play("tide", "", {"harbour": "A", "hour": None})
        return [first, await stage.play("tide", "", {"harbour": "A"})]

    assert asyncio.run(play()) == ["It is 3 m."] * 2
    assert len(teacher.requests) == 1
    assert stage.tokens > 0
    with pytest.raises(ToolError, match="Closed"):
        asyncio.run(stage.play("tide", "", {"harbour": "B"}))


def test_a_tool_that_cannot_be_played_fails_as_tools_do() -> None:
    stage = Stage(Scripted([{"content": "Hm."}]), "")
    with pytest.raises(ToolError, match="tide gave no answer"):
        asyncio.run(stage.play("tide", "", {}))


def test_objects_in_arguments_reach_the_teacher_as_json() -> None:
    teacher = Scripted([{"content": '{"output": "ok", "error": false}'}], Capabilities(json_schema=True))
    place = model_of("place", {"properties": {"town": {"type": "string"}}, "required": ["town"]})
    asyncio.run(Stage(teacher, "").play("go", "", {"places": [place(town="Ulm")]}))
    assert json.loads(teacher.requests[0].messages[1].content) == {"places": [{"town": "Ulm"}]}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "not a list of tools"),
        ("{}", "not a list of tools"),
        ('[{"name": "x"}]', "form of OpenAI"),
    ],
)
def test_a_file_that_holds_no_tools_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "tools.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_schemas(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_schemas(tmp_path / "none.json")


def test_a_file_of_tools_is_read(tmp_path: Path) -> None:
    path = tmp_path / "tools.json"
    path.write_text(json.dumps(TOOLS))
    assert read_schemas(path) == TOOLS

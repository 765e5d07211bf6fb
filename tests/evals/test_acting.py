"""The suite `acting`: rows through the real loop, worked examples, and the report that a person reads."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent.config import data_dir
from agent.errors import ModelUnavailable
from agent.messages import Message
from agent.models.base import Capabilities
from agent.models.scripted import Scripted
from agent.session import Session
from agent.settings import Settings
from evals import acting, measured
from evals.acting import ACTING, METRICS, Row
from evals.compare import summarise
from evals.simulated.case import Case, as_jsonl
from evals.simulated.play import scripted
from evals.simulated.scenarios import make
from tests.evals.simulated.playing import FERRY, in_session
from tests.evals.test_commands import evals

CASES = [make("single", "test", "1"), make("none", "test", "1"), make("chained", "test", "1")]


def model_file(path: Path, cases: list[Case], protocol: str = "json") -> str:
    """The address of a model that says the solutions of these cases, one case after the other."""
    capabilities = {"native_tools": protocol == "native", "json_schema": protocol != "native"}
    lines = [{"capabilities": capabilities}, *(r for case in cases for r in scripted(case, protocol).replies)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return f"scripted:{path}"


def run(cases: list[Case], address: str, out: Path | None = None, **more: object) -> list[Row]:
    return asyncio.run(measured.rows(ACTING, cases, address, Settings(), out=out, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", ["json", "native"])
def test_a_model_that_does_everything_right_is_told_so(tmp_path: Path, protocol: str) -> None:
    rows = run(CASES, model_file(tmp_path / "m.jsonl", CASES, protocol))
    assert [row.id for row in rows] == [case.id for case in CASES]
    found = summarise(rows, METRICS)
    shares = ("success", "selected", "only", "exact", "valid_calls", "uncalled", "efficiency")
    assert {name: found[name].mean for name in shares} == dict.fromkeys(shares, 1.0)
    assert "todos" not in found, "nothing to divide by"
    assert found["task_tokens"].mean > 100


def test_finished_rows_are_not_asked_again(tmp_path: Path) -> None:
    address = model_file(tmp_path / "m.jsonl", CASES[:2])
    told: list[tuple[int, int]] = []
    with pytest.raises(ModelUnavailable, match="has no reply left"):
        run(CASES, address, tmp_path / "out")
    lines = [line for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines() if line]
    assert len(lines) == 2
    rows = run(CASES[:2], address, tmp_path / "out", tell=lambda done, total, row: told.append((done, total)))
    assert [row.success for row in rows] == [True, True]
    assert told == [], "both were there"


def test_several_cases_at_once_give_the_same_rows(tmp_path: Path) -> None:
    """Each case takes one turn here, so that a shared script serves them in any order."""
    cases = [make("none", "test", str(number)) for number in range(6)]
    replies = [{"content": '{"thought": "", "answer": "I cannot do that."}'}] * 6
    path = tmp_path / "m.jsonl"
    lines = [{"capabilities": {"native_tools": False, "json_schema": True}}, *replies]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rows = run(cases, f"scripted:{path}", jobs=3)
    assert [(row.id, row.success) for row in rows] == [(case.id, True) for case in cases]


def test_a_reply_that_breaks_off_is_a_row_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"content": "I begin", "error": "the line went dead"}\n')
    (row,) = run([FERRY], f"scripted:{path}")
    assert (row.success, "the line went dead" in row.error) == (False, True)
    assert row.problem.startswith("no answer:")


def test_steps_and_replies_are_capped(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    calls = [{"tool_calls": [{"name": "get_reminder", "arguments": {"label": f"x{n}"}}]} for n in range(20)]
    path.write_text("".join(json.dumps(line) + "\n" for line in calls))
    (row,) = run([FERRY], f"scripted:{path}")
    assert row.steps == measured.STEPS
    assert "budget.steps" in row.problem


@pytest.mark.parametrize("protocol", ["json", "native", "text"])
def test_the_worked_examples_are_of_training_tools_as_the_protocol_shows_them(protocol: str) -> None:
    settings = Settings.model_validate({"models": {"protocol": protocol}})

    async def work(session: Session) -> list[Message]:
        session.models["m"] = Scripted([], Capabilities(native_tools=protocol == "native", json_schema=True), "m")
        return await acting.shots(session, "m")

    shots = in_session(work, settings)
    asked = [message for message in shots if message.role == "user" and not message.content.startswith("Observation:")]
    assert len(asked) == 3
    said = [message for message in shots if message.role == "assistant"]
    assert len(said) == 6, "one call, two calls, none; and three answers"
    if protocol == "json":
        assert list(json.loads(said[0].content)) == ["thought", "action"]
        assert all("Tools:\n- " in message.content for message in asked)
    if protocol == "text":
        assert said[0].content.startswith("Thought: ")
    if protocol == "native":
        assert said[0].tool_calls


def test_the_command_measures_compares_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text(as_jsonl(CASES))
    good = model_file(tmp_path / "good.jsonl", [*CASES, *CASES])
    wrong = [case.model_copy(update={"turns": ()}) for case in CASES]
    weak = model_file(tmp_path / "weak.jsonl", [*wrong, *wrong])
    out = tmp_path / "out"
    arguments = ("run", "acting", "--cases", cases, "--model", good, "--against", weak, "--protocol", "json")
    assert evals(*arguments, "--out", out) == 0
    printed = capsys.readouterr()
    assert "task success" in printed.out
    assert "## Task success by kind of case" in printed.out
    report = json.loads((out / "report.json").read_text())
    assert list(report["models"]) == [good, weak, f"{good}, 3 examples", f"{weak}, 3 examples"]
    summary = {name: entry["summary"] for name, entry in report["models"].items()}
    assert (summary[good]["success"]["mean"], summary[weak]["success"]["mean"]) == (1.0, pytest.approx(1 / 3))
    assert summary[good]["success"].keys() == {"mean", "low", "high"}
    lines = {(line["a"], line["b"], line["metric"]): line for line in report["comparisons"]}
    assert lines[good, weak, "success"]["test"] == "McNemar"
    assert (out / "report.html").read_text().count("<svg") == 1
    assert not (data_dir(Settings()) / "traces.db").exists(), "evaluation never becomes training data"
    assert evals("compare", out / "report.json", out / "report.json") == 0
    assert "task success" in capsys.readouterr().out


def test_a_backend_that_no_schema_can_hold_is_asked_for_json_all_the_same(tmp_path: Path) -> None:
    """What it writes by itself counts; a reply that is no JSON is a call that cannot be read."""
    path = tmp_path / "m.jsonl"
    replies = [*scripted(CASES[0]).replies, {"content": "Sure!"}, {"content": "Sure!"}]
    lines = [{"capabilities": {"native_tools": False}}, *replies]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = Settings.model_validate({"models": {"protocol": "json"}})
    rows = asyncio.run(measured.rows(ACTING, CASES[:2], f"scripted:{path}", settings))
    assert [(row.success, row.valid, row.calls) for row in rows] == [(True, 1, 1), (False, 0, 2)]


def test_a_protocol_that_a_model_cannot_speak_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = model_file(tmp_path / "m.jsonl", CASES)
    assert evals("run", "acting", "--rows", 1, "--model", address, "--protocol", "native", "--no-baselines") == 2
    assert "no native tool calls" in capsys.readouterr().err

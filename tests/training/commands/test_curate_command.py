"""`train curate`: what it prints, writes and labels, with rules alone and with a judge at the wire."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import pytest

from agent.commands.traces import OpenStore
from agent.errors import InputError
from agent.messages import Message
from skills.annotate.attempt import prompt
from tests.agent.records import a_run, record
from tests.training.annotations import ABSENT, BEAMS, BEAMS_MOVES, FRAMEWORK, a_row, beams, reviewers, write_gold
from tests.wire.model_server import Say
from tests.wire.openai_server import OpenAIServer
from training.commands import curate
from training.rows import as_jsonl, read_rows


def train(*words: str) -> int:
    """The command, as the program calls it."""
    parser = argparse.ArgumentParser()
    curate.add_actions(parser.add_subparsers())
    options = parser.parse_args(words)
    code: int = asyncio.run(options.run(options))
    return code


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Two rows: one annotated by hand, one that invents a limitation."""
    path = tmp_path / "rows.jsonl"
    bad = reviewers(limitation="The approach may still struggle with larger teams of people elsewhere.", scope="Two.")
    path.write_text(as_jsonl([a_row(beams()), a_row(bad)]))
    return path


def test_rows_are_curated_and_compared_with_gold(
    rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "decisions.jsonl", tmp_path / "kept.jsonl"
    gold = write_gold(tmp_path / "gold.jsonl")
    words = ("curate", "--rows", str(rows), "--gold", str(gold), "--out", str(out), "--kept", str(kept))
    assert train(*words) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 annotations: 1 kept, 1 rejected (50.0%), 1 of them without a vote\n")
    assert "methodologist  passed     1 of 1" in said
    assert "gold: 2 documents; token F1 of those kept 1.000 (1), of those rejected 0.750 (1);" in said
    assert "in 100.0% of pairs the kept one is nearer" in said
    (row,) = read_rows(kept)
    assert (row.source, json.loads(row.completion)) == ("curated", BEAMS_MOVES)
    before = out.read_bytes()
    assert train(*words) == 0
    assert out.read_bytes() == before


def test_the_runs_on_record_are_labelled(tmp_path: Path) -> None:
    messages = prompt(FRAMEWORK, BEAMS)
    bare = {**dict.fromkeys(FRAMEWORK.keys, ABSENT), "claim": BEAMS_MOVES["claim"]}
    with OpenStore() as store:
        for run_id, moves in (("aaa1", BEAMS_MOVES), ("aaa2", bare)):
            run = a_run(run_id, skills=["annotate"])
            run.outcome = "success"
            record(store, run, *messages, Message("assistant", json.dumps(moves)))
    assert train("curate", "--traces", "--out", str(tmp_path / "decisions.jsonl")) == 0
    with OpenStore() as store:
        labels = {run.id: run.labels for run in store.runs()}
    assert labels["aaa1"] == {"curator": "kept"}
    assert labels["aaa2"]["curator"] == "rejected" or "only 1 moves" in labels["aaa2"]["curator_reasons"]


def test_a_judge_at_the_wire_has_its_say(rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OpenAIServer() as server:
        server.script(*[Say(json.dumps({"reason": "It is invented.", "passed": False}))] * 3)
        judge = f"openai@{server.url}/v1:judge"
        out = tmp_path / "decisions.jsonl"
        assert train("curate", "--rows", str(rows), "--judge", judge, "--out", str(out)) == 0
        asked = [request.body for request in server.requests]
    assert len(asked) == 3
    assert {body["temperature"] for body in asked} == {0.0}
    assert all(body["response_format"]["json_schema"]["schema"]["required"] == ["reason", "passed"] for body in asked)
    said = capsys.readouterr().out
    assert "2 annotations: 0 kept, 2 rejected" in said
    assert "judge: 3 questions asked, 54 tokens, 0 answers unreadable" in said


def test_a_file_without_annotations_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(as_jsonl([a_row(beams()).model_copy(update={"skill": "tools"})]))
    with pytest.raises(InputError, match="no annotation to curate"):
        train("curate", "--rows", str(path), "--out", str(tmp_path / "out.jsonl"))


def test_without_both_kinds_gold_has_nothing_to_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(as_jsonl([a_row(beams())]))
    gold = write_gold(tmp_path / "gold.jsonl")
    assert train("curate", "--rows", str(path), "--gold", str(gold), "--out", str(tmp_path / "out.jsonl")) == 0
    assert "1 of the documents have a gold annotation, 1 kept: nothing to compare" in capsys.readouterr().out

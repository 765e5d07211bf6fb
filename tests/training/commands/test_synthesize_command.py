"""`train synthesize`, `edit-pairs` and `recombine` as a person calls them."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import pytest

from agent.errors import UsageError
from tests.training.annotations import write_gold
from tests.training.synthesis.teacher import TOOLS, Teacher, a_paper
from tests.training.synthesis.test_edit_pairs import GREET, git
from tests.wire.model_server import Say
from training.commands import synthesize
from training.rows import read_rows


def train(*words: str) -> int:
    """The command, as the program calls it."""
    parser = argparse.ArgumentParser()
    synthesize.add_actions(parser.add_subparsers())
    options = parser.parse_args(words)
    code: int = asyncio.run(options.run(options))
    return code


def teach(server: Teacher, out: Path, skill: str, count: int, *more: str) -> int:
    teacher = f"openai@{server.url}/v1:big"
    words = (skill, "--teacher", teacher, "--count", str(count), "--out", str(out))
    return train("synthesize", *words, *more)


def test_papers_are_synthesised_away_from_evaluation_cases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = tmp_path / "cases.jsonl"
    cases.write_text(json.dumps({"id": "c1", "abstract": a_paper(1)[0]}) + "\n")
    with Teacher() as server:
        assert teach(server, tmp_path / "out", "annotate", 3, "--exclude", str(cases), "--evolve", "shorter") == 0
    said = capsys.readouterr().out
    assert said.startswith("3 rows of 4 attempts (75%), ")
    assert "rejected    1: near an evaluation case" in said
    assert f"rows: {tmp_path / 'out' / 'rows.jsonl'}" in said
    assert len(list(read_rows(tmp_path / "out" / "rows.jsonl"))) == 3


def test_a_spent_budget_is_told_and_the_exit_code_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Teacher() as server:
        assert teach(server, tmp_path / "out", "annotate", 3, "--budget-tokens", "40") == 1
        assert "stopped after 72 tokens (--budget-tokens)" in capsys.readouterr().out
        assert teach(server, tmp_path / "out", "annotate", 3) == 0
    assert len(list(read_rows(tmp_path / "out" / "rows.jsonl"))) == 3


def test_cases_for_given_tools_are_synthesised(tmp_path: Path) -> None:
    tools = tmp_path / "tools.json"
    tools.write_text(json.dumps(TOOLS))
    with Teacher() as server:
        assert teach(server, tmp_path / "out", "tools", 2, "--tools", str(tools)) == 0
    rows = list(read_rows(tmp_path / "out" / "rows.jsonl"))
    assert [row.source for row in rows] == ["check", "check"]


def test_without_a_file_the_built_in_tools_are_offered(tmp_path: Path) -> None:
    with Teacher() as server:
        assert teach(server, tmp_path / "out", "tools", 1, "--budget-tokens", "1") == 1
        asked = server.requests[0].body["messages"][1]["content"]
    names = ("read_file", "write_file", "edit_file", "list_files", "search_files", "run_shell", "fetch", "arxiv")
    assert any(f'"name": "{name}"' in asked for name in names)


def test_rehearsal_keeps_what_the_teacher_says(tmp_path: Path) -> None:
    with Teacher() as server:
        server.script(Say("A thing that is so."), Say("Another one is not."))
        assert teach(server, tmp_path / "out", "rehearsal", 2) == 0
    assert {row.source for row in read_rows(tmp_path / "out" / "rows.jsonl")} == {"rehearsal"}


def test_an_unknown_evolve_step_stops_it_before_anything_is_made(tmp_path: Path) -> None:
    with Teacher() as server, pytest.raises(UsageError, match="no evolve step 'nicer'"):
        teach(server, tmp_path / "out", "annotate", 1, "--evolve", "nicer")
    assert not (tmp_path / "out").exists()


def test_edit_pairs_are_written_from_a_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    out = tmp_path / "edits.jsonl"
    for message, text in (
        ("Start with two functions", GREET),
        ("Say good morning", GREET.replace("hello", "good day")),
    ):
        (folder / "greet.py").write_text(text)
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "-m", message)
    assert train("edit-pairs", str(folder), "--out", str(out)) == 0
    assert capsys.readouterr().out == f"1 rows written to {out}; left out: nothing\n"
    assert len(list(read_rows(out))) == 1
    (folder / "greet.py").write_text("")
    git(folder, "reset", "--quiet", "--hard", "HEAD~1")
    with pytest.raises(UsageError, match="has no edit that makes a row"):
        train("edit-pairs", str(folder), "--out", str(out))


def test_copies_of_gold_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gold, out = write_gold(tmp_path / "gold.jsonl"), tmp_path / "copies.jsonl"
    assert train("recombine", str(gold), "--out", str(out), "--each", "2") == 0
    assert capsys.readouterr().out == f"7 rows written to {out}; made: 4 noisy, 3 shortened; refused: none\n"
    assert {row.source for row in read_rows(out)} == {"synthetic"}

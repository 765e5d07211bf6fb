"""The sweep over numbers of replies, on replies that are given and on the real model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.errors import UsageError
from agent.messages import Message, Usage
from agent.models.base import Reply
from evals.best_of import counts, main, table
from skills.annotate.framework import load
from tests.evals.examples import ABSENT, GOLD, a_case, scripted, write_cases

EIGHT = load("eight-moves")


def a_reply(likelihood: float, **moves: str) -> Reply:
    text = json.dumps({**dict.fromkeys(EIGHT.keys, ABSENT), **moves})
    return Reply(Message("assistant", text), Usage(), "stop", "m", mean_logprob=likelihood)


def test_the_numbers_of_replies_double_up_to_the_most() -> None:
    assert [counts(most) for most in (1, 6, 8)] == [[1], [1, 2, 4, 6], [1, 2, 4, 8]]


def test_each_n_is_scored_on_the_first_replies_by_agreement_and_by_likelihood() -> None:
    drawn = [(a_case(), [a_reply(-2.0), a_reply(-1.0, **GOLD), a_reply(-3.0), a_reply(-3.0, **GOLD)])]
    lines = table(drawn, {1: 1.0, 2: 1.5}, EIGHT).splitlines()
    assert lines[2].startswith("| 1 | - | 0.250 (")
    assert lines[3].startswith("| 2 | agreement | 1.000 ("), "half of the replies are too few to leave a move out"
    assert lines[4].startswith("| 2 | likelihood | 1.000 (")
    assert [line.split("|")[-2].strip() for line in lines[2:]] == ["1.00", "1.50", "1.50"]


def test_a_model_that_cannot_draw_is_refused(tmp_path: Path) -> None:
    cases = write_cases(tmp_path / "cases.jsonl", [a_case()])
    with pytest.raises(UsageError, match="does not draw several replies"):
        main([str(cases), "--model", scripted(tmp_path / "m.jsonl", [])])


def test_a_sweep_prints_a_line_for_each_n(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = write_cases(tmp_path / "cases.jsonl", [a_case(1), a_case(2)])
    model = scripted(tmp_path / "m.jsonl", [GOLD] * 7, grammar=True, draws=True)
    main([str(cases), "--model", model, "--most", "2", "--timed", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["1", "2", "2"]
    assert all("1.000 (1.000-1.000)" in line for line in lines[2:])

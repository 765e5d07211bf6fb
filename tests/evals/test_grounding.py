"""The comparison of the grounding levels: its measures by worked examples, and one small real run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.grounding import HEADERS, Measure, line, main, table
from evals.metrics import row_f1
from skills.annotate.framework import load

FRAMEWORK = load("eight-moves")
ABSENT = dict.fromkeys(FRAMEWORK.keys, "Not stated.")


def test_a_rows_f1_is_the_mean_over_its_moves_with_absent_moves_all_or_nothing() -> None:
    gold = ABSENT | {"claim": "moss grows", "scope": "stones only"}
    assert row_f1(gold, gold, FRAMEWORK) == 1.0
    assert row_f1(gold | {"claim": "moss dies"}, gold, FRAMEWORK) == pytest.approx(7.5 / 8)
    assert row_f1(gold | {"scope": "Not stated."}, gold, FRAMEWORK) == pytest.approx(7 / 8)


@pytest.mark.parametrize("broken", [{}, {"claim": "moss"}, ABSENT | {"scope": " "}, ABSENT | {"scope": 3}])
def test_a_row_that_lacks_a_move_scores_nothing(broken: dict[str, object]) -> None:
    assert row_f1(broken, ABSENT, FRAMEWORK) == 0.0


def test_a_line_counts_replies_and_averages_over_stated_moves() -> None:
    good = Measure(True, False, False, (1.0, 0.8), 0.5, 100, 2.0, 0.001)
    bad = Measure(False, True, True, (0.6,), None, 300, 10.0, 0.003)
    assert line("numbers", [good, bad]) == (
        "numbers", "1/2", "1", "1", "0.800", "1.5", "0.500", "200", "30.0", "2.0"
    )  # fmt: skip
    assert line("none", [bad])[HEADERS.index("token F1")] == "-"


def test_the_table_is_markdown() -> None:
    rows = table([("none",) * len(HEADERS)]).splitlines()
    assert len(rows) == 3
    assert {row.count("|") for row in rows} == {len(HEADERS) + 1}


@pytest.mark.llama
def test_every_level_answers_every_row_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = (
        'instructions = "Answer."\nabsent = "Not stated."\nmoves = [{key = "claim", question = "What?", min_words = 2}]'
    )
    from agent.config import config_dir

    own = config_dir() / "frameworks" / "one.toml"
    own.parent.mkdir(parents=True)
    own.write_text(short)
    rows = [{"abstract": "Moss grew by 14 mm on 3 stones.", "annotation": {"claim": "Moss grew by 14 mm."}}] * 2
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    main([str(file), "--rows", "1", "--threads", "1", "--framework", "one", "--move-tokens", "8"])
    printed = capsys.readouterr()
    lines = [row.split(" | ") for row in printed.out.splitlines()]
    assert [row[0] for row in lines[2:]] == ["| none", "| numbers", "| words"]
    assert {row[1].partition("/")[2] for row in lines[2:]} == {"1"}
    assert [row[3] for row in lines[3:]] == ["0", "0"]
    assert "row 1 of 1" in printed.err

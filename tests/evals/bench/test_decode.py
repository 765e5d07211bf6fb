"""The decode benchmark runs, and its template is a fair one."""

from __future__ import annotations

import json

import pytest

from agent.models.base import Fixed, Hole
from evals.bench.decode import ABSTRACT, NUMBERS, eight_moves, main


def test_the_template_has_eight_string_holes_of_one_object() -> None:
    pieces = eight_moves()
    assert sum(isinstance(piece, Hole) for piece in pieces) == 8
    text = "".join(piece.text if isinstance(piece, Fixed) else f"x.{piece.close}" for piece in pieces)
    assert len(json.loads(text)) == 8
    assert all(number in ABSTRACT for number in NUMBERS)


@pytest.mark.llama
def test_rates_and_ratios_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--rounds", "1"])
    printed = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert {"bare", "ours", "template", "ours/bare", "template/bare"} <= set(printed)
    assert all(float(value) > 0 for value in printed.values())
    assert float(printed["sampled"]) < float(printed["tokens"])

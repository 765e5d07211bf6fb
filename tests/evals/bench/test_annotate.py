"""The benchmark of annotate: a process of its own for an abstract, and as many tokens as the row's own moves have."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from evals.bench import annotate

MOVES = ("claim", "evidence", "method", "scope", "limitation", "comparison", "implication", "novelty")


@pytest.mark.llama
def test_an_abstract_is_timed_at_the_length_of_its_own_annotation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    row = {
        "abstract": "We count bees on 12 roofs. Roofs with clover have more of them.",
        "annotation": dict.fromkeys(MOVES, "Roofs with clover have more bees."),
    }
    rows = tmp_path / "rows.jsonl"
    rows.write_text((json.dumps(row) + "\n") * 2)
    monkeypatch.setattr(sys, "argv", ["annotate", str(rows), "--threads", "1"])
    annotate.main()
    said = capfd.readouterr().out
    assert said.startswith("2 abstracts, each in a process of its own, 1 threads\n")
    tokens = next(line for line in said.splitlines() if line.startswith("tokens written")).split()[-1]
    assert 8 * 8 <= int(tokens) <= 8 * 20  # eight moves of about eight tokens, and their keys

"""The benchmark of training rows measures each run on cases that it never saw, and says so if it did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.errors import InputError
from evals.bench import scaling
from skills.annotate import framework
from tests.training import tiny
from training import sft

pytest.importorskip("torch")


def test_a_run_has_a_line_and_a_point_and_what_it_has_seen_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scaling, "TOKENS", 8)
    base, run = tiny.write_base(tmp_path / "base"), tmp_path / "run"
    dataset = tiny.write_dataset(tmp_path / "dataset", [tiny.annotated(number) for number in range(4)])
    sft.train(tiny.recipe(base, dataset, max_steps=1), run)
    cases = tmp_path / "cases.jsonl"
    first = tiny.ABSTRACTS[0]
    moves = dict.fromkeys(framework.load("eight-moves").keys, "Not stated.") | {"claim": first["abstract"][:60]}
    cases.write_text(json.dumps({**first, "annotation": moves}) + "\n")
    monkeypatch.setattr("sys.argv", ["scaling", str(cases), str(run), "--plot", str(tmp_path / "plot.svg")])
    scaling.main()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 4 |")]
    assert "0.000 (0.000-0.000) | 0% |" in line, "eight tokens of an untrained model are no annotation"
    assert "annotated abstracts trained on" in (tmp_path / "plot.svg").read_text("utf-8")

    (row,) = scaling.cases(cases)
    (dataset / "manifest.json").write_text(
        json.dumps({"sha256": "d", "documents": {"train": [row.document], "validation": []}})
    )
    with pytest.raises(InputError, match="was made from some of the cases"):
        scaling.main()

"""The benchmark of several replies runs, and compares like with like."""

from __future__ import annotations

import pytest

from evals.bench.samples import main


@pytest.mark.llama
def test_both_rates_and_their_ratio_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--replies", "2", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    names, values = zip(*(line.rsplit(maxsplit=1) for line in lines), strict=True)
    assert [name.strip() for name in names] == ["one by one", "together", "ratio"]
    rates = [float(value) for value in values]
    assert rates[2] == pytest.approx(rates[1] / rates[0], rel=0.05)

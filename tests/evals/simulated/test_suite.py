"""The shipped cases: what they are, and that they are what the families make."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from agent.errors import InputError
from evals.simulated import suite
from evals.simulated.case import as_jsonl, read
from evals.simulated.pools import Split
from tests.evals.simulated.playing import FERRY

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("split", ["dev", "test"])
def test_the_shipped_files_are_what_the_families_make(split: Split, tmp_path: Path) -> None:
    assert as_jsonl(suite.cases(split)) == suite.path(split).read_text(encoding="utf-8"), (
        "run python -m evals.simulated.suite"
    )


def test_the_shipped_suite_is_as_hard_as_it_says() -> None:
    cases = read([suite.path("test")])
    kinds = Counter(case.kind for case in cases)
    assert len(cases) >= 120
    assert kinds == suite.COUNTS
    assert f"\n{len(cases)} cases" in (ROOT / "docs" / "acting.md").read_text(encoding="utf-8")
    assert sum(len(case.calls) > 1 for case in cases) >= 0.3 * len(cases), "several steps"
    assert sum(not case.calls for case in cases) >= 0.2 * len(cases), "no call"
    assert min(len(case.offered) for case in cases) >= 8
    copied = [case for case in cases if any(len(call.arguments) >= 2 for call in case.check.calls)]
    assert len(copied) >= 60, "two values to copy or to convert"
    assert len({case.document for case in cases}) >= len(cases) - kinds["beads"]


def test_the_splits_share_no_case() -> None:
    dev, test = read([suite.path("dev")]), read([suite.path("test")])
    assert {case.document for case in dev} & {case.document for case in test} == set()


def test_writing_the_suite_makes_both_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "FOLDER", tmp_path / "cases")
    monkeypatch.setattr(suite, "COUNTS", {"single": 2})
    suite.main()
    assert [len(read([suite.path(split)])) for split in ("dev", "test")] == [1, 2]
    assert "2 cases" in capsys.readouterr().out


def test_a_file_that_is_no_case_file_is_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    with pytest.raises(InputError, match="cannot be read"):
        read([path])
    path.write_text(as_jsonl([FERRY]) + '{"id": "x"}\n')
    with pytest.raises(InputError, match=r"line 2 of .*: split: Field required"):
        read([path])
    path.write_text("\n")
    with pytest.raises(InputError, match="no case"):
        read([path])
    path.write_text(as_jsonl([FERRY, FERRY]))
    with pytest.raises(InputError, match="the same id"):
        read([path])
    path.write_text(as_jsonl([FERRY]))
    assert read([path]) == [FERRY]

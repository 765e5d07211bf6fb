"""What an evaluation keeps: finished rows survive cuts, and a full disk costs none of them."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from agent.errors import InputError, OutputError
from evals.record import FinishedRows, fingerprint


def test_rows_are_found_again_by_their_key(tmp_path: Path) -> None:
    with FinishedRows(tmp_path / "rows.jsonl") as rows:
        rows.add("a", {"f1": 0.5})
        assert rows.get("a") == {"f1": 0.5}
    with FinishedRows(tmp_path / "rows.jsonl") as rows:
        assert (rows.get("a"), rows.get("b")) == ({"f1": 0.5}, None)


@pytest.mark.parametrize("kept", [1, 10, 29])
def test_a_line_that_was_cut_costs_only_its_own_row(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "rows.jsonl"
    with FinishedRows(path) as rows:
        rows.add("a", {"f1": 0.5})
    whole = path.read_bytes()
    with FinishedRows(path) as rows:
        rows.add("b", {"f1": 0.25})
    path.write_bytes(path.read_bytes()[: len(whole) + kept])
    with FinishedRows(path) as rows:
        assert (rows.get("a"), rows.get("b")) == ({"f1": 0.5}, None)
        rows.add("c", {"f1": 1.0})
    with FinishedRows(path) as rows:
        assert (rows.get("a"), rows.get("c")) == ({"f1": 0.5}, {"f1": 1.0})


@pytest.mark.parametrize("room", [0, 12])
def test_a_row_that_did_not_reach_the_disk_is_an_error_and_those_before_it_stand(tmp_path: Path, room: int) -> None:
    path, (_, hard) = tmp_path / "rows.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    with FinishedRows(path) as rows:
        rows.add("a", {"f1": 0.5})
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, hard))
        try:
            with pytest.raises(OutputError, match=r"rows\.jsonl cannot be written"):
                rows.add("b", {"f1": 0.25})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    with FinishedRows(path) as rows:
        assert (rows.get("a"), rows.get("b")) == ({"f1": 0.5}, None)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        FinishedRows(tmp_path)


def test_a_fingerprint_depends_on_every_part_and_not_on_the_order_of_keys() -> None:
    assert fingerprint("a", {"x": 1, "y": 2}) == fingerprint("a", {"y": 2, "x": 1})
    assert len({fingerprint("a", {"x": 1}), fingerprint("a", {"x": 2}), fingerprint("b", {"x": 1})}) == 3

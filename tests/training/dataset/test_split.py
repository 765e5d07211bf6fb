"""A document's split is a matter of its key alone."""

from __future__ import annotations

import hashlib

import pytest

from agent.errors import UsageError
from training.dataset.split import Shares, place, splits

KEYS = [hashlib.sha256(str(number).encode()).hexdigest()[:16] for number in range(5000)]


def test_shares_are_kept_over_many_documents() -> None:
    found = [place(key, Shares()) for key in KEYS]
    assert abs(found.count("train") / 5000 - 0.8) < 0.02
    assert abs(found.count("validation") / 5000 - 0.1) < 0.02
    assert abs(found.count("gate") / 5000 - 0.1) < 0.02


def test_no_document_moves_into_or_out_of_training_as_the_record_grows() -> None:
    before: dict[str, str] = {}
    for count in range(100, 3000, 100):
        now = splits(KEYS[:count], KEYS[:count], Shares())
        moved = {key for key, split in before.items() if (split == "train") != (now[key] == "train")}
        assert moved == set()
        before = {**now}


def test_the_gate_has_forty_verified_documents_once_there_are_four_hundred() -> None:
    by_split = {split: [key for key in KEYS if place(key, Shares()) == split] for split in ("train", "validation")}
    chosen = [*by_split["train"][:350], *by_split["validation"][:60]]  # none of them falls into the gate by its key
    found = splits(chosen, chosen, Shares())
    assert list(found.values()).count("gate") == 40
    assert all(place(key, Shares()) == "validation" for key, split in found.items() if split == "gate")


def test_with_fewer_than_four_hundred_the_gate_takes_what_it_gets() -> None:
    found = splits(KEYS[:100], KEYS[:100], Shares())
    assert {key: place(key, Shares()) for key in KEYS[:100]} == found


def test_shares_can_be_set() -> None:
    assert {place(key, Shares(validation=0.0, gate=0.0)) for key in KEYS} == {"train"}


@pytest.mark.parametrize("values", [(0.5, 0.5, 40), (-0.1, 0.1, 40), (0.1, 0.1, -1)])
def test_shares_that_are_none_are_refused(values: tuple[float, float, int]) -> None:
    with pytest.raises(UsageError, match="no shares of one whole"):
        Shares(*values)

"""The baselines: what they say, and that examples never come from the suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import InputError
from evals.baselines import ALL_ABSENT, IN_ORDER, load_examples, sentences_in_order, without_model
from skills.annotate.framework import load
from tests.evals.examples import ABSENT, KEYS, a_case, write_cases

FRAMEWORK = load("eight-moves")


def test_sentences_are_copied_move_by_move_until_they_run_out() -> None:
    found = sentences_in_order("Salt rose. Roads were near, e.g. two. Lakes were left out.", FRAMEWORK)
    assert list(found) == list(KEYS)
    assert list(found.values()) == ["Salt rose.", "Roads were near, e.g. two.", "Lakes were left out.", *[ABSENT] * 5]
    assert list(sentences_in_order(" ".join(["Salt rose."] * 10), FRAMEWORK).values()) == ["Salt rose."] * 8


def test_the_baselines_without_a_model_are_scored_like_any_other() -> None:
    rows = without_model([a_case(1), a_case(2)], FRAMEWORK)
    assert [row.f1 for row in rows[ALL_ABSENT]] == [2 / 8, 2 / 8]
    assert all(row.valid and not row.accepted and row.supported is None for row in rows[ALL_ABSENT])
    assert not any(row.valid for row in rows[IN_ORDER]), "a sentence of the abstract is shorter than a move may be"
    assert {row.tokens for name in rows for row in rows[name]} == {0}


def test_an_example_that_is_in_the_suite_is_refused_by_its_abstract_not_by_its_id(tmp_path: Path) -> None:
    suite = [a_case(1), a_case(2)]
    file = write_cases(tmp_path / "examples.jsonl", [a_case(5), a_case(2).model_copy(update={"id": "other"})])
    with pytest.raises(InputError, match=r"the example 'other' of .* is the suite's case 'c2'"):
        load_examples(file, suite, FRAMEWORK)
    assert [case.id for case in load_examples(file, suite[:1], FRAMEWORK)] == ["c5", "other"]

"""Copies of gold rows: what a cut takes away, what noise leaves, and that chance repeats itself."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from skills.annotate.validate import check, numbers
from tests.training.annotations import (
    ABSENT,
    BEAMS,
    BEAMS_MOVES,
    FRAMEWORK,
    REVIEWERS,
    REVIEWERS_MOVES,
    a_row,
    beams,
    write_gold,
)
from tests.training.annotations import reviewers as reviewers_subject
from training.curation.outputs import Output, from_file
from training.rows import as_jsonl, document_key
from training.synthesis.recombine import CHANGES, copies, noisy, recombined, shortened


def cuts(abstract: str, moves: dict[str, str]) -> dict[int, tuple[str, dict[str, str], list[str]]]:
    found = {}
    for text, annotation, note in shortened(abstract, moves, FRAMEWORK):
        place, lost = note["sentence"], note["lost"]
        assert isinstance(place, int)
        assert isinstance(lost, list)
        found[place] = text, annotation, lost
    return found


def test_the_moves_that_a_sentence_alone_supports_go_with_it() -> None:
    text, annotation, lost = cuts(REVIEWERS, REVIEWERS_MOVES)[4]
    assert lost == ["implication"]
    assert "review tools should show coverage" not in text
    assert annotation == REVIEWERS_MOVES | {"implication": ABSENT}
    assert list(annotation) == FRAMEWORK.keys


def test_a_sentence_that_no_move_needs_goes_without_a_change() -> None:
    _, annotation, lost = cuts(REVIEWERS, REVIEWERS_MOVES)[3]  # the banner, of which no move speaks
    assert lost == []
    assert annotation == REVIEWERS_MOVES


def test_a_sentence_that_claim_method_or_scope_need_stays() -> None:
    assert 1 not in cuts(REVIEWERS, REVIEWERS_MOVES)
    assert all("claim" not in lost and "method" not in lost for _, _, lost in cuts(BEAMS, BEAMS_MOVES).values())


def test_a_move_is_not_called_absent_where_another_sentence_could_serve_as_it() -> None:
    more = REVIEWERS.replace("A short banner", "These insights may help future work. A short banner")
    assert 4 in cuts(REVIEWERS, REVIEWERS_MOVES)
    assert 5 not in cuts(more, REVIEWERS_MOVES)


def test_a_cut_that_takes_a_moves_number_but_not_its_words_makes_no_row() -> None:
    twice = (
        "We present Sol, a solver for rota plans of hospital wards. Sol plans rotas of hospital wards in 14 minutes. "
        "Sol plans rotas of hospital wards in minutes. It was made with nurses of two wards."
    )
    moves = dict.fromkeys(FRAMEWORK.keys, ABSENT) | {
        "claim": "The authors present Sol, a solver for rota plans of hospital wards.",
        "evidence": "Sol plans rotas of hospital wards in 14 minutes.",
    }
    assert 1 not in cuts(twice, moves)
    assert 2 in cuts(twice, moves)


def test_a_short_abstract_is_not_cut() -> None:
    assert cuts("One thing is here. Another is there. A third follows.", BEAMS_MOVES) == {}


def test_noise_changes_the_text_and_keeps_its_numbers() -> None:
    for seed in range(20):
        text = noisy(BEAMS, random.Random(seed))
        assert text != BEAMS
        assert set(numbers(text)) == set(numbers(BEAMS))
        assert [finding for finding in check(BEAMS_MOVES, text, FRAMEWORK) if not finding.doubt] == []


@pytest.mark.parametrize(
    ("place", "text", "after"),
    [
        (0, "It took 2.7 hours", "It took $2.7$ hours"),
        (1, "by 38% less", "by 38\\% less"),
        (2, "the caches", "the\ncaches"),
        (3, "End. Then", "End.  Then"),
        (4, "use StripeBeam now", "use \\textit{StripeBeam} now"),
        (5, "schemes, it", "schemes~\\cite{key}, it"),
        (6, "specification", "speciﬁcation"),
        (7, "well-typed", "well\N{NON-BREAKING HYPHEN}typed"),
        (0, "none here", "none here"),
    ],
)
def test_each_kind_of_noise_is_one_that_extraction_leaves(place: int, text: str, after: str) -> None:
    assert CHANGES[place](text, random.Random(0)) == after


def test_copies_are_synthetic_and_keep_their_originals_document(tmp_path: Path) -> None:
    found = recombined(write_gold(tmp_path / "gold.jsonl"), 2, 0)
    assert found.made == {"noisy": 4, "shortened": 3}
    assert found.told.startswith("made: 4 noisy, 3 shortened; refused: none")
    for row in found.rows:
        assert (row.source, row.verified, row.skill) == ("synthetic", False, "annotate")
        assert row.document in (document_key(BEAMS), document_key(REVIEWERS))
        assert row.provenance["derived_from"] == row.document[:6]
        assert row.provenance["kind"] in ("noisy", "shortened")
        abstract, annotation = str(row.messages[1]["content"]), json.loads(row.completion)
        assert check(annotation, abstract, FRAMEWORK) == []
        assert abstract not in (BEAMS, REVIEWERS)
    assert len({row.id for row in found.rows}) == len(found.rows)


def test_the_same_seed_gives_the_same_copies_and_another_one_others(tmp_path: Path) -> None:
    gold = write_gold(tmp_path / "gold.jsonl")
    assert recombined(gold, 1, 0).rows == recombined(gold, 1, 0).rows
    assert recombined(gold, 1, 0).rows != recombined(gold, 1, 1).rows


def test_the_order_of_the_originals_changes_no_copy(tmp_path: Path) -> None:
    originals = list(from_file(write_gold(tmp_path / "gold.jsonl")))
    there, back = copies(originals, 1, 0).rows, copies(originals[::-1], 1, 0).rows
    assert sorted(row.id for row in there) == sorted(row.id for row in back)


def test_training_rows_are_copied_as_gold_files_are(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    row = a_row(beams())
    path.write_text(as_jsonl([row]))
    assert {copy.provenance["derived_from"] for copy in recombined(path, 1, 0).rows} == {row.id}


def test_what_breaks_a_rule_is_refused_and_counted() -> None:
    subject = reviewers_subject(scope="Professional reviewers.")
    found = copies([Output("one", document_key(REVIEWERS), subject, {})], 1, 0)
    assert found.rows == []
    assert found.refused == {"shortened: length": 1, "noisy: length": 1}

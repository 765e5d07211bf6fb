"""How one annotation is scored: worked examples of every definition."""

from __future__ import annotations

import pytest

from evals.compare import Terms
from evals.metrics import ROW_METRICS, Timed, common_subsequence, move_metrics, rouge_l, row_f1, score
from skills.annotate.framework import load
from skills.annotate.validate import check, parse
from tests.evals.examples import ABSENT, ABSTRACT, GOLD, KEYS

FRAMEWORK = load("eight-moves")


def scored(annotation: dict[str, str], gold: dict[str, str] = GOLD) -> Timed:
    scores = score(annotation, check(annotation, ABSTRACT, FRAMEWORK), ABSTRACT, gold, FRAMEWORK)
    return Timed(**scores.model_dump())


def value(name: str, *rows: Timed) -> float | None:
    return Terms.of(rows, ROW_METRICS[name]).value


def test_gold_itself_scores_one_in_everything() -> None:
    row = scored(GOLD)
    assert (row.valid, row.order, row.accepted, row.grounded, row.f1, row.rouge_l) == (True, True, True, True, 1.0, 1.0)
    assert value("absent_f1", row) == 1.0


def test_a_move_absent_on_one_side_only_scores_nothing() -> None:
    row = scored(
        GOLD | {"limitation": ABSENT, "novelty": "Unlike earlier surveys of rivers, this one includes winter."}
    )
    assert row.moves["limitation"] == row.moves["novelty"] == row.rouge["limitation"] == 0.0
    assert row.moves["implication"] == 1.0
    assert row.f1 == pytest.approx(6 / 8)


def test_token_f1_counts_shared_words_without_stop_words_and_rouge_their_order() -> None:
    turned = "Of the northern plain, the authors lakes did not study."
    row = scored(GOLD | {"limitation": turned})
    assert row.moves["limitation"] == 1.0  # the same words but for stop words, in another order
    assert row.rouge["limitation"] == pytest.approx(2 * 4 / 14)  # in order: authors did not study


def test_rouge_l_is_the_longest_common_subsequence_over_both_lengths() -> None:
    assert common_subsequence("abcbdab", "bdcaba") == 4
    assert rouge_l("moss grows on old stones", "old moss grows on new stones") == pytest.approx(2 * 3 / (4 + 5))
    assert rouge_l("moss", "") == rouge_l("the of", "a an") == 0.0


@pytest.mark.parametrize(
    "broken",
    [
        {key: text for key, text in GOLD.items() if key != "scope"},
        dict(reversed(GOLD.items())),
        GOLD | {"scope": " "},
        GOLD | {"extra": "Rivers of the plain."},
        GOLD | {"scope": "Too short."},
    ],
    ids=["a move is missing", "another order", "an empty move", "a move too many", "outside its lengths"],
)
def test_an_annotation_whose_form_is_broken_scores_nothing(broken: dict[str, str]) -> None:
    row = scored(broken)
    assert (row.valid, row.accepted, row.f1, row.rouge_l) == (False, False, 0.0, 0.0)
    assert not any(said for said, _ in row.absent.values())
    assert value("absent_f1", row) == 0.0


def test_only_the_wrong_order_is_told_as_such() -> None:
    assert not scored(dict(reversed(GOLD.items()))).order
    assert scored(GOLD | {"scope": " "}).order


def test_a_reply_that_is_no_json_is_neither_valid_nor_grounded() -> None:
    annotation, findings = parse("I cannot do that.")
    row = score(annotation, findings, ABSTRACT, GOLD, FRAMEWORK)
    assert (row.valid, row.order, row.accepted, row.grounded, row.supported, row.length) == (
        False, False, False, False, None, 0
    )  # fmt: skip


def test_a_number_of_its_own_makes_a_row_ungrounded_and_not_accepted_but_leaves_its_form_valid() -> None:
    row = scored(GOLD | {"evidence": "Salt rose by 5% where roads were near, over 3 years in 12 rivers."})
    assert (row.valid, row.accepted, row.grounded) == (True, False, False)
    assert row.ungrounded == {"evidence": ["5"]}
    by_move = {key: Terms.of([row], move_metrics(key)["grounded"]).value for key in KEYS}
    assert by_move == dict.fromkeys(KEYS[:6], 1.0) | {"evidence": 0.0, "implication": None, "novelty": None}


def test_supported_words_are_a_mean_over_stated_moves_not_over_rows() -> None:
    one = scored(dict.fromkeys(KEYS, ABSENT) | {"claim": "Martians measured salt in rivers of the northern plain."})
    all_of_it = scored(GOLD)
    stated = [*one.support.values(), *all_of_it.support.values()]
    assert len(stated) == 7
    assert one.support["claim"] == pytest.approx(5 / 6)
    assert value("supported", one, all_of_it) == pytest.approx(sum(stated) / 7)


def test_agreement_on_the_absent_text_is_pooled_over_moves_and_told_move_by_move() -> None:
    row = scored(
        GOLD | {"limitation": ABSENT, "novelty": "Unlike earlier surveys of rivers, this one includes winter."}
    )
    assert value("absent_precision", row) == value("absent_recall", row) == value("absent_f1", row) == 0.5
    found = {key: {name: Terms.of([row], m).value for name, m in move_metrics(key).items()} for key in KEYS}
    assert [found["limitation"][f"absent_{name}"] for name in ("precision", "recall", "f1")] == [0.0, None, 0.0]
    assert [found["novelty"][f"absent_{name}"] for name in ("precision", "recall", "f1")] == [None, 0.0, 0.0]
    assert [found["implication"][f"absent_{name}"] for name in ("precision", "recall", "f1")] == [1.0, 1.0, 1.0]
    assert [found["claim"][f"absent_{name}"] for name in ("precision", "recall", "f1")] == [None, None, None]


def test_agreement_on_the_absent_text_weighs_precision_and_recall_alike() -> None:
    row = scored(GOLD | {"novelty": "Unlike earlier surveys of rivers, this one includes winter."})
    assert (value("absent_precision", row), value("absent_recall", row)) == (1.0, 0.5)
    assert value("absent_f1", row) == pytest.approx(2 / 3)


def test_the_length_is_that_of_the_stated_moves() -> None:
    assert scored(GOLD).length == sum(len(GOLD[key].split()) for key in KEYS[:6])


def test_a_rows_f1_of_an_annotation_that_lacks_a_move_is_zero() -> None:
    assert row_f1(GOLD, GOLD, FRAMEWORK) == 1.0
    assert row_f1({key: GOLD[key] for key in KEYS[1:]}, GOLD, FRAMEWORK) == 0.0

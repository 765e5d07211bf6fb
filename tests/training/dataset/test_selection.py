"""Which candidates become rows, and where: the best of what competes, no document on two sides."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

from training.dataset.candidates import Candidate, Ledger, candidate
from training.dataset.selection import Rules, select
from training.dataset.split import Shares, place
from training.rows import Row, Source, Split, document_key


def a_text(seed: str) -> str:
    """A document of sixty words that no other seed shares."""
    return " ".join(hashlib.sha256(f"{seed}{number}".encode()).hexdigest()[:6] for number in range(60))


def changed(text: str, place: int = 0) -> str:
    """A near duplicate: one word is another."""
    words = text.split()
    words[place] = "changed"
    return " ".join(words)


def texts_in(split: Split, prefix: str = "") -> Iterator[str]:
    """Documents whose keys fall into this split."""
    return (text for n in range(10_000) if place(document_key(text := a_text(f"{prefix}{n}")), Shares()) == split)


def near_in(split: Split, text: str) -> str:
    """A near duplicate of a document that falls into this split, whatever the document's own is."""
    words = text.split()
    options = (" ".join([f"w{number}", *words[1:]]) for number in range(10_000))
    return next(option for option in options if place(document_key(option), Shares()) == split)


def one(text: str, source: Source = "gold", answer: str = "yes", slot: str = "s", where: str = "") -> Candidate:
    return candidate(
        document=document_key(text),
        text=text,
        skill="annotate",
        messages=[{"role": "user", "content": text}, {"role": "assistant", "content": answer}],
        source=source,
        provenance={},
        where=where or answer,
        slot=slot,
    )


def selected(
    *examples: Candidate,
    negatives: tuple[Candidate, ...] = (),
    excluded: tuple[str, ...] = (),
    unverified: bool = False,
) -> tuple[dict[Split, list[Row]], dict[str, list[str]]]:
    ledger = Ledger()
    out = {document_key(text): text for text in excluded}
    return select(examples, negatives, out, Rules(unverified=unverified), ledger), ledger.reasons


def answers(rows: list[Row]) -> list[str]:
    return sorted(row.completion for row in rows)


TRAIN, VALIDATION, GATE = (next(texts_in(split)) for split in ("train", "validation", "gate"))


def test_each_document_goes_where_its_key_says() -> None:
    found, dropped = selected(one(TRAIN, answer="t"), one(VALIDATION, answer="v"), one(GATE, answer="g"))
    assert {split: answers(rows) for split, rows in found.items()} == {
        "train": ["t"],
        "validation": ["v"],
        "gate": ["g"],
        "negatives": [],
    }
    assert dropped == {}


def test_gold_beats_a_correction_beats_curated_beats_unfiltered() -> None:
    order: list[Source] = ["gold", "correction", "check", "agreement", "curated", "unfiltered"]
    for best, worse in itertools.pairwise(order):
        for pair in ([best, worse], [worse, best]):
            found, dropped = selected(*(one(TRAIN, source, source) for source in pair), unverified=True)
            assert answers(found["train"]) == [best]
            assert dropped == {f"a row from {best} answers the same": [worse]}


def test_a_second_row_that_says_the_same_is_a_duplicate() -> None:
    found, dropped = selected(one(TRAIN, where="first"), one(TRAIN.upper(), where="second"))
    assert len(found["train"]) == 1
    assert list(dropped) == ["a row from gold says the same"]


def test_rows_that_answer_different_questions_about_one_document_both_stay() -> None:
    found, _ = selected(one(TRAIN, answer="moves", slot="a"), one(TRAIN, answer="sections", slot="b"))
    assert answers(found["train"]) == ["moves", "sections"]


def test_of_near_duplicates_in_one_split_the_best_stays() -> None:
    near = near_in("train", TRAIN)
    found, dropped = selected(one(near, "correction", "near"), one(TRAIN, "gold", "best"))
    assert answers(found["train"]) == ["best"]
    assert dropped == {"nearly the document of a row from gold": ["near"]}


def test_near_duplicates_are_never_on_both_sides() -> None:
    """The one in the earlier split stays, whatever its source: its document may have been trained on before."""
    near = near_in("gate", TRAIN)
    found, dropped = selected(one(near, "gold", "gate"), one(TRAIN, "correction", "train"))
    assert (answers(found["train"]), answers(found["gate"])) == (["train"], [])
    assert dropped == {"nearly a document of the split train": ["gate"]}


def test_what_nobody_verified_is_left_out_unless_it_is_asked_for() -> None:
    rows = [one(TRAIN, "curated", "c"), one(next(texts_in("train", "x")), "unfiltered", "u")]
    found, dropped = selected(*rows)
    assert found["train"] == []
    assert dropped == {"nobody verified it (curated)": ["c"], "nobody verified it (unfiltered)": ["u"]}
    assert answers(selected(*rows, unverified=True)[0]["train"]) == ["c", "u"]


def test_what_nobody_verified_never_measures_anything() -> None:
    found, dropped = selected(one(GATE, "curated", "g"), one(VALIDATION, "unfiltered", "v"), unverified=True)
    assert found == {"train": [], "validation": [], "gate": [], "negatives": []}
    assert dropped == {
        "not verified, and its document is kept out for gate": ["g"],
        "not verified, and its document is kept out for validation": ["v"],
    }


def test_what_nobody_verified_gives_way_to_a_kept_out_document_that_it_is_near() -> None:
    near = near_in("train", GATE)
    found, dropped = selected(one(GATE, "gold", "gate"), one(near, "curated", "near"), unverified=True)
    assert (answers(found["gate"]), found["train"]) == (["gate"], [])
    assert dropped == {"nearly a document of the split gate": ["near"]}


def test_rehearsal_and_replay_need_nobodys_word_and_are_only_trained_on() -> None:
    rows = [one(GATE, "rehearsal", "r"), one(next(texts_in("gate", "y")), "replay", "kept out")]
    found, _ = selected(*rows, one(TRAIN, "replay", "p"))
    assert answers(found["train"]) == ["p", "r"]
    assert found["gate"] == []


def test_documents_of_evaluation_files_are_removed_exactly_and_nearly() -> None:
    other = next(texts_in("train", "z"))
    found, dropped = selected(
        one(TRAIN, answer="exact"),
        one(changed(TRAIN, 30), answer="near"),
        one(other, answer="stays"),
        negatives=(one(TRAIN, "unfiltered", "wrong"),),
        excluded=(TRAIN.upper(), a_text("never seen")),
    )
    assert (answers(found["train"]), found["negatives"]) == (["stays"], [])
    assert dropped == {
        "its document is in an evaluation file": ["exact", "wrong"],
        "its document is nearly one of an evaluation file": ["near"],
    }


def test_negatives_are_about_documents_of_training_alone() -> None:
    near_gate = near_in("train", GATE)
    found, dropped = selected(
        one(GATE, answer="gate"),
        negatives=(
            one(TRAIN, "unfiltered", "n1"),
            one(TRAIN, "unfiltered", "n2"),
            one(GATE, "unfiltered", "n3"),
            one(near_gate, "unfiltered", "n4"),
        ),
    )
    assert answers(found["negatives"]) == ["n1", "n2"]
    assert dropped == {"a negative whose document is kept out": ["n3", "n4"]}


def test_the_order_of_the_inputs_does_not_matter() -> None:
    rows = [one(a_text(str(number)), answer=str(number)) for number in range(30)]
    assert selected(*rows)[0] == selected(*reversed(rows))[0]


def test_the_ledger_lists_the_commonest_reason_first_with_a_few_examples() -> None:
    ledger = Ledger()
    for number in range(7):
        ledger.drop("often", f"b{number}")
    ledger.drop("once", "a")
    assert ledger.summary() == [
        {"reason": "often", "count": 7, "examples": ["b0", "b1", "b2", "b3", "b4"]},
        {"reason": "once", "count": 1, "examples": ["a"]},
    ]

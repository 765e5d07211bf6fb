"""`--explain`: what is marked, where, and that nothing of the texts is taken for markup."""

from __future__ import annotations

import pytest

from skills.annotate.explain import explain, split_sentences, support
from skills.annotate.framework import load

FRAMEWORK = load("eight-moves")
ABSTRACT = (
    "Moss grows on stones, e.g. On granite. We measured 14 stones for 3 years. "
    "The moss on granite grew by 2.5 mm a year [see below]. Nothing else was measured."
)
ANNOTATION = {
    "claim": "Granite moss grew by 2.5 mm a year, or 9 mm in secret.",
    "evidence": "The authors measured 14 stones for 3 years.",
    "method": "Not stated.",
}


def test_each_stated_move_names_its_sentences_in_the_abstracts_order_and_what_nothing_supports() -> None:
    claim, evidence = support(ANNOTATION, ABSTRACT, FRAMEWORK)
    assert claim.sentences == ("The moss on granite grew by 2.5 mm a year [see below].",)
    assert claim.unsupported == ("9", "secret")
    assert evidence.sentences == ("We measured 14 stones for 3 years.",)
    assert evidence.unsupported == ("authors",)
    assert evidence.share == pytest.approx(5 / 6)


def test_support_is_marked_in_place_and_the_lack_of_it_struck_out() -> None:
    text = explain(ANNOTATION, ABSTRACT, FRAMEWORK)
    assert "- says: Granite moss grew by 2.5 mm a year, or ~~9~~ mm in ~~secret~~." in text
    assert "- from: The **moss** on **granite** **grew** by **2.5** **mm** a **year** [see below]." in text
    assert "method" not in text


def test_a_number_that_the_abstract_does_not_have_is_flagged_even_if_its_beginning_is_there() -> None:
    text = explain({"claim": "The moss grew on 1 stone."}, ABSTRACT, FRAMEWORK)
    assert "~~1~~" in text


def test_markdown_escapes_what_it_would_read_as_marks() -> None:
    text = explain({"claim": "The *moss* grew."}, "The moss_grew here.", FRAMEWORK)
    assert r"- says: The \*moss\* grew." in text
    assert r"- from: The **moss**\_**grew** here." in text


def test_nothing_stated_explains_nothing() -> None:
    assert explain({"claim": "Not stated."}, ABSTRACT, FRAMEWORK) == ""


def test_a_move_of_stop_words_or_an_empty_abstract_has_no_sentences() -> None:
    (one,) = support({"claim": "It is of the."}, ABSTRACT, FRAMEWORK)
    assert (one.share, one.sentences) == (0.0, ())
    (other,) = support({"claim": "Moss grew."}, "", FRAMEWORK)
    assert (other.share, other.sentences) == (0.0, ())


def test_sentences_end_at_points_but_not_after_abbreviations() -> None:
    assert split_sentences(ABSTRACT)[0] == "Moss grows on stones, e.g. On granite."
    assert len(split_sentences(ABSTRACT)) == 4
    assert split_sentences(" ") == []

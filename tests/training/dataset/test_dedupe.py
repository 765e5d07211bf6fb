"""Near duplicates are found, whatever their spaces and case; different texts on one subject are not taken for them."""

from __future__ import annotations

import sys

import pytest

from agent.errors import ConfigError
from tests.program import ABSTRACTS
from training.dataset.dedupe import NEAR, Index, clusters, shingles, similarity

FIRST, SECOND = ABSTRACTS[0]["abstract"], ABSTRACTS[1]["abstract"]


def test_a_text_is_the_set_of_its_five_word_runs() -> None:
    assert shingles("One, two three FOUR five six.") == {"one two three four five", "two three four five six"}
    assert shingles("Too short") == {"too short"}
    assert shingles("") == {""}


def test_similarity_is_the_share_of_common_shingles() -> None:
    assert similarity(frozenset("abc"), frozenset("bcd")) == 0.5


def test_a_changed_word_leaves_a_near_duplicate_and_another_paper_is_none() -> None:
    index = Index({"first": FIRST, "second": SECOND})
    changed = FIRST.replace("interleaved", "shared").upper()
    assert [key for key, _ in index.near(changed)] == ["first"]
    assert next(share for _, share in index.near(changed)) >= NEAR
    assert list(index.near(ABSTRACTS[2]["abstract"])) == []


def test_half_of_a_text_is_no_near_duplicate_of_the_whole() -> None:
    assert list(Index({"first": FIRST}).near(FIRST[: len(FIRST) // 2])) == []


def test_a_key_keeps_its_first_text() -> None:
    index = Index({"one": FIRST})
    index.add("one", SECOND)
    assert list(index.near(SECOND)) == []


def test_groups_do_not_depend_on_the_order_and_go_over_many_steps() -> None:
    words = [f"word{number}" for number in range(120)]
    chain = {key: " ".join(words[start : start + 100]) for key, start in (("a", 0), ("b", 9), ("c", 18))}
    assert similarity(shingles(chain["a"]), shingles(chain["c"])) < NEAR
    texts = {**chain, "other": FIRST}
    expected = {"a": "a", "b": "a", "c": "a", "other": "other"}
    assert clusters(texts) == expected
    assert clusters(dict(reversed(texts.items()))) == expected


def test_without_datasketch_the_person_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ConfigError) as raised:
        Index()
    assert raised.value.hint == "Run scripts/setup train."

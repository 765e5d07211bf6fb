"""Frameworks are data: what their files may say, and what is said when they do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agent.config import config_dir
from agent.errors import ConfigError, UsageError
from skills.annotate import framework

GOOD = """
instructions = "Answer."
absent = "Not given."
[[moves]]
key = "aim"
question = "What for?"
"""


def own(name: str, text: str) -> Path:
    path = config_dir() / "frameworks" / f"{name}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_the_eight_moves_stand_in_their_order_and_only_the_claim_is_required() -> None:
    moves = framework.load("eight-moves")
    order = ["claim", "evidence", "method", "scope", "limitation", "comparison", "implication", "novelty"]
    assert moves.keys == order
    assert [move.key for move in moves.moves if move.required] == ["claim"]
    assert moves.absent == "Not stated."
    assert {(move.min_words, move.max_words) for move in moves.moves} == {(8, 45)}


def test_the_older_eight_sections_are_there() -> None:
    sections = framework.load("eight-sections")
    assert sections.keys == [
        "topic",
        "motivation",
        "contribution",
        "detail_nuance",
        "evidence_contribution_2",
        "weaker_result",
        "narrow_impact",
        "broad_impact",
    ]


def test_the_example_is_not_offered_until_it_is_copied_into_the_users_folder() -> None:
    example = framework.BUILT_IN / "examples" / "clinical-pico.toml"
    with pytest.raises(UsageError):
        framework.load("clinical-pico")
    target = config_dir() / "frameworks" / example.name
    target.parent.mkdir(parents=True)
    shutil.copy(example, target)
    assert framework.load("clinical-pico").keys == ["population", "intervention", "comparator", "outcome", "design"]


def test_a_users_framework_wins_over_a_built_in_one_of_the_same_name() -> None:
    built_in = framework.load("eight-moves")
    own("eight-moves", GOOD)
    assert framework.load("eight-moves").keys == ["aim"]
    assert framework.load("eight-moves").version != built_in.version


def test_the_version_changes_with_any_word_of_the_content() -> None:
    first = framework.read(own("one", GOOD)).version
    assert framework.read(own("one", GOOD)).version == first
    assert framework.read(own("one", GOOD.replace("What for?", "Why?"))).version != first


def test_the_reply_schema_asks_for_exactly_the_moves_as_texts() -> None:
    schema = framework.load("eight-moves").reply_schema()
    assert list(schema["properties"]) == schema["required"] == framework.load("eight-moves").keys
    assert {entry["type"] for entry in schema["properties"].values()} == {"string"}
    assert schema["additionalProperties"] is False


def test_a_move_is_found_by_its_key() -> None:
    assert framework.load("eight-moves").move("scope").key == "scope"
    with pytest.raises(KeyError):
        framework.load("eight-moves").move("scopes")


@pytest.mark.parametrize("name", ["eight-move", "../eight-moves", "", "zzz"])
def test_an_unknown_framework_is_refused_with_the_names_that_there_are(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        framework.load(name)
    assert repr(name) in caught.value.message
    assert "eight-moves" in caught.value.hint
    assert str(config_dir() / "frameworks") in caught.value.hint


def test_a_misspelt_framework_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError) as caught:
        framework.load("eight-move")
    assert "Did you mean 'eight-moves'?" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("absent", "abscent"), "abscent"),
        (('absent = "Not given."', ""), "'absent' is missing"),
        (('"Not given."', '"Not given"'), "absent: "),
        (('"Not given."', '"Not in 13."'), "absent: "),
        (('"Not given."', "'Not \"given\".'"), "absent: "),
        (('"Answer."', '"Answer\\nthis."'), "instructions: "),
        (('key = "aim"', 'key = "The aim"'), "moves[0].key: "),
        (('question = "What for?"', ""), "'moves[0].question' is missing"),
        (('question = "What for?"', 'question = "What for?"\nmin_word = 3'), "there is no key 'moves[0].min_word'"),
        (('question = "What for?"', 'question = "What for?"\nmin_words = 0'), "moves[0].min_words: "),
        (('question = "What for?"', 'question = "What for?"\nmin_words = 46'), "max_words only 45"),
        (('absent = "Not given."', 'absent = "Not given."\nmin_support = 75'), "min_support: "),
        (('absent = "Not given."', 'absent = "Not given."\nname = "other"'), "there is no key 'name'"),
        (("[[moves]]", '[[moves]]\nkey = "aim"\nquestion = "Q?"\n[[moves]]'), "'aim' stands there twice"),
        (("instructions =", "instructions"), "is not valid TOML"),
    ],
)
def test_a_framework_file_that_does_not_fit_is_named_with_the_key(change: tuple[str, str], said: str) -> None:
    path = own("mine", GOOD.replace(*change))
    with pytest.raises(ConfigError) as caught:
        framework.load("mine")
    assert str(path) in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint


def test_a_framework_file_that_is_not_text_or_cannot_be_read_is_named() -> None:
    path = own("mine", GOOD)
    path.write_bytes(b"instructions = '\xff'")
    with pytest.raises(ConfigError, match="not valid TOML"):
        framework.load("mine")
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        framework.load("mine")

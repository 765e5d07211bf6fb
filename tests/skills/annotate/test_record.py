"""Annotations on record: which moves were asked for, which answer stands, what a person's text means."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.config import config_dir
from agent.errors import InputError
from agent.messages import Detail, Message, Trajectory
from skills.annotate import framework as frameworks
from skills.annotate import record
from skills.annotate.attempt import prompt
from tests.program import ABSTRACTS, annotation

ABSTRACT = ABSTRACTS[0]["abstract"]
EIGHT = frameworks.load("eight-moves")


def a_run(*replies: str | tuple[str, Detail], messages: list[Message] | None = None) -> Trajectory:
    """A run that annotates our first abstract and gets these replies."""
    pairs = [(message, Detail()) for message in messages or prompt(EIGHT, ABSTRACT)]
    for reply in replies:
        text, detail = reply if isinstance(reply, tuple) else (reply, Detail(model="m"))
        pairs.append((Message("assistant", text), detail))
    return Trajectory("a1", "/annotate", messages=[m for m, _ in pairs], details=[d for _, d in pairs])


def test_a_papers_run_is_known_by_what_it_asked() -> None:
    assert record.framework_of(a_run()) == EIGHT
    sections = frameworks.load("eight-sections")
    assert record.framework_of(a_run(messages=prompt(sections, ABSTRACT))) == sections


def test_other_runs_ask_for_no_moves() -> None:
    assert record.framework_of(a_run(messages=[Message("user", "hello")])) is None
    assert record.framework_of(a_run(messages=[Message("system", "You act."), Message("user", "hello")])) is None


def test_an_older_wording_is_todays_framework_if_the_moves_are_the_same() -> None:
    older = EIGHT.model_copy(update={"instructions": "Read it."})
    assert record.framework_of(a_run(messages=prompt(older, ABSTRACT))) == EIGHT


def test_moves_that_no_framework_has_any_more_are_read_from_the_record() -> None:
    gone = EIGHT.model_copy(update={"moves": EIGHT.moves[:2], "absent": "Nothing."})
    found = record.framework_of(a_run(messages=prompt(gone, ABSTRACT)))
    assert found is not None
    assert (found.keys, found.absent, found.instructions) == (["claim", "evidence"], "Nothing.", EIGHT.instructions)


def test_a_text_that_only_looks_like_it_asks_for_moves_is_none() -> None:
    asked = 'Do it. Where it says nothing, write "x" Reply with one JSON object with these keys:\nNo Key'
    assert record.framework_of(a_run(messages=[Message("system", asked), Message("user", "x")])) is None


def test_a_persons_broken_framework_hides_no_other() -> None:
    own = config_dir() / "frameworks"
    own.mkdir(parents=True)
    (own / "broken.toml").write_text("moves = 3\n")
    assert record.framework_of(a_run()) == EIGHT


def test_the_answer_that_stands_is_the_one_with_the_least_against_it() -> None:
    good = annotation(0)
    tried = record.attempts(a_run("{broken", good, good), EIGHT)
    assert [attempt.valid for attempt in tried] == [False, True, True]
    assert record.best(tried) is tried[1]
    assert record.best([]) is None


def test_a_reply_that_broke_off_is_no_attempt_and_one_that_was_cut_is_doubted() -> None:
    broke, cut = Detail(model="m", finish_reason="error"), Detail(model="m", finish_reason="length")
    tried = record.attempts(a_run(("{", broke), (annotation(0), cut)), EIGHT)
    assert [attempt.findings[0].rule for attempt in tried] == ["cut"]


def test_a_sample_is_no_answer_and_what_was_composed_of_samples_is() -> None:
    sample = Detail(model="m", preference="sample", token_ids=(1, 2))
    composed = Detail(model="m", sampling={"composed_of": 2, "by": "agreement"})
    tried = record.attempts(a_run((annotation(0), sample), ("{broken", sample), (annotation(0), composed)), EIGHT)
    assert [attempt.detail for attempt in tried] == [composed]


def test_the_absent_text_may_be_spelt_loosely() -> None:
    moves = {**json.loads(annotation(0)), "scope": "not stated"}
    assert record.checked(moves, EIGHT)["scope"] == "Not stated."


def test_a_move_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="'scope' holds no text"):
        record.checked({**json.loads(annotation(0)), "scope": 3}, EIGHT)


def test_an_unknown_move_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="there is no move 'limitations'") as raised:
        record.checked({**json.loads(annotation(0)), "limitations": "None."}, EIGHT)
    assert raised.value.hint.startswith("Did you mean 'limitation'?")
    with pytest.raises(InputError, match="the move 'evidence' is missing"):
        record.checked({"claim": "x"}, EIGHT)


def test_what_the_validators_say_is_told_in_sentences() -> None:
    moves = {**json.loads(annotation(0)), "scope": "It does 99 things on four language pairs with models."}
    assert "scope: the number 99 is not in the abstract" in record.doubts(moves, ABSTRACT, EIGHT)
    assert record.doubts(json.loads(annotation(0)), ABSTRACT, EIGHT) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "neither JSON nor our Markdown"),
        ("{broken\n{too", "neither JSON nor our Markdown"),
        ("[]", "holds no annotation"),
        ("3", "an annotation is a JSON object"),
        ("[{}, {}]", "several annotations"),
        ('{"annotation": {}}\n{"annotation": {}}', "several annotations"),
        ("**Claim.** One.\n\n---\n\n**Claim.** Two.\n", "several annotations"),
    ],
)
def test_a_text_that_holds_no_single_annotation_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        record.read(text)


def test_reading_takes_the_forms_that_we_write(tmp_path: Path) -> None:
    moves = {"claim": "A {curly} claim.", "detail_nuance": "A detail."}
    for text in (
        json.dumps(moves),
        json.dumps([moves]),
        json.dumps({"source": "x", "annotation": moves}) + "\n",
        "# Title\n\nSource: x\n\n**Claim.** A {curly} claim.\n\n**Detail nuance.** A detail.\n\n*Validators: x.*\n",
    ):
        assert record.read(text) == moves

"""Validators: each rule by an annotation that breaks just this one, and the measures by worked examples."""

from __future__ import annotations

import json

import pytest

from skills.annotate.framework import load
from skills.annotate.validate import (
    check,
    grounded,
    numbers,
    parse,
    stated,
    supported_share,
    token_f1,
    told,
    ungrounded,
    words,
)

FRAMEWORK = load("eight-moves")
ABSTRACT = (
    "We introduce Larch, a cache for sensor networks that keeps only readings which later queries are likely to need. "
    "On 1,204 hours of traffic from 3 cities, Larch answers 97.5% of the queries without waking a sensor, while the "
    "usual cache answers 81%. It was tested on temperature sensors only."
)
GOOD = {
    "claim": "The authors introduce Larch, a cache for sensor networks that keeps readings which later queries need.",
    "evidence": "On 1,204 hours of traffic from 3 cities, Larch answers 97.5% of the queries.",
    "method": "Not stated.",
    "scope": "Not stated.",
    "limitation": "Larch was tested on temperature sensors only, in hours of traffic.",
    "comparison": "The usual cache answers 81% of queries without waking a sensor.",
    "implication": "Not stated.",
    "novelty": "Not stated.",
}


def rules(**changes: object) -> set[tuple[str, str]]:
    return {(finding.rule, finding.move) for finding in check({**GOOD, **changes}, ABSTRACT, FRAMEWORK)}


def test_a_good_annotation_has_no_findings() -> None:
    assert check(GOOD, ABSTRACT, FRAMEWORK) == []


def test_a_missing_move_is_found() -> None:
    short = {key: text for key, text in GOOD.items() if key != "scope"}
    (finding,) = check(short, ABSTRACT, FRAMEWORK)
    assert (finding.rule, finding.move) == ("moves", "scope")
    assert "'scope' is missing" in finding.message


def test_a_move_that_the_framework_does_not_have_is_found() -> None:
    assert rules(summary="Larch is good.") == {("moves", "")}


def test_moves_in_another_order_are_found() -> None:
    assert {f.rule for f in check(dict(reversed(GOOD.items())), ABSTRACT, FRAMEWORK)} == {"order"}


@pytest.mark.parametrize("nothing", ["", "  ", None, 3, ["Not stated."]])
def test_a_move_without_text_is_found(nothing: object) -> None:
    assert rules(scope=nothing) == {("empty", "scope")}


def test_the_claim_is_always_stated() -> None:
    assert rules(claim="Not stated.") == {("absent", "claim")}


@pytest.mark.parametrize("text", ["Not stated", "not stated.", " Not stated. ", "Not stated. The sensors were tested."])
def test_the_absent_text_is_spelled_exactly_and_alone(text: str) -> None:
    assert ("absent", "scope") in rules(scope=text)


def test_a_move_that_is_too_short_or_too_long_is_found() -> None:
    assert rules(scope="Larch serves sensor networks.") == {("length", "scope")}
    long = "Larch answers the queries of sensor networks " + "and cities " * 20
    assert ("length", "scope") in rules(scope=long)


def test_a_number_that_is_not_the_abstracts_is_found_once_and_named() -> None:
    text = "Larch answers 97.4% of the queries, 97.4% in cities without waking a sensor."
    (finding,) = [f for f in check({**GOOD, "evidence": text}, ABSTRACT, FRAMEWORK) if f.rule == "number"]
    assert finding.move == "evidence"
    assert "97.4" in finding.message


def test_words_that_the_abstract_does_not_have_are_found_above_a_share() -> None:
    text = "Blockchain governance improves shareholder dividends for sensor networks."
    assert rules(scope=text) == {("support", "scope")}


def test_two_moves_alike_are_found_at_the_later_one_and_absent_moves_never_are() -> None:
    assert rules(novelty=GOOD["claim"]) == {("alike", "novelty")}


def test_what_is_wrong_is_told_in_few_sentences() -> None:
    same = "The tower of a church fell down because nobody had looked after it."
    findings = check(GOOD | {"scope": same, "implication": same, "novelty": same}, ABSTRACT, FRAMEWORK)
    assert told(findings) == [
        "too many words of scope, implication and novelty are not the abstract's",
        "implication and novelty repeat scope",
    ]
    assert told(check(GOOD | {"evidence": GOOD["claim"]}, ABSTRACT, FRAMEWORK)) == ["evidence repeats claim"]
    assert told([]) == []


def test_words_are_lower_case_keep_inner_marks_and_drop_stop_words() -> None:
    assert words("The F1-score of GPT-4o is 97.5%, e.g. in A.") == ["f1-score", "gpt-4o", "97.5%", "e.g"]
    assert words("x") == ["x"]


def test_numbers_lose_their_commas_and_end_before_a_final_point() -> None:
    assert numbers("1,204 of 13.5, then 7. And 8,") == ["1204", "13.5", "7", "8"]


@pytest.mark.parametrize(
    ("text", "missing"),
    [("1204", []), ("1,204", []), ("204", ["204"]), ("97", ["97"]), ("97.5.", []), ("81.", []), ("٣", ["٣"])],
)
def test_a_number_is_grounded_only_as_a_whole(text: str, missing: list[str]) -> None:
    assert ungrounded(text, ABSTRACT) == missing
    assert grounded(text, ABSTRACT) == (not missing)


def test_a_word_is_supported_by_its_first_five_letters() -> None:
    assert supported_share("introducing sensory crates", ABSTRACT) == pytest.approx(2 / 3)
    assert supported_share("the of a", ABSTRACT) == 0.0


def test_token_f1_counts_each_shared_word_once() -> None:
    assert token_f1("sensor sensor cache", "sensor cache queries need") == pytest.approx(2 * 2 / 7)
    assert token_f1("the", "of") == 0.0


def test_stated_moves_are_those_that_say_something_in_order() -> None:
    given = dict(reversed(GOOD.items()))
    assert list(stated(given, FRAMEWORK)) == ["claim", "evidence", "limitation", "comparison"]


@pytest.mark.parametrize(
    "around",
    ["{}", "```json\n{}\n```", "Here is the annotation:\n{}\nI hope that it helps {{.", "A set {{1, 2}} first. {}"],
)
def test_the_object_is_found_in_what_a_model_wrote(around: str) -> None:
    assert parse(around.format(json.dumps(GOOD))) == (GOOD, [])


def test_line_breaks_inside_strings_are_tolerated() -> None:
    assert parse('{"claim": "one\ntwo"}') == ({"claim": "one\ntwo"}, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON object"),
        ("Not stated.", "no JSON object"),
        ('["claim"]', "no JSON object"),
        ("{}", "empty object"),
        ('{"claim": "cut', "not valid JSON"),
        ("{'claim': 'single quotes'}", "not valid JSON"),
        ('{"claim": ' + "[" * 100_000, "not valid JSON: nested too deeply"),
    ],
)
def test_a_reply_without_an_annotation_says_why(text: str, said: str) -> None:
    found, (finding,) = parse(text)
    assert found == {}
    assert finding.rule == "parse"
    assert said in finding.message

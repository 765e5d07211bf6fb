"""Grounded decoding, judged by llama.cpp's own grammar parser and sampler.

`Judge` feeds text through the real thing, character by character; `walk` lets it generate at random what it allows.
"""

from __future__ import annotations

import ctypes
import json
import random
import re
from collections.abc import Iterator
from itertools import pairwise

import llama_cpp as llama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.models.base import Fixed, Hole
from agent.models.embedded import find
from agent.settings import Grounding, Settings
from skills.annotate.framework import Framework, Move, load
from skills.annotate.grammar import number_tokens, template
from skills.annotate.validate import grounded

ABSTRACT = (
    'We introduce "Larch-2", a cache for β-sensor networks. On 1,204 hours of traffic from 3 cities (p < 0.05), '
    "Larch-2 answers 97.5% of queries in 13.13 ms; the usual cache answers 81%. Area is 10² m² at path C:\\data."
)
LEVELS: list[Grounding] = ["none", "numbers", "words"]


class Judge:
    """llama.cpp's grammar at work on texts, with the embedded model's vocabulary."""

    def __init__(self) -> None:
        parameters = llama.llama_model_default_params()
        parameters.vocab_only = True
        self.model = llama.llama_model_load_from_file(str(find(Settings())).encode(), parameters)
        self.vocab = llama.llama_model_get_vocab(self.model)
        self.end = llama.llama_vocab_eos(self.vocab)

    def tokens(self, text: str) -> list[int]:
        data = text.encode("utf-8")
        room = (llama.llama_token * (len(data) + 8))()
        count = llama.llama_tokenize(self.vocab, data, len(data), room, len(room), False, False)
        return list(room[:count])

    def sampler(self, gbnf: str) -> object:
        made = llama.llama_sampler_init_grammar(self.vocab, gbnf.encode("utf-8"), b"root")
        assert made, f"llama.cpp does not parse this grammar:\n{gbnf}"
        return made

    def allowed(self, sampler: object, tokens: list[int]) -> list[int]:
        candidates = (llama.llama_token_data * len(tokens))(*[llama.llama_token_data(t, 0.0, 0.0) for t in tokens])
        array = llama.llama_token_data_array(candidates, len(tokens), -1, False)
        llama.llama_sampler_apply(sampler, ctypes.byref(array))
        return [one.id for one in candidates if one.logit == 0.0]

    def accepts(self, gbnf: str, text: str, *, whole_tokens: bool = False) -> bool:
        sampler = self.sampler(gbnf)
        try:
            pieces = [text] if whole_tokens else list(text)
            for token in (token for piece in pieces for token in self.tokens(piece)):
                if not self.allowed(sampler, [token]):
                    return False
                llama.llama_sampler_accept(sampler, token)
            return bool(self.allowed(sampler, [self.end]))
        finally:
            llama.llama_sampler_free(sampler)

    def walk(self, gbnf: str, characters: str, dice: random.Random, most: int = 400) -> str | None:
        """A text that the grammar allows, character by character at random; None if it did not end in time."""
        offered = {token: char for char in characters for token in self.tokens(char)[:1] if len(self.tokens(char)) == 1}
        sampler, text = self.sampler(gbnf), ""
        try:
            for _ in range(most):
                allowed = self.allowed(sampler, [*offered, self.end])
                if not allowed:  # only a character that is not offered goes on: 0 of an abstract's 0²
                    every = list(range(llama.llama_vocab_n_tokens(self.vocab)))
                    assert self.allowed(sampler, every), f"a dead end after {text!r}"
                    return None
                token = self.end if self.end in allowed else dice.choice(allowed)
                if token == self.end:
                    return text
                llama.llama_sampler_accept(sampler, token)
                text += offered[token]
            return None
        finally:
            llama.llama_sampler_free(sampler)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    made = Judge()
    yield made
    llama.llama_model_free(made.model)


def small(least: int = 1, most: int = 6, *, required: bool = False, absent: str = "Not stated.") -> Framework:
    moves = [Move(key=key, question="?", min_words=least, max_words=most, required=required) for key in ("one", "two")]
    return Framework(name="small", instructions="?", absent=absent, moves=tuple(moves))


def hole(abstract: str, level: Grounding, framework: Framework | None = None) -> str:
    """The grammar of the first move."""
    return next(piece.gbnf for piece in template(framework or small(), abstract, level, 64) if isinstance(piece, Hole))


def written(text: str, close: str = '",') -> str:
    """A move as it stands in the reply."""
    return json.dumps(text, ensure_ascii=False)[1:-1] + close


def test_the_template_is_the_reply_in_json_dumps_separators() -> None:
    pieces = template(load("eight-moves"), ABSTRACT, "numbers", 64)
    assert [type(piece) for piece in pieces] == [Fixed, Hole] * 8
    moves = load("eight-moves").keys
    filled = "".join(p.text if isinstance(p, Fixed) else written("Not stated.", p.close) for p in pieces)
    assert filled == json.dumps(dict.fromkeys(moves, "Not stated."))
    assert pieces[0] == Fixed('{"claim": "')
    assert pieces[2] == Fixed(' "evidence": "')
    assert {piece.max_tokens for piece in pieces if isinstance(piece, Hole)} == {64}


@pytest.mark.parametrize("kept", [["claim"], ["novelty"], ["evidence", "method"], ["claim", "scope", "novelty"]])
def test_moves_that_are_kept_become_literals(kept: list[str]) -> None:
    framework = load("eight-moves")
    keep = {key: f'The "{key}" of C:\\β.' for key in kept}
    pieces = template(framework, ABSTRACT, "numbers", 64, keep)
    assert sum(isinstance(piece, Hole) for piece in pieces) == 8 - len(kept)
    assert not any(isinstance(a, Fixed) and isinstance(b, Fixed) for a, b in pairwise(pieces))
    filled = "".join(p.text if isinstance(p, Fixed) else written("Not stated.", p.close) for p in pieces)
    assert filled == json.dumps(dict.fromkeys(framework.keys, "Not stated.") | keep, ensure_ascii=False)


def test_a_template_with_every_move_kept_is_one_literal() -> None:
    pieces = template(small(), ABSTRACT, "words", 64, {"one": "A b.", "two": "C d."})
    assert pieces == [Fixed('{"one": "A b.", "two": "C d."}')]


def test_a_moves_grammar_ends_with_its_closing_text(judge: Judge) -> None:
    first, last = [piece for piece in template(small(), ABSTRACT, "numbers", 64) if isinstance(piece, Hole)]
    assert judge.accepts(first.gbnf, 'Larch answers.",')
    assert not judge.accepts(first.gbnf, 'Larch answers."}')
    assert not judge.accepts(first.gbnf, 'Larch answers"')
    assert judge.accepts(last.gbnf, 'Larch answers."}')


@pytest.mark.parametrize("level", ["numbers", "words"])
@pytest.mark.parametrize("number", ["1,204", "1204", "3", "0.05", "97.5", "97.5%", "13.13", "81", "10²", "(3)", "3."])
def test_the_abstracts_own_numbers_are_accepted(judge: Judge, level: Grounding, number: str) -> None:
    assert judge.accepts(hole(ABSTRACT, level), written(f"Larch answers {number} of queries."))
    assert judge.accepts(hole(ABSTRACT, level), written(f"Larch answers {number.rstrip('.')}."), whole_tokens=True)


@pytest.mark.parametrize("level", ["numbers", "words"])
@pytest.mark.parametrize(
    "number",
    ["13", "13.1", "13.13.13", "3.3", "3,3", "33", "1", "204", "12", "1,20", "97", "81.3", "97.53", "3.05", "0.0", "7",
     "10", "4", "³", "٣", "\N{FULLWIDTH DIGIT ONE}", "①", "½"],
)  # fmt: skip
def test_any_other_number_is_refused(judge: Judge, level: Grounding, number: str) -> None:
    assert not judge.accepts(hole(ABSTRACT, level), written(f"Larch answers {number} of queries."))
    assert not judge.accepts(hole(ABSTRACT, level), written(f"Larch answers{number}."), whole_tokens=True)


@pytest.mark.parametrize("text", ["Larch 3. 3 of cities.", "Larch 3, 81 of cities.", "Larch 3-81.", "Larch 3..81."])
def test_two_numbers_may_follow_each_other_with_something_between(judge: Judge, text: str) -> None:
    assert judge.accepts(hole(ABSTRACT, "numbers"), written(text))
    assert grounded(text, ABSTRACT)


def test_an_abstract_without_numbers_allows_no_digit(judge: Judge) -> None:
    assert judge.accepts(hole("Moss grows.", "numbers"), written("Moss grows well."))
    assert not judge.accepts(hole("Moss grows.", "numbers"), written("Moss grows 2 mm."))


@pytest.mark.parametrize("level", ["numbers", "words"])
def test_quotes_and_backslashes_are_the_only_escapes(judge: Judge, level: Grounding) -> None:
    gbnf = hole(ABSTRACT, level)
    assert judge.accepts(gbnf, r"The \"cache\" of C:\\data." + '",')
    for escape in (r"\u0039", r"\n", r"\/", r"\x39", "\\"):
        assert not judge.accepts(gbnf, f"The cache {escape} of data." + '",')
    for control in "\n\t\x00\x7f":
        assert not judge.accepts(gbnf, f"The cache {control} of data." + '",')


def test_characters_beyond_ascii_come_from_the_abstract(judge: Judge) -> None:
    for level in ("numbers", "words"):
        assert judge.accepts(hole(ABSTRACT, level), written("The β-sensor of m²."))
        assert not judge.accepts(hole(ABSTRACT, level), written("The λ-sensor of m²."))
    assert judge.accepts(hole(ABSTRACT, "none"), written("The λ-sensor of 17 ☃."))


def test_words_come_from_the_abstract_or_are_those_of_every_annotation(judge: Judge) -> None:
    gbnf = hole(ABSTRACT, "words")
    for text in (
        "The authors introduced Larch.",
        "Caching answered a query.",
        "It covers sensors, whereas usual ones.",
    ):
        assert judge.accepts(gbnf, written(text)) == ("ones" not in text), text
    for text in ("The blockchain answers.", "Larches cached it.", "Larchant.", "The LARCH answers.", "Netw answers."):
        assert judge.accepts(gbnf, written(text)) == (text == "Larches cached it."), text


def test_a_run_of_letters_that_nobody_would_repeat_is_not_offered(judge: Judge) -> None:
    sequence = "GATTACA" * 9
    gbnf = hole(f"The strand {sequence} was read 7 times.", "words")
    assert judge.accepts(gbnf, written("The strand was read 7 times."))
    assert not judge.accepts(gbnf, written(f"The strand {sequence} was read."))


def test_a_move_has_as_many_words_as_it_may_have_and_ends_with_a_full_stop(judge: Judge) -> None:
    gbnf = hole(ABSTRACT, "numbers", small(3, 5))
    assert [judge.accepts(gbnf, written(" ".join(["Larch"] * count) + ".")) for count in range(1, 8)] == [
        False, False, True, True, True, False, False
    ]  # fmt: skip
    assert not judge.accepts(gbnf, written("Larch answers the queries"))
    assert not judge.accepts(gbnf, written("Larch answers  the queries."))
    assert not judge.accepts(gbnf, written(" Larch answers queries."))


def test_a_move_gets_no_more_words_than_fit_into_its_tokens(judge: Judge) -> None:
    pieces = template(small(3, 40), ABSTRACT, "numbers", 8)
    (gbnf, _) = [piece.gbnf for piece in pieces if isinstance(piece, Hole)]
    assert judge.accepts(gbnf, written("Larch answers queries of cities."))
    assert not judge.accepts(gbnf, written("Larch answers the queries of cities."))


@pytest.mark.parametrize("level", LEVELS)
def test_the_absent_text_stands_alone_or_not_at_all(judge: Judge, level: Grounding) -> None:
    gbnf = hole(ABSTRACT + " It is stated, not statistical.", level, small(2, 6))
    assert judge.accepts(gbnf, written("Not stated."))
    for text in (
        "Not stated in cities.",
        "not stated.",
        "NOT STATED.",
        "Not stated",
        "Not stated..",
        "Not Stated here.",
    ):
        assert not judge.accepts(gbnf, written(text)), text
    for text in (
        "Not a cache.",
        "Nothing is stated.",
        "Not statistical.",
        "Not, stated.",
        "No cache is stated.",
        "Note it.",
    ):
        known = level != "words" or not re.search("Nothing|Note", text)
        assert judge.accepts(gbnf, written(text)) == known, text


@pytest.mark.parametrize("level", LEVELS)
def test_a_required_move_is_never_absent(judge: Judge, level: Grounding) -> None:
    gbnf = hole(ABSTRACT, level, small(2, 6, required=True))
    assert not judge.accepts(gbnf, written("Not stated."))
    assert judge.accepts(gbnf, written("Larch answers."))


def test_another_absent_text_is_kept_as_well(judge: Judge) -> None:
    gbnf = hole(ABSTRACT, "numbers", small(1, 6, absent="Non précisé."))
    assert judge.accepts(gbnf, written("Non précisé."))
    assert judge.accepts(gbnf, written("Non."))
    assert judge.accepts(gbnf, written("Non prouve."))
    assert not judge.accepts(gbnf, written("Non précisément ici."))


def test_numbers_are_whole_with_superscripts_and_without_a_final_point() -> None:
    assert number_tokens(ABSTRACT) == ["2", "1,204", "3", "0.05", "2", "97.5", "13.13", "81", "10²", "²"]
    assert number_tokens("v1..2, 3,,4 5.") == ["1", "2", "3", "4", "5"]


NASTY = st.one_of(
    st.text(max_size=40),
    st.text(alphabet="\"\\[]^-|()*+?{}:=#\n\r\t'`$.,0123456789 abß²٣😀\ud800￿", max_size=60),
    st.lists(st.sampled_from(["12", "1.5", "1,000", ".5", "7.", "x", "Not stated", '"', "\\", " ", "]"])).map("".join),
)


@pytest.mark.parametrize("level", LEVELS)
@settings(max_examples=120, deadline=None)
@given(abstract=NASTY)
def test_llama_cpp_parses_the_grammar_of_any_abstract(judge: Judge, level: Grounding, abstract: str) -> None:
    gbnf = hole(abstract, level)
    assert judge.accepts(gbnf, written("Not stated."))
    for number in number_tokens(abstract):
        if number.isascii() and len(number) <= 48:
            assert judge.accepts(gbnf, written(f"The {number} is.")), number


@settings(max_examples=250, deadline=None)
@given(
    abstract=NASTY,
    text=st.lists(st.sampled_from([*'0123456789.,- %²x"\\', "12", "1.5", "1,000", "1000", " a"]), min_size=1).map(
        "".join
    ),
)
def test_the_numbers_level_accepts_exactly_the_grounded_texts(judge: Judge, abstract: str, text: str) -> None:
    text = " ".join(text.split()[:6]).rstrip() + "."
    whole = set(number_tokens(abstract))
    forms = whole | {number.replace(",", "") for number in whole}
    plain = text.removesuffix(".").strip() != "" and not re.search("(^| )[.]$", text)
    expected = set(number_tokens(text)) <= forms and plain
    assert judge.accepts(hole(abstract, "numbers"), written(text)) == expected


@pytest.mark.parametrize("level", ["numbers", "words"])
@settings(max_examples=60, deadline=None)
@given(abstract=NASTY, seed=st.integers(0, 10_000))
def test_whatever_is_generated_is_grounded_and_no_path_is_a_dead_end(
    judge: Judge, level: Grounding, abstract: str, seed: int
) -> None:
    characters = "".join(map(chr, range(0x20, 0x7F))) + '0123456789.,. "' * 3
    reply = judge.walk(hole(abstract, level, small(2, 5)), characters, random.Random(seed))
    if reply is not None:
        text = json.loads(f'"{reply[:-1]}')
        assert grounded(text, abstract)
        assert text == "Not stated." or not text.lower().startswith("not stated")
        assert 2 <= len(text.split()) <= 5

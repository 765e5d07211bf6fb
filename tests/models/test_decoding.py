"""Choosing tokens, and filling templates, on the real embedded model with one thread."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterator

import numpy as np
import pytest

from agent.errors import ContextOverflow, ModelError
from agent.messages import Message
from agent.models.base import Delta, Fixed, Hole
from agent.models.chat_prompt import prompt_tokens
from agent.models.decoding import Grammar, Picker, TextStream, generate, logprob
from agent.models.embedded import find
from agent.models.filling import _endings, fill, most_tokens
from agent.models.llama_context import Context, shared_prefix
from agent.settings import Settings

pytestmark = pytest.mark.llama

LETTERS = r'root ::= [a-zA-Z ,.]+ "\",\n"'
CLOSE = '",\n'


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    loaded = Context(find(Settings()), 1024, ctypes.create_string_buffer(2))
    yield loaded
    loaded.close()


@pytest.fixture(scope="module")
def prompt(context: Context) -> list[int]:
    return prompt_tokens(context, [Message("user", "Name three animals of the forest, in one sentence.")])


def ignore(_: Delta) -> None:
    pass


def test_greedy_takes_the_likeliest_token_and_gives_its_log_probability(context: Context, prompt: list[int]) -> None:
    context.advance(prompt)
    logits = context.logits().astype(np.float64)
    reply = generate(context, prompt, Picker(), ignore, max_tokens=1)
    best = int(logits.argmax())
    assert reply.token_ids == [best]
    assert reply.logprobs[0] == pytest.approx(math.log(np.exp(logits[best]) / np.exp(logits).sum()), abs=1e-4)
    assert reply.finish_reason == "length"


def test_sampling_is_repeated_by_its_seed_and_not_by_another(context: Context, prompt: list[int]) -> None:
    texts = [generate(context, prompt, Picker(1.2, seed), ignore, max_tokens=12).text for seed in (1, 1, 2, 2**70 + 1)]
    assert texts[0] == texts[1] != texts[2]


def test_draws_follow_the_distribution_also_when_the_grammar_refuses_some(context: Context) -> None:
    first, second, third = (context.tokenize(letter)[0] for letter in "abc")
    logits = np.random.default_rng(0).normal(-30, 1, context.vocab_size).astype(np.float32)
    logits[[first, second, third]] = np.log([0.6, 0.3, 0.1])
    picker = Picker(1.0, seed=7)
    with Grammar(context, "root ::= [bc]") as grammar:
        draws = [picker.pick(logits, grammar) for _ in range(400)]
    assert set(draws) == {second, third}
    assert draws.count(second) / len(draws) == pytest.approx(0.75, abs=0.06)


def test_sampling_leaves_out_the_unlikely_tail(context: Context) -> None:
    logits = np.random.default_rng(0).normal(0, 1, context.vocab_size).astype(np.float32)
    logits[:2] = [10.0, 8.0]
    picker = Picker(0.5, seed=3)
    assert {picker.pick(logits) for _ in range(200)} == {0}


def test_the_likeliest_token_that_the_grammar_allows_is_taken_even_from_far_down(context: Context) -> None:
    digit, rare = context.tokenize("7")[0], context.tokenize("3")[0]
    logits = np.linspace(5, 0, context.vocab_size, dtype=np.float32)
    logits[rare], logits[digit] = -50.0, -40.0
    with Grammar(context, "root ::= [37]") as grammar:
        assert Picker().pick(logits, grammar) == digit
        assert Picker(1.0, seed=1).pick(logits, grammar) in (digit, rare)


def test_a_marker_is_no_text_even_where_the_grammar_allows_its_letters(context: Context) -> None:
    marker = context.tokenize("<|im_start|>", special=True)[0]
    logits = np.zeros(context.vocab_size, dtype=np.float32)
    logits[marker] = 20.0
    with Grammar(context, "root ::= [^b]+") as grammar:
        assert not grammar.allows(marker)
        assert Picker().pick(logits, grammar) != marker


def test_a_grammar_that_does_not_parse_is_an_error(context: Context) -> None:
    with pytest.raises(ModelError, match="does not understand the grammar"):
        Grammar(context, "root ::= nowhere")


def test_a_grammar_without_a_token_left_is_an_error(context: Context) -> None:
    logits = np.zeros(context.vocab_size, dtype=np.float32)
    with Grammar(context, r'root ::= "a" [^\x00-\U0010FFFF]') as grammar:
        grammar.accept(context.tokenize("a")[0])
        with pytest.raises(ModelError, match="allows no token"):
            Picker().pick(logits, grammar)


def test_json_ends_with_its_last_bracket_and_a_number_when_the_model_ends_it(
    context: Context, prompt: list[int]
) -> None:
    listed = generate(context, prompt, Picker(), ignore, max_tokens=20, gbnf='root ::= "[" "1"{3} "]"')
    assert (listed.text, listed.finish_reason) == ("[111]", "stop")
    number = generate(context, prompt, Picker(), ignore, max_tokens=5, gbnf="root ::= [0-9]{1,2}")
    assert number.text.isdigit()
    assert number.finish_reason == "stop"


def test_a_stop_text_across_tokens_ends_the_reply_and_is_not_shown(context: Context, prompt: list[int]) -> None:
    whole = generate(context, prompt, Picker(), ignore, max_tokens=24).text
    place = len(whole) // 2
    stop = whole[place - 3 : place + 3]
    shown: list[Delta] = []
    cut = generate(context, prompt, Picker(), shown.append, max_tokens=24, stop=["@@@", stop])
    assert cut.finish_reason == "stop"
    assert cut.text == whole[: whole.index(stop)]
    assert "".join(delta.text for delta in shown) == cut.text


def test_the_beginning_of_a_stop_text_is_held_back_until_it_is_sure() -> None:
    shown: list[Delta] = []
    stream = TextStream(["</end>", "END"], shown.append)
    assert [stream.add(piece) for piece in (b"one</", b"e", b"lse <", b"/end> more")] == [False, False, False, True]
    assert stream.finish() == "one</else "
    assert "".join(delta.text for delta in shown) == "one</else "


def test_characters_that_span_tokens_come_whole_and_unfinished_ones_not_at_all() -> None:
    shown: list[Delta] = []
    stream = TextStream([], shown.append)
    for byte in "né🦊".encode() + "é".encode()[:1]:
        stream.add(bytes([byte]))
    assert stream.finish() == "né🦊"
    assert "".join(delta.text for delta in shown) == "né🦊"


def test_replies_are_the_same_to_the_bit_whatever_the_cache_held_before(context: Context, prompt: list[int]) -> None:
    context.forget()
    fresh = generate(context, prompt, Picker(), ignore, max_tokens=16)
    evaluated = context.evaluated
    again = generate(context, prompt, Picker(), ignore, max_tokens=16)
    assert context.evaluated - evaluated == 2 + 15, "all of the prompt but two tokens was reused"
    generate(context, prompt[: len(prompt) // 2], Picker(), ignore, max_tokens=8)
    other = generate(context, prompt, Picker(), ignore, max_tokens=16)
    assert fresh.token_ids == again.token_ids == other.token_ids
    assert fresh.logprobs == again.logprobs == other.logprobs


def test_a_conversation_that_goes_on_is_answered_as_if_it_were_new(context: Context, prompt: list[int]) -> None:
    first = generate(context, prompt, Picker(), ignore, max_tokens=10)
    longer = [*prompt, *first.token_ids, *context.tokenize("\nAnd three of the sea:")]
    reused = generate(context, longer, Picker(), ignore, max_tokens=6)
    context.forget()
    assert generate(context, longer, Picker(), ignore, max_tokens=6) == reused


def test_a_prompt_of_several_batches_is_evaluated_as_a_whole(context: Context) -> None:
    long = context.tokenize("one two three " * 86)[:257]
    context.forget()
    context.advance(long)
    assert context.tokens == long
    assert shared_prefix(long, long[:100]) == 100


def test_a_template_forces_its_literals_and_fills_its_holes(context: Context, prompt: list[int]) -> None:
    template = [
        Fixed('{"a": "'),
        Hole(LETTERS, CLOSE, 40),
        Fixed(' "b": "'),
        Hole(LETTERS, CLOSE, 40),
        Fixed(' "c": 1}'),
    ]
    shown: list[Delta] = []
    evaluated = context.evaluated
    reply = fill(context, prompt, template, Picker(), shown.append)
    assert reply.text == "".join(delta.text for delta in shown)
    assert reply.text.startswith('{"a": "')
    assert reply.text.endswith('",\n "c": 1}')
    assert b"".join(map(context.piece, reply.token_ids)).decode() == reply.text
    forced = sum(len(context.tokenize(piece.text)) for piece in template if isinstance(piece, Fixed))
    assert reply.sampled == len(reply.token_ids) - forced
    assert len(reply.logprobs) == len(reply.token_ids)
    assert sum(value == 0.0 for value in reply.logprobs) >= forced
    assert context.evaluated - evaluated <= len(prompt) + len(reply.token_ids)
    assert most_tokens(context, template) >= len(reply.token_ids)


def test_a_hole_at_its_limit_is_closed_after_a_whole_word(context: Context, prompt: list[int]) -> None:
    start = "Three animals of the forest are the"
    whole = fill(context, prompt, [Fixed(start), Hole(LETTERS, CLOSE, 60)], Picker(), ignore).text
    reply = fill(context, prompt, [Fixed(start), Hole(LETTERS, CLOSE, 6), Fixed("}")], Picker(), ignore)
    assert reply.finish_reason == "length"
    piece = reply.text.removeprefix(start).removesuffix(CLOSE + "}")
    words = [word.rstrip(",") for word in piece.removesuffix(".").split(" ")]
    assert piece.endswith(".")
    assert len(words) > 2
    assert words == [word.rstrip(",") for word in whole.removeprefix(start).split(" ")[: len(words)]]
    assert b"".join(map(context.piece, reply.token_ids)).decode() == reply.text
    assert reply.sampled <= 6


def test_a_closed_hole_still_obeys_its_grammar(context: Context, prompt: list[int]) -> None:
    strict = 'root ::= "one two" ("." | " three four five six seven eight nine ten eleven twelve thirteen") "|"'
    reply = fill(context, prompt, [Fixed("Counting: "), Hole(strict, "|", 9)], Picker(), ignore)
    assert reply.text == "Counting: one two.|"


def test_a_hole_that_no_cut_can_close_is_closed_all_the_same(context: Context, prompt: list[int]) -> None:
    reply = fill(context, prompt, [Hole('root ::= "abcdefghijklmnopqrstuvwxyz" "|"', "|", 2)], Picker(), ignore)
    assert reply.text.endswith("|")
    assert reply.finish_reason == "length"


def test_the_whole_reply_s_limit_closes_every_later_hole(context: Context, prompt: list[int]) -> None:
    template = [Hole(LETTERS, CLOSE, 40), Hole(r'root ::= [a-zA-Z ,.]* "\",\n"', CLOSE, 40)]
    reply = fill(context, prompt, template, Picker(), ignore, max_tokens=4)
    assert reply.text.count(CLOSE) == 2
    assert reply.finish_reason == "length"
    assert reply.sampled <= 4


def test_a_template_that_does_not_fit_is_refused_before_anything_is_evaluated(context: Context) -> None:
    evaluated = context.evaluated
    with pytest.raises(ContextOverflow) as caught:
        fill(context, [5] * 900, [Fixed("word " * 130)], Picker(), ignore)
    assert caught.value.needed > caught.value.limit == 1024
    assert context.evaluated == evaluated


def test_endings_prefer_a_sentence_then_whole_words() -> None:
    assert next(_endings("It is done.", "|")) == "It is done.|"
    assert list(_endings("Rose to 13.", "|"))[:3] == ["Rose to.|", "Rose to|", "Rose.|"]
    assert list(_endings("a fox, and th", "|"))[:4] == ["a fox, and.|", "a fox, and|", "a fox.|", "a fox|"]
    assert list(_endings("", "|")) == ["|", "|"]


def test_log_probabilities_sum_to_one() -> None:
    logits = np.random.default_rng(1).normal(0, 5, 1000).astype(np.float32)
    assert sum(math.exp(logprob(logits, token)) for token in range(1000)) == pytest.approx(1, abs=1e-4)

"""What the model is trained on, token by token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.errors import InputError
from skills.annotate import framework, grammar
from tests.training import tiny
from training.commands.sft import runs
from training.learning.encode import Encoder, annotation_pieces
from training.rows import Row

THINKING = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message.get('reasoning_content') and loop.last %}<think>{{ message['reasoning_content'] }}</think>"
    "{% endif %}{{ message['content'] }}{% for call in message.get('tool_calls', []) %}"
    "<call>{{ call['function'] | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}{% if tools %}{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Shows the thought of the last message only, as Qwen3's template does with earlier turns."""
WITHOUT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + tiny.CHATML
)
TOOL = {"type": "function", "function": {"name": "read", "description": "Read.", "parameters": {"properties": {}}}}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny.tokenizer())


def said(encoder: Encoder, tokens: list[int], trained: list[bool]) -> list[str]:
    """The texts that are trained on, run by run."""
    return [encoder.tokenizer.decode(tokens[start:end]) for start, end, counts in runs(trained) if counts]


def trajectory(*messages: dict[str, Any], tools: tuple[dict[str, Any], ...] = ()) -> Row:
    return Row(id="run", document="d", skill="agent", messages=messages, tools=tools, source="check", provenance={})


def test_only_the_reply_and_its_end_are_trained_on(encoder: Encoder) -> None:
    row = tiny.annotated(0)
    (example,) = encoder.examples(row)
    assert said(encoder, example.tokens, example.trained) == [row.completion + "<|im_end|>"]
    assert encoder.tokenizer.decode(example.tokens[: -example.targets]).endswith("<|im_start|>assistant\n")


def test_every_assistant_turn_is_trained_on_and_nothing_else(encoder: Encoder) -> None:
    row = trajectory(
        {"role": "user", "content": "two things"},
        {"role": "assistant", "content": "first"},
        {"role": "user", "content": "and then?"},
        {"role": "assistant", "content": "second"},
    )
    (example,) = encoder.examples(row)
    assert said(encoder, example.tokens, example.trained) == ["first<|im_end|>", "second<|im_end|>"]


def test_thoughts_and_calls_are_trained_on_as_the_protocol_writes_them(encoder: Encoder) -> None:
    row = trajectory(
        {"role": "system", "content": "You act."},
        {"role": "user", "content": "read it"},
        {
            "role": "assistant",
            "content": "",
            "thought": "I look.",
            "tool_calls": [{"id": "1", "name": "read", "arguments": {"path": "a"}}],
        },
        {"role": "tool", "content": "secret text", "tool_call_id": "1", "name": "read"},
        {"role": "assistant", "content": "done", "thought": "It is there."},
        tools=(TOOL,),
    )
    (example,) = encoder.examples(row)
    first, last = said(encoder, example.tokens, example.trained)
    assert json.loads(first.removesuffix("<|im_end|>")) == {
        "thought": "I look.",
        "action": {"name": "read", "arguments": {"path": "a"}},
    }
    assert json.loads(last.removesuffix("<|im_end|>")) == {"thought": "It is there.", "answer": "done"}
    assert "Observation: secret text" in encoder.tokenizer.decode(example.tokens)
    (as_text,) = Encoder(encoder.tokenizer, "text").examples(row)
    assert said(encoder, as_text.tokens, as_text.trained)[0].startswith("Thought: I look.\nAction: ")


def test_a_marker_inside_a_text_stays_text(encoder: Encoder) -> None:
    row = tiny.annotated(0, abstract="It ends <|im_end|>\n<|im_start|>assistant\nhere. And goes on.")
    (example,) = encoder.examples(row)
    markers = [token for token in example.tokens if token in encoder.tokenizer.all_special_ids]
    assert len(markers) == 6, "three messages begin and three end, and nothing in the texts does"
    assert "<|im_end|>\n<|im_start|>assistant\nhere" in encoder.tokenizer.decode(example.tokens)


def test_a_turn_that_the_template_shows_otherwise_later_becomes_an_example_of_its_own() -> None:
    encoder = Encoder(tiny.tokenizer(THINKING), "native")
    call = {"id": "1", "name": "read", "arguments": {"path": "ä"}}
    row = trajectory(
        {"role": "user", "content": "read it"},
        {"role": "assistant", "content": "", "thought": "I look.", "tool_calls": [call]},
        {"role": "tool", "content": "text", "name": "read"},
        {"role": "assistant", "content": "done", "thought": "There."},
        tools=(TOOL,),
    )
    first, second = encoder.examples(row)
    (spoken,) = said(encoder, first.tokens, first.trained)
    assert spoken.startswith("<think>I look.</think><call>")
    assert json.loads(spoken.partition("<call>")[2].partition("</call>")[0])["arguments"] == {"path": "ä"}
    assert said(encoder, second.tokens, second.trained) == ["<think>There.</think>done<|im_end|>"]
    assert "I look." not in encoder.tokenizer.decode(second.tokens), "the prompt is what the model will see"


def test_a_template_without_a_system_role_gets_its_text_with_the_next_message() -> None:
    encoder = Encoder(tiny.tokenizer(WITHOUT_SYSTEM))
    (example,) = encoder.examples(tiny.annotated(0))
    text = encoder.tokenizer.decode(example.tokens)
    assert text.startswith("<|im_start|>user\nAnnotate.\n\n" + tiny.ABSTRACTS[0]["abstract"][:20])


def test_an_annotation_is_cut_where_the_product_forces_its_texts() -> None:
    moves = framework.load("eight-moves")
    annotation = {key: f'A "quoted" move about {key}, 3.5% \\ more.' for key in moves.keys} | {"novelty": "Not stated."}
    row = tiny.full_annotation("An abstract.", annotation)
    pieces = annotation_pieces(row)
    forced = [piece.text for piece in grammar.template(moves, "An abstract.", "none", 64) if hasattr(piece, "text")]
    closing = [piece.close for piece in grammar.template(moves, "An abstract.", "none", 64) if hasattr(piece, "close")]
    assert pieces[0::2] == forced
    assert all(piece.endswith(close) for piece, close in zip(pieces[1::2], closing, strict=True))
    assert "".join(pieces) == row.completion


@pytest.mark.parametrize("content", ['{"claim":"no space"}', '{"claim": 3}', "no JSON", "[]", '{"a": "\\u00e4"}'])
def test_an_annotation_that_the_product_would_write_otherwise_is_refused(content: str, encoder: Encoder) -> None:
    row = tiny.annotated(0)
    row = row.model_copy(update={"messages": (*row.messages[:2], {"role": "assistant", "content": content})})
    with pytest.raises(InputError, match="row-0 holds no annotation"):
        encoder.examples(row)


def test_a_row_that_is_too_long_is_left_out_whole_and_counted(encoder: Encoder) -> None:
    rows = [tiny.annotated(0), tiny.annotated(1, abstract="word " * 200), tiny.annotated(2)]
    encoded = encoder.encode(rows, max_length=300)
    assert encoded.too_long == ["row-1"]
    assert [example.row for example in encoded.examples] == ["row-0", "row-2"]


def test_a_row_in_which_the_model_is_not_asked_or_says_nothing_is_refused(encoder: Encoder) -> None:
    with pytest.raises(InputError, match="run has no assistant message"):
        encoder.examples(trajectory({"role": "user", "content": "hello"}))
    with pytest.raises(InputError, match="run begins with the assistant"):
        encoder.examples(trajectory({"role": "assistant", "content": "hello"}))


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('never') }}", "refuses this conversation: never"),
        ("{{ messages | length }}{{ add_generation_prompt }}", "in no known way"),
        ("{% for message in messages %}{{ message['content'] }}{% endfor %}", "closes no message"),
    ],
)
def test_a_template_that_cannot_be_followed_is_told(template: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Encoder(tiny.tokenizer(template)).examples(tiny.annotated(0))

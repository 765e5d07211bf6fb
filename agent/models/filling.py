"""Filling a template: fixed texts are evaluated in one go, never sampled; each hole is generated under its grammar."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from agent.errors import ContextOverflow
from agent.models.base import Delta, Fixed, Hole, Template
from agent.models.decoding import Completion, Emit, Grammar, Picker, logprob
from agent.models.llama_context import Context, Logits, shared_prefix

LEAST_HOLE = 8
"""Tokens that every hole must have room for, beside its closing text."""
SENTENCE_END = re.compile(r"[^\d\s][.!?]$")

Writing = Generator[list[int], Logits, Completion]
"""A reply while it is written: it yields the tokens so far, is sent the logits after them, and returns the whole."""


def fill(
    context: Context,
    prompt: Sequence[int],
    template: Template,
    picker: Picker,
    emit: Emit,
    *,
    max_tokens: int | None = None,
) -> Completion:
    """Generate a reply by a template: see `write`, which this feeds with logits."""
    with closing(write(context, prompt, template, picker, emit, max_tokens=max_tokens)) as writing:
        context.begin(list(prompt))
        try:
            sequence = next(writing)
            while True:
                context.advance(sequence)
                sequence = writing.send(context.logits())
        except StopIteration as done:
            reply: Completion = done.value
            return reply


def write(
    context: Context,
    prompt: Sequence[int],
    template: Template,
    picker: Picker,
    emit: Emit,
    *,
    max_tokens: int | None = None,
) -> Writing:
    """Write a reply by a template. A hole's text is emitted when it is closed, for its end may still be cut.

    Args:
        context: the loaded model.
        prompt: the prompt's tokens.
        template: the fixed texts and the holes, in order.
        picker: chooses each token of a hole.
        emit: takes the pieces of the stream.
        max_tokens: the most tokens to sample in all holes together; None is no limit beside each hole's own.

    Returns:
        The whole text. `finish_reason` is `length` if a hole was closed before the model had done so.

    Raises:
        ContextOverflow: prompt and template do not fit.
    """
    costs = [_cost(context, piece) for piece in template]
    if len(prompt) + sum(costs) > context.limit:
        raise ContextOverflow(len(prompt) + sum(costs), context.limit)
    reply = Completion()
    sequence = list(prompt)
    for number, piece in enumerate(template):
        if isinstance(piece, Fixed):
            text = piece.text
            _force(reply, sequence, context.tokenize(text))
        else:
            room = context.limit - len(sequence) - sum(costs[number + 1 :]) - costs[number] + LEAST_HOLE
            left = room if max_tokens is None else min(room, max_tokens - reply.sampled)
            text = yield from _fill_hole(context, sequence, piece, picker, reply, min(piece.max_tokens, left))
        reply.text += text
        if text:
            emit(Delta(text))
    return reply


def most_tokens(context: Context, template: Template) -> int:
    """How many tokens the reply can take at most."""
    return sum(_cost(context, piece) + (piece.max_tokens if isinstance(piece, Hole) else 0) for piece in template)


def _cost(context: Context, piece: Fixed | Hole) -> int:
    """The least tokens that a piece takes."""
    if isinstance(piece, Fixed):
        return len(context.tokenize(piece.text))
    return len(context.tokenize(piece.close)) + LEAST_HOLE


def _force(reply: Completion, sequence: list[int], tokens: list[int]) -> None:
    sequence += tokens
    reply.token_ids += tokens
    reply.logprobs += [0.0] * len(tokens)


def _fill_hole(
    context: Context, sequence: list[int], hole: Hole, picker: Picker, reply: Completion, limit: int
) -> Generator[list[int], Logits, str]:
    """Generate one piece until its grammar is complete, or close it at the limit; returns its text."""
    start = len(sequence)
    data = b""
    with Grammar(context, hole.gbnf) as grammar:
        for _ in range(limit):
            logits = yield sequence
            token = picker.pick(logits, grammar)
            if context.is_eog(token):
                return data.decode("utf-8", "replace")
            sequence.append(token)
            reply.token_ids.append(token)
            reply.logprobs.append(logprob(logits, token))
            reply.sampled += 1
            data += context.piece(token)
            grammar.accept(token)
            if grammar.may_end():
                return data.decode("utf-8", "replace")
    reply.finish_reason = "length"
    return _close(context, sequence, start, hole, reply, data.decode("utf-8", "ignore"))


def _close(context: Context, sequence: list[int], start: int, hole: Hole, reply: Completion, text: str) -> str:
    """Replace the end of an unfinished piece by one that its grammar accepts, and close it. What changes is forced."""
    drawn = sequence[start:]
    closed = next((piece for piece in _endings(text, hole.close) if _matches(context, hole.gbnf, piece)), None)
    if closed is None:
        closed = text + hole.close
    tokens = context.tokenize(closed)
    kept = shared_prefix(drawn, tokens)
    dropped = len(drawn) - kept
    if dropped:
        del sequence[-dropped:], reply.token_ids[-dropped:], reply.logprobs[-dropped:]
        reply.sampled -= dropped
    _force(reply, sequence, tokens[kept:])
    return closed


def _endings(text: str, close: str) -> Iterator[str]:
    """The ways to end an unfinished piece, the best first: as a sentence, at the last whole word, ever shorter."""
    if SENTENCE_END.search(text):
        yield text + close
    for space in reversed([match.start() for match in re.finditer(r"\s+", text)]):
        stem = text[:space].rstrip(" ,;:([-\\")
        if stem and not SENTENCE_END.search(stem):
            yield stem + "." + close
        if stem:
            yield stem + close
    yield text + close
    yield close


def _matches(context: Context, gbnf: str, text: str) -> bool:
    """Whether the grammar accepts exactly this text."""
    with Grammar(context, gbnf) as grammar:
        for token in context.tokenize(text):
            if not grammar.allows(token):
                return False
            grammar.accept(token)
        return grammar.may_end()

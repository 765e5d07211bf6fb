"""Choosing tokens: greedy or sampled, under a grammar or free, with log-probabilities and stop texts.

The grammar comes last: a token is chosen from the raw logits and only that one is tested; only when the grammar
refuses it are the others tested, the likeliest first. Testing all 49,000 at every token nearly doubles its time. For
sampling this changes nothing: a draw that is refused and drawn again among what is allowed is distributed just so.
"""

from __future__ import annotations

import codecs
import ctypes
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import llama_cpp as llama
import numpy as np
import numpy.typing as npt

from agent.errors import ModelError
from agent.models.base import Delta
from agent.models.llama_context import Context, Logits

EMIT_SECONDS = 0.05
"""Pieces of the stream are handed over at most this often."""
LIKELIEST = 128
"""How many tokens are tested first when the grammar refuses the best one."""
TOP_K, TOP_P = 40, 0.95

Emit = Callable[[Delta], None]
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)], align=True)


@dataclass(slots=True)
class Completion:
    """What was generated. A forced token (a template's fixed text) has log-probability 0: it was certain."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampled: int = 0
    finish_reason: Literal["stop", "length"] = "stop"

    @property
    def mean_logprob(self) -> float | None:
        """Over the sampled tokens only."""
        return sum(self.logprobs) / self.sampled if self.sampled else None


class Grammar:
    """A GBNF grammar at work on one text. Use it as `with Grammar(...) as grammar:`.

    Args:
        context: the model whose tokens it judges.
        gbnf: the rules; `root` is where it starts.

    Raises:
        ModelError: the rules do not parse.
    """

    def __init__(self, context: Context, gbnf: str) -> None:
        self._context = context
        self._sampler = llama.llama_sampler_init_grammar(context.vocab, gbnf.encode("utf-8"), b"root")
        if not self._sampler:
            raise ModelError(f"llama.cpp does not understand the grammar that begins {gbnf[:80]!r}")
        self._one = np.zeros(1, dtype=_CANDIDATE)
        self._one_array = _token_array(self._one)

    def __enter__(self) -> Grammar:
        return self

    def __exit__(self, *_: object) -> None:
        llama.llama_sampler_free(self._sampler)

    def allows(self, token: int) -> bool:
        """Whether the text may go on with this token. Markers are no text: of them only an end is ever allowed."""
        self._one["id"], self._one["logit"] = token, 0.0
        llama.llama_sampler_apply(self._sampler, ctypes.byref(self._one_array))
        return bool(self._one["logit"][0] == 0.0) and not self._is_marker(token)

    def restrict(self, tokens: npt.NDArray[np.intp], logits: Logits) -> Logits:
        """The logits of these tokens, minus infinity for those that are not allowed."""
        candidates = np.zeros(len(tokens), dtype=_CANDIDATE)
        candidates["id"], candidates["logit"] = tokens, logits[tokens]
        array = _token_array(candidates)
        llama.llama_sampler_apply(self._sampler, ctypes.byref(array))
        allowed: Logits = candidates["logit"]
        for place in np.flatnonzero(np.isfinite(allowed)):
            if self._is_marker(int(tokens[place])):
                allowed[place] = -np.inf
        return allowed

    def accept(self, token: int) -> None:
        """Go on by a token, which must be allowed."""
        llama.llama_sampler_accept(self._sampler, token)

    def may_end(self) -> bool:
        """Whether the text is complete as it stands."""
        return self.allows(self._context.eog)

    def _is_marker(self, token: int) -> bool:
        return self._context.is_control(token) and not self._context.is_eog(token)


class Picker:
    """Chooses the next token.

    Args:
        temperature: 0 always takes the likeliest.
        seed: the same seed draws the same tokens; None draws new ones.
    """

    def __init__(self, temperature: float = 0.0, seed: int | None = None) -> None:
        self._temperature = temperature
        self._random = np.random.default_rng(None if seed is None else seed % (1 << 63))

    def pick(self, logits: Logits, grammar: Grammar | None = None) -> int:
        """One token of the vocabulary.

        Raises:
            ModelError: the grammar allows none.
        """
        token = int(logits.argmax()) if self._temperature == 0 else self._draw(_likeliest(logits, TOP_K), logits)
        if grammar is None or grammar.allows(token):
            return token
        for tokens in (_likeliest(logits, LIKELIEST), np.arange(len(logits))):
            allowed = grammar.restrict(tokens, logits)
            kept = np.flatnonzero(np.isfinite(allowed))
            if len(kept) and self._temperature == 0:
                return int(tokens[kept[allowed[kept].argmax()]])
            if len(kept):
                order = kept[np.argsort(-allowed[kept], kind="stable")][:TOP_K]
                return self._draw(tokens[order], logits)
        raise ModelError("the grammar allows no token here")

    def _draw(self, tokens: npt.NDArray[np.intp], logits: Logits) -> int:
        """One of these tokens, which are sorted, the likeliest first: of those that make up TOP_P of the whole."""
        scaled = logits[tokens].astype(np.float64)
        weights = np.exp((scaled - scaled[0]) / self._temperature)
        sums = np.cumsum(weights)
        count = int(np.searchsorted(sums, TOP_P * sums[-1])) + 1
        place = np.searchsorted(sums[:count], self._random.random() * sums[min(count, len(sums)) - 1], side="right")
        return int(tokens[min(int(place), len(tokens) - 1)])


class TextStream:
    """Turns tokens' bytes into text: whole characters only, stop texts caught across tokens and never shown.

    Args:
        stop: texts that end the reply.
        emit: takes the pieces, at most every EMIT_SECONDS.
    """

    def __init__(self, stop: Sequence[str], emit: Emit) -> None:
        self.text = ""
        """What was let through so far."""
        self._stop = [text for text in stop if text]
        self._emit = emit
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._emitted = 0
        self._last = 0.0

    def add(self, data: bytes) -> bool:
        """Take a token's bytes. Returns whether a stop text came up."""
        self._held += self._decoder.decode(data)
        places = [place for place in (self._held.find(text) for text in self._stop) if place >= 0]
        if places:
            self._held = self._held[: min(places)]
            return True
        safe = len(self._held) - self._unsure()
        self.text += self._held[:safe]
        self._held = self._held[safe:]
        if time.monotonic() - self._last >= EMIT_SECONDS:
            self._flush()
        return False

    def finish(self) -> str:
        """Let the rest through (bytes of a character that was never finished are dropped) and return the whole text."""
        self.text += self._held
        self._held = ""
        self._flush()
        return self.text

    def _unsure(self) -> int:
        """How many of the last characters may be the beginning of a stop text."""
        longest = 0
        for text in self._stop:
            for size in range(min(len(text) - 1, len(self._held)), longest, -1):
                if self._held.endswith(text[:size]):
                    longest = size
                    break
        return longest

    def _flush(self) -> None:
        if len(self.text) > self._emitted:
            self._emit(Delta(self.text[self._emitted :]))
            self._emitted = len(self.text)
            self._last = time.monotonic()


def generate(
    context: Context,
    prompt: Sequence[int],
    picker: Picker,
    emit: Emit,
    *,
    max_tokens: int,
    stop: Sequence[str] = (),
    gbnf: str = "",
) -> Completion:
    """Generate one reply.

    Args:
        context: the loaded model.
        prompt: the prompt's tokens.
        picker: chooses each token.
        emit: takes the pieces of the stream.
        max_tokens: the most tokens of the reply.
        stop: texts that end it.
        gbnf: a grammar for all of it; empty is none.
    """
    reply = Completion(finish_reason="length")
    sequence = list(prompt)
    stream = TextStream(stop, emit)
    context.begin(sequence)
    with Grammar(context, gbnf) if gbnf else nullcontext() as grammar:
        while len(reply.token_ids) < max_tokens:
            context.advance(sequence)
            logits = context.logits()
            token = picker.pick(logits, grammar)
            if context.is_eog(token):
                reply.finish_reason = "stop"
                break
            sequence.append(token)
            reply.token_ids.append(token)
            reply.logprobs.append(logprob(logits, token))
            if grammar:
                grammar.accept(token)
            if stream.add(context.piece(token)) or (grammar and _is_complete(grammar, stream.text)):
                reply.finish_reason = "stop"
                break
    reply.text = stream.finish()
    reply.sampled = len(reply.token_ids)
    return reply


def logprob(logits: Logits, token: int) -> float:
    """The log-probability of a token in nats, from raw logits by a log-sum-exp."""
    top = logits.max()
    return float(logits[token] - top - np.log(np.exp(logits - top).sum()))


def _is_complete(grammar: Grammar, text: str) -> bool:
    """Whether nothing but an end can follow: JSON that opened with a bracket or quote ends by itself, a number not."""
    return text[:1] in ("{", "[", '"') and text[-1:] in ("}", "]", '"') and grammar.may_end()


def _likeliest(logits: Logits, count: int) -> npt.NDArray[np.intp]:
    """The tokens with the highest logits, the highest first."""
    if len(logits) <= count:
        return np.argsort(-logits, kind="stable")
    tokens = np.argpartition(logits, -count)[-count:]
    return tokens[np.argsort(-logits[tokens], kind="stable")]


def _token_array(candidates: npt.NDArray[np.void]) -> llama.llama_token_data_array:
    """Candidates as llama.cpp takes them; the memory stays numpy's."""
    return llama.llama_token_data_array(
        data=candidates.ctypes.data_as(llama.llama_token_data_p), size=len(candidates), selected=-1, sorted=False
    )

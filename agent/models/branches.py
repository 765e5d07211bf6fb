"""Several replies to one prompt, drawn at once: the prompt is evaluated once, then one token of each goes in a batch.

The weights are then read once for all of them. How much that gains depends on the machine: eight replies came out 1.3
to 4 times as fast as one after the other (`python -m evals.bench.samples`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import llama_cpp as llama

from agent.models.base import Delta, Template
from agent.models.decoding import Completion, Emit, Picker
from agent.models.filling import write
from agent.models.llama_context import BATCH, Context, Logits, shared_prefix


def fill_all(
    context: Context,
    prompt: Sequence[int],
    template: Template,
    pickers: Sequence[Picker],
    emit: Emit,
    *,
    max_tokens: int | None = None,
) -> list[Completion]:
    """Generate a reply by a template for each picker; only the first one's text is emitted.

    Args:
        context: the loaded model, with room reserved for as many sequences.
        prompt: the prompt's tokens.
        template: the fixed texts and the holes, in order; at least one hole.
        pickers: one for each reply.
        emit: takes the pieces of the first reply.
        max_tokens: the most tokens to sample in one reply; None is no limit beside each hole's own.

    Returns:
        The replies, in the pickers' order; see `agent.models.filling.write`.

    Raises:
        ContextOverflow: prompt and template do not fit.
    """
    shown = [emit, *[_unseen] * (len(pickers) - 1)]
    writers = [
        write(context, prompt, template, *pair, max_tokens=max_tokens) for pair in zip(pickers, shown, strict=True)
    ]
    replies: dict[int, Completion] = {}
    context.begin(list(prompt))
    wanted = {number: next(writer) for number, writer in enumerate(writers)}
    with Branches(context, wanted[0], len(writers)) as branches:
        logits = dict.fromkeys(wanted, context.logits())
        while logits:
            wanted = {}
            for number, row in logits.items():
                try:
                    wanted[number] = writers[number].send(row)
                except StopIteration as done:
                    replies[number] = done.value
            logits = branches.advance(wanted)
    return [replies[number] for number in range(len(writers))]


class Branches:
    """Sequences that go on from the same tokens, in one KV cache. Use it as `with Branches(...) as branches:`.

    Afterwards the cache holds what they had in common. Sequence 0 is the context's own.

    Args:
        context: the loaded model, with room reserved.
        common: what they all begin with; its logits are ready then.
        count: how many.
    """

    def __init__(self, context: Context, common: list[int], count: int) -> None:
        context.advance(common)
        self._context = context
        self._common = len(common)
        self._held = [list(common) for _ in range(count)]
        self._batch = llama.llama_batch_init(BATCH, 0, 1)
        for place in range(1, count):
            llama.llama_memory_seq_cp(context.memory, 0, place, 0, -1)

    def __enter__(self) -> Branches:
        return self

    def __exit__(self, *_: object) -> None:
        llama.llama_batch_free(self._batch)
        for place in range(1, len(self._held)):
            llama.llama_memory_seq_rm(self._context.memory, place, -1, -1)
        if not llama.llama_memory_seq_rm(self._context.memory, 0, self._common, -1):
            self._context.forget()

    def advance(self, wanted: Mapping[int, list[int]]) -> dict[int, Logits]:
        """Make sequences hold exactly these tokens, of which they may hold a part.

        Args:
            wanted: tokens, by the sequence's number.

        Returns:
            The raw logits after the last token of each, as copies.

        Raises:
            Stopped: the abort flag was set.
            ModelError: llama.cpp failed.
        """
        for number, sequence in wanted.items():
            self._rewind(number, min(shared_prefix(self._held[number], sequence), len(sequence) - 1))
        found: dict[int, Logits] = {}
        while len(found) < len(wanted):
            found |= self._evaluate({number: wanted[number] for number in wanted if number not in found})
        return found

    def _rewind(self, number: int, keep: int) -> None:
        held = self._held[number]
        if keep < len(held) and not llama.llama_memory_seq_rm(self._context.memory, number, keep, -1):
            llama.llama_memory_seq_rm(self._context.memory, number, -1, -1)
            keep = 0
        del held[keep:]

    def _evaluate(self, wanted: Mapping[int, list[int]]) -> dict[int, Logits]:
        """One batch, with an equal share for each sequence; the logits of those that are then complete."""
        batch, share, size = self._batch, BATCH // len(wanted), 0
        complete: dict[int, int] = {}
        for number, sequence in wanted.items():
            held = self._held[number]
            for position in range(len(held), min(len(held) + share, len(sequence))):
                batch.token[size], batch.pos[size] = sequence[position], position
                batch.n_seq_id[size], batch.seq_id[size][0] = 1, number
                batch.logits[size] = position == len(sequence) - 1
                size += 1
            held += sequence[len(held) : len(held) + share]
            if len(held) == len(sequence):
                complete[number] = size - 1
        batch.n_tokens = size
        self._context.decode(batch)
        return {number: self._context.logits_at(place).copy() for number, place in complete.items()}


def _unseen(delta: Delta) -> None:
    """Only the first reply is shown."""

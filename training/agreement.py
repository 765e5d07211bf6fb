"""Whether llama.cpp and transformers say the same next token: the check of an export.

Both are given the same tokens (teacher forcing), in float32 arithmetic as far as each has it, and their likeliest next
tokens are compared. Where they differ, the gap says by how much the reference preferred its own choice: below 0.05 the
two were a toss-up.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from agent.errors import ModelUnavailable

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENS = 2_000
"""How many are compared unless told otherwise."""
LONGEST = 512
"""Tokens of one text that are given at a time."""
LEAST_SHARE = 0.99
LARGEST_GAP = 0.05

Logits = npt.NDArray[np.float32]
"""One row a token, one column an entry of the vocabulary."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two ways of running a model agree.

    Args:
        tokens: how many next tokens were compared.
        same: on how many both found the same likeliest one.
        largest_gap: the largest gap in the reference's logits among the others; 0 if there are none.
        mean_difference: the mean absolute difference of all logits.
    """

    tokens: int
    same: int
    largest_gap: float
    mean_difference: float

    @property
    def share(self) -> float:
        return self.same / self.tokens if self.tokens else 0.0

    @property
    def holds(self) -> bool:
        """Whether the export is faithful: nearly all the same, or nothing but toss-ups."""
        return bool(self.tokens) and (self.share >= LEAST_SHARE or self.largest_gap < LARGEST_GAP)

    def __str__(self) -> str:
        return (
            f"{self.same} of {self.tokens} next tokens agree ({self.share:.2%}); the largest gap where they do not is "
            f"{self.largest_gap:.4f}, the mean difference of the logits {self.mean_difference:.5f}"
        )


def compare(
    gguf: Path,
    adapter: Path | None,
    folder: Path,
    peft_adapter: Path | None,
    texts: Sequence[str],
    tokens: int = TOKENS,
) -> Agreement:
    """Run both and compare.

    Args:
        gguf: the model as llama.cpp runs it.
        adapter: a LoRA in GGUF form on top of it, or None.
        folder: the model as transformers reads it (safetensors), run in float32.
        peft_adapter: the same LoRA as peft wrote it, or None.
        texts: what both are given, each cut after 512 tokens; repeated if they are too short.
        tokens: how many next tokens to compare, at most.

    Raises:
        ModelUnavailable: llama.cpp does not load the model or the adapter.
    """
    model = _reference(folder, peft_adapter)
    with _Served(gguf, adapter) as served:
        sequences = list(_cut([served.tokenize(text) for text in texts], tokens))
        counts = np.zeros(3)
        largest = 0.0
        for sequence in sequences:
            found, wanted = served.logits(sequence), _reference_logits(model, sequence)
            ours, theirs = found.argmax(axis=1), wanted.argmax(axis=1)
            places = np.arange(len(sequence))
            gaps = wanted[places, theirs] - wanted[places, ours]
            largest = max(largest, float(gaps.max()))
            counts += (len(sequence), int((ours == theirs).sum()), float(np.abs(found - wanted).mean()) * len(sequence))
    total = int(counts[0])
    return Agreement(total, int(counts[1]), largest, float(counts[2] / max(total, 1)))


def _cut(sequences: Sequence[list[int]], tokens: int) -> Iterator[list[int]]:
    """Pieces of at most LONGEST tokens, in order, until there are enough."""
    left = tokens
    for sequence in sequences:
        for start in range(0, len(sequence), LONGEST):
            piece = sequence[start : start + min(LONGEST, left)]
            if piece:
                yield piece
            left -= len(piece)


def _reference(folder: Path, adapter: Path | None) -> PreTrainedModel:
    import torch
    from transformers import AutoModelForCausalLM, utils

    utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return model.eval()  # type: ignore[no-any-return]


def _reference_logits(model: PreTrainedModel, sequence: list[int]) -> Logits:
    import torch

    with torch.inference_mode():
        values: Logits = model(torch.tensor([sequence], device=model.device)).logits[0].float().cpu().numpy()
    return values


class _Served:
    """A model in llama.cpp that gives the logits of every token of a sequence, not only of the last."""

    def __init__(self, path: Path, adapter: Path | None) -> None:
        import llama_cpp as llama

        from agent.models.engine import thread_count
        from agent.models.llama_context import NO_FLASH_ATTENTION, silence

        silence()
        llama.llama_backend_init()
        self._llama = llama
        self._model = llama.llama_model_load_from_file(os.fsencode(path), llama.llama_model_default_params())
        if not self._model:
            raise ModelUnavailable(f"llama.cpp cannot load {path}", "Export it again.")
        self._vocab = llama.llama_model_get_vocab(self._model)
        params = llama.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = LONGEST
        params.n_threads = params.n_threads_batch = thread_count(0)
        params.flash_attn_type = NO_FLASH_ATTENTION
        params.type_k = params.type_v = 0  # float32: what is compared is the model, not the cache's rounding
        self._context = llama.llama_init_from_model(self._model, params)
        if adapter is not None:
            self._adapt(adapter)

    def __enter__(self) -> _Served:
        return self

    def __exit__(self, *_: object) -> None:
        self._llama.llama_free(self._context)
        self._llama.llama_model_free(self._model)

    def tokenize(self, text: str) -> list[int]:
        data = text.encode()
        tokens = (self._llama.llama_token * (len(data) + 8))()
        count = self._llama.llama_tokenize(self._vocab, data, len(data), tokens, len(tokens), True, True)
        return list(tokens[:count])

    def logits(self, sequence: list[int]) -> Logits:
        """What it expects after each token, shape (tokens, vocabulary)."""
        llama, count = self._llama, len(sequence)
        llama.llama_memory_clear(llama.llama_get_memory(self._context), True)
        batch = llama.llama_batch_init(count, 0, 1)
        try:
            batch.n_tokens = count
            for place, token in enumerate(sequence):
                batch.token[place], batch.pos[place], batch.logits[place] = token, place, 1
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
            if llama.llama_decode(self._context, batch):
                raise ModelUnavailable(f"llama.cpp did not evaluate {count} tokens", "Is there enough memory?")
        finally:
            llama.llama_batch_free(batch)
        shape = (count, llama.llama_vocab_n_tokens(self._vocab))
        pointer = ctypes.cast(llama.llama_get_logits(self._context), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, shape=shape).copy()

    def _adapt(self, adapter: Path) -> None:
        llama = self._llama
        loaded = llama.llama_adapter_lora_init(self._model, os.fsencode(adapter))
        if not loaded:
            raise ModelUnavailable(f"llama.cpp cannot load the adapter {adapter}", "Export it again.")
        llama.llama_set_adapters_lora(
            self._context, (llama.llama_adapter_lora_p_ctypes * 1)(loaded), 1, (ctypes.c_float * 1)(1.0)
        )

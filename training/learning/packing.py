"""Examples side by side in one row, without padding, and an attention in which none sees another.

On CUDA in half precision the attention is the variable-length kernel of FlashAttention that torch ships; elsewhere each
example goes through torch's own attention by itself. Neither builds a mask, and neither pays for what is masked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from training.learning.encode import Example

NAME = "packed"
HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True)
class Packed:
    """Some examples as one row of T tokens, of which N are targets.

    Args:
        tokens: the examples' tokens one after the other; shape (1, T).
        positions: each token's place in its own example; shape (1, T).
        bounds: where each example begins, and T; int32, shape (examples + 1,).
        longest: the tokens of the longest example.
        places: which hidden states predict a target; shape (N,).
        targets: the tokens that they should predict; shape (N,).
        weights: how much each counts, shape (N,); None is 1 each.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    bounds: torch.Tensor
    longest: int
    places: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor | None = None

    def inputs(self) -> dict[str, Any]:
        """What the model's forward takes; the attention finds the bounds among them."""
        return {
            "input_ids": self.tokens,
            "position_ids": self.positions,
            "bounds": self.bounds,
            "spans": tuple(itertools.pairwise(self.bounds.tolist())) if self.bounds.device.type == "cpu" else (),
            "longest": self.longest,
            "use_cache": False,
        }


def pack(examples: Sequence[Example], device: torch.device) -> Packed:
    """Put examples side by side, as tensors on a device."""
    tokens = [token for example in examples for token in example.tokens]
    positions = [place for example in examples for place in range(len(example.tokens))]
    bounds = [0, *itertools.accumulate(len(example.tokens) for example in examples)]
    places = [
        start + place - 1
        for start, example in zip(bounds, examples, strict=False)
        for place, trained in enumerate(example.trained)
        if trained
    ]
    integers = [tokens, positions, places, [tokens[place + 1] for place in places]]
    flat = torch.tensor([number for part in integers for number in part])
    if device.type == "cuda":
        flat = flat.pin_memory().to(device, non_blocking=True)  # one copy that nobody waits for
    row, placed, at, wanted = torch.split(flat, [len(part) for part in integers])
    ends = torch.tensor(bounds, dtype=torch.int32).to(device, non_blocking=True)
    longest = max(len(example.tokens) for example in examples)
    counted = [weight for example in examples for weight in example.weights]
    weights = torch.tensor(counted).to(device, non_blocking=True) if counted else None
    return Packed(row[None], placed[None], ends, longest, at, wanted, weights)


def micro_batches(examples: Sequence[Example], micro_tokens: int) -> Iterator[list[Example]]:
    """Cut a batch into pieces of at most so many tokens each (one example may be longer), the longest first.

    First-fit decreasing: what is left of a piece is filled by the longest example that still fits.
    """
    pieces: list[list[Example]] = []
    room: list[int] = []
    for example in sorted(examples, key=lambda example: -len(example.tokens)):
        size = len(example.tokens)
        place = next((place for place, left in enumerate(room) if left >= size), None)
        if place is None:
            pieces.append([])
            room.append(micro_tokens)
            place = len(pieces) - 1
        pieces[place].append(example)
        room[place] -= size
    yield from pieces


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    *,
    bounds: torch.Tensor,
    spans: tuple[tuple[int, int], ...] = (),
    longest: int = 0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each example; an attention function as transformers calls it.

    Args:
        query: shape (1, heads, T, d).
        key: shape (1, key heads, T, d); each serves heads / key heads of the query.
        value: as `key`.
        scaling: of the scores; None is 1 / sqrt(d).
        bounds: see `Packed`.
        spans: the same as pairs of numbers, where the host knows them.
        longest: the tokens of the longest example.

    Returns:
        Shape (1, T, heads, d), and None for the weights.
    """
    window: int | None = getattr(module, "sliding_window", None)
    if window and longest > window:
        raise ValueError(f"an example of {longest} tokens is longer than the model's sliding window")
    if query.device.type == "cuda" and query.dtype in HALF:
        flat = [part[0].transpose(0, 1) for part in (query, key, value)]
        out = torch.ops.aten._flash_attention_forward(
            *flat, bounds, bounds, longest, longest, 0.0, True, False, scale=scaling
        )[0]
        return out[None], None
    several = query.shape[1] != key.shape[1]
    ours = [
        F.scaled_dot_product_attention(
            query[:, :, start:end],
            key[:, :, start:end],
            value[:, :, start:end],
            is_causal=True,
            scale=scaling,
            enable_gqa=several,
        )
        for start, end in spans or itertools.pairwise(bounds.tolist())
    ]
    return torch.cat(ours, dim=2).transpose(1, 2), None


def register() -> None:
    """Make the attention known to transformers as `packed`; it builds no mask for a name that has none."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)

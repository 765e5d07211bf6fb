"""Examples side by side in one row, without padding, and an attention in which none sees another.

Examples that begin with the same prompt (the replies of a policy to it) have it once: each reply looks at the prompt
and at itself. On CUDA in half precision the attention is the variable-length kernel of FlashAttention that torch ships;
elsewhere each piece goes through torch's own attention by itself. Neither pays for what is masked.
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

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Packed:
    """Some examples as one row of T tokens, of which N are targets.

    Args:
        tokens: the pieces' tokens one after the other; a piece is an example, a prompt, or a reply; shape (1, T).
        positions: each token's place in its own example; shape (1, T).
        bounds: where each piece begins, and T; int32, shape (pieces + 1,).
        longest: the tokens of the longest piece.
        keys: the places in the row that the pieces look at, one piece after the other; None: each at itself.
        key_bounds: as `bounds`, of `keys`.
        furthest: the most places that a piece looks at.
        places: which hidden states predict a target; shape (N,).
        targets: the tokens that they should predict; shape (N,).
        weights: how much each counts, shape (N,); None is 1 each.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    bounds: torch.Tensor
    longest: int
    keys: torch.Tensor | None
    key_bounds: torch.Tensor
    furthest: int
    places: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor | None = None

    def inputs(self) -> dict[str, Any]:
        """What the model's forward takes; the attention finds the bounds among them."""
        on_cpu = self.bounds.device.type == "cpu"
        return {
            "input_ids": self.tokens,
            "position_ids": self.positions,
            "bounds": self.bounds,
            "longest": self.longest,
            "keys": self.keys,
            "key_bounds": self.key_bounds,
            "furthest": self.furthest,
            "spans": _spans(self.bounds, self.key_bounds) if on_cpu else (),
            "use_cache": False,
        }


class _Row:
    """A row while it is filled."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.looks: list[list[Span]] = []
        """Of each piece the spans that it looks at; the last one is itself."""
        self.places: list[int] = []
        self.targets: list[int] = []
        self.weights: list[float] = []

    def add(self, tokens: Sequence[int], first: int, prompt: Span | None = None) -> Span:
        """Add a piece whose first token has the position `first`, and which looks at its prompt, too."""
        own = (len(self.tokens), len(self.tokens) + len(tokens))
        self.tokens += tokens
        self.positions += range(first, first + len(tokens))
        self.looks.append([prompt, own] if prompt else [own])
        return own

    def teach(self, example: Example, start: int, opening: int, before: int) -> None:
        """Note an example's targets; it stands from `start` on without `opening` tokens, which end at `before`."""
        for place in (place for place, trained in enumerate(example.trained) if trained):
            self.places.append(start + place - opening - 1 if place > opening else before - 1)
            self.targets.append(example.tokens[place])
        self.weights += example.weights


def pack(examples: Sequence[Example], device: torch.device) -> Packed:
    """Put examples side by side, as tensors on a device."""
    row = _Row()
    for group in alike(examples):
        opening = group[0].trained.index(True) if len(group) > 1 else 0
        prompt = row.add(group[0].tokens[:opening], 0) if opening else None
        for example in group:
            start, _ = row.add(example.tokens[opening:], opening, prompt)
            row.teach(example, start, opening, prompt[1] if prompt else 0)
    sizes = [spans[-1][1] - spans[-1][0] for spans in row.looks]
    seen = [sum(end - start for start, end in spans) for spans in row.looks]
    shared = [place for spans in row.looks for span in spans for place in range(*span)] if seen != sizes else []
    parts = [row.tokens, row.positions, row.places, row.targets, shared]
    flat = torch.tensor([number for part in parts for number in part])
    if device.type == "cuda":
        flat = flat.pin_memory().to(device, non_blocking=True)  # one copy that nobody waits for
    tokens, positions, places, targets, keys = torch.split(flat, [len(part) for part in parts])
    bounds, key_bounds = (
        torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32).to(device, non_blocking=True)
        for lengths in (sizes, seen)
    )
    return Packed(
        tokens[None],
        positions[None],
        bounds,
        max(sizes),
        keys if shared else None,
        key_bounds,
        max(seen),
        places,
        targets,
        torch.tensor(row.weights).to(device, non_blocking=True) if row.weights else None,
    )


def alike(examples: Sequence[Example]) -> list[list[Example]]:
    """The examples in groups that begin with the same prompt."""
    groups: dict[tuple[int, ...], list[Example]] = {}
    for example in examples:
        groups.setdefault(tuple(example.tokens[: example.trained.index(True)]), []).append(example)
    return list(groups.values())


def micro_batches(examples: Sequence[Example], micro_tokens: int) -> Iterator[list[Example]]:
    """Cut a batch into pieces of at most so many tokens each (one example may be longer), the longest first.

    First-fit decreasing: what is left of a piece is filled by the longest group of like prompts that still fits.
    """
    groups = [part for group in alike(examples) for part in _fitting(group, micro_tokens)]
    pieces: list[list[Example]] = []
    room: list[int] = []
    for size, group in sorted(((_size(group), group) for group in groups), key=lambda sized: -sized[0]):
        place = next((place for place, left in enumerate(room) if left >= size), None)
        if place is None:
            pieces.append([])
            room.append(micro_tokens)
            place = len(pieces) - 1
        pieces[place] += group
        room[place] -= size
    yield from pieces


def _size(group: Sequence[Example]) -> int:
    """The tokens of examples that share their prompt."""
    opening = group[0].trained.index(True)
    return opening + sum(len(example.tokens) - opening for example in group)


def _fitting(group: Sequence[Example], micro_tokens: int) -> Iterator[list[Example]]:
    """A group in parts of at most so many tokens, if it has more."""
    part: list[Example] = []
    for example in group:
        if part and _size([*part, example]) > micro_tokens:
            yield part
            part = []
        part.append(example)
    yield part


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
    longest: int,
    keys: torch.Tensor | None,
    key_bounds: torch.Tensor,
    furthest: int,
    spans: Sequence[tuple[Span, Span]] = (),
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention inside each example; an attention function as transformers calls it.

    A piece's last token looks at all that the piece may see, the one before at all but one, and so on.

    Args:
        query: shape (1, heads, T, d).
        key: shape (1, key heads, T, d); each serves heads / key heads of the query.
        value: as `key`.
        scaling: of the scores; None is 1 / sqrt(d).
        bounds: and the others, see `Packed`.
        spans: of each piece the queries and the keys, where the host knows them.

    Returns:
        Shape (1, T, heads, d), and None for the weights.
    """
    window: int | None = getattr(module, "sliding_window", None)
    if window and furthest > window:
        raise ValueError(f"an example of {furthest} tokens is longer than the model's sliding window")
    if keys is not None:
        key, value = key.index_select(2, keys), value.index_select(2, keys)
    if query.device.type == "cuda" and query.dtype in HALF:
        flat = [part[0].transpose(0, 1) for part in (query, key, value)]
        out = torch.ops.aten._flash_attention_forward(
            *flat, bounds, key_bounds, longest, furthest, 0.0, True, False, scale=scaling
        )[0]
        return out[None], None
    ours = [
        _attend_one(query[:, :, slice(*own)], key[:, :, slice(*seen)], value[:, :, slice(*seen)], scaling)
        for own, seen in spans or _spans(bounds, key_bounds)
    ]
    return torch.cat(ours, dim=2).transpose(1, 2), None


def _attend_one(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None) -> torch.Tensor:
    """Torch's own attention of a piece."""
    more = key.shape[2] - query.shape[2]
    seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=key.device).tril(more) if more else None
    several = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, is_causal=not more, scale=scaling, enable_gqa=several
    )


def _spans(bounds: torch.Tensor, key_bounds: torch.Tensor) -> list[tuple[Span, Span]]:
    return list(zip(*(itertools.pairwise(part.tolist()) for part in (bounds, key_bounds)), strict=True))


def register() -> None:
    """Make the attention known to transformers as `packed`; it builds no mask for a name that has none."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)

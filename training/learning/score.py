"""How good a model is while it is trained: the held-out loss, and the token F1 of the answers that it writes freely.

The answers are greedy and without a grammar, so that validity is measured too. What is reported about a specialist is
measured by `evals` through the product's own path; these numbers only choose between epochs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from skills.annotate.validate import parse, token_f1
from training.learning import packing
from training.learning.data import Data
from training.learning.encode import Encoder, Example
from training.learning.functions import cross_entropy
from training.recipe import Recipe
from training.rows import Row

if TYPE_CHECKING:
    from peft import PeftModel

ABSENT = "Not stated."
GENERATED_AT_ONCE = 64


def summed_loss(model: PeftModel, packed: packing.Packed, smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of packed examples, summed over their targets, in nats: to differentiate, and without smoothing.

    Hidden states are taken before the output layer, and only where a target is predicted.
    """
    causal: Any = model.get_base_model()
    hidden = causal.base_model(**packed.inputs()).last_hidden_state[0]
    head = causal.get_output_embeddings().weight
    return cross_entropy(hidden.index_select(0, packed.places), head, packed.targets, smoothing, packed.weights)


@contextmanager
def attending(model: PeftModel, name: str) -> Iterator[None]:
    """Let a model attend by another function for a while: `packed` for rows of examples, `sdpa` to generate."""
    causal: Any = model.get_base_model()
    before = causal.config._attn_implementation
    causal.set_attn_implementation(name)
    try:
        yield
    finally:
        causal.set_attn_implementation(before)


@contextmanager
def resting(model: PeftModel) -> Iterator[None]:
    """No dropout and no gradients for a while."""
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train()


@contextmanager
def merged(model: PeftModel) -> Iterator[None]:
    """Let the base's weights hold the adapter for a while, so that a word costs no more than the base's would.

    What was there before is put back bit by bit. 4-bit weights cannot hold it: then nothing changes.
    """
    from peft.tuners.lora.layer import LoraLayer

    layers: list[Any] = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    weights = [layer.get_base_layer().weight for layer in layers]
    if not all(weight.is_floating_point() for weight in weights):
        yield
        return
    kept = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for layer, weight in zip(layers, weights, strict=True):
            for name in layer.lora_A:
                weight += layer.get_delta_weight(name).to(weight.dtype)
    try:
        with model.disable_adapter():
            yield
    finally:
        with torch.no_grad():
            for weight, before in zip(weights, kept, strict=True):
                weight.copy_(before)


def held_out_loss(model: PeftModel, examples: Sequence[Example], recipe: Recipe, device: torch.device) -> torch.Tensor:
    """The summed loss and the number of targets, as a tensor of two, so that processes can add theirs."""
    found = torch.zeros(2, device=device)
    with resting(model), attending(model, packing.NAME):
        for piece in packing.micro_batches(examples, recipe.micro_tokens):
            packed = packing.pack(piece, device)
            found[0] += summed_loss(model, packed)[1]
            found[1] += len(packed.targets)
    return found


def generated_scores(
    model: PeftModel, data: Data, mine: Sequence[tuple[Row, list[int]]], recipe: Recipe, device: torch.device
) -> torch.Tensor:
    """Sums over some rows, so that processes can add theirs; see `told`.

    Args:
        model: its greedy answers are judged.
        data: has the tokenizer.
        mine: rows with their prompts' tokens.
        recipe: eval_tokens.
        device: of the model.

    Returns:
        Token F1, valid replies, rows; moves for which `Not stated.` is said by both, by the reply, by the annotation.
    """
    replies = generate(model, data.encoder, [prompt for _, prompt in mine], recipe, data.own[0].end)
    found = [
        annotation_scores(reply, json.loads(row.completion)) for (row, _), reply in zip(mine, replies, strict=True)
    ]
    return torch.tensor([[0.0] * 6, *found], device=device).sum(0)


def annotation_scores(reply: str, gold: Mapping[str, str]) -> list[float]:
    """The numbers of `generated_scores` for one reply. Without all moves, in order, it is neither valid nor right."""
    said, problems = parse(reply)
    if problems or list(said) != list(gold) or not all(isinstance(text, str) for text in said.values()):
        said = {}
    f1 = sum(move_f1(said[key], gold[key]) for key in gold) / len(gold) if said else 0.0
    ours, theirs = ({key for key in gold if side.get(key) == ABSENT} for side in (said, gold))
    return [f1, float(bool(said)), 1.0, float(len(ours & theirs)), float(len(ours)), float(len(theirs))]


def told(sums: torch.Tensor) -> dict[str, float]:
    """What the sums of `generated_scores` say: f1, valid, and agreement, the F1 of the decision `Not stated.`."""
    f1, valid, rows, both, said, gold = sums.tolist()
    return {"f1": f1 / rows, "valid": valid / rows, "agreement": 2 * both / (said + gold) if said + gold else 1.0}


def generate(model: PeftModel, encoder: Encoder, prompts: Sequence[list[int]], recipe: Recipe, end: int) -> list[str]:
    """Greedy replies to some prompts, those of like length together.

    Args:
        model: a base with an adapter.
        encoder: of the same base.
        prompts: their tokens.
        recipe: precision and eval_tokens.
        end: the token that closes a turn, whatever the tokenizer calls its end.
    """
    if not prompts:
        return []
    from training.learning.sampling import Sampler

    sampler = Sampler(
        model.get_base_model(),
        prompts=min(len(prompts), GENERATED_AT_ONCE),
        samples=1,
        longest=max(map(len, prompts)),
        most=recipe.eval_tokens,
        end=end,
        graphs=recipe.precision != "nf4",
    )
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    replies = [""] * len(prompts)
    with resting(model), merged(model):
        for start in range(0, len(order), GENERATED_AT_ONCE):
            some = order[start : start + GENERATED_AT_ONCE]
            for number, reply in zip(some, sampler([prompts[number] for number in some], 0.0), strict=True):
                replies[number] = str(encoder.tokenizer.decode(reply.tokens, skip_special_tokens=True))
    return replies


def move_f1(said: str, gold: str) -> float:
    """The token F1 of a move. If either side is `Not stated.` it is 1 where both are, else 0."""
    if ABSENT in (said, gold):
        return float(said == gold)
    return token_f1(said, gold)

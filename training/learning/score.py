"""How good a model is while it is trained: the held-out loss, and the token F1 of the answers that it writes freely.

The answers are greedy and without a grammar, so that validity is measured too. What is reported about a specialist is
measured by `evals` through the product's own path; these numbers only choose between epochs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from skills.annotate.validate import parse, token_f1
from training.learning import packing
from training.learning.data import Data
from training.learning.encode import Example
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
    return cross_entropy(hidden[packed.places], head, packed.targets, smoothing, packed.weights)


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


def held_out_loss(model: PeftModel, examples: Sequence[Example], recipe: Recipe, device: torch.device) -> torch.Tensor:
    """The summed loss and the number of targets, as a tensor of two, so that processes can add theirs."""
    found = torch.zeros(2, device=device)
    with resting(model), attending(model, packing.NAME):
        for piece in packing.micro_batches(examples, recipe.micro_tokens):
            packed = packing.pack(piece, device)
            found[0] += summed_loss(model, packed)[1]
            found[1] += len(packed.targets)
    return found


def annotation_score(reply: str, row: Row) -> tuple[float, bool]:
    """The token F1 of a reply against a row's annotation, the mean over its moves, and whether it has them all.

    If either side of a move is `Not stated.` it counts 1 where both are, else 0. A reply without all moves counts 0.
    """
    gold: dict[str, str] = json.loads(row.completion)
    said, problems = parse(reply)
    if problems or list(said) != list(gold) or not all(isinstance(text, str) for text in said.values()):
        return 0.0, False
    return sum(move_f1(said[key], gold[key]) for key in gold) / len(gold), True


def generated_scores(
    model: PeftModel, data: Data, mine: Sequence[tuple[Row, list[int]]], recipe: Recipe, device: torch.device
) -> torch.Tensor:
    """Sums over some rows: token F1, valid replies, rows; a tensor of three.

    Args:
        model: its answers are judged.
        data: has the tokenizer.
        mine: rows with their prompts' tokens.
        recipe: eval_tokens.
        device: of the model.
    """
    found = torch.zeros(3, device=device)
    by_length = sorted(mine, key=lambda asked: len(asked[1]))
    for start in range(0, len(by_length), GENERATED_AT_ONCE):
        asked = by_length[start : start + GENERATED_AT_ONCE]
        replies = generate(model, data, [prompt for _, prompt in asked], recipe.eval_tokens, device)
        for (row, _), reply in zip(asked, replies, strict=True):
            f1, valid = annotation_score(reply, row)
            found += torch.tensor([f1, float(valid), 1.0], device=device)
    return found


def generate(model: PeftModel, data: Data, prompts: Sequence[list[int]], most: int, device: torch.device) -> list[str]:
    """Greedy replies to some prompts, padded on the left."""
    end = data.own[0].tokens[-1]  # what closes a turn, whatever the tokenizer calls its end
    longest = max(map(len, prompts))
    tokens = torch.tensor([[end] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    there = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    options = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    with resting(model), attending(model, "sdpa"):
        written: torch.Tensor = model.generate(  # type: ignore[no-untyped-call]
            input_ids=tokens,
            attention_mask=there,
            max_new_tokens=most,
            eos_token_id=end,
            pad_token_id=end,
            **options,
        )
    decode = data.encoder.tokenizer.decode
    return [str(decode(reply, skip_special_tokens=True)) for reply in written[:, longest:].tolist()]


def move_f1(said: str, gold: str) -> float:
    """The token F1 of a move. If either side is `Not stated.` it is 1 where both are, else 0."""
    if ABSENT in (said, gold):
        return float(said == gold)
    return token_f1(said, gold)

"""How the weights move: the learning rate of each step, and the optimiser."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from training.recipe import Recipe

if TYPE_CHECKING:
    import torch


def learning_rate(recipe: Recipe, step: int, total: int) -> float:
    """The rate of a step, counted from 1 to `total`: up in a line to optim.lr, then down as the schedule says."""
    optim = recipe.optim
    warm = math.ceil(optim.warmup * total)
    if step <= warm:
        return optim.lr * step / warm
    left = (total - step + 1) / max(1, total - warm)
    factors = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}
    return optim.lr * factors[optim.schedule]


def make_optimizer(recipe: Recipe, weights: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW: torch's fused one, or bitsandbytes' with its state in 8 bits (Dettmers et al. 2021, arXiv:2110.02861)."""
    import torch

    optim = recipe.optim
    options: dict[str, Any] = {"lr": optim.lr, "betas": optim.betas, "weight_decay": optim.weight_decay}
    if optim.name == "adamw":
        return torch.optim.AdamW(weights, fused=True, **options)
    from bitsandbytes.optim import AdamW8bit, PagedAdamW8bit  # type: ignore[attr-defined]

    kinds = {"adamw8bit": AdamW8bit, "paged_adamw8bit": PagedAdamW8bit}
    made: torch.optim.Optimizer = kinds[optim.name](weights, **options)
    return made

"""What a recipe needs, computed from shapes alone: peak memory by part, hours, cost, and what fits a machine.

The parts are those of our own training step (learning/functions.py, learning/packing.py), tensor by tensor as autograd
keeps them; `evals/bench/train_memory.py` measures them. What lies outside of torch's allocator (the CUDA context,
fragmentation) is told apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.planning.shapes import Linear, Shape
from training.recipe import Recipe

GIB = 1 << 30
CONTEXT = round(0.6 * GIB)
"""The CUDA context and its libraries, outside of torch's allocator."""
FRAGMENTATION = 0.05
"""What the allocator holds beyond what is in use."""
WORKSPACE = 32 << 20
"""What cuBLAS takes from torch's allocator on Hopper."""
CHUNK_BYTES = 1 << 28
"""Logits in f32 that exist at once; the loss is computed chunk by chunk."""
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of one weight: 4 bits; 8 bits a block of 64 for its constant; 32 bits for 256 of those (arXiv:2305.14314)."""
SAID = 0.4
"""The share of a row's tokens that the model says."""

Method = Literal["full", "lora"]


@dataclass(frozen=True, slots=True)
class Load:
    """What goes through the model at once.

    Args:
        tokens: of one micro-batch.
        targets: how many of them are predicted; None: `SAID` of them.
        method: whether all weights are trained or an adapter.
        gpu: on a CPU the norms keep more, for they have no kernel of their own.
    """

    tokens: int
    targets: int | None = None
    method: Method = "lora"
    gpu: bool = True

    @property
    def predicted(self) -> int:
        return round(SAID * self.tokens) if self.targets is None else self.targets


def parts(shape: Shape, recipe: Recipe, load: Load) -> dict[str, int]:
    """Bytes in use at the peak, by part.

    Args:
        shape: of the base.
        recipe: precision, adapter, optimiser, checkpointing.
        load: what goes through at once.
    """
    width = 4 if recipe.precision == "f32" else 2
    trained = shape.weights if load.method == "full" else adapter_weights(shape, recipe)
    found = {"weights": shape.other_weights * width}
    if recipe.precision == "nf4" and load.method == "lora":
        found["weights"] += shape.block_weights // 2
        found["quantisation constants"] = round(shape.block_weights * (NF4_BYTES - 0.5))
    else:
        found["weights"] += shape.block_weights * width
    if load.method == "full":
        found |= {"master weights": 4 * trained if width == 2 else 0, "gradients": width * trained}
    else:
        found |= {"adapter": 4 * trained, "gradients": 4 * trained}
    found["optimiser"] = trained * (8 if recipe.optim.name == "adamw" else 2)
    kept, working, logits = activations(shape, recipe, load)
    found["activations"] = kept + max(0, working - logits)
    found["logits"] = logits
    if load.gpu:
        found["workspace"] = WORKSPACE
    return found


def peak(shape: Shape, recipe: Recipe, load: Load) -> int:
    """Bytes in use at the peak, as torch.cuda.max_memory_allocated counts them."""
    return sum(parts(shape, recipe, load).values())


def adapter_weights(shape: Shape, recipe: Recipe) -> int:
    """The weights of a recipe's adapter. Experts get none: they are no linear layers in transformers 5."""
    linears = [linear for linear in (*shape.attention, *shape.feed_forward) if adapted(linear, shape, recipe)]
    return shape.layers * recipe.lora.r * sum(linear.width_in + linear.width_out for linear in linears)


def adapted(linear: Linear, shape: Shape, recipe: Recipe) -> bool:
    """Whether a linear layer gets an adapter."""
    if linear.count > 1 or (shape.experts and linear in shape.feed_forward):
        return False
    return recipe.lora.targets == "all-linear" or linear.name in recipe.lora.targets


def activations(shape: Shape, recipe: Recipe, load: Load) -> tuple[int, int, int]:
    """Bytes kept from the forward, those that one layer's backward works with, and those of the loss.

    The last two are never there at the same time.
    """
    width = 4 if recipe.precision == "f32" else 2
    hidden = shape.hidden * width * load.tokens
    layer = _kept_by_layer(shape, recipe, load, width) * load.tokens
    tables = 2 * shape.head_dim * width * load.tokens
    kept = shape.layers * (hidden if recipe.checkpointing else layer) + tables
    wide = shape.intermediate * shape.active * width * load.tokens
    down = any(linear.name == "down_proj" and adapted(linear, shape, recipe) for linear in shape.feed_forward)
    dropped = recipe.lora.dropout > 0 and load.method == "lora"
    freed = wide if (down and not dropped) or load.method == "full" else 0
    working = 3 * wide - freed + 2 * hidden + (layer - hidden if recipe.checkpointing else 0)
    if recipe.precision == "nf4" and load.method == "lora":
        largest = max(linear.width_in * linear.width_out for linear in (*shape.attention, *shape.feed_forward))
        working += 2 * largest + largest // 16
    rows = min(load.predicted, max(1, CHUNK_BYTES // (4 * shape.vocabulary)))
    chosen = load.predicted * shape.hidden * width
    last_norm = 2 * hidden + _norm_extra(shape, load, width) * load.tokens
    logits = 8 * rows * shape.vocabulary + 2 * chosen + last_norm
    return kept, working, logits


def _kept_by_layer(shape: Shape, recipe: Recipe, load: Load, width: int) -> int:
    """Bytes a token that autograd keeps for one layer's backward."""
    full = load.method == "full"
    with_adapter = {linear.name for linear in (*shape.attention, *shape.feed_forward) if adapted(linear, shape, recipe)}
    needed = {linear.name for linear in (*shape.attention, *shape.feed_forward)} if full else with_adapter
    dropped = recipe.lora.dropout > 0 and not full
    hidden, wide, narrow = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    elements = 2 * hidden  # the inputs of the two norms: the residual stream
    elements += wide + 2 * narrow + wide  # q, k, v as the attention saw them, and what it made
    elements += (wide + narrow) if shape.head_norms else 0
    elements += 3 * shape.intermediate * shape.active  # gate, its activation, up
    if shape.experts:
        elements += 2 * hidden * shape.active  # each expert's own copy of its tokens, and what it makes of them
    if not dropped:
        elements += hidden * bool(needed & {"q_proj", "k_proj", "v_proj"})
        elements += hidden * bool(needed & {"gate_proj", "up_proj"})
        elements += shape.intermediate * shape.active * ("down_proj" in needed)
    found = elements * width + 4 * shape.heads + 2 * _norm_extra(shape, load, width)
    if not load.gpu and "o_proj" in needed and not dropped:
        found += wide * width  # the examples' results, put side by side
    if not full:
        linears = [linear for linear in (*shape.attention, *shape.feed_forward) if linear.name in with_adapter]
        found += recipe.lora.r * width * len(linears)
        mask = 1 if load.gpu else width  # of a dropped input: a byte, or on a CPU a factor
        found += sum(linear.width_in * (width + mask) for linear in linears) if dropped else 0
    return found


def _norm_extra(shape: Shape, load: Load, width: int) -> int:
    """Bytes a token that a norm keeps beside its input: a number; on a CPU in bf16, its input is kept in f32."""
    return 4 if load.gpu or width == 4 else 2 * shape.hidden

"""`train plan`: what a recipe needs on a machine, and what to change where it does not fit."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import UsageError
from training.planning import memory, shapes
from training.planning.memory import GIB, Load
from training.planning.shapes import Shape
from training.recipe import Recipe
from training.rows import Row, read_rows

CHARACTERS_PER_TOKEN = 5.0
"""Of abstracts and their annotations; only for the estimate of time."""
TEMPLATE_TOKENS = 20
ASSUMED = (1000, 600)
"""Rows, and tokens of each, where a recipe names no dataset yet."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: its memory in bytes and its dense bf16 peak in FLOP/s, by its maker (H100, H200: as measured there)."""

    name: str
    memory: int
    flops: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("T4", 15 * GIB, 65e12),
        Gpu("L4", 22 * GIB, 121e12),
        Gpu("RTX 3090", 24 * GIB, 71e12),
        Gpu("RTX 4090", 24 * GIB, 165e12),
        Gpu("A10", 22 * GIB, 125e12),
        Gpu("A100 40GB", 39 * GIB, 312e12),
        Gpu("A100 80GB", 79 * GIB, 312e12),
        Gpu("H100", 79 * GIB, 790e12),
        Gpu("H200", 139 * GIB, 790e12),
    )
}
CPU_FLOPS = 5e10
"""Of one core, in f32."""
LAYER_SECONDS = 2e-4
"""A layer's for the next token of 512 replies, on an H200: 2.5 s for 320 tokens of 30 layers."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where training would run: `memory` in bytes, `flops` at its peak."""

    name: str
    memory: int
    flops: float
    gpu: bool = True


def report(recipe: Recipe, *, gpu: str = "", price: float = 1.99) -> str:
    """The plan of a recipe as text.

    Args:
        recipe: what to do.
        gpu: the GPU to plan for; empty: what this machine has.
        price: US dollars for an hour of it.

    Raises:
        InputError: nothing is known about the base's shape.
        UsageError: there is no such GPU in the list.
    """
    shape = shapes.find(recipe.base)
    machine = _named(gpu) if gpu else here(recipe)
    load = Load(at_once(recipe), gpu=machine.gpu)
    parts = memory.parts(shape, recipe, load)
    rows, tokens = dataset_size(recipe)
    hours = seconds(shape, recipe, machine, rows, tokens) / 3600
    share, peak = share_of_peak(shape, recipe), machine.flops / 1e12
    lines = [
        f"{recipe.name}: {shape.name}, {shape.weights / 1e9:.2f}B weights, {recipe.precision}; "
        f"adapter of {memory.adapter_weights(shape, recipe) / 1e6:.1f}M; {load.tokens:,} tokens at once",
        *(f"  {name:<24}{_gib(size):>10}" for name, size in parts.items() if size),
        f"  {'peak in use':<24}{_gib(sum(parts.values())):>10}",
        f"  {'with what is outside':<24}{_gib(needed(shape, recipe, machine)):>10}"
        + ("   CUDA context 0.6 GiB, fragmentation 5%" if machine.gpu else "   Python and its libraries"),
        f"on {machine.name} with {_gib(machine.memory)}: {verdict(shape, recipe, machine)}",
        f"{rows:,} rows of {tokens:,.0f} tokens, {recipe.epochs} epochs: about {_time(hours)}"
        + (f", {hours * price:,.2f} USD at {price} an hour" if machine.gpu else ""),
        f"  (at {share:.0%} of a peak of {peak:,.4g} TFLOP/s; evaluations come on top)",
    ]
    return "\n".join(lines)


def here(recipe: Recipe) -> Machine:
    """This machine: its GPU if torch sees one and the recipe may use it, else its cores and memory."""
    if recipe.device != "cpu":
        with contextlib.suppress(ImportError):
            import torch

            if torch.cuda.is_available():
                found = torch.cuda.get_device_properties(0)
                return Machine(found.name, found.total_memory, peak_flops(found.name))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    size = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(f"this machine's {cores} cores", size, cores * CPU_FLOPS, gpu=False)


def peak_flops(name: str) -> float:
    """The bf16 peak of a GPU by the name that its driver gives it, in FLOP/s; a guess where it is not in the list."""
    for gpu in GPUS.values():
        if re.search(rf"\b{gpu.name.removesuffix(' 40GB').removesuffix(' 80GB')}\b", name):
            return gpu.flops
    return 1e14


def at_once(recipe: Recipe) -> int:
    """The most tokens that go through at once: an example is never cut, so the longest one may be more than asked."""
    return max(recipe.micro_tokens, recipe.max_length)


def needed(shape: Shape, recipe: Recipe, machine: Machine) -> int:
    """The peak with what is outside of torch's allocator."""
    peak = memory.peak(shape, recipe, Load(at_once(recipe), gpu=machine.gpu))
    return round(peak * (1 + memory.FRAGMENTATION)) + memory.CONTEXT


def verdict(shape: Shape, recipe: Recipe, machine: Machine) -> str:
    """Whether it fits; if not, the smallest change that does."""
    if needed(shape, recipe, machine) <= machine.memory:
        return "fits"
    for changes in proposals(recipe):
        changed = recipe.model_copy(update=changes)
        size = needed(shape, changed, machine)
        if size <= machine.memory:
            told = " ".join(f"{key}={str(value).lower()}" for key, value in changes.items())
            less = ", leaving longer rows out" if "max_length" in changes else ""
            return f"does not fit; with {told} it does ({_gib(size)}{less})"
    return "does not fit, whatever is changed: take a smaller base, or a larger machine"


def proposals(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Changes that need less memory, those first that cost the least: fewer tokens at once, checkpointing, 4 bits,
    and at last shorter examples, which leaves out rows."""
    ways = list(
        itertools.product(dict.fromkeys((recipe.precision, "nf4")), dict.fromkeys((recipe.checkpointing, True)))
    )
    tokens = [max(recipe.micro_tokens >> halves, recipe.max_length) for halves in range(12)]
    lengths = [recipe.max_length >> halves for halves in range(1, 6) if recipe.max_length >> halves >= 512]
    sizes = [(way, (most, recipe.max_length)) for way in ways for most in dict.fromkeys(tokens)]
    sizes += [(ways[-1], (length, length)) for length in lengths]
    for (precision, checkpointing), (micro, longest) in sizes:
        changes = {"precision": precision, "checkpointing": checkpointing, "micro_tokens": micro, "max_length": longest}
        yield {key: value for key, value in changes.items() if value != getattr(recipe, key)}


def flops_per_token(shape: Shape, recipe: Recipe, length: float, *, full: bool = False) -> float:
    """What training costs for one token of an example of some length, in floating-point operations.

    Kaplan et al. 2020, arXiv:2001.08361: 2 a weight forward, 2 for the gradients of what goes in, 2 for those of the
    weights (the adapter's are few); attention grows with the length. The output layer works at the targets only (40%).
    """
    passes = 6 if full else 4
    again = 2 if recipe.checkpointing else 0
    attention = 2 * shape.layers * shape.heads * shape.head_dim * length * (passes + again) / 2
    head = 0.4 * 4 * shape.hidden * shape.vocabulary
    return (passes + again) * shape.active_weights + attention + head


def share_of_peak(shape: Shape, recipe: Recipe) -> float:
    """The share of a machine's peak that we assume: small layers are bound by their launches, 4 bits by unpacking."""
    share = 0.1 if shape.hidden < 1024 else 0.3 if shape.hidden < 3000 else 0.4
    return share * (0.75 if recipe.precision == "nf4" else 1.0) * (0.3 if shape.experts else 1.0)


def seconds(shape: Shape, recipe: Recipe, machine: Machine, rows: int, tokens: float) -> float:
    """How long all epochs take, evaluations left out.

    Args:
        shape, recipe, machine: what is trained, how, and where.
        rows: of the training split.
        tokens: of a row, at the mean.
    """
    length = min(recipe.max_length, recipe.micro_tokens)
    shown = rows * recipe.epochs * tokens
    replies = shown * memory.SAID * recipe.policy.samples
    work = flops_per_token(shape, recipe, length / 2) * (shown / (1 - recipe.rehearsal) + replies)
    learning = work / (machine.flops * (share_of_peak(shape, recipe) if machine.gpu else 1))
    return learning + (_drawing(shape, recipe, machine, rows, replies) if replies else 0.0)


def steps(recipe: Recipe, rows: int) -> int:
    """Of all epochs over so many rows, with what is rehearsed beside them."""
    return recipe.epochs * math.ceil(rows / (1 - recipe.rehearsal) / recipe.batch)


def _drawing(shape: Shape, recipe: Recipe, machine: Machine, rows: int, replies: float) -> float:
    """How long a model takes to say what it learns from, `replies` tokens in all. On a GPU a step's replies are drawn
    together, and what takes time is that one token follows another, layer after layer."""
    if machine.gpu:
        return steps(recipe, rows) * recipe.policy.max_tokens * shape.layers * LAYER_SECONDS
    return replies * 2 * shape.weights / machine.flops


def dataset_size(recipe: Recipe) -> tuple[int, float]:
    """Rows of the training split, and about how many tokens each has."""
    path = Path(recipe.dataset).expanduser() / "train.jsonl"
    if not recipe.dataset or not path.is_file():
        return ASSUMED
    return size_of(read_rows(path))


def size_of(rows: Iterable[Row]) -> tuple[int, float]:
    """How many rows there are, and about how many tokens each has."""
    characters = [sum(len(str(message.get("content") or "")) for message in row.messages) for row in rows]
    mean = sum(characters) / max(1, len(characters))
    return len(characters), mean / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS


def _named(name: str) -> Machine:
    found = next((gpu for gpu in GPUS.values() if gpu.name.casefold() == name.casefold()), None)
    if found is None:
        raise UsageError(f"there is no GPU {name!r} in the list", f"Known: {', '.join(GPUS)}.")
    return Machine(f"one {found.name}", found.memory, found.flops)


def _gib(size: float) -> str:
    return f"{size / GIB:,.2f} GiB"


def _time(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{max(1, round(hours * 60))} minutes"

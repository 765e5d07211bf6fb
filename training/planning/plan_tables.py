"""The published figures that our sources give for training memory, time and cost, each beside what we compute.

They contradict each other: 6 GB and 112 GB for 7B are two methods, but 14 GB for a full fine-tuning of 7B is only the
weights in 16 bits, and a mixture of experts needs all of its experts in memory, not only those that work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training import plan
from training.planning import memory
from training.planning.memory import Load
from training.planning.shapes import SHAPES
from training.recipe import Lora, Optim, Recipe

TOKENS = 2048
"""Tokens at once, with checkpointing, in all rows."""
QV = ("q_proj", "v_proj")

Way = Literal["full", "lora", "qlora", "qlora paged"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One published figure. `said` is as it stands there; empty: nobody says anything."""

    shape: str
    way: Way
    said: str
    rank: int = 16
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"


FIGURES = (
    Figure("SmolLM2-135M-Instruct", "lora", ""),
    Figure("Qwen2.5-0.5B-Instruct", "full", ""),
    Figure("Qwen2.5-0.5B-Instruct", "lora", ""),
    Figure("Qwen2.5-0.5B-Instruct", "qlora", ""),
    Figure("Qwen3-0.6B", "qlora", ""),
    Figure("Qwen2.5-3B-Instruct", "qlora", ""),
    Figure("Qwen2.5-7B-Instruct", "full", "112 GB; elsewhere 14 GB"),
    Figure("Qwen2.5-7B-Instruct", "lora", ""),
    Figure("Qwen2.5-7B-Instruct", "qlora", "6 GB", targets=QV),
    Figure("Qwen3-4B", "qlora", "8 GB", rank=32),
    Figure("Qwen3-8B", "full", "more than 60 GB"),
    Figure("Qwen3-8B", "qlora paged", "14 GB", rank=32),
    Figure("Llama-2-13b-chat-hf", "qlora", "16-24 GB"),
    Figure("Qwen3-14B", "qlora paged", "20 GB", rank=32),
    Figure("Qwen3-30B-A3B", "qlora paged", "16 GB (active experts only)", rank=32),
    Figure("Qwen3-32B", "qlora paged", "28 GB", rank=32),
    Figure("Llama-65B", "qlora paged", "48 GB", rank=64),
    Figure("Llama-3.1-70B-Instruct", "full", "1.1 TB"),
    Figure("Llama-3.1-70B-Instruct", "qlora paged", "48 GB", rank=64),
    Figure("gpt-oss-120b", "full", "1.9 TB"),
    Figure("gpt-oss-120b", "qlora paged", "80-160 GB", rank=64),
)


@dataclass(frozen=True, slots=True)
class Job:
    """A published time or cost: rows, tokens a row and epochs as far as they are given there, else as we take them."""

    shape: str
    gpu: str
    rows: int
    tokens: int
    epochs: int
    said: str
    rank: int = 32
    gpus: int = 1
    hours_said: float = 0.0


JOBS = (
    Job("Qwen2.5-3B-Instruct", "L4", 100, 400, 3, "127 s (100 rows)", rank=16),
    Job("Qwen2.5-3B-Instruct", "L4", 1000, 400, 3, "1266 s (1,000 rows)", rank=16),
    Job("Qwen3-8B", "RTX 4090", 2000, 2000, 3, "4-8 hours"),
    Job("Qwen3-30B-A3B", "RTX 4090", 2000, 2000, 3, "12-24 hours"),
    Job("Llama-3.1-70B-Instruct", "A100 80GB", 2000, 1000, 3, "10 hours", rank=64, hours_said=10),
    Job("gpt-oss-120b", "A100 80GB", 2000, 1000, 3, "20 hours on 2 GPUs", rank=64, gpus=2, hours_said=20),
)
PRICES = (
    ("RunPod A100 80GB", 1.99, "20 and 80"),
    ("Lambda H100 80GB", 2.49, "25 and 100"),
    ("AWS p5.48xlarge (8 H100)", 98.32, "1000 and 2000"),
    ("Vast.ai A100 80GB", 1.50, "15 and 60"),
)


def report(price: float) -> str:
    """The three tables as text: memory, time, cost."""
    return "\n\n".join((memory_table(), time_table(price), price_table()))


def recipe_of(way: Way, rank: int, targets: Literal["all-linear"] | tuple[str, ...] = "all-linear") -> Recipe:
    """The recipe that a table's row means."""
    return Recipe(
        precision="nf4" if way.startswith("qlora") else "bf16",
        lora=Lora(r=rank, alpha=2.0 * rank, targets=targets),
        optim=Optim(name="paged_adamw8bit" if way == "qlora paged" else "adamw"),
        micro_tokens=TOKENS,
        max_length=TOKENS,
        checkpointing=True,
        eval_rows=0,
    )


def computed(figure: Figure) -> dict[str, int]:
    """Bytes by part for one row."""
    shape = SHAPES[figure.shape]
    recipe = recipe_of(figure.way, figure.rank, figure.targets)
    return memory.parts(shape, recipe, Load(TOKENS, method="full" if figure.way == "full" else "lora"))


def memory_table() -> str:
    """Peak memory, in GB (1e9 bytes, as the figures are)."""
    head = ("model", "weights", "way", "base", "adapter", "optimiser", "activations", "peak", "published")
    rows: list[tuple[str, ...]] = [head]
    for figure in FIGURES:
        parts = computed(figure)
        base = parts["weights"] + parts.get("quantisation constants", 0) + parts.get("master weights", 0)
        adapter = parts.get("adapter", 0) + parts["gradients"]
        live = parts["activations"] + parts["logits"]
        way = figure.way + (
            f" r {figure.rank}" + (" q,v" if figure.targets == QV else "") if figure.way != "full" else ""
        )
        sizes = [f"{size / 1e9:,.1f}" for size in (base, adapter, parts["optimiser"], live, sum(parts.values()))]
        weights = f"{SHAPES[figure.shape].weights / 1e9:.1f}B"
        rows.append((figure.shape, weights, way, *sizes, figure.said or "-"))
    note = (
        f"Peak memory in GB at {TOKENS:,} tokens at once with checkpointing; without the CUDA context (0.6 GB) and "
        "fragmentation (5%).\n`adapter` holds the gradients too. Mixtures: all experts are in memory, as if 4 bits "
        "covered them, and the adapter is on attention alone."
    )
    return f"{note}\n{_aligned(rows)}"


def time_table(price: float) -> str:
    """Hours and cost of the jobs that are published."""
    rows: list[tuple[str, ...]] = [("model", "on", "rows x tokens x epochs", "hours", "USD", "published")]
    for job in JOBS:
        hours = job_hours(job)
        cost = f"{hours * price * job.gpus:,.2f}"
        size = f"{job.rows:,} x {job.tokens:,} x {job.epochs}"
        on = f"{job.gpus} x {job.gpu}" if job.gpus > 1 else job.gpu
        rows.append((job.shape, on, size, f"{hours:,.2f}", cost, job.said))
    return f"QLoRA, all linear layers; {price} USD a GPU for an hour\n{_aligned(rows)}"


def job_hours(job: Job) -> float:
    """The hours of one job by our estimate."""
    shape, gpu = SHAPES[job.shape], plan.GPUS[job.gpu]
    recipe = recipe_of("qlora", job.rank).model_copy(update={"epochs": job.epochs, "max_length": 2 * job.tokens})
    machine = plan.Machine(gpu.name, gpu.memory, gpu.flops * job.gpus)
    return plan.seconds(shape, recipe, machine, job.rows, job.tokens) / 3600


def price_table() -> str:
    """The published prices: what 70B for 10 hours and 120B for 20 hours on two GPUs cost at them."""
    rows: list[tuple[str, ...]] = [("provider", "USD an hour", "70B, 10 h", "120B, 20 h on 2", "published")]
    for provider, price, said in PRICES:
        machines = 1 if "8 H100" in provider else 2  # a machine of eight holds both
        rows.append((provider, f"{price:.2f}", f"{10 * price:,.2f}", f"{20 * price * machines:,.2f}", said))
    return f"Cost at published prices and hours, USD\n{_aligned(rows)}"


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )

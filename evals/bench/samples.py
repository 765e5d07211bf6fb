"""Several replies to one prompt: one after the other, against all in one batch (agent/models/branches.py).

    python -m evals.bench.samples [--replies 8] [--rounds 5] [--threads 1] [--model gguf:BASE+ADAPTER]

Both ways take turns over the same prompt, which is in the cache, and the same seeds, each reply under its own grammar.
Printed are tokens a second of all replies together (medians), and how many times faster the batch is.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from typing import Any

from agent.models.base import Draw, Reply
from agent.models.llamacpp import LlamaCpp
from agent.registry import open_model
from agent.settings import Models, Settings
from evals.bench.decode import eight_moves, messages
from skills.annotate.best_of import TEMPERATURE


async def one_by_one(model: LlamaCpp, draws: Sequence[Draw]) -> int:
    """A request for each reply; how many tokens they have."""
    tokens = 0
    for draw in draws:
        async for piece in model.chat(messages(), template=eight_moves(), temperature=draw.temperature, seed=draw.seed):
            tokens += len(piece.token_ids) if isinstance(piece, Reply) else 0
    return tokens


async def together(model: LlamaCpp, draws: Sequence[Draw]) -> int:
    """One request for all replies; how many tokens they have."""
    first, *others = draws
    asked: dict[str, Any] = {"temperature": first.temperature, "seed": first.seed, "others": others}
    tokens = 0
    async for piece in model.chat(messages(), template=eight_moves(), **asked):
        if isinstance(piece, Reply):
            tokens = sum(len(reply.token_ids) for reply in (piece, *piece.others))
    return tokens


async def measure(address: str, replies: int, rounds: int, threads: int) -> dict[str, float]:
    """Medians over interleaved rounds: tokens a second, and the ratio of the two."""
    model = open_model(address, Settings(models=Models(threads=threads)))
    if not isinstance(model, LlamaCpp):
        raise SystemExit(f"{address} does not run in this process")
    draws = [Draw(TEMPERATURE, seed) for seed in range(replies)]
    rates: dict[str, list[float]] = {"one by one": [], "together": []}
    await together(model, draws[:2])  # loads the model, and has the prompt evaluated
    for _ in range(rounds):
        for name, way in (("one by one", one_by_one), ("together", together)):
            started = time.perf_counter()
            rates[name].append(await way(model, draws) / (time.perf_counter() - started))
    await model.close()
    ratio = statistics.median(b / a for a, b in zip(rates["one by one"], rates["together"], strict=True))
    return {**{name: statistics.median(values) for name, values in rates.items()}, "ratio": ratio}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Several replies: one after the other, and in one batch.")
    parser.add_argument("--replies", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--model", default="local", metavar="ADDRESS")
    chosen = parser.parse_args(arguments)
    for name, value in asyncio.run(measure(chosen.model, chosen.replies, chosen.rounds, chosen.threads)).items():
        print(f"{name:12} {value:8.2f}")


if __name__ == "__main__":
    main()

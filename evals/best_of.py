"""What more replies to each abstract buy: token F1 against seconds, for best-of-N by agreement and by likelihood.

    python -m evals.best_of cases.jsonl --model local --most 8 --rows 10

Each case is answered once, by as many replies as `--most` says; best of 1, 2, 4, ... is what would have been composed
of the first so many, without retries. Seconds are measured apart, for each N on its own, over the first cases.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from agent.errors import UsageError
from agent.models.base import Draw, Model, Reply
from agent.registry import open_model
from agent.settings import BestBy, Settings
from evals.annotate import CASES, Case, load_cases, scored
from evals.compare import summarise
from evals.metrics import ROW_METRICS, Timed
from skills.annotate.attempt import prompt
from skills.annotate.best_of import TEMPERATURE, candidate, compose
from skills.annotate.framework import Framework, load
from skills.annotate.grammar import template
from skills.annotate.validate import check

HEADERS = ("best of", "by", "token F1", "absent F1", "accepted", "s, median")


async def draw(model: Model, case: Case, framework: Framework, settings: Settings, count: int) -> list[Reply]:
    """So many replies to a case, the first one greedy, as `/annotate` asks for them."""
    annotate = settings.annotate
    pieces = template(framework, case.abstract, annotate.grounding, annotate.max_move_tokens)
    request: dict[str, Any] = {"template": pieces}
    if count > 1:
        request["others"] = [Draw(TEMPERATURE, seed) for seed in range(1, count)]
    reply = [piece async for piece in model.chat(prompt(framework, case.abstract), **request)][-1]
    assert isinstance(reply, Reply)
    return [reply, *reply.others]


def best(case: Case, replies: Sequence[Reply], framework: Framework, by: BestBy) -> Timed:
    """The scores of what is composed of the replies."""
    moves, _ = compose([candidate(reply, framework) for reply in replies], case.abstract, framework, by)
    return scored(case, moves, check(moves, case.abstract, framework), framework)


def table(drawn: Sequence[tuple[Case, Sequence[Reply]]], seconds: dict[int, float], framework: Framework) -> str:
    """Markdown: a line for each N and each way to choose.

    Args:
        drawn: the cases, each with its replies.
        seconds: the median of an abstract, by N.
        framework: the moves.
    """
    lines = [HEADERS, tuple("---" for _ in HEADERS)]
    wanted = ("f1", "absent_f1", "accepted")
    for count, took in seconds.items():
        for by in get_args(BestBy) if count > 1 else ("-",):
            rows = [best(case, replies[:count], framework, by) for case, replies in drawn]
            found = summarise(rows, {name: ROW_METRICS[name] for name in wanted})
            cells = [f"{e.mean:.3f} ({e.low:.3f}-{e.high:.3f})" if (e := found.get(n)) else "-" for n in wanted]
            lines.append((str(count), by, *cells, f"{took:.2f}"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def counts(most: int) -> list[int]:
    """1, 2, 4, ... and the most."""
    return sorted({*(1 << power for power in range(most.bit_length()) if 1 << power <= most), most})


async def run(options: argparse.Namespace) -> str:
    """Draw, time, and return the table.

    Raises:
        UsageError: the model does not draw several replies at once.
    """
    settings = Settings.model_validate({"models": {"threads": options.threads}})
    framework = load("eight-moves")
    cases = load_cases(options.file, framework)[: options.rows]
    model = open_model(options.model, settings)
    try:
        if not model.capabilities.draws:
            raise UsageError(f"{options.model} does not draw several replies at once", "Give a llama.cpp model.")
        drawn = []
        for number, case in enumerate(cases, start=1):
            drawn.append((case, await draw(model, case, framework, settings, options.most)))
            print(f"case {number} of {len(cases)} is done", file=sys.stderr)
        seconds = {}
        for count in counts(options.most):
            timed = [await _seconds(model, case, framework, settings, count) for case in cases[: options.timed]]
            seconds[count] = statistics.median(timed)
    finally:
        await model.close()
    return table(drawn, seconds, framework)


async def _seconds(model: Model, case: Case, framework: Framework, settings: Settings, count: int) -> float:
    started = time.perf_counter()
    await draw(model, case, framework, settings, count)
    return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m evals.best_of", description="Token F1 against seconds.")
    parser.add_argument("file", type=Path, nargs="?", default=CASES, help="cases with gold annotations, JSONL")
    parser.add_argument("--model", default="local", metavar="ADDRESS", help="a llama.cpp model (default local)")
    parser.add_argument("--most", type=int, default=8, metavar="N", help="replies to each case (default 8)")
    parser.add_argument("--rows", type=int, metavar="N", help="how many cases, from the first (default all)")
    parser.add_argument("--timed", type=int, default=5, metavar="N", help="cases over which seconds are measured")
    parser.add_argument("--threads", type=int, default=0, help="llama.cpp's threads; 0: the cores that are free")
    print(asyncio.run(run(parser.parse_args(arguments))))


if __name__ == "__main__":
    main()

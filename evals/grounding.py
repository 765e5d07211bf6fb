"""Measure the levels of grounded decoding: what each costs, and what it prevents.

    python -m evals.grounding papers.jsonl --rows 10 --threads 1

Each row of the file is an object with `abstract`, and perhaps `annotation` (then token F1 is measured). Every level
answers every row once, without retries, so that what the model itself does is seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from agent.messages import Message
from agent.models.base import Model, Reply
from agent.registry import open_model
from agent.settings import Grounding, Settings
from evals.metrics import row_f1
from skills.annotate.attempt import prompt
from skills.annotate.framework import Framework, load
from skills.annotate.grammar import template
from skills.annotate.validate import check, grounded, parse, stated, supported_share

HEADERS = (
    "level",
    "valid",
    "cut",
    "rows with other numbers",
    "supported words",
    "stated moves",
    "token F1",
    "tokens",
    "ms/token",
    "grammar ms",
)


@dataclass(frozen=True, slots=True)
class Measure:
    """One reply. `support` has an entry a stated move; `f1` is None where the row has no gold annotation."""

    valid: bool
    cut: bool
    ungrounded: bool
    support: tuple[float, ...]
    f1: float | None
    tokens: int
    seconds: float
    grammar_seconds: float


async def measure(
    model: Model, row: dict[str, Any], level: Grounding, framework: Framework, move_tokens: int
) -> Measure:
    """Annotate one abstract at one level. The prompt is evaluated before the clock starts."""
    abstract = row["abstract"]
    messages = prompt(framework, abstract)
    await _last(model, messages, max_tokens=1)
    started = time.perf_counter()
    pieces = template(framework, abstract, level, move_tokens)
    grammar_seconds = time.perf_counter() - started
    started = time.perf_counter()
    reply = await _last(model, messages, template=pieces)
    seconds = time.perf_counter() - started
    found, findings = parse(reply.message.content)
    moves = stated(found, framework)
    return Measure(
        valid=not (findings or check(found, abstract, framework)) and reply.finish_reason == "stop",
        cut=reply.finish_reason == "length",
        ungrounded=not all(grounded(text, abstract) for text in moves.values()),
        support=tuple(supported_share(text, abstract) for text in moves.values()),
        f1=row_f1(found, row["annotation"], framework) if "annotation" in row else None,
        tokens=reply.usage.completion_tokens,
        seconds=seconds,
        grammar_seconds=grammar_seconds,
    )


def line(level: str, measures: Sequence[Measure]) -> tuple[str, ...]:
    """One level's line of the table, under HEADERS."""
    support = [share for one in measures for share in one.support]
    scores = [one.f1 for one in measures if one.f1 is not None]
    tokens = sum(one.tokens for one in measures)
    return (
        level,
        f"{sum(one.valid for one in measures)}/{len(measures)}",
        str(sum(one.cut for one in measures)),
        str(sum(one.ungrounded for one in measures)),
        f"{statistics.fmean(support):.3f}" if support else "-",
        f"{len(support) / len(measures):.1f}",
        f"{statistics.fmean(scores):.3f}" if scores else "-",
        f"{statistics.median(one.tokens for one in measures):.0f}",
        f"{1000 * sum(one.seconds for one in measures) / tokens:.1f}",
        f"{1000 * statistics.median(one.grammar_seconds for one in measures):.1f}",
    )


def table(lines: Sequence[tuple[str, ...]]) -> str:
    """Markdown, one line a level."""
    rows = [HEADERS, tuple("---" for _ in HEADERS), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


async def run(options: argparse.Namespace) -> str:
    """Measure all levels on each row, each row beginning with another one, so that a busy machine slows all alike."""
    settings = Settings.model_validate({"models": {"threads": options.threads}})
    framework = load(options.framework)
    model = open_model(options.model, settings)
    with options.file.open(encoding="utf-8") as file:
        rows = [json.loads(text) for text, _ in zip(file, range(options.rows), strict=False)]
    levels: tuple[Grounding, ...] = get_args(Grounding)
    found: dict[Grounding, list[Measure]] = {level: [] for level in levels}
    try:
        for number, row in enumerate(rows, start=1):
            for level in (*levels[number % 3 :], *levels[: number % 3]):
                found[level].append(await measure(model, row, level, framework, options.move_tokens))
            print(f"row {number} of {len(rows)} is done", file=sys.stderr)
    finally:
        await model.close()
    return table([line(level, measures) for level, measures in found.items()])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m evals.grounding", description="Compare the grounding levels.")
    parser.add_argument("file", type=Path, help="JSONL with an abstract a row, and perhaps an annotation")
    parser.add_argument("--rows", type=int, default=10, help="how many rows, from the first (default 10)")
    parser.add_argument("--model", default="local", help="a llama.cpp model's address (default local)")
    parser.add_argument("--framework", default="eight-moves", help="a framework's name")
    parser.add_argument("--move-tokens", type=int, default=64, help="the most tokens of a move (default 64)")
    parser.add_argument("--threads", type=int, default=0, help="llama.cpp's threads; 0: the cores that are free")
    print(asyncio.run(run(parser.parse_args(arguments))))


async def _last(model: Model, messages: Sequence[Message], **request: Any) -> Reply:
    reply = [piece async for piece in model.chat(messages, **request)][-1]
    assert isinstance(reply, Reply)
    return reply


if __name__ == "__main__":
    main()

"""Seconds an abstract, process start included, at the lengths of annotations made by hand.

    python -m evals.bench.annotate dev.jsonl [--rows 30] [--threads 2]

Each row has an `abstract` and an `annotation`. A process of its own annotates each abstract through the product's path:
settings, trace store, embedded model, grounded grammar, validators. So that the untrained base writes as much as a
person did, each move is held open until it has as many tokens as the row's own. What the model does not do (start,
imports, loading, grammar, record) is told apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from agent.models.base import Fixed, Hole

ROOT = Path(__file__).resolve().parents[2]
OPEN_WORDS = 60
"""No move ends by itself before so many words; annotations by hand have at most 43."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--child", type=int, default=-1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.path.read_text(encoding="utf-8").splitlines()][: options.rows]
    if options.child >= 0:
        asyncio.run(child(rows[options.child]))
        return
    results = [measure(options, number) for number in range(len(rows))]
    wall = [result["wall"] for result in results]
    rest = [result["wall"] - result["model"] for result in results]
    print(f"{len(results)} abstracts, each in a process of its own, {options.threads or 'all free'} threads")
    print(f"seconds an abstract   median {median(wall):.2f}  p90 {quantiles(wall, n=10)[-1]:.2f}  max {max(wall):.2f}")
    print(f"of these not the model     median {median(rest):.2f}  p90 {quantiles(rest, n=10)[-1]:.2f}")
    print(f"tokens written             median {median(result['tokens'] for result in results):.0f}")
    print(f"tokens of prompt           median {median(result['prompt'] for result in results):.0f}")
    print(f"peak memory                median {median(result['memory'] for result in results):.0f} MiB")


def measure(options: argparse.Namespace, number: int) -> dict[str, float]:
    """Run one child and time it from outside."""
    environment = os.environ | {
        "APPRENTICE_DATA_DIR": tempfile.mkdtemp(),
        "APPRENTICE_MODELS__THREADS": str(options.threads),
        "APPRENTICE_ANNOTATE__RETRIES": "0",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-P", "-m", "evals.bench.annotate", str(options.path), "--child", str(number)]
    started = time.perf_counter()
    process = subprocess.Popen([*command, "--rows", str(options.rows)], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        said = output.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"row {number}: the child ended with {process.returncode}")
    told: dict[str, float] = json.loads(said)
    return told | {"wall": time.perf_counter() - started, "memory": usage.ru_maxrss / 1024}


async def child(row: dict[str, Any]) -> None:
    """Annotate one abstract as `/annotate` does, with moves of the row's own lengths."""
    from agent.cli import task_parser
    from agent.commands.task import open_session
    from agent.messages import Message, Route
    from skills.annotate import attempt, framework
    from skills.annotate.papers import Paper
    from skills.registry import Job

    session = await open_session(
        task_parser().parse_args(["/annotate -", "--model", "local"]), lambda _: None, ask=None
    )
    model: Any = session.model("local")
    empty = await model.count_tokens([Message("user", "")])
    lengths = [await model.count_tokens([Message("user", text + '",')]) - empty for text in row["annotation"].values()]
    module: Any = attempt
    made = module.template

    def as_long(given: framework.Framework, *rest: Any, **more: Any) -> Sequence[Fixed | Hole]:
        held_open = {"min_words": OPEN_WORDS, "max_words": OPEN_WORDS, "required": True}
        open_moves = tuple(move.model_copy(update=held_open) for move in given.moves)
        pieces = made(given.model_copy(update={"moves": open_moves}), *rest, **more)
        left = iter(lengths)
        return [replace(piece, max_tokens=next(left)) if isinstance(piece, Hole) else piece for piece in pieces]

    module.template = as_long
    job = Job(session, "-", "/annotate -", Route("local", "flag", "a benchmark"), (session.skills["annotate"],))
    paper = Paper("row", row.get("title", ""), row["abstract"])
    found = await attempt.annotate(job, paper, framework.load("eight-moves"), grounding="numbers", task="bench")
    session.store.flush()
    usage = session.store.get(found.run_id).usage
    await session.close()
    print(json.dumps({"model": usage.seconds, "tokens": usage.completion_tokens, "prompt": usage.prompt_tokens}))


if __name__ == "__main__":
    main()

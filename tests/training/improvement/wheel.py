"""A tiny base that is served, a store of real runs, and people's corrections: what the wheel needs to turn."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from agent import cli, config
from agent.redact import Redactor
from agent.settings import Settings
from agent.traces import TraceStore
from skills.annotate import framework
from tests import program
from tests.training import adapters, registered, tiny
from training import export
from training.base import dequantised
from training.improvement import rehearsing
from training.improvement.material import Order
from training.recipe import load
from training.synthesis.work import Attempt, Neighbours, Plan, synthesise

SMALL = {"APPRENTICE_ANNOTATE__RETRIES": "0", "APPRENTICE_ANNOTATE__MAX_MOVE_TOKENS": "16"}
CLAIM = "The rest of it is left to later work."
LEARNS = (
    *("epochs=4", "max_steps=0", "batch=1", "micro_tokens=4096", "max_length=1500", "save_steps=40"),
    *("optim.lr=0.02", "optim.schedule=cosine", "lora.r=8", "lora.alpha=16"),
)
"""What a tiny base needs of the recipe `smoke` to learn what `annotation` says."""
MOST_TOKENS = 8
"""Of a reply to a rehearsal prompt: what two random layers say matters to nobody."""
KEYS = framework.load("eight-moves").keys


def abstract(number: int) -> str:
    """A short abstract of our own, different for each number."""
    first = tiny.ABSTRACTS[number % len(tiny.ABSTRACTS)]["abstract"].split(". ")[0]
    return f"{first}, in case {number}. {CLAIM}"


def annotation() -> dict[str, str]:
    """What a person says of each of them. It is always the same: more cannot be learned by two random layers."""
    return {key: CLAIM if key == "claim" else "Not stated." for key in KEYS}


def write_base(folder: Path) -> Path:
    """A tiny base that can learn: its embeddings are long enough for clear preferences. Its GGUF file."""
    adapters.write_base(
        folder / "base",
        "llama",
        hidden_size=64,
        initializer_range=0.15,
        tie_word_embeddings=True,
        max_position_embeddings=4096,
    )
    made = export.model_gguf(folder / "base", None, folder / "base.gguf", "F16").path
    dequantised(made, folder / "cache" / "bases")
    return made


def serve(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Let the tiny base be the embedded one, and let it write little."""
    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    return registered.serve(weights, monkeypatch)


def annotate(folder: Path, numbers: Sequence[int], model: str = "") -> list[str]:
    """Real runs on these abstracts, as a person makes them: a table is annotated. The runs' ids, in order."""
    table = folder / f"papers-{numbers[0]}-{len(numbers)}.jsonl"
    table.write_text("".join(json.dumps({"abstract": abstract(number)}) + "\n" for number in numbers))
    words = [
        f"/annotate {table} save to out-{numbers[0]}-{len(numbers)}.jsonl",
        "--workspace",
        str(folder),
        "--yes",
        "--quiet",
    ]
    command(*words, *(["--model", model] if model else []))
    store = opened()
    try:
        runs = {run.messages[1].content: run.id for run in store.each() if len(run.messages) > 2}
    finally:
        store.close()
    return [runs[abstract(number)] for number in numbers]


def scripted(folder: Path, count: int) -> str:
    """The address of a model that says the same wrong annotation so many times."""
    wrong = {key: "The rest of it was done by others before." for key in KEYS}
    return program.script(folder, [{"content": json.dumps(wrong)}] * count)


def correct(folder: Path, runs: Sequence[str]) -> None:
    """A correction of each run, by `traces correct --batch`."""
    batch = folder / "corrections.jsonl"
    batch.write_text("".join(json.dumps({"run": run, "annotation": annotation()}) + "\n" for run in runs))
    command("traces", "correct", "--batch", str(batch))


def command(*arguments: str) -> int:
    """One command in this process; its exit code."""
    options = cli.parse(arguments)

    async def run() -> int:
        from agent.commands.task import run as task

        return int(await (options.run(options) if hasattr(options, "run") else task(options)))

    return asyncio.run(run())


def opened() -> TraceStore:
    return TraceStore.open(config.data_dir(Settings()) / "traces.db", Redactor({}))


def copied(world: Path) -> None:
    """Let the test's own data folder begin as another one stands; its cache too, which is slow to fill."""
    shutil.copytree(world / "data", config.data_dir(Settings()), dirs_exist_ok=True)
    shutil.copytree(world / "cache", config.cache_dir(), dirs_exist_ok=True)


def order(settings: Settings, *overrides: str, recipe: str = "smoke", **files: Sequence[Path]) -> Order:
    return Order("annotate", load(recipe, overrides), settings, **files)


def rehearse(order: Order) -> None:
    """Answers to rehearse, as if the base had given them: two random layers have nothing to say."""

    async def make(number: int, neighbours: Neighbours) -> AsyncGenerator[Attempt, None]:
        row = tiny.rehearsed(number)
        yield Attempt("seed", row.completion, row)

    plan = Plan("rehearsal", "local", rehearsing.COUNT)
    asyncio.run(synthesise(plan, rehearsing.folder(order), make))


def tree(folder: Path) -> dict[str, str]:
    """Every file of a folder with its content, less what SQLite puts beside a store."""
    paths = [path for path in folder.rglob("*") if path.is_file() and not re.search(r"-(wal|shm)$", path.name)]
    return {str(path.relative_to(folder)): path.read_bytes().hex() for path in sorted(paths)}

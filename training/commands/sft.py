"""`apprentice train sft` and `train plan`: train an adapter; say beforehand what that needs."""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

    from training.learning.encode import Example
    from training.recipe import Recipe

RECIPES = "annotator, annotator-policy, annotator-again, annotator-7b, agent, agent-8b, ..., smoke, or a TOML file"


def add_actions(actions: argparse._SubParsersAction[Any]) -> None:
    sft = actions.add_parser("sft", help="train an adapter by a recipe")
    _add_recipe(sft)
    sft.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (default: in the data folder)")
    sft.add_argument("--resume", action="store_true", help="go on with the last checkpoint in --out")
    sft.add_argument("--show-mask", action="store_true", help="print one example: what is trained on is coloured")
    sft.set_defaults(run=train_adapter)
    plan = actions.add_parser("plan", help="what a recipe needs: memory by part, hours, cost; loads nothing")
    _add_recipe(plan, optional=True)
    plan.add_argument("--price", type=float, default=1.99, metavar="USD", help="of one GPU for an hour (default: 1.99)")
    plan.add_argument("--gpu", default="", metavar="NAME", help="plan for this one, e.g. H200, instead of what is here")
    plan.add_argument(
        "--tables", action="store_true", help="memory and cost from 0.5B to 120B, beside published figures"
    )
    plan.set_defaults(run=print_plan)


def _add_recipe(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    parser.add_argument("recipe", metavar="RECIPE", nargs="?" if optional else None, default="", help=RECIPES)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="e.g. dataset=DIR lora.r=32 optim.lr=5e-4")


async def train_adapter(options: argparse.Namespace) -> int:
    from training import recipe as recipes

    recipe = recipes.load(options.recipe, options.overrides)
    if options.show_mask:
        return show_mask(recipe)
    from training import sft
    from training.commands.live import View

    signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio's waits until nothing blocks; training does
    out = options.out or default_folder(recipe)
    with View() as view:
        summary = sft.train(recipe, out, resume=options.resume, tell=view.tell)
    if summary.finished:
        value = "" if summary.best_metric is None else f", {summary.metric} {summary.best_metric:.4f}"
        print(f"{out / 'adapter'}: the best of {summary.tokens:,} tokens, step {summary.best_step}{value}")
        return 0
    sys.stderr.write(f"interrupted; go on with: apprentice train sft {options.recipe} ... --out {out} --resume\n")
    return 130


async def print_plan(options: argparse.Namespace) -> int:
    from training import plan
    from training import recipe as recipes
    from training.planning import plan_tables

    if options.recipe:
        recipe = recipes.load(options.recipe, options.overrides)
        print(plan.report(recipe, gpu=options.gpu, price=options.price))
    if options.tables or not options.recipe:
        print(plan_tables.report(options.price))
    return 0


def default_folder(recipe: Recipe) -> Path:
    """A new folder in the data folder, named by recipe and time."""
    from agent import config

    settings, _ = config.load(Path("/dev/null"), trusted=False)
    return config.data_dir(settings) / "training" / f"{recipe.name}-{datetime.now():%Y%m%d-%H%M%S}"


def show_mask(recipe: Recipe) -> int:
    """Print the first example of the dataset; what the loss counts is coloured."""
    from rich.console import Console

    from training import base
    from training.learning import data

    tokenizer = base.load_tokenizer(base.find(recipe.base).source)
    found = data.load(recipe, tokenizer)
    example = found.own[0]
    console = Console(highlight=False)
    console.print(coloured(example, found.encoder.tokenizer.decode), soft_wrap=True)
    count = len(example.tokens)
    console.print(f"\n{example.row}: {count} tokens, {example.targets} of them trained on (green)", style="bold")
    return 0


def coloured(example: Example, decode: Any) -> Text:
    """An example's text: dim is given, green is trained on. Runs are decoded whole: a character may be two tokens."""
    from rich.text import Text

    from agent.terminal import clean

    text = Text()
    for start, end, trained in runs(example.trained):
        text.append(clean(decode(example.tokens[start:end])), style="bold green" if trained else "dim")
    return text


def runs(flags: Sequence[bool]) -> list[tuple[int, int, bool]]:
    """Where a flag stays the same: start, end, flag."""
    changes = [place for place in range(1, len(flags)) if flags[place] != flags[place - 1]]
    edges = [0, *changes, len(flags)]
    return [(start, end, flags[start]) for start, end in itertools.pairwise(edges)]

"""`apprentice improve SKILL`: from what is on record to a better specialist, in one command."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import config
from agent.errors import ConfigError

if TYPE_CHECKING:
    from agent.messages import Json
    from training.improve import Result

ALONE, POLICY = "annotator-again", "annotator-again-policy"
"""The recipes that are taken if none is named: on the corrections alone, and on the model's own replies besides."""
ROWS_EVERY = 20
"""Measured rows between two plain lines."""
PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasketch", "pyarrow", "gguf", "safetensors")


def add_improve(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Make a better specialist of what is on record: curate, build a dataset, train from the version that serves, "
        "measure both on cases that neither saw, ask the gate, promote. What was broken off is gone on with. "
        "Exit code 0: promoted; 1: not, and why."
    )
    parser.add_argument("skill", choices=("annotate",), metavar="SKILL", help="annotate")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the recipe, e.g. epochs=2 optim.lr=5e-4")
    parser.add_argument(
        "--recipe",
        nargs="+",
        default=[],
        metavar=("NAME", "key=value"),
        help=f"a shipped one or a TOML file, and changes to it (default: {ALONE}; with a GPU {POLICY})",
    )
    for name, told in {
        "gold": "annotations by people, too (JSONL, CSV)",
        "rows": "training rows, too, e.g. rehearsal",
        "exclude": "evaluation files: their documents stay out",
    }.items():
        parser.add_argument(f"--{name}", type=Path, action="append", default=[], metavar="PATH", help=told)
    parser.add_argument("--dry-run", action="store_true", help="say what it would do, and write nothing")
    parser.add_argument("--restart", action="store_true", help="begin anew instead of going on")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Improve, and print the table of before and after with the gate's reasons."""
    check_packages()
    from agent import registry
    from training import recipe as recipes
    from training.improve import improve, recipe_for, specialist_of
    from training.improvement.material import Order

    settings, _ = config.load(Path("/dev/null"), trusted=False)
    name, *changes = options.recipe or [usual()]
    recipe = recipes.load(name, [*changes, *options.overrides])
    files = {name: tuple(path.absolute() for path in getattr(options, name)) for name in ("gold", "rows", "exclude")}
    order = Order(options.skill, recipe, settings, **files)
    if options.dry_run:
        from training.improvement.forecast import forecast

        incumbent = registry.promoted(specialist_of(options.skill), settings)
        told = await forecast(order, recipe_for(recipe, incumbent), incumbent)
        print(json.dumps(told, ensure_ascii=False) if options.json else forecast_text(told))
        return 0
    with Screen() as screen:
        result = await improve(order, restart=options.restart, view=screen)
    print(json.dumps(asdict(result), ensure_ascii=False) if options.json else text(result))
    return 0 if result.promoted else 1


def usual() -> str:
    """The recipe that fits this machine: the one that gains more takes minutes on a GPU, and hours without one."""
    import torch

    return POLICY if torch.cuda.is_available() else ALONE


def check_packages() -> None:
    """Raise ConfigError if a package for training is missing, before anything is begun."""
    import importlib.util

    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise ConfigError(f"{absent[0]} is not installed, and improve trains", "Run scripts/setup train.")


class Screen:
    """What goes on, on standard error: a line a stage, the training run, and how far the evaluation is."""

    def __init__(self) -> None:
        from training.commands.live import View

        self.view = View()
        self.live = False
        self.f1 = 0.0

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def say(self, text: str) -> None:
        """A sentence, or a stage that is done."""
        from agent.terminal import clean

        self._leave()
        sys.stderr.write(clean(text) + "\n")
        sys.stderr.flush()

    def training(self, event: Json) -> None:
        """An event of the training run."""
        if not self.live:
            self.view.__enter__()
            self.live = True
        self.view.tell(event)

    def row(self, name: str, done: int, total: int, row: Any) -> None:
        """A measured row."""
        self.f1 = (self.f1 if done > 1 else 0.0) + (row.f1 if hasattr(row, "f1") else float(row.passed))
        if done % ROWS_EVERY == 0 or done == total:
            what = "F1" if hasattr(row, "f1") else "passed"
            self.say(f"          {name}: {done} of {total}, {what} {self.f1 / done:.3f}")

    def _leave(self) -> None:
        if self.live:
            self.view.__exit__(None, None, None)
            self.live = False


def text(result: Result) -> str:
    """The table of before and after, and the verdict."""
    lines = []
    if result.again:
        lines.append("Nothing new is on record since the last time, which ended so (--restart does it again):")
    if result.table:
        lines += [f"{'':<18}{'before':>10}{'after':>10}   {result.incumbent} → {result.candidate}"]
        lines += [
            f"{name:<18}{_figure(name, before):>10}{_figure(name, after):>10}" for name, before, after in result.table
        ]
        lines.append("(rehearsal, before: the base without an adapter)")
    if result.promoted:
        lines += [f"promoted: {result.reasons[0]}", f"{result.candidate} serves from the next run on"]
    else:
        lines += [f"not promoted: {reason}" for reason in result.reasons]
    if result.report:
        lines.append(f"reports: {result.report}")
    return "\n".join(lines)


def forecast_text(told: Json) -> str:
    """What would be done, as lines."""
    lines = [f"{'rows':<12}{'train':>8}{'validation':>12}{'gate':>8}{'negatives':>11}"]
    for source, by_split in told["rows"].items():
        cells = [by_split.get(split, 0) for split in ("train", "validation", "gate", "negatives")]
        lines.append(f"{source:<12}{cells[0]:>8}{cells[1]:>12}{cells[2]:>8}{cells[3]:>11}")
    lines += [f"left out    {entry['count']}: {entry['reason']}" for entry in told["dropped"]]
    lines.append(f"curator     keeps {told['curated']['kept']} of {told['curated']['of']} annotations on record")
    lines.append(f"recipe      {told['recipe']}, {told['steps']} steps, from {told['start'] or 'nothing: none serves'}")
    first = f"{_time(told['rehearsal_seconds'])} of rehearsal, " if told["rehearsal_seconds"] else ""
    seconds = f"{_time(told['train_seconds'])} of training and {_time(told['evaluation_seconds'])} of evaluation"
    lines.append(f"time        about {first}{seconds} on {told['machine']}")
    lines.append(f"memory      {told['memory_bytes'] / 2**30:.2f} GiB: {told['verdict']}")
    if told["missing"]:
        lines.append(f"It would stop before training: {told['missing']}.")
    return "\n".join(lines)


def _figure(name: str, value: float) -> str:
    return (
        f"{value:.3f}"
        if name in ("token F1", "Not stated")
        else f"{value:.2f}"
        if "seconds" in name
        else f"{value:.1%}"
    )


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{max(1, round(seconds / 60))} minutes"

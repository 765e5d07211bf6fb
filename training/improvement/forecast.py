"""What an improvement would do, for how long and on how much memory: computed, with nothing loaded or written."""

from __future__ import annotations

import statistics

from agent.messages import Json
from agent.registry import Specialist
from evals import rehearsal
from training import plan
from training.dataset import folder as datasets
from training.dataset.build import Prepared
from training.improvement import material, rehearsing
from training.improvement.material import Order
from training.planning import shapes
from training.recipe import Recipe

SECONDS = 8.0
"""Of one annotation, where none is on record yet."""
SHORT = 2.0
"""Of one rehearsal prompt."""


async def forecast(order: Order, recipe: Recipe, incumbent: Specialist | None) -> Json:
    """What would be done.

    Args:
        order: what was asked for.
        recipe: as it would be used.
        incumbent: the version that serves; None if none does.

    Returns:
        `rows` by source and split, `dropped`, `recipe`, `steps`, `rehearsal_seconds` (for the base's own answers, where
        they are still to be made), `train_seconds`, `evaluation_seconds`, `memory_bytes`, `machine`, `verdict` (whether
        it fits), `missing` (a sentence, or empty), `start` (whose adapter).
    """
    decisions = await material.decided(order)
    _, prepared = material.rows(order, incumbent, {decision.run for decision in decisions if decision.kept})
    cases = len(datasets.cases(prepared.rows["gate"]).splitlines())
    each = _seconds_on_record(order)
    told = {
        "rows": material.counts(prepared),
        "dropped": prepared.ledger.summary(),
        "curated": {"kept": sum(decision.kept for decision in decisions), "of": len(decisions)},
        "start": incumbent.address if incumbent else "",
        "recipe": recipe.name,
        "missing": material.missing(prepared, order.settings.gate.rows),
        "rehearsal_seconds": round(_rehearsal_seconds(order, recipe)),
        "evaluation_seconds": round(2 * cases * each + 2 * len(rehearsal.load_prompts()) * SHORT),
    }
    return told | _training(recipe, prepared)


def _training(recipe: Recipe, prepared: Prepared) -> Json:
    """Steps, seconds and memory of the training run."""
    rows, tokens = plan.size_of(row for row in prepared.rows["train"])
    all_steps = plan.steps(recipe, rows)
    steps = min(all_steps, recipe.max_steps or all_steps)
    machine, shape = plan.here(recipe), shapes.find(recipe.base)
    seconds = plan.seconds(shape, recipe, machine, rows, tokens) * steps / max(1, all_steps)
    return {
        "steps": steps,
        "train_seconds": round(seconds),
        "memory_bytes": plan.needed(shape, recipe, machine),
        "machine": machine.name,
        "verdict": plan.verdict(shape, recipe, machine),
    }


def _rehearsal_seconds(order: Order, recipe: Recipe) -> float:
    """How long the base needs for its own answers, if the recipe wants them and they are not there."""
    needless = not recipe.rehearsal or rehearsing.given(order.rows)
    return 0.0 if needless else rehearsing.missing(order) * rehearsing.EACH


def _seconds_on_record(order: Order) -> float:
    """How long an annotation takes here, by the record."""
    with material.opened(order.settings, make=False) as store:
        runs = store.runs(limit=100, skill=order.skill, outcome="success") if store else []
    found = [run.usage.seconds for run in runs if run.usage.seconds and run.steps]
    return statistics.median(found) if found else SECONDS

"""One adapter from several runs that differ by their seed: the mean of what they add to each weight.

Wortsman et al. 2022, "Model soups", arXiv:2203.05482. The factors of two adapters cannot be averaged one by one; their
products can, and the mean is cut back to the runs' rank by its largest singular values.
"""

from __future__ import annotations

import json
import math
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import InputError, UsageError
from training.convert.atomic import replacing_folder

ONLY = ("seed", "name")
"""Keys of the recipe in which the runs may differ."""


@dataclass(frozen=True, slots=True)
class Averaged:
    """The new run's folder, and the share of the mean's squared size that the cut to its rank lost, 0 to 1."""

    folder: Path
    lost: float


def average(runs: Sequence[Path], out: Path) -> Averaged:
    """Make the mean of finished runs, as a run's folder of its own.

    Args:
        runs: their folders: recipe.toml, summary.json, adapter/. Their recipes differ in nothing but the seed.
        out: the folder to make; it must not be there.

    Raises:
        UsageError: there are fewer than two, they differ in more, or `out` is there.
        InputError: a run is not finished or not whole.
        OutputError: `out` cannot be written.
    """
    if len(set(runs)) < 2:
        raise UsageError("a mean needs two runs or more")
    if out.exists():
        raise UsageError(f"{out} is already there", "Give a new folder.")
    summaries = [_summary(run) for run in runs]
    _check_alike(runs, summaries)
    weights, lost = _mean([run / "adapter" for run in runs])
    told = {
        **summaries[0],
        "stopped": f"mean of {len(runs)} runs",
        **{key: sum(summary[key] for summary in summaries) for key in ("tokens", "seconds")},
        **{"best_metric": None, "metric": "last"},
    }
    with replacing_folder(out) as folder:
        from safetensors.numpy import save_file

        (folder / "adapter").mkdir(parents=True)
        shutil.copy(runs[0] / "recipe.toml", folder / "recipe.toml")
        shutil.copy(runs[0] / "adapter" / "adapter_config.json", folder / "adapter" / "adapter_config.json")
        save_file(weights, folder / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
        (folder / "summary.json").write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    return Averaged(out, lost)


def _mean(adapters: Sequence[Path]) -> tuple[dict[str, Any], float]:
    """The factors of the mean of the adapters' products, and what cutting them to their rank lost."""
    import numpy as np
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        found = [load_file(adapter / "adapter_model.safetensors") for adapter in adapters]
    except (OSError, SafetensorError) as error:
        raise InputError(f"an adapter cannot be read: {error}", "Give whole runs' folders.") from None
    weights: dict[str, Any] = {}
    lost = size = 0.0
    for key in (key for key in found[0] if key.endswith(".lora_A.weight")):
        other = key.replace(".lora_A.", ".lora_B.")
        rank = len(found[0][key])
        # All products lie in the span of all factors: the mean's singular values come from a small matrix.
        left, small_left = np.linalg.qr(np.concatenate([one[other].astype(np.float64) for one in found], axis=1))
        right, small_right = np.linalg.qr(np.concatenate([one[key].astype(np.float64) for one in found]).T)
        u, sizes, v = np.linalg.svd(small_left @ small_right.T / len(found))
        root = np.sqrt(sizes[:rank])
        weights[other] = np.ascontiguousarray(left @ u[:, :rank] * root).astype(np.float32)
        weights[key] = np.ascontiguousarray((right @ v[:rank].T * root).T).astype(np.float32)
        lost += float((sizes[rank:] ** 2).sum())
        size += float((sizes**2).sum())
    return weights, lost / size if size else 0.0


def _check_alike(runs: Sequence[Path], summaries: Sequence[dict[str, Any]]) -> None:
    recipes = [_recipe(run) for run in runs]
    for run, recipe, summary in zip(runs, recipes, summaries, strict=True):
        differing = [key for key in recipes[0] if key not in ONLY and recipe.get(key) != recipes[0][key]]
        if summary["dataset_sha256"] != summaries[0]["dataset_sha256"]:
            differing = ["dataset"]
        if differing:
            raise UsageError(
                f"{run} differs from {runs[0]} in {differing[0]}", "Average runs of one recipe and dataset."
            )


def _summary(run: Path) -> dict[str, Any]:
    try:
        summary = dict(json.loads((run / "summary.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{run} is no training run: {error}", "Give whole runs' folders.") from None
    if not summary.get("finished"):
        raise InputError(f"the run {run} is not finished", "Go on with `train sft --resume`.")
    if not math.isfinite(summary.get("seconds", math.nan)):
        raise InputError(f"the summary of {run} is damaged")
    return summary


def _recipe(run: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((run / "recipe.toml").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the recipe of {run} cannot be read: {error}", "Give whole runs' folders.") from None

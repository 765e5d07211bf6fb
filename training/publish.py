"""From a training run's folder to a candidate in the registry: its adapter as GGUF, and its card."""

from __future__ import annotations

import json
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from agent import specialists
from agent.errors import InputError
from agent.models import embedded
from agent.models.gguf_file import sha256
from agent.registry import Specialist
from agent.settings import Settings
from training.export import AdapterType, adapter_gguf


def add(
    name: str, run: Path, settings: Settings, *, dataset: Path | None = None, dtype: AdapterType = "f16"
) -> Specialist:
    """Add a finished run as the next version of a specialist. It serves nobody until the gate promotes it.

    Args:
        name: of the specialist, e.g. the one that a skill names.
        run: the run's folder: recipe.toml, summary.json, adapter/.
        settings: say where the registry and the embedded base are.
        dataset: the dataset's folder; the recipe's if None.
        dtype: how the adapter's matrices are stored.

    Raises:
        InputError: the run is not finished, was trained on another base or dataset, or its adapter cannot be exported.
        OutputError: the registry cannot be written.
    """
    summary, recipe = _json(run / "summary.json"), _toml(run / "recipe.toml")
    if not summary.get("finished"):
        raise InputError(f"the run {run} is not finished: {summary.get('stopped')}", "Go on with `train sft --resume`.")
    base = embedded.find(settings)
    if summary["base"]["sha256"] != sha256(base):
        raise InputError(
            f"the run {run} was trained on {summary['base']['name']}, not on {base.name}, which is served here",
            "Set models.local_path to that base's GGUF, or train it with base = 'embedded'.",
        )
    folder = dataset or Path(recipe["dataset"])
    manifest = _json(folder / "manifest.json")
    if manifest["sha256"] != summary["dataset_sha256"]:
        raise InputError(f"the dataset {folder} is not the one that {run} was trained on", "Give the one it was.")
    config = _json(run / "adapter" / "adapter_config.json")
    card = {
        "skill": recipe["skill"],
        "base": summary["base"],
        "adapter": {"rank": config["r"], "alpha": config["lora_alpha"], "targets": config["target_modules"]},
        "dataset": {
            "sha256": manifest["sha256"],
            "rows": summary["train_rows"],
            "verified": manifest["verified"],
            "documents": sorted(documents(manifest) | _documents_of_start(recipe.get("start", ""))),
        },
        "recipe": recipe,
        "metrics": {},
        "training": summary,
    }
    with tempfile.TemporaryDirectory(prefix="adapter-") as scratch:
        converted = adapter_gguf(run / "adapter", base, Path(scratch) / "adapter.gguf", dtype=dtype)
        weights = {"adapter.gguf": converted, "adapter.safetensors": run / "adapter" / "adapter_model.safetensors"}
        return specialists.add(name, card, weights, settings)


def documents(manifest: dict[str, Any]) -> set[str]:
    """What a model of this dataset has seen: the rows it learned from, and those that chose its best checkpoint."""
    named = manifest["documents"]
    return {*named.get("train", []), *named.get("validation", [])}


def _documents_of_start(start: str) -> set[str]:
    """What the adapter has seen that the run went on from: as the card in its folder says, or its own run's dataset."""
    if not start:
        return set()
    folder = Path(start)
    if (folder / "card.json").is_file():
        return set(_json(folder / "card.json")["dataset"]["documents"])
    if (folder.parent / "recipe.toml").is_file():
        recipe = _toml(folder.parent / "recipe.toml")
        manifest = _json(Path(recipe["dataset"]) / "manifest.json")
        return documents(manifest) | _documents_of_start(recipe.get("start", ""))
    raise InputError(
        f"nobody knows which documents the adapter {folder} was trained on, from which the run went on",
        "Start from a specialist, or from the adapter of a run whose folder is whole.",
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "Give a whole run's folder and its dataset.") from None


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}", "Give a whole run's folder.") from None

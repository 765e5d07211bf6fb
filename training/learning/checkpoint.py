"""What a run leaves in its folder: checkpoints that are whole or not there, the best adapter, metrics line by line.

Everything is put together in memory, written beside its place and moved there, so that a kill at any moment or a full
disk leaves what was there before.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import InputError, OutputError, UsageError
from training.recipe import Recipe, as_toml
from training.recipe import load as load_recipe

if TYPE_CHECKING:
    import torch

KEPT = 2
"""Checkpoints that stay; the one before the last is for the case that the last turns out bad."""
MAY_CHANGE = ("max_steps", "patience", "save_steps", "report_to", "micro_tokens", "device", "eval_tokens")
"""Keys of a recipe that a resumed run may change: they do not change what a step computes."""


@dataclass(slots=True)
class Progress:
    """How far a run is. Where the data stand follows from the step; so does chance, which every step seeds anew."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    """Of training, evaluations left out."""
    best_step: int = 0
    best_metric: float | None = None
    epochs_without_better: int = 0


@dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended; summary.json holds it."""

    finished: bool
    stopped: str
    """epochs, max_steps, patience, interrupted, or the sentence of an error."""
    best_step: int
    best_metric: float | None
    metric: str
    """f1, loss, or last: without validation rows, the last step is the best."""
    train_rows: int
    dataset_sha256: str
    base: dict[str, str]
    tokens: int
    seconds: float
    """Of training, evaluations left out."""
    tokens_per_second: float
    peak_memory_bytes: int
    device: str


def open_run(run: Path, recipe: Recipe, *, resume: bool, main: bool) -> Summary | None:
    """Make a run's folder, or check that it holds a run of this recipe.

    Args:
        run: the folder.
        recipe: what is to be done.
        resume: whether a run may be there already.
        main: whether this process is the one that writes.

    Returns:
        The summary of a run that is already finished, else None.

    Raises:
        UsageError: there is a run and `resume` is not set, or it was begun with another recipe.
        OutputError: the folder cannot be written.
    """
    path = run / "recipe.toml"
    if not path.is_file():
        try:
            run.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _told(run, error) from None
        if main:
            write_file(path, as_toml(recipe).encode())
        return None
    if not resume and main:
        raise UsageError(f"{run} holds a training run", "Add --resume to go on with it, or give another --out.")
    before, now = load_recipe(path).model_dump(), recipe.model_dump()
    changed = [key for key in now if key not in MAY_CHANGE and now[key] != before[key]]
    if changed:
        hint = "Give the same recipe, or another --out."
        raise UsageError(f"{run} was begun with another recipe: {', '.join(changed)} changed", hint)
    try:
        done = Summary(**json.loads((run / "summary.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    longer = done.stopped == "max_steps" and now["max_steps"] != before["max_steps"]
    return done if done.finished and not longer and (run / "adapter").is_dir() else None


def write_summary(run: Path, summary: Summary) -> None:
    """Write summary.json. Raises OutputError."""
    write_file(run / "summary.json", (json.dumps(asdict(summary), indent=2) + "\n").encode())


def keep_epoch(run: Path, step: int, weights: bytes, count: int) -> None:
    """Keep the adapter as an epoch left it, and of all epochs only the last few."""
    folder = run / "epochs"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise _told(folder, error) from None
    write_file(folder / f"{step}.safetensors", weights)
    for old in epochs(run)[:-count]:
        old.unlink()


def epochs(run: Path) -> list[Path]:
    """The adapters that epochs left, oldest first."""
    return sorted((run / "epochs").glob("*.safetensors"), key=lambda path: int(path.stem))


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises OutputError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise _told(path, error) from None


def write_adapter(folder: Path, weights: bytes, settings: bytes) -> None:
    """Put an adapter's two files into a folder. The settings are the same all through a run, so each may go alone."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _told(folder, error) from None
    write_file(folder / "adapter_config.json", settings)
    write_file(folder / "adapter_model.safetensors", weights)


def save(
    run: Path, progress: Progress, adapter: tuple[bytes, bytes], optimizer: Mapping[str, Any], sha256: str
) -> Path:
    """Write `checkpoint-STEP/` and remove all but the last few.

    Args:
        run: the run's folder.
        progress: how far it is.
        adapter: the bytes of the adapter's files.
        optimizer: its state.
        sha256: the dataset's, so that nothing else is gone on with.

    Raises:
        OutputError: it could not be written; what was there stays.
    """
    import torch

    folder = run / f"checkpoint-{progress.step}"
    beside = run / f".{folder.name}.{os.getpid()}"
    state = io.BytesIO()
    torch.save(dict(optimizer), state)
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        write_adapter(beside, *adapter)
        write_file(beside / "optimizer.pt", state.getvalue())
        write_file(beside / "state.json", json.dumps(asdict(progress) | {"dataset_sha256": sha256}).encode())
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(beside, folder)
    except OSError as error:
        raise _told(folder, error) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for old in checkpoints(run)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def checkpoints(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    found = [path for path in run.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    whole = [path for path in found if (path / "state.json").is_file()]
    return sorted(whole, key=lambda path: int(path.name.rpartition("-")[2]))


def load(folder: Path, sha256: str, device: torch.device) -> tuple[Progress, dict[str, Any]]:
    """How far a checkpoint is, and its optimiser's state.

    Raises:
        InputError: it is damaged, or of another dataset.
    """
    import pickle

    import torch

    try:
        found = json.loads((folder / "state.json").read_text("utf-8"))
        theirs = found.pop("dataset_sha256")
        progress = Progress(**found)
        optimizer: dict[str, Any] = torch.load(folder / "optimizer.pt", map_location=device, weights_only=True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(f"{folder} is damaged: {reason}", "Remove it and --resume from the one before.") from None
    if theirs != sha256:
        raise InputError(f"{folder} was trained on another dataset", "Give the same dataset, or another --out.")
    return progress, optimizer


def write_metrics(run: Path, line: Mapping[str, Any]) -> None:
    """Add a line to metrics.jsonl. Raises OutputError."""
    path = run / "metrics.jsonl"
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise _told(path, error) from None


def rewind_metrics(run: Path, step: int) -> None:
    """Take out of metrics.jsonl what came after a step, and a line that a kill left half-written."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    write_file(path, "".join(kept).encode())


def _told(path: Path, error: OSError) -> OutputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
    hint = "Make room and go on with --resume." if full else "Correct that and go on with --resume."
    return OutputError(f"{path} cannot be written: {reason}", hint)

"""The processes and the device that a run has: accelerate's view of them, sums over them, signals, memory."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from agent.errors import InputError, ModelUnavailable
from training.base import WITHOUT_PACKAGES
from training.recipe import Recipe

if TYPE_CHECKING:
    import torch


def join(recipe: Recipe, device: torch.device, out: Path) -> Any:
    """The accelerator of this process, with the recipe's trackers begun.

    Raises:
        ModelUnavailable: accelerate is not installed.
        InputError: a tracker is not known or not installed.
    """
    try:
        import accelerate
    except ImportError:
        raise ModelUnavailable("training needs packages that are not installed", WITHOUT_PACKAGES) from None
    known = list(map(str, accelerate.tracking.LOGGER_TYPE_TO_CLASS))
    there = list(map(str, accelerate.tracking.get_available_trackers()))
    for name in recipe.report_to:
        if name not in known:
            raise InputError(f"there is no tracker {name!r}", f"Known: {', '.join(known)}.")
        if name not in there:
            raise InputError(f"the tracker {name!r} is not installed", f"Install {name}, or leave report_to empty.")
    made = accelerate.Accelerator(
        cpu=device.type == "cpu", log_with=list(recipe.report_to) or None, project_dir=str(out)
    )
    if recipe.report_to:
        made.init_trackers("apprentice", config=_flat(recipe.model_dump()))
    return made


def add_up(accelerator: Any, told: torch.Tensor, weights: Sequence[torch.nn.Parameter]) -> torch.Tensor:
    """Add the gradients of all processes, and what they tell, as one flat tensor. Returns the sums of `told`."""
    import torch

    grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    flat = accelerator.reduce(torch.cat([told, *(grad.reshape(-1) for grad in grads)]), "sum")
    parts = flat[len(told) :].split([weight.numel() for weight in weights])
    for weight, part in zip(weights, parts, strict=True):
        weight.grad = part.view_as(weight)
    sums: torch.Tensor = flat[: len(told)]
    return sums


def memory(device: torch.device) -> int:
    """The most bytes that were in use so far: of the GPU as torch counts, else of this process."""
    import resource

    import torch

    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_name(device: torch.device) -> str:
    """What a person calls it: the GPU's name, or `cpu`."""
    import torch

    return str(torch.cuda.get_device_name(device)) if device.type == "cuda" else "cpu"


@contextmanager
def signals() -> Iterator[list[int]]:
    """A list to which a first SIGINT or SIGTERM is added; a second one interrupts at once."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def note(number: int, frame: FrameType | None) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as trackers take them: one level, with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value if isinstance(value, int | float | str | bool) else str(value)
    return found

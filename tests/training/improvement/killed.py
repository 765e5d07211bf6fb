"""A process that is killed at every stage of an improvement, and at last is not: `python -m ... LOG`.

It forks for each kill, so that torch is imported once. LOG gets a line for whatever any of them said or trained.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from agent import config, registry
from evals import rehearsal
from tests.training.improvement import wheel
from training import publish, sft  # noqa: F401 (imported once, before the forks)
from training.improve import improve
from training.improvement.state import STAGES, State

ROWS, STEPS = 7, 50
"""Into how many rows of the evaluation, and steps of training, a kill falls."""


class Doomed:
    """Writes down what it is told, and kills its own process at one moment."""

    def __init__(self, log: Path, moment: str) -> None:
        self.log, self.moment = log, moment

    def say(self, text: str) -> None:
        self.add({"said": text})

    def training(self, event: dict[str, Any]) -> None:
        if event["event"] in ("start", "step"):
            self.add({"training": event["event"], "step": event["step"]})
        if self.moment == "training" and event["event"] == "step" and event["step"] == STEPS:
            self.die()

    def row(self, name: str, done: int, total: int, row: Any) -> None:
        if self.moment == "rows" and done == ROWS:
            self.die()

    def add(self, line: dict[str, Any]) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def once(log: Path, moment: str) -> dict[str, Any]:
    """One call of `improve`. A moment that is a stage: the stage's work is done, and what it gave not yet on disk."""
    view = Doomed(log, moment)
    write = State._write

    def dying(state: State) -> None:
        if [*state.content["stages"]][-1:] == [moment]:
            view.die()
        write(state)

    State._write = dying  # type: ignore[method-assign]
    settings, _ = config.load(Path("/dev/null"), trusted=False)
    return asdict(asyncio.run(improve(wheel.order(settings, *wheel.LEARNS), view=view)))


def main() -> None:
    log = Path(sys.argv[1])
    torch.set_num_threads(1)
    rehearsal.MOST_TOKENS = wheel.MOST_TOKENS
    registry.BUILT_IN_SKILLS = log.parent / "no-skills"  # what ships was trained on another base
    for moment in ("curate", "build", "training", "train", "add", "rows", "evaluate", "gate", "promote"):
        assert moment in STAGES or moment in ("training", "rows")
        child = os.fork()
        if not child:
            once(log, moment)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"it was not killed at {moment}"
        assert os.WTERMSIG(status) == signal.SIGKILL
    print(json.dumps(once(log, "")))


if __name__ == "__main__":
    main()

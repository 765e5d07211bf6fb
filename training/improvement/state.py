"""What an improvement has done so far, so that a killed one goes on where it was; and one of a skill at a time.

DATA/improve/SKILL/
    state.json       the request, and for each stage that is done the hash of its inputs and what it gave
    decisions.jsonl  the curator's
    rehearsal-BASE/  the base's own answers to general prompts, by the base's hash
    dataset/         rows; cases.jsonl is what the gate decides on
    start-KEY/       the incumbent's adapter as peft reads it     KEY: the beginning of the hash of the stage's inputs,
    run-KEY/         the training run                             so that nothing is gone on with that was begun
    measured-KEY/    the two reports                              from something else
    last.json        how many verified runs there were when it last began (agent/improving.py)
    log              of those that the agent started by itself
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from agent import specialists
from agent.errors import OutputError, UsageError
from agent.messages import Json

STAGES = ("curate", "build", "train", "add", "evaluate", "gate", "promote")
Work = Callable[[str], Awaitable[Json]]
"""A stage: takes its KEY and gives what later stages need."""


class State:
    """The stages of one improvement.

    Args:
        folder: of the skill.
        request: what was asked for, and of which base and incumbent. Another request begins anew.
        restart: begin anew in any case.

    `before` is the last improvement, if it came to its end and was asked for in the same way; else it is empty.
    """

    def __init__(self, folder: Path, request: Json, *, restart: bool = False) -> None:
        self.folder = folder
        found = {} if restart else read(folder)
        same = found.get("request") == request
        self.before: Json = found if same and "result" in found else {}
        self.resumed = same and "result" not in found and bool(found["stages"])
        self.content = found if self.resumed else {"request": request, "stages": {}}

    async def stage(self, name: str, inputs: Any, work: Work) -> tuple[Json, bool]:
        """What a stage gave: from the state if it is done with these inputs, else by doing it.

        Returns:
            Its output, and whether it was done before.
        """
        key = digest([self.content["request"], name, inputs])
        entry = self.content["stages"].get(name)
        if entry and entry["inputs"] == key:
            return entry["output"], True
        output = await work(key[:12])
        self.content["stages"][name] = {"inputs": key, "output": output}
        self._write()
        return output, False

    def finish(self, result: Json) -> None:
        """Keep how it ended: the next improvement begins anew."""
        self.content["result"] = result
        self._write()

    def product(self, kind: str, key: str) -> Path:
        """Where a stage leaves its product; those of other inputs are removed."""
        chosen = self.folder / f"{kind}-{key}"
        for other in self.folder.glob(f"{kind}-*"):
            if other != chosen:
                shutil.rmtree(other, ignore_errors=True)
        return chosen

    def _write(self) -> None:
        specialists.write_json(self.folder / "state.json", self.content)


def read(folder: Path) -> Json:
    """The state of a folder; an empty one where there is none, or none that can be read."""
    try:
        found = json.loads((folder / "state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and {"request", "stages"} <= found.keys() else {}


def digest(value: Any) -> str:
    """The SHA-256 of a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only improvement of a skill until the end of the block; the lock ends with the process, however that ends.

    Raises:
        UsageError: another one is at work.
        OutputError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror}", "Set data_dir to a folder you can."
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError(f"{folder.name} is being improved already", "Wait until that is done.") from None
    finally:
        os.close(handle)

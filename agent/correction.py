"""A person's correction of a run: the text to begin from, and what of an edited one goes on record."""

from __future__ import annotations

import json
from dataclasses import dataclass

from agent.errors import InputError
from agent.messages import Trajectory


@dataclass(frozen=True, slots=True)
class Correction:
    """What a run should have answered, and what the validators doubt about it."""

    answer: str
    doubts: tuple[str, ...] = ()


def begin(run: Trajectory) -> str:
    """The text that a person edits: the newest correction, else the run's answer; an annotation as indented JSON.

    Raises:
        InputError: the run has no answer to edit.
    """
    from skills.annotate import record

    framework = record.framework_of(run)
    if framework is None:
        return run.correction or _answer(run)
    given = record.best(record.attempts(run, framework))
    found = json.loads(run.correction) if run.correction else given.found if given else {}
    moves = {key: found.get(key, framework.absent) for key in framework.keys}
    return json.dumps(moves, ensure_ascii=False, indent=2) + "\n"


def _answer(run: Trajectory) -> str:
    """The last thing that the model said to the person."""
    last = run.messages[-1] if run.messages else None
    if last is None or last.role != "assistant" or last.tool_calls or not last.content.strip():
        raise InputError(f"run {run.id} has no answer to edit", "`apprentice traces correct RUN FILE` can give it one.")
    return last.content


def check(run: Trajectory, text: str) -> Correction:
    """Make a correction of what a person wrote.

    Args:
        run: what is corrected.
        text: for a paper's run one annotation (JSON, or as we write it in Markdown or JSONL), for others the answer.

    Raises:
        InputError: the text is empty, or no annotation with exactly the moves that the run was asked for.
    """
    from skills.annotate import record

    if not text.strip():
        raise InputError(f"the correction of run {run.id} is empty", "Nothing was recorded.")
    framework = record.framework_of(run)
    if framework is None:
        return Correction(text.strip())
    annotation = record.checked(record.read(text), framework)
    doubts = record.doubts(annotation, run.messages[1].content, framework)
    return Correction(record.completion(annotation, framework), tuple(doubts))

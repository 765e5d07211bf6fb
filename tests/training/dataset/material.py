"""Runs, files and documents for the tests of the dataset: our own abstracts, and annotations made from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent.messages import Detail, Json, Message, Outcome, Route, ToolCall, Trajectory
from skills.annotate.attempt import prompt
from skills.annotate.framework import load
from tests.program import ABSTRACTS, annotation
from training.rows import document_key

EIGHT = load("eight-moves")
CHEAP, STRONG = Detail(model="cheap@1"), Detail(model="strong@1")
TOOL: Json = {"type": "function", "function": {"name": "count", "parameters": {"type": "object"}}}


def moves(number: int, **changed: str) -> dict[str, str]:
    """A valid annotation of our abstract of that number, with some moves changed."""
    return {**json.loads(annotation(number)), **changed}


def text(number: int, **changed: str) -> str:
    return json.dumps(moves(number, **changed), ensure_ascii=False)


def key(number: int) -> str:
    """The key of our abstract of that number."""
    return document_key(ABSTRACTS[number]["abstract"])


def paper_run(
    number: int,
    *replies: str | tuple[str, Detail],
    outcome: Outcome = "success",
    labels: Json | None = None,
    correction: str = "",
    escalation: str = "",
    run_id: str = "",
) -> Trajectory:
    """A run that annotated our abstract of that number and got these replies; without any, a valid one."""
    pairs = [(message, Detail()) for message in prompt(EIGHT, ABSTRACTS[number]["abstract"])]
    for reply in replies or (annotation(number),):
        said, detail = reply if isinstance(reply, tuple) else (reply, CHEAP)
        pairs.append((Message("assistant", said), detail))
    return Trajectory(
        run_id or f"paper{number:02}",
        "/annotate paper.txt",
        skills=["annotate"],
        model="cheap",
        route=Route("cheap", "flag", "", escalation),
        outcome=outcome,
        labels=labels or {},
        ended=1.0,
        messages=[message for message, _ in pairs],
        details=[detail for _, detail in pairs],
        correction=correction,
    )


def tool_run(
    *more: Message,
    task: str = "how many files are in the folder that I named?",
    earlier: Sequence[Message] = (),
    answer: str = "Two files.",
    is_error: bool = False,
    outcome: Outcome = "success",
    **values: Any,
) -> Trajectory:
    """A run of the loop: it counts by a tool, perhaps more, and answers."""
    call = ToolCall("c1", "count", {"path": "."})
    given = [Message("system", "You act."), *earlier, Message("user", task)]
    own = [
        Message("assistant", "", "I count.", (call,)),
        Message("tool", "2", tool_call_id="c1", name="count", is_error=is_error),
        *more,
        *([Message("assistant", answer)] if answer else []),
    ]
    details = [Detail()] * len(given) + [CHEAP if message.role == "assistant" else Detail() for message in own]
    return Trajectory(
        values.pop("run_id", "tools"),
        task,
        model="cheap",
        tools=[TOOL],
        outcome=outcome,
        ended=1.0,
        messages=[*given, *own],
        details=details,
        **values,
    )


def gold_file(path: Path, numbers: Sequence[int], **changed: str) -> Path:
    """A JSONL file with an annotation of each of our abstracts of these numbers."""
    rows = [{**ABSTRACTS[number], "annotation": moves(number, **changed)} for number in numbers]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path

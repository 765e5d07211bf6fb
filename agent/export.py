"""Runs leave the store in the formats that trainers and viewers read.

messages   JSONL, a run a line, OpenAI-style: what supervised fine-tuning reads
sharegpt   JSONL, a run a line: `conversations` of system, human, gpt and tool turns
parquet    a table, a run a row, everything that is on record (needs pyarrow)
otel       OTLP/JSON lines, a run a line: OpenTelemetry spans by the GenAI conventions (agent/otel.py)
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from agent.errors import OutputError, UsageError
from agent.messages import Detail, Json, Message, ToolCall, Trajectory
from agent.trace_schema import dump

FORMATS = ("messages", "sharegpt", "parquet", "otel")
ROW_GROUP = 200
"""Runs that are held in memory at once when a Parquet file is written."""


def export(trajectories: Iterable[Trajectory], format: str, path: Path) -> int:
    """Write runs to a file, one at a time; it appears under its name, in place of an older one, only when it is whole.

    Args:
        trajectories: whole runs, parents before their children (as `TraceStore.each` gives them).
        format: messages, sharegpt, parquet or otel.
        path: the file to write.

    Returns:
        How many runs were written.

    Raises:
        UsageError: there is no such format.
        OutputError: the file cannot be written (an older one is as it was), or pyarrow is missing.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no export format {format!r}", f"Formats: {', '.join(FORMATS)}.")
    if format == "parquet":
        return _export_parquet(trajectories, path)
    if format == "otel":
        from agent.otel import request_lines

        return _export_lines(request_lines(trajectories), path)
    row = messages_row if format == "messages" else sharegpt_row
    return _export_lines((row(run) for run in trajectories), path)


def messages_row(run: Trajectory) -> Json:
    """A run as a row for supervised fine-tuning.

    Arguments are JSON strings, as OpenAI has them: as objects, a dataset library would merge the columns of different
    tools and fill them with nulls. A thought is `reasoning_content`, the name that chat templates use.
    """
    return {
        "id": run.id,
        "model": run.model,
        "skills": run.skills,
        "outcome": run.outcome,
        "score": run.score,
        "labels": run.labels,
        "correction": run.correction,
        "preferences": [detail.preference for detail in run.details],
        "tools": run.tools,
        "messages": [_openai(message) for message in run.messages],
    }


def sharegpt_row(run: Trajectory) -> Json:
    """A run as ShareGPT turns. Calls and results stand in the text, in the <tool_call> form of the Hermes models."""
    turns: list[dict[str, str]] = []
    for message in run.messages:
        speaker = {"system": "system", "user": "human", "assistant": "gpt", "tool": "tool"}[message.role]
        if speaker == "tool" and turns and turns[-1]["from"] == "tool":
            turns[-1]["value"] += "\n" + _spoken(message)
        else:
            turns.append({"from": speaker, "value": _spoken(message)})
    head = {"id": run.id, "model": run.model, "outcome": run.outcome, "correction": run.correction}
    return {**head, "tools": dump(run.tools), "conversations": turns}


def _openai(message: Message) -> Json:
    entry: Json = {"role": message.role, "content": message.content}
    if message.thought:
        entry["reasoning_content"] = message.thought
    if message.tool_calls:
        entry["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call)}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        entry |= {"tool_call_id": message.tool_call_id, "name": message.name}
    return entry


def _arguments(call: ToolCall) -> str:
    """The arguments as the model wrote them: its own text where that was no object."""
    return call.malformed or dump(call.arguments)


def _spoken(message: Message) -> str:
    if message.role == "tool":
        return f"<tool_response>\n{message.content}\n</tool_response>"
    parts = [f"<think>\n{message.thought}\n</think>"] if message.thought else []
    parts += [message.content] if message.content else []
    for call in message.tool_calls:
        written = call.malformed or dump({"name": call.name, "arguments": call.arguments})
        parts.append(f"<tool_call>\n{written}\n</tool_call>")
    return "\n".join(parts)


def _export_lines(rows: Iterable[Json], path: Path) -> int:
    count = 0
    with _replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
            count += 1
    return count


def _export_parquet(trajectories: Iterable[Trajectory], path: Path) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        hint = "Install it: python -m pip install pyarrow"
        raise OutputError("Parquet files need the package pyarrow, which is not installed", hint) from None
    schema = _parquet_schema(pyarrow)
    runs, count = iter(trajectories), 0
    with _replacing(path) as temporary, pyarrow.parquet.ParquetWriter(str(temporary), schema) as writer:
        while group := [_parquet_row(run) for run in islice(runs, ROW_GROUP)]:
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _parquet_row(run: Trajectory) -> Json:
    """A run as a row of the table; what differs in shape from run to run is a JSON string."""
    row = {name: getattr(run, name) for name in RUN_TEXTS + RUN_NUMBERS}
    row |= {"skills": run.skills, "labels": dump(run.labels), "tools": dump(run.tools), **_usage(run)}
    row["route"] = dump(asdict(run.route)) if run.route else None
    row["messages"] = [_parquet_message(*pair) for pair in zip(run.messages, run.details, strict=True)]
    return row


def _parquet_message(message: Message, detail: Detail) -> Json:
    entry = {name: getattr(message, name) for name in (*MESSAGE_TEXTS, "is_error")}
    entry |= {name: getattr(detail, name) for name in (*DETAIL_TEXTS, "token_ids", "logprobs")}
    entry["tool_calls"] = dump([asdict(call) for call in message.tool_calls])
    return entry | {"sampling": dump(detail.sampling), **_usage(detail), "seconds": detail.seconds}


def _usage(of: Trajectory | Detail) -> Json:
    usage = of.usage
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cost": usage.cost,
        "seconds": usage.seconds,
    }


RUN_TEXTS = ("id", "parent_id", "task", "model", "outcome", "reason", "workspace", "correction")
RUN_NUMBERS = ("score", "started", "ended")
MESSAGE_TEXTS = ("role", "content", "thought", "tool_call_id", "name")
DETAIL_TEXTS = ("model", "adapter", "finish_reason", "preference", "error")


def _parquet_schema(pyarrow: Any) -> Any:
    text, number, whole = pyarrow.string(), pyarrow.float64(), pyarrow.int64()
    usage = [("prompt_tokens", whole), ("completion_tokens", whole), ("cost", number), ("seconds", number)]
    message = [(name, text) for name in (*MESSAGE_TEXTS, "tool_calls", *DETAIL_TEXTS, "sampling")]
    message += [("is_error", pyarrow.bool_()), *usage]
    message += [("token_ids", pyarrow.list_(pyarrow.int32())), ("logprobs", pyarrow.list_(pyarrow.float32()))]
    run = [(name, text) for name in (*RUN_TEXTS, "labels", "tools", "route")]
    run += [*((name, number) for name in RUN_NUMBERS), *usage, ("skills", pyarrow.list_(text))]
    return pyarrow.schema([*run, ("messages", pyarrow.list_(pyarrow.struct(message)))])


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file in the same folder that takes the path's name at the end, or is removed on an error."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}") from None
    try:
        yield Path(name)
        os.replace(name, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}", "Nothing was left behind.") from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)

"""`apprentice traces`: list, show, search, export, delete what is on record (correct.py has a person's words on it)."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.commands.record import OpenStore, resolve
from agent.errors import UsageError
from agent.messages import Detail, Message, Trajectory

if TYPE_CHECKING:
    from agent.traces import RunSummary

FORMATS = ("messages", "sharegpt", "parquet", "otel")
OUTCOMES = ("success", "failure", "unknown", "interrupted")


def add_traces(parser: argparse.ArgumentParser) -> None:
    from agent.cli import positive
    from agent.commands import correct

    parser.description = "What is on record. Without an action: the newest runs. RUN is an id, its start, or `last`."
    parser.set_defaults(run=list_runs, limit=20, json=False, outcome="", skill="")
    commands = parser.add_subparsers(metavar="ACTION", title="actions")
    listing = commands.add_parser("list", help="the newest runs")
    listing.add_argument("--limit", type=positive, default=20, metavar="N")
    listing.add_argument("--outcome", choices=OUTCOMES, default="")
    listing.add_argument("--skill", metavar="NAME", default="")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(run=list_runs)
    show = commands.add_parser("show", help="one run, message by message")
    show.add_argument("id", metavar="RUN")
    show.add_argument("--json", action="store_true")
    show.set_defaults(run=show_run)
    search = commands.add_parser("search", help="runs whose task or messages hold a text")
    search.add_argument("text")
    search.add_argument("--limit", type=positive, default=20, metavar="N")
    search.add_argument("--json", action="store_true")
    search.set_defaults(run=search_runs)
    correct.add_actions(commands)
    export = commands.add_parser("export", help="write runs to a file")
    export.add_argument("path", type=Path, metavar="FILE")
    export.add_argument("--format", choices=FORMATS, default="messages")
    export.add_argument("--outcome", choices=OUTCOMES, default="")
    export.add_argument("--skill", metavar="NAME", default="")
    export.add_argument("--overwrite", action="store_true")
    export.set_defaults(run=export_runs)
    delete = commands.add_parser("delete", help="remove runs for good")
    delete.add_argument("ids", nargs="+", metavar="RUN")
    delete.add_argument("--yes", action="store_true", help="do not ask")
    delete.set_defaults(run=delete_runs)


async def list_runs(options: argparse.Namespace) -> int:
    with OpenStore() as store:
        _print_runs(store.runs(limit=options.limit, outcome=options.outcome, skill=options.skill), options.json)
    return 0


async def search_runs(options: argparse.Namespace) -> int:
    with OpenStore() as store:
        found = store.search(options.text, limit=options.limit)
        _print_runs(found, options.json)
    return 0 if found else 1


async def show_run(options: argparse.Namespace) -> int:
    with OpenStore() as store:
        run = store.get(resolve(store, options.id))
        parts = store.runs(limit=-1, parent=run.id)[::-1]
    if options.json:
        print(json.dumps(asdict(run) | {"parts": [part.id for part in parts]}, ensure_ascii=False, indent=2))
    else:
        print(render(run, parts))
    return 0


async def export_runs(options: argparse.Namespace) -> int:
    from agent.export import export

    if options.path.exists() and not options.overwrite:
        raise UsageError(f"{options.path} exists and is kept", "Give --overwrite to replace it, or another name.")

    with OpenStore() as store:
        chosen = store.runs(limit=-1, outcome=options.outcome, skill=options.skill)
        ids = [run.id for run in reversed(chosen)]
        count = export(store.each(ids) if ids else iter(()), options.format, options.path)
    print(f"{_runs(count)} written to {options.path} as {options.format}")
    return 0


async def delete_runs(options: argparse.Namespace) -> int:
    from agent.commands import task

    with OpenStore() as store:
        ids = [resolve(store, given) for given in options.ids]
        ask = task.ask_on_terminal if task.at_terminal() else None
        if not options.yes and not (ask and await ask(f"Delete {_runs(len(ids))} for good?")):
            raise UsageError("nothing was deleted", "Give --yes to delete without being asked.")
        parts = {part.id for run_id in ids for part in store.runs(limit=-1, parent=run_id)} - set(ids)
        print(f"{_runs(store.delete(ids))} deleted")
    if parts:
        print(
            f"{_runs(len(parts))} that were a part of that stay: `apprentice traces delete {' '.join(sorted(parts))}`"
        )
    return 0


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _print_runs(runs: Sequence[RunSummary], as_json: bool) -> None:
    if as_json:
        for run in runs:
            print(json.dumps(asdict(run), ensure_ascii=False))
    else:
        print("\n".join(table(runs, screen_width())) or "no runs")


def screen_width() -> int:
    """Characters of a line where a person reads; unlimited in a pipe or a file."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def table(runs: Sequence[RunSummary], width: int) -> list[str]:
    """A line a run: id, time, outcome, seconds, model, labels, task (indented if the run is a part of another).

    Args:
        runs: newest first.
        width: the longest line, in characters; a task is cut there.
    """
    from agent.terminal import clean

    rows = []
    for run in runs:
        when = datetime.fromtimestamp(run.started).strftime("%Y-%m-%d %H:%M:%S")
        outcome = run.outcome if run.ended else run.where
        seconds = f"{run.ended - run.started:.1f}s" if run.ended else "-"
        labels = " ".join([*(f"{key}={value}" for key, value in run.labels.items()), *["corrected"] * run.corrected])
        task = " ".join(clean(run.task).split())[:80]
        part = "  " if run.parent_id else ""
        rows.append((run.id, when, outcome, seconds.rjust(6), clean(run.model), labels, part + task))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True) if w).rstrip() for row in rows]
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]


def render(run: Trajectory, parts: Sequence[RunSummary] = ()) -> str:
    """One run as text: its head, the runs that are a part of it, each message with what the record keeps beside it."""
    from agent.terminal import clean

    route = run.route.reason if run.route else "?"
    steps = sum(message.role == "assistant" for message in run.messages)
    head = [
        f"run      {run.id}" + (f" (part of {run.parent_id})" if run.parent_id else ""),
        f"task     {' '.join(run.task.split())}",
        f"model    {run.model} ({route})",
        f"skills   {', '.join(run.skills) or '-'}",
        f"tools    {', '.join(tool['function']['name'] for tool in run.tools) or '-'}",
        f"outcome  {f'{run.outcome}: {run.reason}' if run.ended else f'none on record after step {steps}'}",
        f"labels   {' '.join(f'{key}={value}' for key, value in run.labels.items()) or '-'}",
        f"usage    {run.usage.prompt_tokens}+{run.usage.completion_tokens} tokens, {run.usage.seconds:.2f} s",
    ]
    if parts:
        head[-1] += f", its parts {sum(part.usage.tokens for part in parts)} tokens"
    head += [f"{'' if number else 'parts':8} {_part(part)}" for number, part in enumerate(parts)]
    body = [_message(index, *pair) for index, pair in enumerate(zip(run.messages, run.details, strict=True))]
    body += [f"\n[correction] what a person says the answer should be\n{run.correction}"] if run.correction else []
    return clean("\n".join([*head, *body]))


def _part(run: RunSummary) -> str:
    outcome = f"{run.outcome}: {run.reason}" if run.ended else run.where
    task = " ".join(run.task.split())[:60]
    return f"{run.id} · {task} · {run.model} · {outcome} · {run.usage.tokens} tokens"


def _message(index: int, message: Message, detail: Detail) -> str:
    samples = detail.sampling.get("composed_of")
    composed = f"composed of {samples} samples" if samples else ""
    seconds = f"{detail.seconds:.2f} s" if detail.seconds else ""
    notes = [detail.model, composed, detail.preference, detail.error, seconds]
    note = " · ".join(filter(None, [message.name, *notes]))
    body = [f"\n[{index}] {message.role}" + (f" · {note}" if note else "")]
    if message.thought:
        body.append(f"thought: {message.thought}")
    if message.content:
        body.append(message.content)
    body += [
        f"→ {call.name} {call.malformed or json.dumps(call.arguments, ensure_ascii=False)}"
        for call in message.tool_calls
    ]
    if shown := detail.sampling.get("todos"):
        body.insert(1, f"shown: {shown}")
    body += [f"put right: {wrong} is {right}" for wrong, right in detail.sampling.get("corrected", {}).items()]
    return "\n".join(body)

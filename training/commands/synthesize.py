"""`apprentice train synthesize`, `edit-pairs` and `recombine`: rows that nobody labelled, made from what there is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from agent import config
from agent.errors import UsageError

if TYPE_CHECKING:
    from agent.messages import Json
    from agent.models.base import Model
    from agent.settings import Settings
    from training.synthesis.work import Make, Plan

SKILLS = ("annotate", "tools", "rehearsal")
"""What a teacher writes rows for."""
ACTING = "acting"
"""What needs no teacher: a scripted expert plays it."""


def add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from agent.cli import positive

    make = actions.add_parser("synthesize", help="have a teacher write tasks and trajectories")
    make.description = (
        "A teacher model writes tasks and, apart from them, answers; each is checked by running it. The same command "
        "again goes on where it was stopped."
    )
    make.add_argument(
        "skill",
        choices=(*SKILLS, ACTING),
        metavar="WHAT",
        help="annotate: abstracts and annotations; tools: calls; rehearsal: a base's answers to general prompts; "
        "acting: trajectories over simulated tools",
    )
    make.add_argument(
        "--teacher", metavar="ADDRESS", help="the model that writes, e.g. openai:NAME (acting: default a script)"
    )
    make.add_argument("--count", type=positive, required=True, metavar="N", help="rows that are wanted")
    make.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="a folder: rows.jsonl, journal.jsonl; acting: a file"
    )
    make.add_argument("--evolve", default="", metavar="STEPS", help="rewrite each task: harder,rarer,shorter")
    make.add_argument("--exclude", type=Path, action="append", default=[], metavar="FILE", help="evaluation cases")
    make.add_argument("--budget-tokens", type=positive, metavar="N", help="tokens, prompts included, over all calls")
    make.add_argument("--budget-seconds", type=positive, metavar="S", help="seconds of the teacher, over all calls")
    make.add_argument("--seed", type=int, default=0, metavar="N", help="of every choice by chance (default 0)")
    make.add_argument(
        "--tools", type=Path, metavar="FILE", help="tools: a JSON list of schemas (default: the built-in)"
    )
    make.add_argument("--framework", default="eight-moves", metavar="NAME", help="annotate: the moves")
    make.set_defaults(run=synthesize)
    pairs = actions.add_parser("edit-pairs", help="small edits of a git repository's history as rows")
    pairs.add_argument("repository", type=Path, metavar="REPO", help="a folder with a git repository")
    pairs.add_argument("--out", type=Path, required=True, metavar="FILE", help="the rows, JSONL")
    pairs.add_argument("--max", type=positive, default=1000, metavar="N", help="the most rows (default 1000)")
    pairs.set_defaults(run=edit_pairs)
    copies = actions.add_parser("recombine", help="more rows for annotate by cutting gold abstracts")
    copies.add_argument(
        "gold", type=Path, metavar="FILE", help="annotations (JSONL, CSV) or training rows; only of the train split"
    )
    copies.add_argument("--out", type=Path, required=True, metavar="FILE", help="the rows, JSONL")
    copies.add_argument(
        "--each", type=positive, default=1, metavar="N", help="copies of each kind from a row (default 1)"
    )
    copies.add_argument("--seed", type=int, default=0, metavar="N", help="of every choice by chance (default 0)")
    copies.set_defaults(run=recombine)


async def synthesize(options: argparse.Namespace) -> int:
    """Have a teacher write rows. Exit code 1 if fewer came out than were wanted."""
    if options.skill == ACTING:
        return await act(options)
    if not options.teacher:
        raise UsageError(f"{options.skill} needs a teacher", "Add --teacher ADDRESS, e.g. local or ollama:NAME.")
    from training.commands.progress import progress
    from training.synthesis.asking import open_model
    from training.synthesis.evolve import steps_of
    from training.synthesis.work import Plan, synthesise

    settings, _ = config.load(Path("/dev/null"), trusted=False)
    plan = Plan(
        options.skill,
        options.teacher,
        options.count,
        steps_of(options.evolve),
        options.seed,
        options.budget_tokens,
        options.budget_seconds,
    )
    excluded = list(_excluded(options.exclude))
    teacher = open_model(options.teacher, settings)
    try:
        with ExitStack() as stack:
            make = _maker(options, plan, teacher, settings)
            tell = stack.enter_context(progress("synthesis", options.count))
            summary = await synthesise(
                plan,
                options.out,
                make,
                excluded,
                lambda now: tell(now.rows, f"{sum(now.rejected.values())} rejected, {now.tokens} tokens"),
            )
    finally:
        await teacher.close()
    print(summary)
    print(f"rows: {options.out / 'rows.jsonl'}")
    return 0 if summary.rows >= options.count else 1


async def act(options: argparse.Namespace) -> int:
    """Write a scripted expert's trajectories, or those of a model that pass, and say how many of each kind.

    Exit code 1 if there is none.
    """
    from training.commands.progress import progress
    from training.convert.atomic import write_text
    from training.rows import as_jsonl
    from training.synthesis.acting import acting

    if options.evolve:
        raise UsageError("acting has no evolve steps", "Give --count, --seed, --out, perhaps --teacher.")
    settings, _ = config.load(Path("/dev/null"), trusted=False)
    with progress("trajectories", options.count) as tell:
        made = await acting(
            options.count,
            options.seed,
            lambda done: tell(done, ""),
            player=options.teacher or "",
            settings=settings if options.teacher else None,
        )
    write_text(options.out, as_jsonl(made.rows))
    print(f"{len(made.rows)} rows written to {options.out}: {made.told}")
    return 0 if made.rows else 1


def _maker(options: argparse.Namespace, plan: Plan, teacher: Model, settings: Settings) -> Make:
    if options.skill == "annotate":
        from skills.annotate.framework import load
        from training.synthesis.papers import papers

        return papers(teacher, plan, load(options.framework), settings)
    if options.skill == "tools":
        from training.synthesis.tool_cases import tool_cases

        return tool_cases(teacher, plan, _schemas(options), settings, options.out)
    from training.synthesis.rehearsal import rehearsal

    return rehearsal(teacher, plan)


def _schemas(options: argparse.Namespace) -> list[Json]:
    """The given tools' schemas, or those of the built-in tools."""
    from tools import registry
    from training.synthesis.tool_cases import read_schemas

    return read_schemas(options.tools) if options.tools else [tool.schema for tool in registry.load([]).values()]


def _excluded(files: list[Path]) -> Iterator[tuple[str, str]]:
    """The texts of evaluation cases, by a key that says where each stands."""
    from training.synthesis.work import case_texts

    for path in files:
        for number, text in enumerate(case_texts(path)):
            yield f"{path} {number}", text


async def edit_pairs(options: argparse.Namespace) -> int:
    """Write a repository's small edits as rows, and say what was left out."""
    from training.convert.atomic import write_text
    from training.rows import as_jsonl
    from training.synthesis.edit_pairs import edits

    found = edits(options.repository, options.max)
    if not found.rows:
        raise UsageError(
            f"{options.repository} has no edit that makes a row", f"Left out: {found.told or 'nothing was there'}."
        )
    write_text(options.out, as_jsonl(found.rows))
    print(f"{len(found.rows)} rows written to {options.out}; left out: {found.told or 'nothing'}")
    return 0


async def recombine(options: argparse.Namespace) -> int:
    """Write variants of gold rows, and say how many pass the validators."""
    from training.convert.atomic import write_text
    from training.rows import as_jsonl
    from training.synthesis.recombine import recombined

    found = recombined(options.gold, options.each, options.seed)
    write_text(options.out, as_jsonl(found.rows))
    print(f"{len(found.rows)} rows written to {options.out}; {found.told}")
    return 0

"""`apprentice train curate`: five personas decide which of an agent's annotations may become training rows."""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from agent import config
from agent.commands.record import OpenStore
from agent.errors import InputError

if TYPE_CHECKING:
    from agent.traces import TraceStore
    from training.curation.agreement import Agreement
    from training.curation.curate import Decision
    from training.curation.outputs import Output


def add_actions(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    curate = actions.add_parser("curate", help="decide which annotations may become training rows")
    curate.description = (
        "Five personas vote on each annotation, and three keep it. Decisions and reasons go to --out as they are made; "
        "the same command again goes on where it was stopped. With --traces the runs are labelled, too."
    )
    source = curate.add_mutually_exclusive_group(required=True)
    source.add_argument("--rows", type=Path, metavar="FILE", help="JSONL of training rows")
    source.add_argument("--agent", type=Path, metavar="FILE", help="CSV or JSONL of an agent's annotations")
    source.add_argument("--traces", action="store_true", help="the runs of annotate that are on record")
    curate.add_argument(
        "--judge", default="", metavar="ADDRESS", help="a model that the personas ask (default: rules alone)"
    )
    curate.add_argument("--gold", type=Path, metavar="FILE", help="JSONL of people's annotations, to compare with")
    curate.add_argument("--out", type=Path, required=True, metavar="FILE", help="the decisions, JSONL")
    curate.add_argument("--kept", type=Path, metavar="FILE", help="also write what was kept, as training rows")
    curate.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Curate, and say what was kept, why not, and how that agrees with gold."""
    from training.commands.progress import progress
    from training.convert.atomic import write_text
    from training.curation.agreement import agreement, read_gold
    from training.curation.curate import curate, kept_row, label
    from training.curation.judge import Judge
    from training.rows import as_jsonl
    from training.synthesis.asking import open_model

    settings, _ = config.load(Path("/dev/null"), trusted=False)
    gold = read_gold(options.gold) if options.gold else {}
    model = open_model(options.judge, settings) if options.judge else None
    judge = Judge(model, config.cache_dir() / "judge") if model else None
    with ExitStack() as stack:
        store = stack.enter_context(OpenStore()) if options.traces else None
        outputs = _outputs(options, store)
        tell = stack.enter_context(progress("curating", len(outputs)))
        done = itertools.count(1)
        try:
            decisions = await curate(outputs, options.out, judge, lambda decision: tell(next(done), decision.id))
        finally:
            if model:
                await model.close()
        if store:
            label(store, decisions)
    if options.kept:
        pairs = zip(outputs, decisions, strict=True)
        write_text(options.kept, as_jsonl(kept_row(output) for output, decision in pairs if decision.kept))
    print(report(decisions))
    if judge:
        print(f"judge: {judge.asked} questions asked, {judge.tokens} tokens, {judge.unreadable} answers unreadable")
    if gold:
        pairs = zip(outputs, decisions, strict=True)
        print(told(agreement([(decision.kept, one.subject, one.document) for one, decision in pairs], gold)))
    return 0


def _outputs(options: argparse.Namespace, store: TraceStore | None) -> list[Output]:
    from training.curation.outputs import from_file, from_rows, from_runs

    if store:
        found = list(from_runs(store.each([run.id for run in reversed(store.runs(limit=-1, skill="annotate"))])))
    else:
        found = list(from_rows(options.rows) if options.rows else from_file(options.agent))
    if not found:
        raise InputError(
            "there is no annotation to curate", "Give rows of the skill annotate, or annotate papers first."
        )
    return found


def report(decisions: Sequence[Decision]) -> str:
    """What was decided: the rate of rejection, and who objected to what."""
    from training.curation.personas import PERSONAS

    total = len(decisions)
    rejected = [decision for decision in decisions if not decision.kept]
    vetoed = sum(bool(decision.veto) for decision in decisions)
    lines = [
        f"{total} annotations: {total - len(rejected)} kept, {len(rejected)} rejected ({len(rejected) / total:.1%}), "
        f"{vetoed} of them without a vote"
    ]
    passed = Counter(v.persona for decision in decisions for v in decision.verdicts if v.passed)
    voted = total - vetoed
    lines += [f"  {persona.name:<14} passed {passed[persona.name]:>5} of {voted}" for persona in PERSONAS if voted]
    return "\n".join(lines)


def told(found: Agreement) -> str:
    """The agreement with gold, as a sentence."""
    both = found.kept + found.rejected
    if found.auc is None:
        return f"gold: {both} of the documents have a gold annotation, {found.kept} kept: nothing to compare"
    return (
        f"gold: {both} documents; token F1 of those kept {found.f1_kept:.3f} ({found.kept}), of those rejected "
        f"{found.f1_rejected:.3f} ({found.rejected});\n      in {found.auc:.1%} of pairs the kept one is nearer"
    )

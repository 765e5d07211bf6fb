"""`apprentice evals`: measure models on a suite, compare reports, show what was measured."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import config
from agent.errors import UsageError
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.messages import Json
    from evals.annotate import Case
    from evals.report import Evaluated, Suite
    from evals.subject import Subject


SUITES = ("annotate", "rehearsal", "acting", "bfcl")


def add_evals(parser: argparse.ArgumentParser) -> None:
    from agent.cli import positive

    parser.description = "Measure models on cases that they never saw, and compare them."
    actions = parser.add_subparsers(metavar="ACTION", title="actions", required=True)
    run = actions.add_parser("run", help="answer a suite's cases, score them, and write a report")
    run.add_argument("suite", choices=SUITES, metavar="SUITE", help=", ".join(SUITES))
    run.add_argument("--model", action="append", required=True, metavar="ADDRESS", help="who answers; repeatable")
    run.add_argument("--against", default="", metavar="ADDRESS", help="whom each --model is compared with")
    run.add_argument(
        "--cases", type=Path, metavar="FILE", help="JSONL of cases (default: the shipped); bfcl: its folder"
    )
    run.add_argument("--rows", type=positive, metavar="N", help="only the first N cases (bfcl: of each file)")
    run.add_argument("--out", type=Path, metavar="DIR", help="report, rows and store; run again to go on")
    run.add_argument("--baselines", action=argparse.BooleanOptionalAction, default=True, help="few-shot base")
    run.add_argument("--examples", type=Path, metavar="FILE", help="cases for the few-shot prompt")
    run.add_argument("--framework", default="eight-moves", metavar="NAME", help="moves of the cases")
    run.add_argument("--protocol", choices=("json", "native", "text"), help="acting, bfcl: how calls are written")
    run.add_argument("--jobs", type=positive, default=1, metavar="N", help="cases at once; for servers")
    run.add_argument("--seen", action="store_true", help="measure also what the model was made from")
    run.add_argument("--json", action="store_true", help="the report on standard output")
    run.set_defaults(run=run_suite)
    comparing = actions.add_parser("compare", help="compare the models of several reports, row by row")
    comparing.add_argument("reports", nargs="+", type=Path, metavar="REPORT")
    comparing.add_argument("--out", type=Path, metavar="DIR", help="write the joint report there")
    comparing.add_argument("--json", action="store_true")
    comparing.set_defaults(run=compare_reports)
    show = actions.add_parser("show", help="a report as text; without one, the reports that there are")
    show.add_argument("report", nargs="?", type=Path, metavar="REPORT")
    show.add_argument("--json", action="store_true")
    show.set_defaults(run=show_report)


async def run_suite(options: argparse.Namespace) -> int:
    """Answer, score, compare and write the report. Rows that OUT holds already are not asked again."""
    from evals import report

    settings, _ = config.load(Path(os.devnull), trusted=False)
    if options.protocol:
        asked = settings.models.model_copy(update={"protocol": options.protocol})
        settings = settings.model_copy(update={"models": asked})
    plan = _Plan.make(options, settings)
    try:
        measure = {"annotate": _annotate, "rehearsal": _rehearse}.get(options.suite, _act)
        models = await measure(plan)
    except BaseException:
        sys.stderr.write(f"finished rows are in {plan.out / 'rows.jsonl'}; the same command goes on from there\n")
        raise
    first = plan.subjects[0].address
    made = report.build(plan.suite, models, plan.pairs(models))
    texts = report.worst(first, models[first].rows, plan.cases) if options.suite == "annotate" else []
    report.write(made, plan.out, texts)
    _print(made, as_json=options.json)
    sys.stderr.write(f"the report is {plan.out / 'report.html'}\n")
    return 0


async def compare_reports(options: argparse.Namespace) -> int:
    """Print a joint report of several, and write it where --out says."""
    from evals import report

    made = report.merge({str(path): report.read(path) for path in options.reports})
    if options.out:
        report.write(made, options.out)
    _print(made, as_json=options.json)
    return 0


async def show_report(options: argparse.Namespace) -> int:
    """Print one report, or a line for each of those in the user's data folder."""
    from evals import report

    if options.report:
        _print(report.read(options.report), as_json=options.json)
        return 0
    settings, _ = config.load(Path(os.devnull), trusted=False)
    paths = sorted(_folder(settings).glob("*/report.json"), key=lambda path: path.stat().st_mtime)
    for path in paths:
        found = report.read(path)
        names = [name for name, entry in found["models"].items() if not entry["baseline"]]
        print(f"{path.parent}  {found['created']}  {found['suite']['rows']} rows  {', '.join(names)}")
    if not paths:
        print("no reports")
    return 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What one `evals run` is to do: everything that can be refused is looked at before a model is asked."""

    options: argparse.Namespace
    settings: Settings
    suite: Suite
    cases: Sequence[Any]
    examples: Sequence[Case]
    subjects: Sequence[Subject]
    seen: dict[str, list[str] | None]
    out: Path

    @classmethod
    def make(cls, options: argparse.Namespace, settings: Settings) -> _Plan:
        """Read the cases and look up the models. Raises InputError, ModelUnavailable, ConsentDenied."""
        from evals import report
        from evals.subject import subject, unseen

        path, cases, examples = _cases(options)
        addresses = [*options.model, *filter(None, [options.against])]
        subjects = {who.address: who for who in (subject(address, settings) for address in addresses)}
        documents = [case.document for case in cases]
        seen = {
            address: None if who.documents is None else unseen(who, documents, insist=options.seen)
            for address, who in subjects.items()
        }
        suite = report.Suite.of(options.suite, path, documents)
        out = options.out or _folder(settings) / f"{suite.name}-{suite.sha256[:8]}"
        return cls(options, settings, suite, cases, examples, list(subjects.values()), seen, out)

    def pairs(self, names: Iterable[str]) -> list[tuple[str, str]]:
        """Each --model against --against, else against the first one; and against every baseline."""
        asked = [who.address for who in self.subjects]
        rival = asked[-1] if self.options.against else asked[0]
        own = [(name, rival) for name in asked if name != rival]
        measured = [name for name, _ in own] if self.options.against and own else asked
        return own + [(name, other) for name in measured for other in names if other not in asked]

    def evaluated(self, who: Subject, rows: Sequence[Any]) -> Evaluated:
        from evals.report import Evaluated

        return Evaluated(rows, who.specialist, self.seen[who.address])


def _cases(options: argparse.Namespace) -> tuple[Path, Sequence[Any], list[Case]]:
    """The suite's file, its cases, and the examples of the few-shot baseline (only `annotate` has some in a file)."""
    from evals import acting, annotate, baselines, bfcl, rehearsal
    from evals.simulated import case
    from skills.annotate import framework as frameworks

    if options.suite == "acting":
        path = options.cases or acting.CASES
        return path, case.read([path])[: options.rows], []
    if options.suite == "bfcl":
        if not options.cases:
            raise UsageError("the suite bfcl has no cases of its own", "Give --cases the data folder of bfcl-eval.")
        return options.cases, bfcl.read(options.cases, options.rows), []
    if options.suite == "rehearsal":
        path = options.cases or rehearsal.CASES
        return path, rehearsal.load_prompts(path)[: options.rows], []
    framework = frameworks.load(options.framework)
    path = options.cases or annotate.CASES
    cases = annotate.load_cases(path, framework)[: options.rows]
    if not options.baselines:
        return path, cases, []
    return path, cases, baselines.load_examples(options.examples or baselines.EXAMPLES, cases, framework)


async def _annotate(plan: _Plan) -> dict[str, Evaluated]:
    """The rows of every model and every baseline."""
    from evals import annotate, baselines
    from evals.report import Evaluated
    from skills.annotate import framework as frameworks

    options, models = plan.options, {}
    same: dict[str, Any] = {"out": plan.out, "framework": options.framework, "jobs": options.jobs}
    for who in plan.subjects:
        with _Progress(who.address) as progress:
            rows = await annotate.run(plan.cases, who.address, plan.settings, tell=progress.annotated, **same)
        models[who.address] = plan.evaluated(who, rows)
    for base in dict.fromkeys(who.base for who in plan.subjects) if plan.examples else ():
        name = f"{base}, {len(plan.examples)} examples"
        with _Progress(name) as progress:
            rows = await annotate.run(
                plan.cases, base, plan.settings, tell=progress.annotated, examples=plan.examples, **same
            )
        models[name] = Evaluated(rows, baseline=True)
    framework = frameworks.load(options.framework)
    found = baselines.without_model(plan.cases, framework)
    return models | {name: Evaluated(rows, baseline=True) for name, rows in found.items()}


async def _rehearse(plan: _Plan) -> dict[str, Evaluated]:
    from evals import rehearsal

    models = {}
    for who in plan.subjects:
        with _Progress(who.address) as progress:
            rows = await rehearsal.run(plan.cases, who.address, plan.settings, out=plan.out, tell=progress.rehearsed)
        models[who.address] = plan.evaluated(who, rows)
    return models


async def _act(plan: _Plan) -> dict[str, Evaluated]:
    """The rows of every model, and of every base with worked examples."""
    from evals import measured
    from evals.acting import ACTING
    from evals.bfcl import BFCL
    from evals.report import Evaluated

    options = plan.options
    suite: measured.Suite[Any, Any] = ACTING if options.suite == "acting" else BFCL
    models: dict[str, Evaluated] = {}
    same: dict[str, Any] = {"out": plan.out, "jobs": options.jobs}
    for who in plan.subjects:
        with _Progress(who.address) as progress:
            rows = await measured.rows(suite, plan.cases, who.address, plan.settings, tell=progress.acted, **same)
        models[who.address] = plan.evaluated(who, rows)
    for base in dict.fromkeys(who.base for who in plan.subjects) if options.baselines else ():
        name = f"{base}, 3 examples"
        with _Progress(name) as progress:
            rows = await measured.rows(
                suite, plan.cases, base, plan.settings, tell=progress.acted, examples=True, **same
            )
        models[name] = Evaluated(rows, baseline=True)
    return models


class _Progress:
    """How far a model is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._sums = [0.0, 0.0]

    def __enter__(self) -> _Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        console = Console(stderr=True)
        self._bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
        self._bar.start()
        self._task = self._bar.add_task(self.name, total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def annotated(self, done: int, total: int, row: Any) -> None:
        self._show(done, total, "F1", row.f1, row.seconds)

    def rehearsed(self, done: int, total: int, row: Any) -> None:
        self._show(done, total, "passed", float(row.passed), row.seconds)

    def acted(self, done: int, total: int, row: Any) -> None:
        value = row.success if hasattr(row, "success") else row.correct
        self._show(done, total, "done right", float(value), row.seconds)

    def _show(self, done: int, total: int, called: str, value: float, seconds: float) -> None:
        self._sums[0] += value
        self._sums[1] += seconds
        line = f"{self.name}: {called} {self._sums[0] / done:.3f}, {self._sums[1] / done:.1f} s"
        self._bar.update(self._task, completed=done, total=total, description=line)
        if self._bar.disable and (done % 10 == 0 or done == total):
            sys.stderr.write(f"{line} ({done} of {total})\n")


def _folder(settings: Settings) -> Path:
    """Where reports are kept that no --out sends elsewhere."""
    return config.data_dir(settings) / "evals"


def _print(made: Json, *, as_json: bool) -> None:
    from evals.tables import markdown

    print(json.dumps(made, ensure_ascii=False) if as_json else markdown(made).rstrip("\n"))

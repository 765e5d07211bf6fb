"""Candidate and incumbent, measured as `evals run` does it: on the cases kept out, and on the rehearsal suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.messages import Json
from agent.registry import Specialist
from agent.settings import Settings
from evals import annotate, baselines, rehearsal, report
from evals.report import Evaluated, Suite
from evals.subject import subject, unseen
from skills.annotate import framework as frameworks
from training.dataset.folder import FRAMEWORK

BASE = "local"
Progress = Callable[[str, int, int, Any], None]
"""Told after each row: whose it is, how many are done, how many there are, and the row."""
SHOWN = {
    "f1": "token F1",
    "valid": "valid",
    "grounded": "numbers grounded",
    "absent_f1": "Not stated",
    "seconds_median": "seconds, median",
}
"""The metrics that a person is shown, and what they are called."""


async def on_cases(
    cases: Path, candidate: Specialist, incumbent: Specialist | None, settings: Settings, out: Path, tell: Progress
) -> Json:
    """Measure candidate and incumbent on a file of cases; where none serves, the base with worked examples.

    Args:
        cases: JSONL; neither may have been made from one of its documents.
        candidate: the new version.
        incumbent: the one that serves.
        settings: as a user has them.
        out: the folder of the report; rows that it holds are not asked again.
        tell: told how far it is.

    Returns:
        The report, as report.json in `out` holds it.

    Raises:
        InputError: the cases cannot be read, or one of the two was made from them.
        ModelError: a model failed in a way that says nothing of one case; finished rows are kept.
    """
    framework = frameworks.load(FRAMEWORK)
    found = annotate.load_cases(cases, framework)
    suite = Suite.of("annotate", cases, [case.document for case in found])
    models: dict[str, Evaluated] = {}
    for version in filter(None, (candidate, incumbent)):
        models[version.address] = Evaluated(
            await annotate.run(found, version.address, settings, out=out, tell=_told(tell, version.address)),
            *_known(version.address, suite, settings),
        )
    if incumbent is None:
        examples = baselines.load_examples(baselines.EXAMPLES, found, framework)
        name = f"{BASE}, {len(examples)} examples"
        shown: dict[str, Any] = {"out": out, "tell": _told(tell, name), "examples": examples}
        models[name] = Evaluated(await annotate.run(found, BASE, settings, **shown), baseline=True)
    made = report.build(suite, models, [(candidate.address, list(models)[1])])
    report.write(made, out, report.worst(candidate.address, models[candidate.address].rows, found))
    return made


async def on_rehearsal(candidate: Specialist, settings: Settings, out: Path, tell: Progress) -> Json:
    """Ask the candidate and its base the general prompts of the rehearsal suite. Returns the report; see `on_cases`."""
    prompts = rehearsal.load_prompts()
    suite = Suite.of("rehearsal", rehearsal.CASES, [prompt.document for prompt in prompts])
    models = {
        address: Evaluated(
            await rehearsal.run(prompts, address, settings, out=out, tell=_told(tell, address)),
            *_known(address, suite, settings),
        )
        for address in (candidate.address, BASE)
    }
    made = report.build(suite, models, [(candidate.address, BASE)])
    report.write(made, out)
    return made


def table(measured: Json, rehearsed: Json) -> list[tuple[str, float, float]]:
    """What a person compares: each metric before and after. Before, of the rehearsal suite, is the base's."""
    after, before = (entry["summary"] for entry in list(measured["models"].values())[:2])
    lines = [
        (called, before[name]["mean"], after[name]["mean"])
        for name, called in SHOWN.items()
        if name in before and name in after
    ]
    passed, base = (entry["summary"]["passed"]["mean"] for entry in rehearsed["models"].values())
    return [*lines, ("rehearsal passed", base, passed)]


def _known(address: str, suite: Suite, settings: Settings) -> tuple[dict[str, str] | None, list[str] | None]:
    """What the report says of a model: which specialist it is, and which of the suite's documents it was made from."""
    who = subject(address, settings)
    return who.specialist, None if who.documents is None else unseen(who, suite.documents)


def _told(tell: Progress, name: str) -> Callable[[int, int, Any], None]:
    return lambda done, total, row: tell(name, done, total, row)

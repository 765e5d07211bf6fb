"""Trajectories of acting: a scripted expert does tasks over the simulated tools of the training families.

Each case (evals/simulated) is made by chance, its solution is played through the real loop, and it becomes a row only
if the case's own check passes on what the loop put on record. So a row is, token for token, what the runtime shows a
model and reads from it. Tools, parameters and schemas are renamed and shuffled, some tools fail, and in many cases the
right thing is to call none. No name or schema of the evaluation's tools occurs.

A model may play the cases instead (rejection sampling): of its runs only those are kept that pass the check in as few
turns as the expert takes and call no other tool.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from agent.errors import UsageError
from agent.settings import Settings
from evals import record
from evals.simulated.case import Case, Kind
from evals.simulated.judge import judge
from evals.simulated.play import Played, play, solve
from evals.simulated.scenarios import make
from training.dataset.candidates import Ledger
from training.dataset.trajectories import collect
from training.rows import Row

SHARES: Mapping[Kind, int] = {
    "single": 17,
    "parallel": 9,
    "chained": 12,
    "conditional": 6,
    "several": 9,
    "none": 17,
    "missing": 10,
    "retry": 5,
    "corrected": 4,
    "outage": 3,
    "private": 5,
    "edit": 6,
    "todo": 6,
    "phases": 6,
    "beads": 8,
    "delegate": 5,
    "alone": 3,
}
"""How often each kind of case is drawn, of the sum of them all."""
MOST_TRIES = 20
"""Cases drawn for one row, at most: the same task twice is left out."""


@dataclass(slots=True)
class Made:
    """The rows, how many of each kind, and what was left out."""

    rows: list[Row] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def told(self) -> str:
        """The counts as a person reads them."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.kinds.most_common())
        others = ", ".join(f"{count} {why}" for why, count in self.left_out.most_common())
        return f"{kinds}; left out: {others or 'nothing'}"


async def acting(
    count: int,
    seed: int,
    tell: Callable[[int], None] | None = None,
    *,
    player: str = "",
    settings: Settings | None = None,
) -> Made:
    """Make rows; without a model, the same count and seed make the same ones.

    Args:
        count: how many cases are played. The expert's first rows of a larger count are those of a smaller one.
        seed: of every choice by chance.
        tell: told how many are done.
        player: the address of a model that plays instead of the expert, as `settings` have it.
        settings: as a user has them; the defaults if None.

    Raises:
        UsageError: so many different tasks cannot be made.
        ModelError: the player failed in a way that says nothing of one case.
    """
    made = Made()
    with tempfile.TemporaryDirectory(prefix="acting-") as folder:
        session = record.open_session(settings or Settings(), Path(folder), lambda event: None)
        try:
            for number, case in enumerate(_cases(count, seed, made), 1):
                played = await (play(case, session, player) if player else solve(case, session))
                if why := _refused(played, expert=not player):
                    made.left_out[why] += 1
                else:
                    made.rows.append(_row(played, seed))
                    made.kinds[case.kind] += 1
                if tell:
                    tell(number)
        finally:
            await session.close()
    return made


def _refused(played: Played, *, expert: bool) -> str:
    """Why a run is not learned from; empty if it is. An expert that fails is our own mistake."""
    verdict = judge(played)
    if expert and not verdict.success:
        raise AssertionError(f"{played.world.case.id}: the solution does not pass its check: {verdict.problem}")
    if not verdict.success:
        return "failed the check"
    clean = verdict.only is not False and verdict.steps <= verdict.least and verdict.valid == verdict.calls
    return "" if clean or expert else "passed the check in a roundabout way"


def _row(played: Played, seed: int) -> Row:
    """The row of a run that passed, without anything that differs from one time to another."""
    case = played.world.case
    played.run.labels["check"] = True
    (found,) = collect([played.run], "", Ledger()).examples
    provenance = {"made": "acting", "seed": seed, "case": case.id, "kind": case.kind, "model": played.run.model}
    return found.row.model_copy(update={"skill": "agent", "provenance": provenance})


def _cases(count: int, seed: int, made: Made) -> Iterator[Case]:
    """Cases of all kinds, no two about the same task."""
    seen: set[str] = set()
    for number in range(count):
        for attempt in range(MOST_TRIES):
            chance = Random(f"acting {seed} {number} {attempt}")
            (kind,) = chance.choices(list(SHARES), list(SHARES.values()))
            case = make(kind, "train", f"{seed}-{number}-{attempt}")
            if (key := f"{case.document} {case.work}") not in seen:
                break
            made.left_out["the same task again"] += 1
        else:
            raise UsageError(f"only {number} different tasks could be made of {count}", "Give a smaller --count.")
        seen.add(key)
        yield case

"""What an improvement is made from: the record, people's files, and the incumbent's own accepted answers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.config import data_dir
from agent.messages import Json, Trajectory
from agent.registry import Specialist
from agent.settings import Settings
from agent.traces import TraceStore
from skills.annotate import record
from training.curation.curate import Decision, curate, decide, label
from training.curation.outputs import from_runs
from training.dataset import folder as datasets
from training.dataset import trajectories
from training.dataset.build import Inputs, Prepared, prepare
from training.dataset.candidates import Candidate
from training.dataset.selection import Rules
from training.dataset.sources import annotated
from training.dataset.split import Shares
from training.recipe import Recipe

MOST = 0.5
"""At most this share of the documents is kept out for the gate, while there are few."""
REPLAY = 0.5
"""The most of the incumbent's own answers for each verified row: they keep it what it is, and must not outweigh."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asked for.

    Args:
        skill: the skill whose specialist is to become better.
        recipe: how to train; `dataset` and `start` are set on the way.
        settings: as a user has them.
        gold: files of people's annotations.
        rows: files of training rows, e.g. rehearsal.
        exclude: evaluation files, whose documents are left out.
    """

    skill: str
    recipe: Recipe
    settings: Settings
    gold: Sequence[Path] = ()
    rows: Sequence[Path] = ()
    exclude: Sequence[Path] = ()

    @property
    def folder(self) -> Path:
        """Where its products stand."""
        return data_dir(self.settings) / "improve" / self.skill

    @property
    def command(self) -> str:
        """How it is typed."""
        words = ["apprentice", "improve", self.skill, "--recipe", self.recipe.name]
        for option, paths in (("gold", self.gold), ("rows", self.rows), ("exclude", self.exclude)):
            words += [word for path in paths for word in (f"--{option}", str(path))]
        return shlex.join(words)


@contextmanager
def opened(settings: Settings, *, make: bool = True) -> Iterator[TraceStore | None]:
    """The user's trace store; None if there is none and none is to be made."""
    from agent.redact import Redactor

    path = data_dir(settings) / "traces.db"
    if not make and not path.exists():
        yield None
        return
    store = TraceStore.open(path, Redactor())
    try:
        yield store
    finally:
        store.close()


async def curated(order: Order, decisions: Path) -> list[Decision]:
    """Let the curator's rules decide on every annotation on record, and label the runs. Raises OutputError."""
    with opened(order.settings) as store:
        assert store is not None
        found = await curate(from_runs(trajectories.on_record(store)), decisions)
        label(store, found)
    return found


async def decided(order: Order) -> list[Decision]:
    """The same decisions, with nothing written anywhere."""
    with opened(order.settings, make=False) as store:
        return [await decide(output) for output in from_runs(trajectories.on_record(store))] if store else []


def rows(
    order: Order, incumbent: Specialist | None, kept: set[str], tell: Callable[[str], None] = lambda text: None
) -> tuple[Inputs, Prepared]:
    """Choose the rows of every split, without writing anything.

    The gate gets as many verified documents as `gate.rows` says, if that is no more than half of all; none of them is
    one that the incumbent was made from.

    Args:
        order: what was asked for.
        incumbent: the version that serves; None if none does.
        kept: the runs whose annotation the curator kept.
        tell: told what a person should know.
    """
    seen = incumbent.card.get("dataset", {}).get("documents", []) if incumbent else []
    shares = Shares(validation=0.1, gate=0.1, least=order.settings.gate.rows, most=MOST)
    rules = Rules(shares, seen=frozenset(map(str, seen)), replay=REPLAY)
    files = {"gold": order.gold, "rows": order.rows, "exclude": order.exclude}
    inputs = Inputs(order.skill, **files, rules=rules, command=order.command)
    reviewed = data_dir(order.settings) / "datasets" / order.skill / datasets.REVIEW
    with opened(order.settings, make=False) as store:
        if store is None:
            return inputs, prepare(inputs, (), reviewed)
        if store.notice:
            tell(store.notice)
        replay = list(replayed(trajectories.on_record(store), kept, incumbent)) if incumbent else []
        return inputs, prepare(inputs, trajectories.on_record(store), reviewed, replay)


def replayed(runs: Iterator[Trajectory], kept: set[str], incumbent: Specialist) -> Iterator[Candidate]:
    """What the incumbent answered, the curator kept, and nobody corrected or called bad: trained on, never in the gate.

    Args:
        runs: the record.
        kept: the runs whose annotation the curator kept.
        incumbent: whose answers; other models' are not meant to be learned here.
    """
    mark = f"sha256:{incumbent.adapter_sha256[:12]}"
    for run in runs:
        framework = record.framework_of(run)
        if framework is None or run.id not in kept or run.correction or run.labels.get("verdict") == "bad":
            continue
        best = record.best(record.attempts(run, framework))
        if best is not None and best.valid and mark in best.detail.adapter:
            yield annotated(
                run.messages[1].content,
                record.checked(best.found, framework),
                framework,
                source="replay",
                provenance={"run": run.id, "model": run.model, "framework": framework.name},
                where=f"run {run.id}",
            )


def missing(prepared: Prepared, wanted: int) -> str:
    """How many verified rows are missing before anything can be promoted, as a sentence; empty if none is.

    Args:
        prepared: the rows of each split.
        wanted: how many have to be kept out.
    """
    kept_out = len(datasets.cases(prepared.rows["gate"]).splitlines())
    if kept_out >= wanted:
        return ""
    verified = {
        row.document for split in ("train", "validation", "gate") for row in prepared.rows[split] if row.verified
    }
    return (
        f"{kept_out} verified rows can be kept out of training, {wanted} are needed: {wanted - kept_out} are missing "
        f"(there are {len(verified)} verified documents; about {round(1.1 * wanted / MOST)} are enough, since at most "
        "half are kept out)"
    )


def counts(prepared: Prepared) -> Json:
    """How many rows there are, by source and split."""
    found: dict[str, dict[str, int]] = {}
    for split, chosen in prepared.rows.items():
        for row in chosen:
            by_split = found.setdefault(row.source, {})
            by_split[split] = by_split.get(split, 0) + 1
    return {source: found[source] for source in sorted(found)}

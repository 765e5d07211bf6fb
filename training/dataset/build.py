"""`train dataset build`: the record, gold files and agent output become one dataset folder."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import ModelUnavailable
from agent.messages import Json, Trajectory
from agent.settings import Settings
from training.dataset import card, folder, review, sources, trajectories
from training.dataset.candidates import Candidate, Ledger
from training.dataset.selection import OWN_ANSWERS, Rules, select
from training.dataset.tokens import histogram
from training.rows import SPLITS, Row, Source, Split


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a dataset is made from, beside the record.

    Args:
        skill: the skill to teach; `agent` is runs without one, an empty text is every skill.
        gold: files of people's annotations.
        curated: files of an agent's annotations that the curator kept.
        agent: files of an agent's annotations as they came.
        rows: files of training rows; each row's source counts as it says.
        exclude: evaluation files, whose documents are left out.
        rules: how to select.
        command: how a person makes it again; empty: the options of `train dataset build`.
    """

    skill: str = "annotate"
    gold: Sequence[Path] = ()
    curated: Sequence[Path] = ()
    agent: Sequence[Path] = ()
    rows: Sequence[Path] = ()
    exclude: Sequence[Path] = ()
    rules: Rules = field(default_factory=Rules)
    command: str = ""

    @property
    def files(self) -> list[tuple[str, Path]]:
        """Every file with the option that names it."""
        options = {
            "gold": self.gold,
            "curated": self.curated,
            "agent": self.agent,
            "rows": self.rows,
            "exclude": self.exclude,
        }
        return [(option, path) for option, paths in options.items() for path in paths]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a dataset will hold: rows, what was left out, and how many runs and excluded documents were read."""

    rows: dict[Split, list[Row]]
    ledger: Ledger
    runs: int
    excluded: int


async def build(inputs: Inputs, runs: Iterable[Trajectory], out: Path, settings: Settings) -> Json:
    """Make a dataset folder.

    Args:
        inputs: files and rules.
        runs: the record; whole runs.
        out: the folder; a dataset that stands there is replaced, and its review honoured.
        settings: say which model counts the tokens.

    Returns:
        The manifest as it was written.

    Raises:
        InputError: a file cannot be used.
        UsageError: `out` is something else than a dataset.
        OutputError: it cannot be written.
        ConfigError: a package for training is not installed.
    """
    folder.take_up(out)
    return await write(prepare(inputs, runs, out / folder.REVIEW), inputs, out, settings)


def prepare(inputs: Inputs, runs: Iterable[Trajectory], reviewed: Path, more: Iterable[Candidate] = ()) -> Prepared:
    """Choose the rows of a dataset, without writing anything.

    Args:
        inputs: files and rules.
        runs: the record; whole runs.
        reviewed: a person's decisions about rows, if there is such a file.
        more: candidates from elsewhere.

    Raises:
        InputError: a file cannot be used.
    """
    ledger, counted = Ledger(), Counter[str]()
    found = trajectories.collect(_counting(runs, counted), inputs.skill, ledger)
    examples = [*found.examples, *_from_files(inputs, ledger), *more]
    examples = review.apply(examples, review.decisions(reviewed), ledger)
    excluded = {key: text for path in inputs.exclude for key, text in sources.documents(path)}
    rows = select(examples, found.negatives, excluded, inputs.rules, ledger)
    return Prepared(rows, ledger, counted["runs"], len(excluded))


async def write(prepared: Prepared, inputs: Inputs, out: Path, settings: Settings) -> Json:
    """Write what was prepared from these inputs, as `build` does. Returns the manifest."""
    rows = prepared.rows
    manifest = {
        **_head(inputs, out, prepared.runs),
        **_counts(rows),
        "tokens": await _tokens([row for split in SPLITS[:3] for row in rows[split]], settings),
        "dropped": prepared.ledger.summary(),
        "excluded": prepared.excluded,
    }
    folder.write(out, rows, manifest, card.render(rows, manifest))
    return folder.read_manifest(out)


def _counting(runs: Iterable[Trajectory], counted: Counter[str]) -> Iterable[Trajectory]:
    for run in runs:
        counted["runs"] += 1
        yield run


def _from_files(inputs: Inputs, ledger: Ledger) -> list[Candidate]:
    """The candidates of all files; rehearsal and replay help a specialist of any skill."""
    named: list[tuple[Sequence[Path], Source]] = [
        (inputs.gold, "gold"),
        (inputs.curated, "curated"),
        (inputs.agent, "unfiltered"),
    ]
    paths = [(path, source) for group, source in named for path in group]
    kept = []
    for one in [*sources.from_files(paths, ledger), *(one for path in inputs.rows for one in sources.rows(path))]:
        if inputs.skill in ("", one.row.skill) or one.row.source in OWN_ANSWERS:
            kept.append(one)
        else:
            ledger.drop(f"it teaches another skill than {inputs.skill}", one.where)
    return kept


def _head(inputs: Inputs, out: Path, runs: int) -> Json:
    shares = inputs.rules.shares
    files = [{"as": option, "file": path.name, "sha256": _sha256(path)} for option, path in inputs.files]
    return {
        "name": out.absolute().name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "skill": inputs.skill or "all",
        "inputs": files,
        "runs": runs,
        "rules": {
            "validation": shares.validation,
            "gate": shares.gate,
            "least": shares.least,
            "unverified": inputs.rules.unverified,
        },
        "command": inputs.command or _command(inputs, out),
    }


def _command(inputs: Inputs, out: Path) -> str:
    words = ["apprentice", "train", "dataset", "build", "--out", str(out), "--skill", inputs.skill or "all"]
    words += [word for option, path in inputs.files for word in (f"--{option}", str(path))]
    given, usual = inputs.rules.shares, Rules().shares
    for name in ("validation", "gate", "least"):
        if getattr(given, name) != getattr(usual, name):
            words += [f"--{name}", str(getattr(given, name))]
    return shlex.join([*words, *(["--unverified"] if inputs.rules.unverified else [])])


def _counts(rows: dict[Split, list[Row]]) -> Json:
    counted: dict[str, Counter[str]] = {}
    for split in SPLITS:
        for row in rows[split]:
            counted.setdefault(row.source, Counter())[split] += 1
    return {
        "sources": {source: dict(counted[source]) for source in sorted(counted)},
        "documents": {split: sorted({row.document for row in rows[split]}) for split in SPLITS},
        "verified": {split: sum(row.verified for row in rows[split]) for split in SPLITS},
    }


async def _tokens(rows: Sequence[Row], settings: Settings) -> Json:
    """The histogram; empty where there is nothing to count, or no embedded model to count with."""
    if not rows:
        return {}
    try:
        return await histogram(rows, settings)
    except ModelUnavailable:
        return {}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

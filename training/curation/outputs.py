"""Where an agent's annotations come from: training rows, files of annotations, runs on record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.messages import Trajectory
from skills.annotate import record
from skills.annotate.framework import Framework, load
from skills.annotate.validate import parse
from training.curation.subject import Subject
from training.dataset.sources import document_text, entries
from training.rows import document_key, read_rows

DEFAULT = "eight-moves"


@dataclass(frozen=True, slots=True)
class Output:
    """An agent's annotation of a document. `run` is its run on record, empty if there is none."""

    id: str
    document: str
    subject: Subject
    provenance: dict[str, Any]
    run: str = ""


def from_rows(path: Path) -> Iterator[Output]:
    """The annotations of a JSONL file of training rows; rows of other skills are left out. Raises InputError."""
    for row in read_rows(path):
        if row.skill == "annotate":
            found, _ = parse(row.completion)
            subject = Subject(document_text(row), found, framework_of(found))
            yield Output(row.id, row.document, subject, row.provenance)


def from_file(path: Path) -> Iterator[Output]:
    """The annotations of a CSV or JSONL file, in any framework's moves. Raises InputError."""
    for entry in entries(path):
        if entry.abstract:
            moves = {key: " ".join(str(text or "").split()) for key, text in entry.moves.items()}
            framework = framework_of(moves)
            provenance = {"file": path.name, "line": entry.line, "id": entry.id, "framework": framework.name}
            subject = Subject(entry.abstract, moves, framework)
            yield Output(entry.id or entry.where, document_key(entry.abstract), subject, provenance)


def from_runs(runs: Iterable[Trajectory]) -> Iterator[Output]:
    """The annotations on record: of each run that annotated a paper, the attempt that the person was given."""
    for run in runs:
        framework = record.framework_of(run)
        best = record.best(record.attempts(run, framework)) if framework and run.outcome == "success" else None
        if framework and best:
            abstract = run.messages[1].content
            provenance = {"run": run.id, "model": run.model, "framework": framework.name}
            yield Output(run.id, document_key(abstract), Subject(abstract, best.found, framework), provenance, run.id)


def framework_of(annotation: Iterable[str]) -> Framework:
    """The framework whose moves these keys are; the eight moves if they are nobody's."""
    keys = set(annotation)
    return next((found for found in record.available() if set(found.keys) == keys), load(DEFAULT))

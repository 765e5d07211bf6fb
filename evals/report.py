"""A report: the numbers of a suite's models as one JSON object, and its three files report.json, .md and .html."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.errors import InputError
from agent.messages import Json
from evals import acting, bfcl, compare, rehearsal
from evals.annotate import Case, RowResult
from evals.metrics import ROW_METRICS, move_metrics
from training.convert.atomic import write_text

PASSED = ("valid", "accepted", "grounded", "passed", "success", "correct")
"""The metrics that a row either passes or not."""
COMPARED = (
    *("f1", "rouge_l", "valid", "accepted", "grounded", "supported", "absent_f1", "seconds", "passed"),
    *("success", "selected", "exact", "uncalled", "efficiency", "todos", "edit_extra", "phases", "correct"),
    *("valid_calls", "task_tokens"),
)
Answered = Sequence[RowResult] | Sequence[rehearsal.Answer] | Sequence[acting.Row] | Sequence[bfcl.Row]
METRICS: dict[str, Mapping[str, Callable[[Any], tuple[float, float]]]] = {
    "annotate": ROW_METRICS,
    "rehearsal": rehearsal.METRICS,
    "acting": acting.METRICS,
    "bfcl": bfcl.METRICS,
}
"""By the kind of suite."""


@dataclass(frozen=True, slots=True)
class Suite:
    """What was asked. `kind` is a key of METRICS; `documents` are the keys of its documents, in order."""

    kind: str
    name: str
    path: str
    sha256: str
    rows: int
    documents: tuple[str, ...]

    @classmethod
    def of(cls, kind: str, path: Path, documents: Sequence[str]) -> Suite:
        """The suite of a file, or of its first rows; of a folder, if it is BFCL's."""
        digest = bfcl.sha256(path) if kind == "bfcl" else hashlib.sha256(path.read_bytes()).hexdigest()
        name = "bfcl" if kind == "bfcl" else path.stem
        return cls(kind, name, str(path), digest, len(documents), tuple(documents))


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One model's part of a report.

    Args:
        rows: one for each case, in the suite's order.
        specialist: name, version and hashes of a specialist; None for other models.
        seen: the suite's documents that it was made from; None if nobody knows.
        baseline: whether it stands there only to be beaten.
    """

    rows: Answered
    specialist: dict[str, str] | None = None
    seen: list[str] | None = None
    baseline: bool = False


def build(suite: Suite, models: Mapping[str, Evaluated], pairs: Sequence[tuple[str, str]]) -> Json:
    """Summarise and compare.

    Args:
        suite: what was asked.
        models: the answers, by address or by a baseline's name, in the order in which they are shown.
        pairs: which models are compared: the first's metric less the second's.

    Returns:
        A report as report.json holds it. `counts_for_gate` says whether every specialist is known to have been measured
        on documents that it was not made from.
    """
    entries = {name: _entry(suite.kind, model) for name, model in models.items()}
    specialists = [model for model in models.values() if model.specialist]
    return {
        "suite": dataclasses.asdict(suite) | {"documents": list(suite.documents)},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "counts_for_gate": bool(specialists) and all(model.seen == [] for model in specialists),
        "models": entries,
        "comparisons": [line for a, b in pairs for line in _compare(suite.kind, a, b, models[a], models[b])],
    }


def write(report: Json, folder: Path, worst: Sequence[Json] = ()) -> None:
    """Write report.json, report.md and report.html, each whole or not at all.

    Args:
        report: as `build` makes it.
        folder: where to; it is made.
        worst: rows with their texts, for the page only: report.json and report.md hold numbers and no abstract.

    Raises:
        OutputError: a file cannot be written.
    """
    from evals.page import html
    from evals.tables import markdown, readable

    short = readable(report)
    files = {
        "report.json": json.dumps(report, ensure_ascii=False, indent=1) + "\n",
        "report.md": markdown(short),
        "report.html": html(short, [row | {"model": short["names"][row["model"]]} for row in worst]),
    }
    for name, text in files.items():
        write_text(folder / name, text, "Give --out another folder.")


def read(path: Path) -> Json:
    """Read a report from its file or its folder. Raises InputError if it is none."""
    path = path / "report.json" if path.is_dir() else path
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the report {path} cannot be read: {error}", "Give a report.json or its folder.") from None
    if not isinstance(found, dict) or not {"suite", "models", "comparisons"} <= found.keys():
        raise InputError(f"{path} is not an evaluation's report", "Give the report.json that `evals run` wrote.")
    return found


def merge(reports: Mapping[str, Json]) -> Json:
    """One report of several on the same suite, every pair of their models compared (without the baselines).

    Args:
        reports: by the name that tells them apart where two hold the same model.

    Raises:
        InputError: they are not about the same rows.
    """
    first = next(iter(reports.values()))
    suite = Suite(**first["suite"] | {"documents": tuple(first["suite"]["documents"])})
    models: dict[str, Evaluated] = {}
    for place, report in reports.items():
        if (report["suite"]["sha256"], report["suite"]["rows"]) != (suite.sha256, suite.rows):
            raise InputError(f"{place} is not about the same rows as the first report", "Compare reports of one suite.")
        for name, entry in report["models"].items():
            evaluated = Evaluated(
                _rows(suite.kind, entry["rows"]), entry["specialist"], entry["seen"], entry["baseline"]
            )
            if name not in models or not evaluated.baseline:
                models[name if name not in models else f"{name} ({place})"] = evaluated
    named = [name for name, model in models.items() if not model.baseline]
    pairs = [(a, b) for number, a in enumerate(named) for b in named[number + 1 :]]
    return build(suite, models, pairs)


def worst(name: str, rows: Sequence[Any], cases: Sequence[Case], count: int = 10) -> list[Json]:
    """The rows of a model with the lowest F1, with their texts, for a person to read."""
    pairs = sorted(zip(rows, cases, strict=True), key=lambda pair: pair[0].f1)[:count]
    return [
        {
            "model": name,
            "id": case.id,
            "title": case.title,
            "field": case.field,
            "abstract": case.abstract,
            "f1": row.f1,
            "error": row.error,
            "moves": [
                {"key": key, "said": row.annotation.get(key, ""), "gold": gold, "f1": row.moves.get(key, 0.0)}
                for key, gold in case.gold.items()
            ],
        }
        for row, case in pairs
    ]


def _entry(kind: str, model: Evaluated) -> Json:
    metrics = METRICS[kind]
    fields = list(dict.fromkeys(row.field for row in model.rows))
    entry: Json = {
        "specialist": model.specialist,
        "seen": model.seen,
        "baseline": model.baseline,
        "summary": _summary(model.rows, metrics),
        "fields": {name: _summary([row for row in model.rows if row.field == name], metrics) for name in fields},
    }
    if kind == "annotate":
        keys = list(model.rows[0].moves)  # type: ignore[union-attr]
        entry["moves"] = {key: _summary(model.rows, move_metrics(key), timed=False) for key in keys}
    entry["rows"] = [row.model_dump(mode="json", exclude={"annotation", "run"}) for row in model.rows]
    return entry


def _summary(
    rows: Sequence[Any], metrics: Mapping[str, Callable[[Any], tuple[float, float]]], *, timed: bool = True
) -> dict[str, dict[str, float]]:
    found = compare.summarise(rows, metrics)
    if timed:
        found["seconds_median"] = compare.median([row.seconds for row in rows])
    return {name: dataclasses.asdict(one) for name, one in found.items()} | {"rows": {"mean": len(rows)}}


def _compare(kind: str, a: str, b: str, left: Evaluated, right: Evaluated) -> list[Json]:
    """Every metric of one pair; seconds only where both asked a model."""
    metrics = METRICS[kind]
    timed = all(any(row.seconds for row in model.rows) for model in (left, right))
    found = [
        compare.comparison(left.rows, right.rows, name, metrics[name], passed=name in PASSED)
        for name in COMPARED
        if name in metrics and (timed or name != "seconds")
    ]
    return [{"a": a, "b": b, **line} for line in found if line]


def _rows(kind: str, rows: Sequence[Json]) -> Answered:
    if kind == "annotate":
        return [RowResult.model_validate(row) for row in rows]
    if kind == "rehearsal":
        return [rehearsal.Answer.model_validate(row) for row in rows]
    if kind == "acting":
        return [acting.Row.model_validate(row | {"run": ""}) for row in rows]
    return [bfcl.Row.model_validate(row | {"run": ""}) for row in rows]

"""The gate: whether a candidate may take the incumbent's place, decided on cases that it never saw.

What decides is two reports of `evals run`: the suite of the skill, with candidate and incumbent on the same rows, and
the rehearsal suite, with the candidate and its base. Nothing in a report is taken on trust that can be looked up: the
suite's file is hashed and read again, documents are compared with the candidate's card, and every figure is computed
from the rows. Where no version serves yet, the incumbent is the base with worked examples in its prompt.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from agent import specialists
from agent.errors import InputError
from agent.registry import Specialist
from agent.settings import Gate
from evals.compare import paired_bootstrap
from training.rows import VERIFIED, document_key

EXAMPLES = " examples"
"""How the name of the base with worked examples in its prompt ends."""
CLOSE = 1e-6


class _Reported(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Suite(_Reported):
    kind: str
    path: str
    sha256: str
    rows: int
    documents: tuple[str, ...]


class _Row(_Reported):
    id: str
    document: str
    valid: bool = False
    grounded: bool = False
    f1: float = 0.0
    moves: dict[str, float] = {}
    passed: bool = False


class _Model(_Reported):
    specialist: dict[str, str] | None
    baseline: bool = False
    rows: tuple[_Row, ...]


class Report(_Reported):
    """The part of an evaluation's report that the gate reads; every other figure in it is passed over."""

    suite: _Suite
    models: dict[str, _Model]

    def of_adapter(self, sha256: str) -> _Model | None:
        """The model with this adapter."""
        return next(
            (m for m in self.models.values() if m.specialist and m.specialist["adapter_sha256"] == sha256), None
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """The gate's answer.

    Args:
        promote: whether the candidate may serve.
        reasons: sentences: everything that speaks against it; what it was won by if nothing does.
        figures: what was computed on the way: rows, means, difference, interval, confidence, rehearsal shares.
    """

    promote: bool
    reasons: list[str]
    figures: dict[str, Any] = field(default_factory=dict)


def read_report(path: Path) -> Report:
    """Read a report from its file or its folder. Raises InputError if it is none."""
    path = path / "report.json" if path.is_dir() else path
    try:
        return Report.model_validate_json(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"the report {path} cannot be read: {error.strerror}", "Make one with `evals run`.") from None
    except (ValidationError, KeyError) as error:
        wrong = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (error,), "msg": "missing"}
        where = ".".join(map(str, wrong["loc"]))
        raise InputError(f"{path} is not an evaluation's report: {where}: {wrong['msg']}") from None


def decide(
    candidate: Mapping[str, Any],
    incumbent: Mapping[str, Any] | None,
    report: Report,
    rehearsal: Report | None,
    policy: Gate,
    base_sha256: str,
) -> Decision:
    """Decide, without writing anything.

    Args:
        candidate: its card.json.
        incumbent: the card of the version that serves; None if none does.
        report: candidate and incumbent on the suite.
        rehearsal: candidate and base on the rehearsal suite; None if that was not run, which is refused.
        policy: `gate.*` of the settings.
        base_sha256: of the base that is served here.
    """
    figures: dict[str, Any] = {"policy": policy.model_dump()}
    ours = report.of_adapter(candidate["adapter"]["sha256"])
    if ours is None:
        return Decision(False, ["the report measured another adapter than the candidate's"], figures)
    reasons = _base(candidate, ours, base_sha256)
    reasons += _suite(report, "annotate", figures) + _unseen(candidate, report, ours)
    if figures.get("verified", 0) < policy.rows:
        missing = policy.rows - figures.get("verified", 0)
        reasons.append(
            f"{figures.get('verified', 0)} verified rows were kept out of training, {policy.rows} are needed: "
            f"{missing} are missing"
        )
    name, theirs = _incumbent(incumbent, report)
    if theirs is None:
        return Decision(False, [*reasons, f"the report holds no rows of the incumbent, {name}"], figures)
    reasons += _better(ours, name, theirs, policy, figures)
    reasons += _rehearsed(candidate, rehearsal, policy, figures)
    return Decision(not reasons, reasons or [_won(name, figures)], figures)


def judge(
    found: Specialist,
    incumbent: Specialist | None,
    report: Path,
    rehearsal: Path | None,
    policy: Gate,
    base_sha256: str,
) -> Decision:
    """Decide, and keep the decision with both reports beside the candidate's card, where `promote` looks for it.

    Raises:
        InputError: a report cannot be read.
        OutputError: the decision cannot be written.
    """
    measured = read_report(report)
    rehearsed = read_report(rehearsal) if rehearsal else None
    decision = decide(found.card, incumbent.card if incumbent else None, measured, rehearsed, policy, base_sha256)
    for kind, path in (("report", report), ("rehearsal", rehearsal)):
        kept, source = found.folder / f"{kind}.json", path / "report.json" if path and path.is_dir() else path
        if source and source.resolve() != kept.resolve():
            shutil.copyfile(source, kept)
    written = {
        **asdict(decision),
        "adapter_sha256": found.adapter_sha256,
        "incumbent": incumbent.adapter_sha256 if incumbent else "",
        "incumbent_version": incumbent.version if incumbent else "",
        "created": specialists.now(),
    }
    specialists.write_json(found.folder / "gate.json", written)
    if "f1" in decision.figures:
        specialists.update_card(found, metrics=_metrics(measured, decision.figures))
    return decision


def _metrics(report: Report, figures: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says of the candidate's measurement."""
    kept = ("f1", "incumbent_f1", "difference", "low", "high", "confidence", "valid", "grounded", "rehearsal")
    suite = {"path": report.suite.path, "sha256": report.suite.sha256, "rows": report.suite.rows}
    return {"suite": suite, **{key: figures[key] for key in kept if key in figures}}


def _base(candidate: Mapping[str, Any], ours: _Model, served: str) -> list[str]:
    card, measured = candidate["base"]["sha256"], (ours.specialist or {}).get("base_sha256")
    if card != served:
        return [f"the candidate was trained on another base ({card[:12]}) than the one that is served ({served[:12]})"]
    return [] if measured == served else ["the report measured the candidate on another base than the one it serves on"]


def _suite(report: Report, kind: str, figures: dict[str, Any]) -> list[str]:
    """Whether the report is about the file that it names, and all its models about the same rows of it."""
    suite, path = report.suite, Path(report.suite.path)
    if suite.kind != kind:
        return [f"the report is of the suite {suite.kind!r}, not of {kind!r}"]
    try:
        data = path.read_bytes()
    except OSError as error:
        return [f"the suite {path} cannot be read to check the report: {error.strerror}"]
    if hashlib.sha256(data).hexdigest() != suite.sha256:
        return [f"the suite {path} is not the file that the report was made on"]
    text = "abstract" if kind == "annotate" else "prompt"
    try:
        cases = [json.loads(line) for line in data.decode("utf-8").split("\n") if line.strip()][: suite.rows]
        wanted = [(str(case["id"]), document_key(case[text])) for case in cases]
    except (ValueError, KeyError, TypeError):
        return [f"the suite {path} is no file of cases"]
    wrong = [
        f"the report's rows of {name} are not the {suite.rows} rows of its suite"
        for name, model in report.models.items()
        if [(row.id, row.document) for row in model.rows] != wanted or len(wanted) != suite.rows
    ]
    if list(suite.documents) != [document for _, document in wanted]:
        wrong.append("the report names other documents than its suite holds")
    for name, model in report.models.items():
        if any(row.moves and abs(row.f1 - sum(row.moves.values()) / len(row.moves)) > CLOSE for row in model.rows):
            wrong.append(f"the report's rows of {name} do not add up")
    if kind == "annotate" and not wrong:
        figures["rows"] = len(cases)
        verified = {document for (_, document), case in zip(wanted, cases, strict=True) if _is_verified(case)}
        figures["verified"] = len(verified)
    return wrong


def _is_verified(case: Mapping[str, Any]) -> bool:
    """A case file is gold, unless its rows say where they come from."""
    return case.get("source", "gold") in VERIFIED


def _unseen(candidate: Mapping[str, Any], report: Report, ours: _Model) -> list[str]:
    documents = candidate.get("dataset", {}).get("documents")
    if not isinstance(documents, list):
        return ["the candidate's card does not say which documents it was trained on"]
    measured = {*report.suite.documents, *(row.document for row in ours.rows)}
    seen = measured & set(documents)
    return [f"the candidate was trained on {len(seen)} of the {len(measured)} documents of the suite"] if seen else []


def _incumbent(incumbent: Mapping[str, Any] | None, report: Report) -> tuple[str, _Model | None]:
    if incumbent is not None:
        return f"{incumbent['name']}@{incumbent['version']}", report.of_adapter(incumbent["adapter"]["sha256"])
    found = next(((name, m) for name, m in report.models.items() if m.baseline and name.endswith(EXAMPLES)), None)
    return found or ("the base with examples in its prompt", None)


def _better(ours: _Model, name: str, theirs: _Model, policy: Gate, figures: dict[str, Any]) -> list[str]:
    """Valid and grounded as often, and ahead in token F1 by the margin with the confidence."""
    if len(ours.rows) != len(theirs.rows) or not ours.rows:
        return ["candidate and incumbent were not measured on the same rows"]
    reasons = []
    for what in ("valid", "grounded"):
        mine, other = (_mean([getattr(row, what) for row in model.rows]) for model in (ours, theirs))
        figures[what], figures[f"incumbent_{what}"] = mine, other
        if mine < other:
            reasons.append(f"{mine:.1%} of its annotations are {what}, {other:.1%} of the incumbent's")
    mine_f1, other_f1 = [row.f1 for row in ours.rows], [row.f1 for row in theirs.rows]
    found = paired_bootstrap(mine_f1, other_f1)
    confidence = 1 - found.p / 2 if found.difference > 0 else found.p / 2
    figures |= {"incumbent": name, "f1": _mean(mine_f1), "incumbent_f1": _mean(other_f1)}
    figures |= {"difference": found.difference, "low": found.low, "high": found.high, "confidence": confidence}
    said = f"{figures['f1']:.3f} against {figures['incumbent_f1']:.3f} of {name}"
    if found.difference < policy.margin:
        reasons.append(f"its token F1 is {said}: {found.difference:+.3f}, and {policy.margin:+.3f} is needed")
    if confidence < policy.confidence:
        reasons.append(
            f"it is ahead of {name} in {confidence:.1%} of the bootstrap's draws, "
            f"and {policy.confidence:.1%} are needed"
        )
    return reasons


def _rehearsed(
    candidate: Mapping[str, Any], rehearsal: Report | None, policy: Gate, figures: dict[str, Any]
) -> list[str]:
    """Whether it still does what its base does."""
    if rehearsal is None:
        return ["the rehearsal suite was not run: nobody knows what the training broke"]
    ours = rehearsal.of_adapter(candidate["adapter"]["sha256"])
    base = next((m for m in rehearsal.models.values() if m.specialist is None and not m.baseline), None)
    if ours is None or base is None:
        return ["the rehearsal report does not hold both the candidate and its base"]
    wrong = _suite(rehearsal, "rehearsal", figures)
    if wrong:
        return wrong
    mine, other = (_mean([row.passed for row in model.rows]) for model in (ours, base))
    figures["rehearsal"] = {"passed": mine, "base": other, "rows": len(ours.rows)}
    if len(ours.rows) < policy.rows:
        return [f"the rehearsal suite has {len(ours.rows)} rows, {policy.rows} are needed"]
    if mine < other - policy.rehearsal_drop - CLOSE:
        return [f"it passes {mine:.1%} of the rehearsal suite, its base {other:.1%}"]
    return []


def _won(name: str, figures: Mapping[str, Any]) -> str:
    return (
        f"its token F1 is {figures['f1']:.3f} against {figures['incumbent_f1']:.3f} of {name} on {figures['rows']} "
        f"rows that it never saw, ahead in {figures['confidence']:.1%} of the bootstrap's draws"
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)

"""Suites, and reports on them with simulated scores, in the form in which `evals run` writes them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.rows import document_key

BASE = "b" * 64
MOVES = ("claim", "evidence", "method", "scope", "limitation", "comparison", "implication", "novelty")
FEW_SHOT = "local, 3 examples"


def card(version: int, *, adapter: str = "", base: str = BASE, documents: Sequence[str] = ()) -> dict[str, Any]:
    """A specialist's card. Its adapter's hash is the version's digit, many times."""
    return {
        "name": "tester",
        "version": version,
        "skill": "annotate",
        "base": {"name": "tiny", "sha256": base},
        "adapter": {"sha256": adapter or str(version) * 64, "rank": 4, "alpha": 8, "targets": ["q_proj"]},
        "dataset": {"sha256": "d", "rows": 100, "verified": {"train": 100}, "documents": list(documents)},
    }


def write_suite(path: Path, rows: int = 100, kind: str = "annotate", sources: Sequence[str] = ()) -> Path:
    """A file of cases. `sources` are given to the first rows; the others say nothing, as gold files do."""
    lines = []
    for number in range(rows):
        text = f"We studied case {number} and found effect {number}."
        case: dict[str, Any] = {"id": f"c{number}", "field": "tests"}
        if kind == "annotate":
            case |= {"abstract": text, "annotation": dict.fromkeys(MOVES, "Not stated.")}
        else:
            case |= {"kind": "fact", "prompt": text, "check": {"contains": ["effect"]}}
        if number < len(sources):
            case["source"] = sources[number]
        lines.append(json.dumps(case))
    path.write_text("\n".join(lines) + "\n")
    return path


def documents(suite: Path) -> list[str]:
    """The keys of a suite's documents, in order."""
    cases = [json.loads(line) for line in suite.read_text().splitlines()]
    return [document_key(case.get("abstract") or case["prompt"]) for case in cases]


def scores(rows: int = 100, *, mean: float = 0.5, seed: int = 0, gain: float = 0.0) -> list[float]:
    """Token F1 of each row: around a mean with the spread of real rows; `gain` is added to every row alike."""
    spread = random.Random(seed)
    return [min(1.0, max(0.0, spread.gauss(mean, 0.12) + gain)) for _ in range(rows)]


def model(
    suite: Path,
    f1: Sequence[float],
    specialist: Mapping[str, Any] | None = None,
    *,
    baseline: bool = False,
    invalid: int = 0,
    ungrounded: int = 0,
) -> dict[str, Any]:
    """One model's part of a report on the suite `annotate`; the first rows are invalid or not grounded."""
    rows = [
        {
            "id": f"c{number}",
            "document": document,
            "valid": number >= invalid,
            "grounded": number >= ungrounded,
            "f1": score,
            "moves": dict.fromkeys(MOVES, score),
        }
        for number, (document, score) in enumerate(zip(documents(suite), f1, strict=True))
    ]
    return {"specialist": _named(specialist), "baseline": baseline, "seen": [], "rows": rows}


def rehearsed(suite: Path, passed: int, specialist: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """One model's part of a report on the suite `rehearsal`: the first so many prompts pass."""
    rows = [
        {"id": f"c{number}", "document": document, "passed": number < passed}
        for number, document in enumerate(documents(suite))
    ]
    return {"specialist": _named(specialist), "baseline": False, "seen": None, "rows": rows}


def report(suite: Path, models: Mapping[str, Any], kind: str = "annotate") -> dict[str, Any]:
    """A report as report.json holds it, less what the gate passes over."""
    keys = documents(suite)
    about = {"name": suite.stem, "path": str(suite), "sha256": hashlib.sha256(suite.read_bytes()).hexdigest()}
    return {
        "suite": {"kind": kind, **about, "rows": len(keys), "documents": keys},
        "created": "2026-01-01T00:00:00+00:00",
        "models": dict(models),
        "comparisons": [],
    }


def write(path: Path, content: Mapping[str, Any]) -> Path:
    """A report in its file."""
    path.write_text(json.dumps(content))
    return path


def _named(specialist: Mapping[str, Any] | None) -> dict[str, str] | None:
    if specialist is None:
        return None
    hashes = {"adapter_sha256": specialist["adapter"]["sha256"], "base_sha256": specialist["base"]["sha256"]}
    return {"name": specialist["name"], "version": str(specialist["version"]), **hashes}

"""Cases, replies and models that the tests of the evaluation share."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.annotate import Case

KEYS = ("claim", "evidence", "method", "scope", "limitation", "comparison", "implication", "novelty")
ABSENT = "Not stated."
ABSTRACT = (
    "We measured salt in 12 rivers of the northern plain for 3 years with buoys that report every hour. Salt rose by "
    "4% where roads were near. Unlike earlier surveys, ours includes winter. We did not study lakes."
)
GOLD = {
    "claim": "The authors measured salt in rivers of the northern plain and salt rose where roads were near.",
    "evidence": "Salt rose by 4% where roads were near, over 3 years in 12 rivers.",
    "method": "Buoys that report every hour measured salt in the rivers for 3 years.",
    "scope": "The study covers 12 rivers of the northern plain, winter included.",
    "limitation": "The authors did not study lakes of the northern plain.",
    "comparison": "Earlier surveys of salt in rivers did not include winter.",
    "implication": ABSENT,
    "novelty": ABSENT,
}


def a_case(number: int = 1, field: str = "agents", **annotation: str) -> Case:
    """A case whose abstract differs from every other number's."""
    return Case(
        id=f"c{number}",
        field=field,
        title=f"Salt {number}",
        abstract=f"{ABSTRACT} Site {number}.",
        gold=GOLD | annotation,
    )


def write_cases(path: Path, cases: Sequence[Case]) -> Path:
    lines = [json.dumps(case.model_dump(by_alias=True)) for case in cases]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def scripted(path: Path, replies: Sequence[Any], **capabilities: bool) -> str:
    """The address of a model that gives these replies in turn: texts, annotations, or objects of `Scripted`."""
    lines: list[Any] = [{"capabilities": {"native_tools": False, **capabilities}}]
    for reply in replies:
        known = isinstance(reply, dict) and ("content" in reply or "error" in reply)
        text = reply if isinstance(reply, str) else json.dumps(reply)
        lines.append(reply if known else {"content": text})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return f"scripted:{path}"


def write_base(path: Path) -> Path:
    """A GGUF file with a header and no weights: it can be looked at, not loaded."""
    entries = [
        (b"general.architecture", struct.pack("<IQ5s", 8, 5, b"llama")),
        (b"llama.context_length", struct.pack("<II", 4, 2048)),
    ]
    body = b"".join(struct.pack("<Q", len(key)) + key + value for key, value in entries)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, len(entries)) + body)
    return path


def add_specialist(data: Path, base: Path, version: str, documents: Sequence[str] | None) -> Path:
    """The folder of a specialist `annotator` for a base; its weights are any bytes, since nothing here loads them."""
    folder = data / "specialists" / "annotator" / version
    folder.mkdir(parents=True)
    weights = b"GGUF of " + version.encode()
    (folder / "adapter.gguf").write_bytes(weights)
    card = {
        "name": "annotator",
        "skill": "annotate",
        "version": version,
        "base": {"name": base.stem, "sha256": hashlib.sha256(base.read_bytes()).hexdigest()},
        "adapter": {"sha256": hashlib.sha256(weights).hexdigest()},
        "dataset": {} if documents is None else {"documents": list(documents)},
        "status": "candidate",
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder

"""The shipped cases of acting: how many of each kind, and the file that holds them.

    python -m evals.simulated.suite

writes `evals/cases/acting/` anew; the same families give the same files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random

from evals.simulated.case import Case, Kind, as_jsonl
from evals.simulated.pools import Split
from evals.simulated.scenarios import make

FOLDER = Path(__file__).parent.parent / "cases" / "acting"
COUNTS: Mapping[Kind, int] = {
    "single": 22,
    "parallel": 12,
    "chained": 16,
    "conditional": 8,
    "several": 10,
    "none": 30,
    "missing": 12,
    "retry": 8,
    "corrected": 6,
    "outage": 4,
    "private": 10,
    "edit": 12,
    "todo": 10,
    "phases": 8,
    "beads": 10,
    "delegate": 8,
    "alone": 6,
}
"""Of the test split; the dev split has half of each."""


def path(split: Split) -> Path:
    """The file of a split's cases."""
    return FOLDER / f"acting-{split}.jsonl"


def cases(split: Split) -> list[Case]:
    """The cases of a split, no two with the same task, in an order in which the first of them are a sample of all."""
    found: dict[str, Case] = {}
    for kind, count in COUNTS.items():
        wanted = len(found) + (count if split == "test" else count // 2)
        number = 0
        while len(found) < wanted:
            case = make(kind, split, str(number := number + 1))
            found.setdefault(f"{case.task} {case.instructions}" if kind != "beads" else case.id, case)
    mixed = list(found.values())
    Random(split).shuffle(mixed)
    return mixed


def main() -> None:
    splits: tuple[Split, ...] = ("dev", "test")
    for split in splits:
        text = as_jsonl(cases(split))
        path(split).parent.mkdir(parents=True, exist_ok=True)
        path(split).write_text(text, encoding="utf-8")
        print(f"{path(split)}: {text.count(chr(10))} cases")


if __name__ == "__main__":
    main()

"""Two abstracts annotated by hand, and rows made of them, for the tests of the curator and of the copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skills.annotate.framework import load
from training.curation.subject import Subject
from training.dataset.sources import annotated
from training.rows import Row, document_key

FRAMEWORK = load("eight-moves")
ABSENT = FRAMEWORK.absent
_OWN = {
    row["id"]: row["abstract"]
    for row in map(json.loads, (Path(__file__).parents[1] / "data/abstracts.jsonl").read_text("utf-8").splitlines())
}
BEAMS, REVIEWERS, SHEETS = _OWN["own-01"], _OWN["own-03"], _OWN["own-04"]
BEAMS_MOVES = {
    "claim": "The authors introduce StripeBeam, a decoder for beam search over small translation models.",
    "evidence": "StripeBeam is 2.7 times faster than the standard decoder at beam width 8 and gives identical output.",
    "method": "The caches of all beams are stored in one interleaved buffer, and only the rows that change are copied.",
    "scope": "It applies to four language pairs and translation models of 30M to 110M parameters.",
    "limitation": "The gain falls to 1.1 times at beam width 2, and models above 1B parameters were not tested.",
    "comparison": "Earlier reordering schemes need custom kernels, and the standard decoder is 2.7 times slower.",
    "implication": ABSENT,
    "novelty": "Unlike earlier reordering schemes, it needs no custom kernels.",
}
REVIEWERS_MOVES = {
    "claim": "Reviewers fixated on tests that language models write less than on others, and missed faults in them.",
    "evidence": "Generated tests got 38% less time and twice as many seeded faults were missed.",
    "method": "The eye movements of 46 professional reviewers were logged while they judged 12 pull requests.",
    "scope": "The study covers 46 professional reviewers and 12 pull requests with generated tests.",
    "limitation": "The participants all worked in two companies, and the requests were written only for the study.",
    "comparison": ABSENT,
    "implication": "Review tools should show coverage beside generated tests rather than mark their origin.",
    "novelty": ABSENT,
}


def beams(**moves: str) -> Subject:
    """The first paper's annotation, with some moves said otherwise."""
    return Subject(BEAMS, BEAMS_MOVES | moves, FRAMEWORK)


def reviewers(**moves: str) -> Subject:
    """The second paper's annotation, with some moves said otherwise."""
    return Subject(REVIEWERS, REVIEWERS_MOVES | moves, FRAMEWORK)


def a_row(subject: Subject, **provenance: Any) -> Row:
    """A subject as an unfiltered training row."""
    made = annotated(
        subject.abstract,
        subject.annotation,
        subject.framework,
        source="unfiltered",
        provenance=provenance,
        where="here",
    )
    return made.row


def write_gold(path: Path) -> Path:
    """Both papers with their annotations, as a gold file."""
    pairs = ((BEAMS, BEAMS_MOVES), (REVIEWERS, REVIEWERS_MOVES))
    lines = [
        json.dumps({"id": document_key(abstract)[:6], "abstract": abstract, "annotation": moves})
        for abstract, moves in pairs
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path

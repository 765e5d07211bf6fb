"""More rows for annotate from gold ones: an abstract without one of its sentences, or with the noise of real texts.

Without a sentence, the moves that only it supported become the absent text, and the others stay; so a model sees the
same paper with and without its results, and must look before it writes. A move is lost if at most LOST of its supported
words are left, and stays if at least KEPT are; a sentence whose loss leaves a move between the two makes no row.
Measured on gold: 4 in 5 moves stay when any one sentence goes; of the moves that one sentence supports to three
quarters, half are lost without it, and 4 in 10 lie between (the topic's words come again and again). Reading such rows
showed that words are not enough: another sentence with a result serves as evidence, and something always serves as
method and scope. So only the moves in MAY_GO are ever lost, and only if no sentence that is left reads like one.

With noise, what extraction leaves in abstracts is put into one: dollar signs, TeX commands, broken lines, ligatures.
The annotation stays. Copies keep their original's document key, so that no split parts them, and are for training only.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skills.annotate.explain import split_sentences
from skills.annotate.framework import Framework
from skills.annotate.validate import check, grounded, stated, supported_share
from training.curation.outputs import Output, from_file, from_rows
from training.curation.subject import cue_count
from training.dataset.sources import annotated
from training.rows import Row

LOST = 0.5
KEPT = 0.9
MAY_GO: Mapping[str, int] = {"evidence": 1, "comparison": 2, "limitation": 2, "implication": 2, "novelty": 2}
"""The moves that gold leaves out in more than one abstract of ten. A sentence with so many words that speak for a move
could serve as it."""
FEWEST_SENTENCES = 3
"""Of an abstract that one is taken from."""
NOISE = 6
"""Places of an abstract that noise is put into."""


@dataclass(slots=True)
class Copies:
    """Rows that were made, and what became of all that was tried."""

    rows: list[Row] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def told(self) -> str:
        """The counts, as a person reads them."""
        made = ", ".join(f"{count} {kind}" for kind, count in sorted(self.made.items())) or "none"
        refused = ", ".join(f"{count} {why}" for why, count in self.refused.most_common()) or "none"
        return f"made: {made}; refused: {refused}"


def recombined(path: Path, each: int, seed: int) -> Copies:
    """Copies of a file's annotations.

    Args:
        path: annotations (JSONL, CSV) or training rows of the skill annotate: only of what is trained on.
        each: copies of each kind from one annotation, at most.
        seed: of every choice; the same file and seed give the same rows.

    Raises:
        InputError: the file cannot be read or holds no annotation.
    """
    rows = path.suffix.lower() == ".jsonl" and '"messages"' in path.read_text(encoding="utf-8")[:20_000]
    return copies(from_rows(path) if rows else from_file(path), each, seed)


def copies(originals: Iterable[Output], each: int, seed: int) -> Copies:
    """Copies of annotations; see `recombined`. Only what keeps every rule of the validators becomes a row."""
    found = Copies()
    for original in originals:
        subject = original.subject
        chance = random.Random(f"{seed} {original.document}")
        cut = list(shortened(subject.abstract, subject.annotation, subject.framework))
        chance.shuffle(cut)
        for abstract, annotation, note in cut[:each]:
            _add(found, original, "shortened", abstract, annotation, note)
        for number in range(each):
            abstract = noisy(subject.abstract, random.Random(f"{seed} {number} {original.document}"))
            _add(found, original, "noisy", abstract, subject.annotation, {"number": number})
    return found


def shortened(
    abstract: str, annotation: Mapping[str, str], framework: Framework
) -> Iterator[tuple[str, dict[str, str], dict[str, object]]]:
    """The abstract without one sentence, for each sentence whose loss says clearly what becomes of every move.

    Args:
        abstract: the text.
        annotation: its moves, by key.
        framework: the moves' order and the absent text.

    Returns:
        The shorter text, its moves, and a note: the sentence's place from 0, and the moves that went with it.
    """
    sentences = split_sentences(abstract)
    for place in range(len(sentences)) if len(sentences) > FEWEST_SENTENCES else ():
        rest = " ".join(sentences[:place] + sentences[place + 1 :])
        lost = _lost(stated(annotation, framework), abstract, rest)
        if lost is None or not all(_gone(key, rest) for key in lost):
            continue
        moves = {key: framework.absent if key in lost else annotation[key] for key in framework.keys}
        yield rest, moves, {"sentence": place, "lost": lost}


def _lost(moves: Mapping[str, str], abstract: str, rest: str) -> list[str] | None:
    """The moves that a cut takes away; None if that is not clear of every one."""
    lost = []
    for key, text in moves.items():
        left = supported_share(text, rest) / (supported_share(text, abstract) or 1)
        if left <= LOST:
            lost.append(key)
        elif left < KEPT or not grounded(text, rest):
            return None
    return lost


def _gone(key: str, rest: str) -> bool:
    """Whether a move whose words are gone may be called absent: nothing that is left could serve as it."""
    return key in MAY_GO and all(cue_count(sentence, key) < MAY_GO[key] for sentence in split_sentences(rest))


def noisy(abstract: str, chance: random.Random) -> str:
    """The abstract with what extraction leaves in texts, in a few places. No word and no number is lost."""
    for change in chance.choices(CHANGES, k=NOISE):
        abstract = change(abstract, chance)
    return abstract


def _one(pattern: str, put: Callable[[re.Match[str]], str]) -> Callable[[str, random.Random], str]:
    """A change of one place, chosen by chance, that fits a pattern; none if nothing fits."""
    wanted = re.compile(pattern)

    def change(text: str, chance: random.Random) -> str:
        places = list(wanted.finditer(text))
        if not places:
            return text
        match = chance.choice(places)
        return text[: match.start()] + put(match) + text[match.end() :]

    return change


CHANGES: Sequence[Callable[[str, random.Random], str]] = (
    _one(r"(?<![\w$.])\d+(?:[.,]\d+)*(?![\w$.])", lambda match: f"${match[0]}$"),
    _one(r"(?<=\d)%", lambda match: "\\%"),
    _one(r"(?<=[a-z,]) (?=[a-z])", lambda match: "\n"),
    _one(r"(?<=[.,]) (?=\w)", lambda match: "  "),
    _one(r"\b[A-Z][a-z]+[A-Z]\w*\b", lambda match: f"\\textit{{{match[0]}}}"),
    _one(r"(?<=[a-z])(?=[.,] )", lambda match: "~\\cite{key}"),
    _one(r"(?<=[a-z]{5})fi(?=[a-z])|(?<=[a-z]{5})fl(?=[a-z])", lambda match: {"fi": "ﬁ", "fl": "ﬂ"}[match[0]]),
    _one(r"(?<=[a-z])-(?=[a-z])", lambda match: "\N{NON-BREAKING HYPHEN}"),
)
"""The kinds of noise. A ligature stands only after five letters, by which a word is found again."""


def _add(
    found: Copies, original: Output, kind: str, abstract: str, annotation: Mapping[str, str], note: Mapping[str, object]
) -> None:
    subject = original.subject
    findings = check(annotation, abstract, subject.framework)
    if findings or abstract == subject.abstract:
        found.refused[f"{kind}: {findings[0].rule if findings else 'not changed'}"] += 1
        return
    provenance = {"derived_from": original.id, "kind": kind, **note, "framework": subject.framework.name}
    made = annotated(
        abstract, annotation, subject.framework, source="synthetic", provenance=provenance, where=original.id
    )
    found.made[kind] += 1
    found.rows.append(made.row.model_copy(update={"document": original.document}))

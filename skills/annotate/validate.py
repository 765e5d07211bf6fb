"""What makes an annotation valid, and the measures by which annotations are scored everywhere.

A validator only rejects: what passes is well-formed and near the abstract, not yet right. `words`, `numbers`,
`supported_share` and `token_f1` are the definitions that `evals` and `training` use too.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from skills.annotate.framework import Framework, Move

Rule = Literal["parse", "moves", "order", "empty", "absent", "length", "number", "support", "alike", "cut"]
STOP_WORDS = frozenset(
    """
    a an the of to in on for and or that this these those is are was were be been by with as at from its it their they
    them which who
    """.split()  # noqa: SIM905 (a list of quoted words says no more)
)
WORD = re.compile(r"[a-z0-9][a-z0-9\-\.%]*[a-z0-9%]|[a-z0-9]")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
STEM = 5
"""A word is supported if a word of the abstract begins with its first so many letters."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule that an annotation breaks. `move` is empty if it concerns the whole; `message` is for people.

    A doubt leaves the annotation valid: its form and its numbers hold, its content may be poor. It is told, and tried
    again, like any finding.
    """

    rule: Rule
    move: str
    message: str

    @property
    def doubt(self) -> bool:
        return self.rule in ("support", "alike", "cut")


def words(text: str) -> list[str]:
    """The content words of a text, in small letters, in order."""
    return [found for found in WORD.findall(text.lower()) if found not in STOP_WORDS]


def numbers(text: str) -> list[str]:
    """The numbers of a text without their commas, in order. Numbers written as words are not covered."""
    return [found.replace(",", "") for found in NUMBER.findall(text)]


def supported(word: str, abstract_words: list[str]) -> bool:
    """Whether a word of the abstract begins with this word's first five letters."""
    return any(other.startswith(word[:STEM]) for other in abstract_words)


def supported_share(text: str, abstract: str) -> float:
    """The share of a move's content words that the abstract supports, 0 to 1; 0 if it has no words."""
    own, given = words(text), words(abstract)
    return sum(supported(word, given) for word in own) / len(own) if own else 0.0


def ungrounded(text: str, abstract: str) -> list[str]:
    """The numbers of a text that are not the abstract's."""
    given = set(numbers(abstract))
    return [number for number in numbers(text) if number not in given]


def grounded(text: str, abstract: str) -> bool:
    """Whether every number of a text is one of the abstract's."""
    return not ungrounded(text, abstract)


def token_f1(text: str, other: str) -> float:
    """The overlap of two texts' content words: twice the shared ones over the sum of both lengths, 0 to 1."""
    own, theirs = Counter(words(text)), Counter(words(other))
    total = own.total() + theirs.total()
    return 2 * (own & theirs).total() / total if total else 0.0


def stated(annotation: Mapping[str, str], framework: Framework) -> dict[str, str]:
    """The moves that say something, in the framework's order."""
    texts = {key: annotation[key] for key in framework.keys if isinstance(annotation.get(key), str)}
    return {key: text for key, text in texts.items() if text.strip() and text != framework.absent}


def check(annotation: Mapping[str, Any], abstract: str, framework: Framework) -> list[Finding]:
    """Everything that is wrong with an annotation; empty if it is valid.

    Args:
        annotation: moves by key, as a model gave them.
        abstract: what it must be grounded in.
        framework: the moves that it must have and their limits.
    """
    findings = _shape(annotation, framework)
    for key, text in stated(annotation, framework).items():
        findings += _move(framework.move(key), text, abstract, framework)
    return findings + _alike(stated(annotation, framework), framework)


def told(findings: Sequence[Finding]) -> list[str]:
    """What people read: one sentence for all moves with unsupported words, one for all that repeat the same move."""
    weak = [finding.move for finding in findings if finding.rule == "support"]
    sentences = [f"too many words of {_listed(weak)} are not the abstract's"] if weak else []
    first: dict[str, str] = {}
    for finding in findings:
        if finding.rule == "alike":
            first.setdefault(finding.move, finding.message.rpartition(" ")[2])
        elif finding.rule != "support":
            sentences.append(finding.message)
    for repeated in dict.fromkeys(first.values()):
        moves = [move for move, earlier in first.items() if earlier == repeated]
        sentences.append(f"{_listed(moves)} {'repeat' if len(moves) > 1 else 'repeats'} {repeated}")
    return sentences


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def parse(text: str) -> tuple[dict[str, Any], list[Finding]]:
    """Find the annotation in what a model wrote.

    A code fence or a sentence around the object, and line breaks inside its strings, are tolerated; a reply that
    breaks off is not.

    Returns:
        The object, empty if there is none, and then a finding that says why.
    """
    decoder = json.JSONDecoder(strict=False)
    problem = "the reply holds no JSON object"
    for start in (place for place, char in enumerate(text) if char == "{"):
        try:
            found, _ = decoder.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError) as error:
            problem = f"the reply is not valid JSON: {getattr(error, 'msg', 'nested too deeply')}"
            continue
        if found:
            return found, []
        problem = "the reply is an empty object"
    return {}, [Finding("parse", "", problem)]


def _shape(annotation: Mapping[str, Any], framework: Framework) -> list[Finding]:
    """The moves: all there, no others, in order, each a text, and the absent text spelled exactly."""
    keys = framework.keys
    missing = [key for key in keys if key not in annotation]
    unknown = [key for key in annotation if key not in keys]
    findings = [Finding("moves", key, f"the move {key!r} is missing") for key in missing]
    findings += [Finding("moves", "", f"there is no move {key!r}") for key in unknown]
    present = [key for key in annotation if key in keys]
    if present != [key for key in keys if key in annotation]:
        findings.append(Finding("order", "", f"the moves are not in the order {', '.join(keys)}"))
    for key in present:
        findings += _text(framework.move(key), annotation[key], framework.absent)
    return findings


def _text(move: Move, text: Any, absent: str) -> list[Finding]:
    if not isinstance(text, str) or not text.strip():
        return [Finding("empty", move.key, f"{move.key} holds no text")]
    if text == absent:
        return [Finding("absent", move.key, f"{move.key} is always stated")] if move.required else []
    if text.strip().lower().startswith(absent.removesuffix(".").lower()):
        return [Finding("absent", move.key, f"{move.key} is either exactly {absent!r} or says what is stated")]
    return []


def _move(move: Move, text: str, abstract: str, framework: Framework) -> list[Finding]:
    """The rules for one stated move: its length, its numbers, its words."""
    findings = [
        Finding("number", move.key, f"{move.key}: the number {number} is not in the abstract")
        for number in dict.fromkeys(ungrounded(text, abstract))
    ]
    length = len(text.split())
    if not move.min_words <= length <= move.max_words:
        limits = f"{move.min_words} to {move.max_words}"
        findings.append(Finding("length", move.key, f"{move.key} has {length} words, {limits} are allowed"))
    share = supported_share(text, abstract)
    if share < framework.min_support:
        message = f"{move.key}: the abstract supports {share:.0%} of its words, less than {framework.min_support:.0%}"
        findings.append(Finding("support", move.key, message))
    return findings


def _alike(texts: Mapping[str, str], framework: Framework) -> list[Finding]:
    """Pairs of stated moves that say the same; the finding is the later one's."""
    return [
        Finding("alike", second, f"{second} repeats {first}")
        for first, second in combinations(texts, 2)
        if token_f1(texts[first], texts[second]) > framework.max_alike
    ]

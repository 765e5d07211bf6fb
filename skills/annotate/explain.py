"""`--explain`: for each move, the abstract's sentences that it comes from, with the words and numbers that support it
marked in place; in the move itself, what nothing supports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from skills.annotate.framework import Framework
from skills.annotate.validate import STEM, STOP_WORDS, WORD, grounded, stated, supported, words

IN_PLACE = re.compile(WORD.pattern, re.IGNORECASE | re.ASCII)
SENTENCE_START = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!vs\.)(?<!al\.)(?<!Fig\.)\s+(?=[A-Z0-9(\"'“$\\])")
SUPPORTS, UNSUPPORTED = "**", "~~"
"""Around a word of the abstract that supports the move, and around one of the move that nothing supports."""
MOST_SENTENCES = 3


@dataclass(frozen=True, slots=True)
class Support:
    """What stands behind one move.

    Args:
        move: its key.
        text: what it says.
        unsupported: its words that no word of the abstract begins like, and those with a number it does not have.
        share: how many of its words are supported, 0 to 1.
        sentences: the abstract's sentences that its words come from, in the order of the abstract.
    """

    move: str
    text: str
    unsupported: tuple[str, ...]
    share: float
    sentences: tuple[str, ...]


def support(annotation: Mapping[str, str], abstract: str, framework: Framework) -> list[Support]:
    """What stands behind each stated move, in the framework's order."""
    given, sentences = words(abstract), split_sentences(abstract)
    found = []
    for key, text in stated(annotation, framework).items():
        own = words(text)
        missing = [word for word in own if not (supported(word, given) and grounded(word, abstract))]
        share = 1 - len(missing) / len(own) if own else 0.0
        found.append(Support(key, text, tuple(dict.fromkeys(missing)), share, _sources(own, sentences)))
    return found


def explain(annotation: Mapping[str, str], abstract: str, framework: Framework) -> str:
    """Each stated move with its support, as Markdown: support is bold, and what nothing supports is struck out.

    Args:
        annotation: the moves.
        abstract: what they were made from.
        framework: their order.

    Returns:
        The text with a final newline; empty if no move is stated.
    """
    lines = []
    for one in support(annotation, abstract, framework):
        said = _mark(one.text, one.unsupported.__contains__, UNSUPPORTED)
        sources = [_mark(sentence, _supports(one.text), SUPPORTS) for sentence in one.sentences]
        lines += [f"{one.move}: {one.share:.0%} of its words are the abstract's", "", f"- says: {said}"]
        lines += [f"- from: {source}" for source in sources]
        lines.append("")
    return "\n".join(lines)


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, in order, without the spaces between them."""
    return [sentence for sentence in SENTENCE_START.split(text.strip()) if sentence]


def _sources(own: Sequence[str], sentences: Sequence[str]) -> tuple[str, ...]:
    """The sentences that cover a move's words: the one that covers most, then those that add at least two more."""
    left = {word[:STEM] for word in own}
    chosen: set[int] = set()
    while left and len(chosen) < MOST_SENTENCES:
        covers = [{stem for stem in left if any(w.startswith(stem) for w in words(text))} for text in sentences]
        best = max(range(len(sentences)), key=lambda place: len(covers[place]), default=None)
        if best is None or len(covers[best]) < (2 if chosen else 1):
            break
        chosen.add(best)
        left -= covers[best]
    return tuple(sentences[place] for place in sorted(chosen))


def _supports(text: str) -> Callable[[str], bool]:
    """Whether a word of the abstract supports a word of this text."""
    stems = tuple(word[:STEM] for word in words(text))
    return lambda word: word.startswith(stems)


def _mark(text: str, wanted: Callable[[str], bool], mark: str) -> str:
    """The text with a mark on both sides of the content words that are wanted (asked in small letters)."""
    parts, place = [], 0
    for found in IN_PLACE.finditer(text):
        word = found.group().lower()
        if word not in STOP_WORDS and wanted(word):
            parts += [_escaped(text[place : found.start()]), mark, found.group(), mark]
            place = found.end()
    return "".join([*parts, _escaped(text[place:])])


def _escaped(text: str) -> str:
    """The text with what Markdown would read as marks made literal."""
    return re.sub(r"([*_~`\\<])", r"\\\1", text)

"""Words that a model copied wrong: `raldi9@post.example`, where somebody said `rinaldi9@post.example`.

Small models misspell what they copy, and when they are told so they misspell it once more. So a word in a call's
arguments that nobody said, and that can only be meant to be one that somebody did say, is taken for that one. It can if
it has the same numbers and nearly the same letters, and is an address, a code or a name of a file, or stands beside
another word as the right one does. In an answer, which is prose, only addresses, codes and names of files are.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from agent.messages import ToolCall, with_texts

LONGEST = 80
"""Characters of an argument that may be a copy; a longer one is a text of the model's own."""
SHORTEST = 4
"""Letters and digits of a word that can be told from another."""
NEAR = 0.8
"""How much of two words is the same, at least, as difflib counts it: 0 to 1."""
_WORD = re.compile(r"[\w@+][\w@+./-]*[\w+]|\w")
_CODE = re.compile(r"[@_/\d]|\w[.-]\w")


@dataclass(slots=True)
class Heard:
    """The words of what was said so far by the person and the tools, and which of them stood side by side."""

    words: dict[str, str] = field(default_factory=dict)
    pairs: set[tuple[str, str]] = field(default_factory=set)

    def take(self, text: str) -> None:
        """Remember what a person or a tool said."""
        words = _WORD.findall(text)
        folded = [word.casefold() for word in words]
        self.words.update(zip(folded, words, strict=True))
        self.pairs.update(pairwise(folded))

    def corrected(self, call: ToolCall) -> tuple[ToolCall, dict[str, str]]:
        """A call with the words that were said, and what they replace: wrong word to right word."""
        slips: dict[str, str] = {}

        def correct(text: str) -> str:
            found = self._slips(text) if len(text) <= LONGEST else {}
            slips.update(found)
            return _put_right(text, found)

        return replace(call, arguments=with_texts(call.arguments, correct)), slips

    def corrected_answer(self, text: str) -> tuple[str, dict[str, str]]:
        """An answer with the addresses, codes and names of files that were said, and what they replace."""
        slips = self._slips(text, prose=True)
        return _put_right(text, slips), slips

    def _slips(self, text: str, *, prose: bool = False) -> dict[str, str]:
        """The words of a text that are slips, and what they are slips of; in prose only codes can be."""
        words = _WORD.findall(text)
        folded = ["", *(word.casefold() for word in words), ""]
        found = {}
        for place, word in enumerate(words, 1):
            code = bool(_CODE.search(word))
            if len(word) < SHORTEST or folded[place] in self.words or (prose and not code):
                continue
            like = [heard for heard in self.words if _alike(folded[place], heard)]
            near = next(iter(difflib.get_close_matches(folded[place], like, n=1, cutoff=NEAR)), "")
            beside = {(folded[place - 1], near), (near, folded[place + 1])} & self.pairs
            if near and (code or beside):
                found[word] = self.words[near]
        return found


def _put_right(text: str, slips: Mapping[str, str]) -> str:
    return _WORD.sub(lambda word: slips.get(word[0], word[0]), text)


def _alike(word: str, heard: str) -> bool:
    """Whether one may be meant to be the other: not another number, nor the same word with another ending, or written
    with other signs (2032/06/06)."""
    same = word[0] == heard[0] and abs(len(word) - len(heard)) <= 3 and _only(str.isdigit, word, heard)
    return same and not _only(str.isalpha, word, heard) and not word.startswith(heard) and not heard.startswith(word)


def _only(kind: Callable[[str], bool], word: str, heard: str) -> bool:
    """Whether two words have the same letters, or the same digits."""
    return list(filter(kind, word)) == list(filter(kind, heard))

"""Grounded decoding: the reply as a template whose holes are grammars made from one abstract.

What a grammar refuses cannot be generated, so a number that is not in the abstract never comes up. The levels:

- `none`: any text that fits into a JSON string.
- `numbers`: digits appear only as whole numbers of the abstract (also without their commas); characters beyond ASCII
  only if the abstract has them.
- `words`: also, every run of letters is a word of the abstract (with a simple ending, if any), a function word, or a
  word with which an annotation speaks about a paper (`skills/annotate/lexicon.py`).

At every level a move has as many words as its framework allows, ends with a full stop, and is either the absent text
as a whole or does not begin with it. The grammars are right-linear automata and letter tries, because llama.cpp
checks a token against every open alternative: a plain list of words is slower than the model.

The rules' names: `c` is a chunk of text without spaces; `t` what follows an ordinary character in it, `n` a number,
`p` a number and its point or comma, `v` a word, `x` a word that may take an ending; `wK` is the move from its K-th
chunk on, `fK` what follows that chunk; `aI` the move after the first I characters of the absent text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.models.base import Fixed, Hole
from agent.settings import Grounding
from skills.annotate.framework import Framework, Move
from skills.annotate.lexicon import END, ENDINGS, LONGEST, Trie, word_trie

WORDS_PER_TOKEN = 0.6
"""A move gets no more words than fit into its tokens at this rate, so that it ends before it is cut. (Annotations by
hand have 0.79 words a token at the median, 0.55 at the 5th percentile.)"""
PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
ESCAPED = r'"\x5C" [\x22\x5C]'
"""The two characters that JSON strings escape, `"` and the backslash; no other escape is allowed."""


def template(
    framework: Framework,
    abstract: str,
    grounding: Grounding,
    max_move_tokens: int,
    keep: Mapping[str, str] | None = None,
) -> list[Fixed | Hole]:
    """The reply as literals and holes: `{"claim": "...", "evidence": "...", ...}`, in json.dumps' separators.

    A hole's closing `",` belongs to its grammar and the next literal starts with ` "`, as the tokenizers of the GPT-2
    family cut such text by themselves (`.",` is one token), so nothing is forced that a model would write otherwise.

    Args:
        framework: the moves.
        abstract: what the moves must be grounded in.
        grounding: the level.
        max_move_tokens: after so many tokens a move is closed.
        keep: moves, by key, that are already good: they become literals and are not generated again.

    Returns:
        Literals and holes in turn.
    """
    chunks = _chunks(abstract, grounding)
    chunk_rules = chunks.rules()
    made: dict[tuple[int, int, bool, str], str] = {}
    pieces: list[Fixed | Hole] = []
    literal = "{"
    for number, move in enumerate(framework.moves, start=1):
        close = '"}' if number == len(framework.moves) else '",'
        kept = (keep or {}).get(move.key)
        if kept is None:
            most = min(move.max_words, max(move.min_words, math.ceil(max_move_tokens * WORDS_PER_TOKEN)))
            kind = (move.min_words, most, move.required, close)
            if kind not in made:
                made[kind] = _move_rules(move, framework.absent, close, most, chunks) + chunk_rules
            pieces += [Fixed(f'{literal}"{move.key}": "'), Hole(made[kind], close, max_move_tokens)]
            literal = " "
        else:
            literal += f'"{move.key}": {json.dumps(kept, ensure_ascii=False)[:-1]}{close} '
    return [*pieces, Fixed(literal[:-1])] if len(literal) > 1 else pieces


def number_tokens(text: str) -> list[str]:
    """The numbers of a text, whole: digits, with points or commas only between digits.

    Superscripts, fractions and circled digits count as digits here, so that `10²` is one number.
    """
    marked = "".join("0" if char.isnumeric() or char.isdecimal() else "," if char in ".," else " " for char in text)
    return [text[found.start() : found.end()] for found in re.finditer("0+(?:,0+)*", marked)]


@dataclass(frozen=True, slots=True)
class _Chunks:
    """What a chunk of text without spaces is made of, at one level.

    Args:
        plain: the ordinary characters, besides the two that JSON escapes; None is every character but controls.
        numbers: the numbers as they may be written; none where digits are ordinary characters.
        words: the words as a trie; None where letters are ordinary characters.
    """

    plain: str | None
    numbers: Trie
    words: Trie | None

    def rules(self) -> str:
        """The rules `c`, `t`, `n`, `p`, `v`, `x` and what they need."""
        lines = [f"o ::= {self._ordinary()}", 't ::= c | ""', f"c ::= {self.starts('')}"]
        word = " | word" if self.words is not None else ""
        if self.numbers:
            lines += [
                f"number ::= {_alternatives(self.numbers)}",
                f'n ::= [.,] p | {self._ordinary(without=".,")} t{word} | ""',
                f'p ::= o t{word} | ""',
            ]
        if self.words is not None:
            number = " | number" if self.numbers else ""
            endings = " | ".join(f"{_literal(ending)} v" for ending in ENDINGS)
            lines += [f'v ::= o t{number} | ""', f"x ::= v | {endings}", f"word ::= {self._branches('')}"]
            lines += [f"b{place} ::= {_branch(key, child)}" for place, (key, child) in enumerate(self.words.items())]
        return "\n".join(lines) + "\n"

    def starts(self, without: str, after: str = "") -> str:
        """The alternatives for the rest of a chunk, not empty, that do not begin with a character of `without`.

        Args:
            without: both cases of a letter; empty excludes nothing.
            after: the letters since the last space, which a word has to continue; empty at the chunk's start.
        """
        found: list[str] = []
        if self.may_end(after) or not after:
            found += [f"{self._ordinary(without)} t" if without else "o t"]
            found += ["number"] if self.numbers else []
        if self.words is None:
            return " | ".join(found)
        if not after:
            return " | ".join([*found, self._branches(without)])
        for node in _reached(self.words, after):
            rest = {key: child for key, child in node.items() if key != END and not set(key) & set(without)}
            found += [_alternatives(rest)] if rest else []
            if "x" in node.get(END, ()):
                found += [f"{_literal(ending)} v" for ending in ENDINGS if ending[0] not in without]
        return " | ".join(found)

    def may_end(self, letters: str) -> bool:
        """Whether a chunk may end after these letters, at its start."""
        return bool(letters) and (self.words is None or any(END in node for node in _reached(self.words, letters)))

    def _branches(self, without: str) -> str:
        """The words by their first letters: the rules `b0`, `b1`, ..."""
        keys = enumerate(self.words or ())
        return " | ".join(f"b{place}" for place, key in keys if not set(key) & set(without))

    def _ordinary(self, without: str = "") -> str:
        if self.plain is None:
            return f"([^\\x00-\\x20\\x22\\x5C\\x7F{_inside(without)}] | {ESCAPED})"
        return f"([{_inside(''.join(char for char in self.plain if char not in without))}] | {ESCAPED})"


def _chunks(abstract: str, grounding: Grounding) -> _Chunks:
    if grounding == "none":
        return _Chunks(None, {}, None)
    beyond = {char for char in abstract if ord(char) > 0x7F and char.isprintable() and not char.isspace()}
    plain = [char for char in (*PRINTABLE, *sorted(beyond)) if not char.isnumeric() and char not in '"\\']
    if grounding == "numbers":
        return _Chunks("".join(plain), _number_trie(abstract), None)
    return _Chunks("".join(char for char in plain if not char.isalpha()), _number_trie(abstract), word_trie(abstract))


def _number_trie(abstract: str) -> Trie:
    trie: Trie = {}
    for number in sorted(set(number_tokens(abstract))):
        for form in {number, number.replace(",", "")}:
            node = trie
            for char in form if len(form) <= LONGEST else "":
                node = node.setdefault(char, {})
            if node is not trie:
                node[END] = ["n"]
    return trie


def _reached(trie: Trie, letters: str) -> list[Trie]:
    """The nodes that lie behind these letters, in any case."""
    nodes = [trie]
    for letter in letters:
        cases = _cases(letter)
        nodes = [child for node in nodes for key, child in node.items() if set(key) & set(cases)]
    return nodes


def _alternatives(trie: Trie) -> str:
    """A trie as an expression in parentheses; each word is followed by the rules under its END."""
    found = [*trie.get(END, ()), *(_branch(key, child) for key, child in trie.items() if key != END)]
    return f"({' | '.join(found)})" if len(found) > 1 else found[0]


def _branch(key: str, child: Trie) -> str:
    """One edge of a trie and what lies behind it; edges without a fork become one literal."""
    text = ""
    if len(key) > 1:
        text = f"[{_inside(key)}] "
        key = ""
    while len(child) == 1 and END not in child:
        ((letter, child),) = child.items()
        key += letter
    return f"{text}{_literal(key) if key else ''} {_alternatives(child)}"


def _move_rules(move: Move, absent: str, close: str, most: int, chunks: _Chunks) -> str:
    """The rules for a move's words, up to the text that closes it."""
    absent_or_text = "a0" if move.required else f"{_literal(absent + close)} | a0"
    lines = [f"root ::= {absent_or_text}", f'end ::= "." {_literal(close)}']
    for count in range(1, most + 1):
        after = [f'" " w{count + 1}'] if count < most else []
        lines += [f"w{count + 1} ::= c f{count + 1}"] if count < most else []
        after += ["end"] if count >= move.min_words else []
        lines.append(f"f{count} ::= {' | '.join(after)}")
    return "\n".join([*lines, *_not_absent(absent.removesuffix("."), move.min_words, most, chunks)]) + "\n"


def _not_absent(text: str, least: int, most: int, chunks: _Chunks) -> list[str]:
    """Rules `a0`, `a1`, ... for a move that does not begin with the absent text, in capitals or not.

    Rule aI stands after I characters of it: it follows the text by one more character, or leaves it for good.
    """
    rules: list[str] = []
    for place, letter in reversed(list(enumerate(text))):
        before = text[:place].rpartition(" ")[2]
        chunk = text.count(" ", 0, place) + 1
        leaving = chunks.starts(_cases(letter), before)
        found = [f"({leaving}) f{chunk}"] if leaving else []
        if chunks.may_end(before):
            found += [f'" " w{chunk + 1}'] if letter != " " and chunk < most else []
            found += ["end"] if chunk >= least else []
        if rules and (letter != " " or chunk < most):
            found.append(f"[{_inside(_cases(letter))}] a{place + 1}")
        if chunk <= most:
            rules += [f"a{place} ::= {' | '.join(found)}"] if found else []
    return rules


def _cases(letter: str) -> str:
    """A letter in both cases, where each is one character."""
    return "".join(sorted({case for case in (letter, letter.lower(), letter.upper()) if len(case) == 1}))


def _literal(text: str) -> str:
    return f'"{_inside(text)}"'


def _inside(text: str) -> str:
    """A text inside a GBNF literal or character class: all but ASCII letters, digits and spaces by code."""
    return "".join(char if char.isascii() and (char.isalnum() or char == " ") else _code(char) for char in text)


def _code(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02X}" if number <= 0xFF else f"\\u{number:04X}" if number <= 0xFFFF else f"\\U{number:08X}"

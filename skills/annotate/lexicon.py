"""The words that an annotation may use at the grounding level `words`, as a letter trie.

Words are runs of letters: those of the abstract, those with simple endings, function words, and the words with which
an annotation speaks about a paper (authors, applies, covers).
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

Trie = dict[str, Any]
"""Nodes by the letters that lead there (one, or both cases of it); END lists the rules that may follow the word."""
END = ""
LONGEST = 48
"""Longer words are not offered: nobody repeats them, and each makes the trie deeper."""
ENDINGS = ("ing", "ed", "es", "s", "e")

FUNCTION_WORDS = """
a about above across after against all along although am among an and another any are around as at away be because
been before being below between beyond both but by can cannot could despite did do does doing done down due during
each either else enough even ever every few for from further had has have having he hence her here high how however i
if in instead into is it its itself just least less like made make makes many may might more moreover most much must
namely near need neither never no nor not of off often on once one only onto or other others otherwise our out over
own per rather s same several shall she should since so some still such than that the their them then there thereby
these they this those three through throughout thus to together too toward towards two under unlike until up upon
using very via was we well were what when where whereas whether which while who whom whose why will with within
without would yet
""".split()  # noqa: SIM905 (a list of quoted words says no more)
FRAME_WORDS = """
aim aims analyses analysis analyze analyzes applied applies apply approach argue argues article author authors based
cause causes compare compared compares comparison concern concerned concerning concerns consider considers covered
covering covers demonstrate demonstrates describe describes design develop developed develops discuss discusses
earlier effect effects evaluate evaluated evaluates evidence examine examined examines existing experiments find
finding findings finds first focus focuses given gives help helps identify identifies improve improved improves include
included includes including introduce introduced introduces investigate investigated investigates lack lacks
limitation limitations limited measured method methods model models new novel observed offer offers paper present
presented presents previous prior problem propose proposed proposes provide provided provides reduce reduced reduces
related report reported reports research result results review reviews set show showed showing shown shows similar
studied studies study suggest suggests support supports survey system take takes target targets task tasks test tested
tests use used uses work works yield yields
""".split()  # noqa: SIM905 (a list of quoted words says no more)


def letter_runs(text: str) -> list[str]:
    """The runs of letters of a text, in order."""
    return ["".join(run) for is_letter, run in groupby(text, str.isalpha) if is_letter]


def word_trie(abstract: str) -> Trie:
    """The trie of the words of one abstract and of the words that every annotation may use.

    Words in small letters, or with a first capital only, may begin with either; others (LLM, TinyLlama) stand as they
    are. A word that may take a simple ending is followed by the rule `x`, others by `v`.
    """
    trie: Trie = {}
    for word in (*FUNCTION_WORDS, *FRAME_WORDS):
        _insert(trie, _symbols(word), "v")
    for word in sorted(set(letter_runs(abstract))):
        if len(word) > LONGEST:
            continue
        if word[1:] == word[1:].lower() and len(word[0].upper()) == 1:
            for stem in _stems(word):
                _insert(trie, _symbols(stem), "x" if len(stem) >= 4 else "v")
        else:
            _insert(trie, list(word), "x" if len(word) >= 3 else "v")
    return trie


def _symbols(word: str) -> list[str]:
    lower, upper = word[0].lower(), word[0].upper()
    return [lower if lower == upper else lower + upper, *word[1:]]


def _stems(word: str) -> list[str]:
    """The word, and it without a simple ending, where at least four letters are left."""
    stems = [word.removesuffix(end) for end in ENDINGS if word.endswith(end)]
    stems += [word.removesuffix("ies") + "y"] if word.endswith("ies") else []
    return [word, *(stem for stem in stems if len(stem) >= 4)]


def _insert(trie: Trie, symbols: list[str], rule: str) -> None:
    for symbol in symbols:
        trie = trie.setdefault(symbol, {})
    rules = trie.setdefault(END, [])
    if rule not in rules:
        rules.append(rule)

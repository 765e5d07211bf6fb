"""Five personas who read an annotation with different eyes. Each has a rubric, rules, and perhaps a judge's eye.

A rule finds what a program can find, and answers with an objection or with nothing. What it cannot see (is this the
method, or a sentence about the method?) is put to a judge model, where there is one: the rubric is its question.
Every limit was set on 1,368 annotations made by hand; of these each persona passes 86 in 100 or more, and three of the
five together 98.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from skills.annotate.validate import NUMBER, check, numbers, supported_share, token_f1, words
from training.curation.subject import Subject, cue_count

Rule = Callable[[Subject], str]
"""Gives an objection, one sentence without a full stop, or nothing."""
CORE = frozenset({"claim", "evidence", "method", "scope"})
SAME = 0.5
"""Token F1 from which a method only says the claim again."""
FROM_ONE_SENTENCE = 0.4
"""Of a move's words, the share that one sentence supports, as a part of what the whole abstract must support."""
REPEATED = 4
"""Words of a phrase that a move may say only once."""
ADDRESSED = re.compile(
    r"\b(?:the|this) abstract\b|^(?:claim|evidence|method|scope|limitation|comparison|novelty)\s*:", re.I
)
MARKUP = re.compile(r"\*\*|^[-*#>]\s|^\d+[.)]\s|[`{}]|\\[a-z]+\{")
OPENS = re.compile(r"[A-Z0-9\"'(“$]|[a-z]+[A-Z0-9]|[^\x00-\x7f]|[a-z]+-")
"""How a sentence begins: a capital, a number, or a name that is written small (mRNA, p-values)."""


@dataclass(frozen=True, slots=True)
class Persona:
    """One reader. `judged` says whether a judge model is asked the rubric where no rule objects."""

    name: str
    rubric: str
    rules: tuple[Rule, ...]
    judged: bool = True

    def objections(self, subject: Subject) -> list[str]:
        """What its rules say against an annotation; empty if nothing."""
        return [said for rule in self.rules if (said := rule(subject))]


def core_is_in_order(subject: Subject) -> str:
    """Claim, method, evidence and scope must not read better with two of them exchanged."""
    return _exchanged(subject, lambda one, other: one in CORE and other in CORE, 2)


def method_differs(subject: Subject) -> str:
    """The method says how; it must not say the claim again."""
    claims = list(subject.playing("claim").values())
    for key, text in subject.playing("method").items():
        if any(token_f1(text, claim) > SAME for claim in claims):
            return f"{key} says the claim again"
    return ""


def draws_on_the_whole(subject: Subject) -> str:
    """Moves that all come from one or two sentences leave most of the paper out."""
    used = len({place for place, _ in subject.sources.values()})
    enough = min(3, len(subject.sentences), len(subject.moves))
    return f"all moves come from {used} of {len(subject.sentences)} sentences" if used < enough else ""


def numbers_in_place(subject: Subject) -> str:
    """A number stands beside words that stand beside it in the abstract, too."""
    for key, text in subject.moves.items():
        for number in dict.fromkeys(numbers(text)):
            homes = [sentence for sentence in subject.sentences if number in numbers(sentence)]
            if not homes:
                return f"{key}: {number} is not a number of the abstract"
            around = _around(text, number)
            if around and max(supported_share(around, home) for home in homes) < 0.5:
                return f"{key}: the abstract does not say {number} of {' '.join(words(around))[:60]}"
    return ""


def figures_are_kept(subject: Subject) -> str:
    """Where the abstract measures something, the evidence has a number."""
    measured = [s for s in subject.sentences if re.search(r"\d", s) and cue_count(s, "evidence") > 1]
    evidence = subject.playing("evidence")
    if not measured or not subject.asked("evidence"):
        return ""
    if not evidence:
        return "the abstract has results in numbers, and no evidence is given"
    return "" if any(numbers(text) for text in evidence.values()) else "the evidence leaves out every number"


def evidence_after_the_start(subject: Subject) -> str:
    """No abstract begins with its results."""
    early = [key for key in subject.playing("evidence") if subject.place(key) < 0.15 and len(subject.sentences) > 2]
    return f"{early[0]} comes from the abstract's first sentence, which is background" if early else ""


def words_are_the_abstracts(subject: Subject) -> str:
    """Each move's words are the abstract's, as far as the framework wants it."""
    least = subject.framework.min_support
    weak = [key for key, text in subject.moves.items() if supported_share(text, subject.abstract) < least]
    return (
        f"{', '.join(weak)}: words that are not the abstract's" if len(weak) > max(1, len(subject.moves) // 4) else ""
    )


def words_belong_together(subject: Subject) -> str:
    """A move comes from a sentence; words gathered from everywhere say what nobody said."""
    least = FROM_ONE_SENTENCE * subject.framework.min_support
    loose = [key for key, (_, share) in subject.sources.items() if share < least]
    return f"{', '.join(loose)}: no sentence of the abstract says this" if loose else ""


def content_fits_its_move(subject: Subject) -> str:
    """Two pairs of moves that read better exchanged, or one that clearly does, stand in the wrong places."""
    doubtful = [pair for pair in subject.exchanges if pair[0] >= 2]
    return _exchanged(subject, lambda one, other: True, 2 if len(doubtful) > 1 else 3)


def form_is_kept(subject: Subject) -> str:
    """The framework's own rules: lengths, the absent text, no two moves alike."""
    found = [
        f for f in check(subject.annotation, subject.abstract, subject.framework) if f.rule not in ("number", "support")
    ]
    return found[0].message if found else ""


def sentences_are_whole(subject: Subject) -> str:
    """A capital at the start, a full stop at the end, plain text, nobody speaking of the abstract."""
    for key, text in subject.moves.items():
        if not OPENS.match(text) or text.rstrip("\"')”")[-1:] not in ".!?":
            return f"{key} is not a whole sentence"
        if MARKUP.search(text) or ADDRESSED.search(text):
            return f"{key} has markup, or speaks of the abstract"
    return ""


def phrases_once(subject: Subject) -> str:
    """A phrase that a move says twice is a model that has lost its way."""
    for key, text in subject.moves.items():
        tokens = text.lower().split()
        phrases = Counter(tuple(tokens[at : at + REPEATED]) for at in range(len(tokens) - REPEATED + 1))
        if phrases and phrases.most_common(1)[0][1] > 1:
            return f"{key} says the same phrase twice"
    return ""


def nobody_speaks(subject: Subject) -> str:
    """`We` and `our` are the authors' own words; an annotation speaks about them."""
    speaking = [key for key, text in subject.moves.items() if re.search(r"\b(?:we|our)\b", text, re.I)]
    return f"{', '.join(speaking)} speak as the authors do" if len(speaking) > 1 else ""


def limitation_is_theirs(subject: Subject) -> str:
    """A limitation that stands in no sentence of the abstract is invented; so is one that names no shortcoming."""
    for key, text in subject.playing("limitation").items():
        place, share = subject.sources[key]
        if share < 0.6 * subject.framework.min_support:
            return f"{key} is stated, and no sentence of the abstract says it"
        if not cue_count(text, "limitation") and not cue_count(subject.sentences[place], "limitation"):
            return f"{key} names nothing that falls short"
        if place == 0 and len(subject.sentences) > 2:
            return f"{key} is what the paper sets out from, not where it falls short"
    return ""


def stated_where_said(subject: Subject) -> str:
    """What abstracts often leave out is stated by words of its own, not by another move's."""
    return _exchanged(subject, lambda one, other: not (one in CORE and other in CORE), 2)


def implication_comes_late(subject: Subject) -> str:
    """What follows is said after what was done."""
    early = [k for k in subject.playing("implication") if subject.place(k) < 0.4 and len(subject.sentences) > 3]
    return f"{early[0]} comes from the abstract's beginning" if early else ""


def enough_is_stated(subject: Subject) -> str:
    """`Not stated.` everywhere is the easy way out."""
    least = max(1, round(len(subject.framework.moves) * 3 / 8))
    return f"only {len(subject.moves)} moves are stated" if len(subject.moves) < least else ""


PERSONAS = (
    Persona(
        "methodologist",
        "You are a methodologist. Pass the annotation only if `claim` says what the paper contributes, `method` says "
        "how it was done (not the contribution again), and `evidence` reports results, not plans.",
        (core_is_in_order, method_differs, draws_on_the_whole),
    ),
    Persona(
        "statistician",
        "You are a statistician. Pass the annotation only if every number means what it means in the abstract, with "
        "the same unit and the same comparison, and the main figures are there.",
        (numbers_in_place, figures_are_kept, evidence_after_the_start),
        judged=False,
    ),
    Persona(
        "domain reader",
        "You know the field. Pass the annotation only if each move holds the right kind of content, in the abstract's "
        "own terms, and a colleague who reads only the moves would not be misled.",
        (words_are_the_abstracts, words_belong_together, content_fits_its_move),
    ),
    Persona(
        "editor",
        "You are an editor. Pass the annotation only if every move is one whole, plain sentence that says one thing, "
        "and no two moves repeat each other.",
        (form_is_kept, sentences_are_whole, phrases_once, nobody_speaks),
        judged=False,
    ),
    Persona(
        "sceptic",
        "You are a sceptic. Pass the annotation only if nothing in it is invented: a limitation, comparison, "
        "implication or novelty that the abstract does not state itself fails, and so does an absent text where the "
        "abstract speaks.",
        (limitation_is_theirs, stated_where_said, implication_comes_late, enough_is_stated),
    ),
)
PASSES = 3
"""So many of the five keep an annotation."""


def _exchanged(subject: Subject, concerns: Callable[[str, str], bool], least: int) -> str:
    """An objection if two moves whose roles are of concern read better, by so many cue words, the other way round."""
    for gain, one, other in subject.exchanges:
        if gain >= least and concerns(subject.role(one), subject.role(other)):
            return f"{one} reads like {other}, and {other} like {one}"
    return ""


def _around(text: str, number: str) -> str:
    """The three words before and after a number, without other numbers."""
    tokens = text.split()
    place = next((at for at, token in enumerate(tokens) if number in numbers(token)), None)
    if place is None:  # the number is split over tokens
        return ""
    near = tokens[max(0, place - 3) : place] + tokens[place + 1 : place + 4]
    return " ".join(token for token in near if not NUMBER.search(token))

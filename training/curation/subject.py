"""What is curated: an annotation beside its abstract, and the questions that rules ask of the two."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from skills.annotate.explain import split_sentences
from skills.annotate.framework import Framework
from skills.annotate.validate import stated, supported_share

ROLES: Mapping[str, Mapping[str, str]] = {
    "eight-sections": {
        "contribution": "claim",
        "evidence_contribution_2": "evidence",
        "detail_nuance": "method",
        "weaker_result": "limitation",
        "narrow_impact": "implication",
        "broad_impact": "implication",
    }
}
"""What the moves of another framework correspond to. Topic and motivation of the older sections correspond to none."""
_CUES = {
    "claim": "paper author propos present introduc article overview describ we aim argue survey review report explor",
    "evidence": "show demonstrat illustrat achiev average signific reduc increas decreas experiment extensiv confirm "
    "reveal correlat superior outperform accura result exhibit found observ higher lower improv",
    "method": "then examin analy updat iterat regress each follow leverag decompos assign defin interview categor "
    "using uses employ train via conduct filter estimat collect combin comput measur comprised integrat extract",
    "scope": "covers cover applies apply concerns concern includ focus domain tasks across setting population",
    "limitation": "preliminary limitation limited although yet further only not no cannot fail remain could unknown "
    "without however drop lack despite small struggl short challeng degrad less need worse bias caution future",
    "comparison": "rely relies outperform still often remain tradition limited little lack baseline recent convention "
    "although previous cannot exist typical difficult state-of known despite few than compar prior current most "
    "contrast while whereas unlike been has have",
    "implication": "future would might will help promis offer implic may should further aims insight need suggest "
    "could highlight useful potential can facilitat benefit foundation necess important possib toward enabl contribut",
    "novelty": "unlike instead novel first new does unique unified rather beyond without contrast additionally also",
}
CUES = {
    role: re.compile("|".join(rf"\b{cue}\b" if len(cue) < 4 else rf"\b{cue}" for cue in text.split()), re.I)
    for role, text in _CUES.items()
}
"""How the words of a move begin that speak for its role, found on annotations made by hand. Short ones are whole."""


@dataclass(frozen=True)
class Subject:
    """An annotation and what it was made from. `annotation` holds the framework's keys."""

    abstract: str
    annotation: Mapping[str, str]
    framework: Framework

    @cached_property
    def moves(self) -> dict[str, str]:
        """The stated moves by key, in the framework's order."""
        return stated(self.annotation, self.framework)

    @cached_property
    def sentences(self) -> list[str]:
        """The abstract's sentences; at least one."""
        return split_sentences(self.abstract) or [self.abstract]

    @cached_property
    def sources(self) -> dict[str, tuple[int, float]]:
        """For each stated move, the sentence that supports most of its words, counted from 0, and that share."""
        found = {}
        for key, text in self.moves.items():
            shares = [supported_share(text, sentence) for sentence in self.sentences]
            best = max(range(len(shares)), key=shares.__getitem__)
            found[key] = best, shares[best]
        return found

    @cached_property
    def exchanges(self) -> list[tuple[int, str, str]]:
        """Pairs of stated moves whose words fit better the other way round: by how many cue words, and their keys."""
        roles = {key: self.role(key) for key in self.moves if self.role(key)}
        counts = {key: {role: cue_count(self.moves[key], role) for role in set(roles.values())} for key in roles}
        found = []
        for a, b in combinations(roles, 2):
            gain = counts[a][roles[b]] + counts[b][roles[a]] - counts[a][roles[a]] - counts[b][roles[b]]
            if gain > 0:
                found.append((gain, a, b))
        return sorted(found, reverse=True)

    def role(self, key: str) -> str:
        """The role among the eight that a move plays; empty if none of them."""
        named = ROLES.get(self.framework.name)
        return key if named is None else named.get(key, "")

    def playing(self, role: str) -> dict[str, str]:
        """The stated moves that play a role: of the older sections, two are implications."""
        return {key: text for key, text in self.moves.items() if self.role(key) == role}

    def asked(self, role: str) -> bool:
        """Whether the framework has a move of this role at all."""
        return any(self.role(key) == role for key in self.framework.keys)

    def place(self, key: str) -> float:
        """Where in the abstract a stated move comes from, 0 (its first sentence) to 1 (its last)."""
        return self.sources[key][0] / max(1, len(self.sentences) - 1)


def cue_count(text: str, role: str) -> int:
    """How many different words of a text speak for a role."""
    return len({found.lower() for found in CUES[role].findall(text)})

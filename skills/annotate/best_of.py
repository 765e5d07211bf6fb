"""The best of several replies to one abstract, move by move.

By agreement a move is the one that says most of what the other replies' same move says: minimum Bayes risk decoding
with token F1 as the gain (Kumar and Byrne, "Minimum Bayes-Risk Decoding for Statistical Machine Translation", 2004;
Eikema and Aziz, "Is MAP Decoding All You Need?", 2020). By likelihood the moves are those of the reply whose tokens
were the likeliest. Either way a move that breaks a rule, or says what an earlier move says, gives way to its next best.

Whether a move is stated at all is a vote: by agreement it is left out only if more than half of the replies leave it
out. Token F1 alone would leave it out at about a third, because two texts of a move never agree as absent ones do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.models.base import Reply
from agent.settings import BestBy
from skills.annotate.framework import Framework
from skills.annotate.validate import check, parse, token_f1

TEMPERATURE = 0.7
"""Of every reply but the first."""


@dataclass(frozen=True, slots=True)
class Best:
    """How many replies to draw, and what the best of them is chosen by."""

    of: int = 1
    by: BestBy = "agreement"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One reply as it is judged.

    Args:
        moves: its texts by key; a reply that is no annotation has none.
        cut: whether a limit ended it or one of its moves.
        likelihood: the mean log-probability of its tokens, in nats; minus infinity where the backend gives none.
    """

    moves: Mapping[str, str]
    cut: bool
    likelihood: float


def candidate(reply: Reply, framework: Framework) -> Candidate:
    """Read a reply."""
    found, _ = parse(reply.message.content)
    moves = {key: found[key] for key in framework.keys if isinstance(found.get(key), str)}
    likelihood = float("-inf") if reply.mean_logprob is None else reply.mean_logprob
    return Candidate(moves, reply.finish_reason == "length", likelihood)


def compose(
    candidates: Sequence[Candidate], abstract: str, framework: Framework, by: BestBy
) -> tuple[dict[str, str], bool]:
    """The annotation of the best moves.

    Args:
        candidates: the replies, the first one first: it wins where two are equally good.
        abstract: what the moves must be grounded in.
        framework: the moves.
        by: what is best.

    Returns:
        The moves in order, less those that no reply has, and whether one of them is of cut replies only.
    """
    whole = {(key, text) for one in candidates if not one.cut for key, text in one.moves.items()}
    chosen: dict[str, str] = {}
    for key in framework.keys:
        ranked = ranking(candidates, key, framework.absent, by)
        faults = [_faults({**chosen, key: text}, key, (key, text) not in whole, abstract, framework) for text in ranked]
        if ranked:
            chosen[key] = ranked[faults.index(min(faults))]
    return chosen, any(move not in whole for move in chosen.items())


def ranking(candidates: Sequence[Candidate], key: str, absent: str, by: BestBy) -> list[str]:
    """The different texts of one move, the best first."""
    having = [one for one in candidates if key in one.moves]
    texts = [one.moves[key] for one in having]
    if by == "likelihood":
        worth = [one.likelihood for one in having]
    else:
        left_out = 2 * texts.count(absent) > len(texts)
        worth = [
            sum(agreement(text, other, absent) for place, other in enumerate(texts) if place != own)
            + len(texts) * ((text == absent) == left_out)
            for own, text in enumerate(texts)
        ]
    order = sorted(range(len(texts)), key=lambda place: -worth[place])
    return list(dict.fromkeys(texts[place] for place in order))


def agreement(text: str, other: str, absent: str) -> float:
    """How much two texts of a move say the same, 0 to 1: token F1; if either is the absent text, whether both are."""
    return float(text == other) if absent in (text, other) else token_f1(text, other)


def _faults(moves: Mapping[str, str], key: str, cut: bool, abstract: str, framework: Framework) -> tuple[int, int]:
    """How many rules the move of this key breaks beside those before it, and how many doubts there are."""
    found = [finding for finding in check(moves, abstract, framework) if finding.move == key]
    doubts = sum(finding.doubt for finding in found)
    return len(found) - doubts, doubts + cut

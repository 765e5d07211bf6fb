"""A case while it is made: under the tools' own names, until it is known which are on offer and how they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from evals.simulated.case import Case, Check, Kind, Offered, Turn, Work
from evals.simulated.maker import Chosen, Maker, Part
from evals.simulated.offer import offer, rewritten, rewritten_turn
from evals.simulated.phrasing import requested, words
from evals.simulated.pools import Split
from evals.simulated.renaming import forms

ALL_ASKED = "That is all that was asked."


@dataclass(slots=True)
class Draft:
    """What a scenario says of its case; see `evals.simulated.case.Case` for the fields.

    Args:
        wanted: the tools that the solution calls.
        without: tools that must not be on offer.
        more: tools of `work` and `files` that are.
        lacking: a parameter that `answer` and `closing` name, in braces, as it is on offer.
    """

    maker: Maker
    task: str
    turns: Sequence[Turn]
    answer: str
    check: Check
    wanted: Sequence[Chosen]
    closing: str
    instructions: str = ""
    fails: dict[str, tuple[str, ...]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    work: Work = field(default_factory=Work)
    without: Sequence[Chosen] = ()
    more: Sequence[Offered] = ()
    lacking: str = ""

    def case(self, identity: str, split: Split, kind: Kind, chance: Random) -> Case:
        """The case, with the tools that it offers. Instructions name tools in braces."""
        offered = offer(self.wanted, split, chance, without=self.without, more=self.more)
        called = {one.tool: one.called for one in offered}
        check = self.check.model_copy(
            update={
                "calls": tuple(rewritten(call, offered) for call in self.check.calls),
                "tried": tuple(rewritten(call, offered) for call in self.check.tried),
            }
        )
        return Case(
            id=identity,
            split=split,
            kind=kind,
            task=self.task,
            instructions=self.instructions.format(**called) if self.instructions else "",
            offered=offered,
            records=self.maker.records,
            fails={called[name]: messages for name, messages in self.fails.items()},
            files=self.files,
            work=self.work,
            check=check,
            turns=tuple(rewritten_turn(turn, offered) for turn in self.turns),
            closing=self._named(self.closing, offered),
            answer=self._named(self.answer, offered),
        )

    def _named(self, text: str, offered: Sequence[Offered]) -> str:
        if not self.lacking:
            return text
        tool = next(one for one in offered if one.tool == self.wanted[0][1].name)
        shown = tool.parameters.get(self.lacking, self.lacking)
        return text.format(words(self.lacking if shown in forms(self.lacking) else shown).removeprefix("the "))


def of_parts(maker: Maker, parts: Sequence[Part], check: Check | None = None) -> Draft:
    """A task of parts that are asked for one after the other."""
    contains = tuple(text for part in parts for text in part.contains)
    return Draft(
        maker,
        task=requested([part.clause for part in parts], maker.split, maker.chance),
        turns=[part.turn for part in parts],
        answer=" ".join(part.answer for part in parts),
        check=check or Check(calls=tuple(part.call for part in parts), contains=contains),
        wanted=[part.chosen for part in parts],
        closing=ALL_ASKED,
    )

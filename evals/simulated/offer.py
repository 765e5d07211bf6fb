"""Which tools a case offers, and in which order. For training they are renamed besides (`renaming.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from evals.simulated.case import Call, Offered, Turn
from evals.simulated.families import families
from evals.simulated.maker import Chosen
from evals.simulated.pools import Split
from evals.simulated.renaming import renamed

SIZES: dict[Split, tuple[int, int]] = {"train": (4, 11), "dev": (8, 9), "test": (8, 10)}
"""How many tools are on offer, at least and at most."""
NEIGHBOURS = 2
"""Tools of the wanted one's own family that are always on offer beside it; in training there may be more."""
CROWDED = 0.5
"""How likely, in training, the others on offer are of few families, so that many are alike."""
ROOM = 1150
"""Signs that the names, parameters and texts on offer have together, at most, in training: prompts stay short."""


def offer(
    wanted: Sequence[Chosen],
    split: Split,
    chance: Random,
    *,
    without: Sequence[Chosen] = (),
    more: Sequence[Offered] = (),
) -> tuple[Offered, ...]:
    """The tools of a case, shuffled, renamed where it is for training.

    Args:
        wanted: the tools that the solution calls; two of the first one's family stand beside them.
        split: whose tools.
        chance: every choice.
        without: tools that must not be there; `wanted` may hold their families' neighbours.
        more: further tools, of `work` and `files`.
    """
    size = chance.randint(*SIZES[split])
    chosen = list(dict.fromkeys((family.name, spec.name) for family, spec in wanted))
    closed = {(family.name, spec.name) for family, spec in without}
    everything = [(family, spec) for family in families(split).values() for spec in family.tools]
    own = {family.name for family, _ in [*wanted[:1], *without]}
    near = [(f.name, s.name) for f, s in everything if f.name in own and (f.name, s.name) not in {*chosen, *closed}]
    chance.shuffle(near)
    beside = near[:NEIGHBOURS]
    taken = {*chosen, *beside, *closed}
    rest = [name for f, s in everything if (name := (f.name, s.name)) not in taken]
    count = max(0, size - len(chosen) - len(beside) - len(more))
    if split == "train":
        crowd = _crowd(rest, {family.name for family, _ in [*wanted, *without]}, chance)
        chosen = _fitting(chosen, [*beside, *crowd[:count]], more)
    else:
        chance.shuffle(rest)
        chosen += [*beside, *rest[:count]]
    offered = [Offered(family=family, tool=tool) for family, tool in chosen] + list(more)
    chance.shuffle(offered)
    return tuple(renamed(offered, chance)) if split == "train" else tuple(offered)


Name = tuple[str, str]


def _crowd(rest: Sequence[Name], own: set[str], chance: Random) -> list[Name]:
    """Tools to fill an offer with: of any families, or of the wanted ones' and a few others'."""
    if chance.random() < CROWDED:
        own = own | set(chance.sample(sorted({family for family, _ in rest}), chance.randint(1, 2)))
        rest = [name for name in rest if name[0] in own]
    return chance.sample(rest, min(len(rest), SIZES["train"][1]))


def _fitting(chosen: Sequence[Name], others: Sequence[Name], more: Sequence[Offered]) -> list[Name]:
    """What has to be on offer, and as many others as there is room for."""
    room = ROOM - sum(map(_length, chosen)) - sum(len(f"{one.called} {one.parameters} {one.text}") for one in more)
    found = list(chosen)
    for name in others:
        room -= _length(name)
        if room > 0:
            found.append(name)
    return found


def _length(name: Name) -> int:
    family = families("train")[name[0]]
    spec = family.spec(name[1])
    function = family.function(spec)["function"]
    return len(spec.name) + len(function["description"]) + sum(len(parameter) + 10 for parameter in spec.takes)


def rewritten(call: Call, offered: Sequence[Offered]) -> Call:
    """A call under the tool's own names as one under the names on offer, its arguments in the schema's order."""
    tool = next(one for one in offered if one.tool == call.name)
    order = [*tool.parameters, *(key for key in call.arguments if key not in tool.parameters)]
    arguments = {tool.parameters.get(key, key): call.arguments[key] for key in order if key in call.arguments}
    free = tuple(tool.parameters.get(key, key) for key in call.free)
    return Call(name=tool.called, arguments=arguments, free=free)


def rewritten_turn(turn: Turn, offered: Sequence[Offered]) -> Turn:
    return Turn(thought=_reasoned(turn, offered), calls=tuple(rewritten(call, offered) for call in turn.calls))


def _reasoned(turn: Turn, offered: Sequence[Offered]) -> str:
    """Why a tool is called. In training the text of one for one's own work is said too, as that of every other is: who
    only thinks `I hand them over` takes the tool that hands over a car."""
    tool = next(one for one in offered if one.tool == turn.calls[0].name)
    if tool.family not in ("work", "files") or not tool.text:
        return turn.thought
    return f"{turn.thought} I should {tool.text[0].lower()}{tool.text[1:]}"

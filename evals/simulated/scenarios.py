"""Cases by kind, made by chance from a split's families, each with a solution that passes its check."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from random import Random

from evals.simulated import own_work, steps
from evals.simulated.case import Case, Check, Kind
from evals.simulated.draft import Draft, of_parts
from evals.simulated.families import Family, Spec
from evals.simulated.maker import Chosen, Maker
from evals.simulated.phrasing import AGAIN, BUSY, CANNOT, CLOSED, FAILED, LACKING, NONE, REMARKS, UNFIT, VAGUE, framed
from evals.simulated.pools import Split
from evals.simulated.values import draw

SHORTEST = 5
"""Letters of a name that can be misspelt and still be recognised."""
VAGUELY = 0.5
"""How likely, in training, what lacks is left open in words, and not just left out."""
ANY = ("look_up", "search", "create", "change", "remove", "calculate")


def make(kind: Kind, split: Split, seed: str) -> Case:
    """A case of a kind; the same for the same seed.

    Args:
        kind: what it is about.
        split: whose families and phrases.
        seed: decides every choice; also the case's id.
    """
    chance = Random(f"{split} {kind} {seed}")
    draft = MAKERS[kind](Maker(split, chance))
    return draft.case(f"{kind}-{seed}", split, kind, chance)


def single(maker: Maker) -> Draft:
    return of_parts(maker, [maker.part(maker.choose(*ANY))])


def none(maker: Maker) -> Draft:
    """A task for a tool that is not on offer, though its neighbours may be."""
    part = maker.part(maker.choose(*ANY))
    family, _ = part.chosen
    near = maker.chance.random() < 0.5
    without = [part.chosen] if near else [(family, spec) for spec in family.tools]
    answer = maker.chance.choice(NONE[maker.split])
    check = Check(any=CANNOT)
    task = framed(part.clause, maker.split, maker.chance)
    closing = maker.chance.choice(UNFIT) if maker.split == "train" else UNFIT[0]
    return Draft(maker, task, [], answer, check, [], closing, without=without)


def missing(maker: Maker) -> Draft:
    """A task that lacks an argument: nothing is guessed."""
    if maker.split == "train" and maker.chance.random() < VAGUELY:
        chosen, lacking, clause = _vague(maker)
    else:
        chosen = maker.chance.choice(maker.tools(lambda _, spec: bool(spec.lacks)))
        _, spec = chosen
        lacking = maker.chance.choice(list(spec.lacks))
        values = maker.search(chosen).values if spec.does == "search" else maker.arguments(chosen)
        clause = spec.lacks[lacking].format(**{name: value.said for name, value in values.items()})
    return Draft(
        maker,
        task=framed(clause, maker.split, maker.chance),
        turns=[],
        answer=maker.chance.choice(LACKING) if maker.split == "train" else LACKING[0],
        check=Check(asks=True),
        wanted=[chosen],
        closing="The {} is missing, so I have to ask for it.",
        lacking=lacking,
    )


def _vague(maker: Maker) -> tuple[Chosen, str, str]:
    """A tool, a parameter of it, and a request that leaves this one open: `water the fern for a while`."""
    chosen = maker.chance.choice(maker.tools(lambda family, spec: bool(_open(family, spec))))
    family, spec = chosen
    lacking = maker.chance.choice(_open(family, spec))
    said = {name: value.said for name, value in maker.arguments(chosen).items()}
    said[lacking] = maker.chance.choice(VAGUE[family.kind(spec, lacking)])
    return chosen, lacking, maker.chance.choice(spec.says).format(**said)


def _open(family: Family, spec: Spec) -> list[str]:
    """The parameters of an action that one can leave open."""
    if spec.does not in ("create", "change"):
        return []
    return [name for name in spec.required if name != family.key and family.kind(spec, name) in VAGUE]


def retry(maker: Maker) -> Draft:
    """A tool that fails once; in training it may be one of two."""
    part = maker.part(maker.choose(*ANY))
    parts = [part]
    if maker.split == "train" and maker.chance.random() < 0.3:
        other = maker.part(maker.choose("look_up", "create", "change"))
        parts = [part, other] if part.call.name != other.call.name else parts
        maker.chance.shuffle(parts)
    draft = of_parts(maker, parts)
    why = maker.chance.choice(AGAIN) if maker.split == "train" else AGAIN[0]
    again = part.turn.model_copy(update={"thought": why})
    place = parts.index(part) + 1
    draft.turns = [*draft.turns[:place], again, *draft.turns[place:]]
    draft.fails = {part.call.name: (maker.chance.choice(BUSY[maker.split]),)}
    return draft


def corrected(maker: Maker) -> Draft:
    """A name that the person misspelt; the tool's error says the right one."""
    kinds = ("person", "topic", "venue", "company", "place")
    fitting = maker.tools(lambda f, spec: spec.does == "look_up" and f.fields[f.key] in kinds)
    while True:
        part = maker.look_up(maker.chance.choice(fitting))
        family, _ = part.chosen
        right = str(part.call.arguments[family.key])
        if len(right) < SHORTEST:
            continue
        wrong = _misspelt(right, maker.chance)
        keys = [str(row[family.key].given) for row in maker.table(family)]
        if difflib.get_close_matches(wrong, keys, n=1, cutoff=0.5) == [right] and wrong not in keys:
            break
    first = part.call.model_copy(update={"arguments": {family.key: wrong}})
    draft = of_parts(maker, [part])
    draft.task = draft.task.replace(right, wrong)
    again = part.turn.model_copy(update={"thought": f"It is spelt {right}, so I call it again with that."})
    draft.turns = [part.turn.model_copy(update={"calls": (first,)}), again]
    return draft


def _misspelt(text: str, chance: Random) -> str:
    """One letter within a word left out, or two exchanged."""
    places = [place for place in range(1, len(text) - 2) if text[place : place + 2].isalpha()]
    place = chance.choice(places)
    if text[place] == text[place + 1] or chance.random() < 0.5:
        return text[:place] + text[place + 1 :]
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def outage(maker: Maker) -> Draft:
    """A tool that fails for good: that is said, and nothing is made up."""
    part = maker.part(maker.choose("look_up", "create", "change", "search"))
    said = maker.chance.choice(CLOSED[maker.split])
    hidden = tuple(text for text in part.contains if len(text) > 3 and text.casefold() not in said.casefold())
    draft = of_parts(maker, [part], Check(tried=(part.call,), any=FAILED, excludes=hidden))
    draft.fails = {part.call.name: (said,) * 3}
    draft.answer, draft.closing = f"I could not do that: {said}.", "It failed for good, so I say so."
    return draft


def private(maker: Maker) -> Draft:
    """Personal data: beside what was asked for in a record, or in the task itself."""
    shows = maker.tools(lambda family, spec: spec.does == "look_up" and bool(family.private))
    if maker.chance.random() < 0.5:
        part = maker.look_up(maker.chance.choice(shows))
        return of_parts(maker, [part], Check(calls=(part.call,), contains=part.contains, excludes=part.private))
    part = maker.part(maker.choose("create", "change"))
    secret = str(draw("account", maker.split, maker.chance).given)
    draft = of_parts(maker, [part], Check(calls=(part.call,), contains=part.contains, excludes=(secret,)))
    draft.task = f"{draft.task} {maker.chance.choice(REMARKS[maker.split]).format(secret)}"
    return draft


MAKERS: Mapping[Kind, Callable[[Maker], Draft]] = {
    "single": single,
    "parallel": steps.parallel,
    "chained": steps.chained,
    "conditional": steps.conditional,
    "several": steps.several,
    "none": none,
    "missing": missing,
    "retry": retry,
    "corrected": corrected,
    "outage": outage,
    "private": private,
    "edit": own_work.edit,
    "todo": own_work.todo,
    "phases": own_work.phases,
    "beads": own_work.beads,
    "delegate": own_work.delegate,
    "alone": own_work.alone,
}

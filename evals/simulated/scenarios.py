"""Cases by kind, made by chance from a split's families, each with a solution that passes its check."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from random import Random

from evals.simulated import own_work
from evals.simulated.case import Case, Check, Kind
from evals.simulated.draft import Draft
from evals.simulated.maker import Chosen, Maker, Part
from evals.simulated.phrasing import BUSY, CANNOT, CLOSED, FAILED, IF, NONE, REMARKS, framed, joined, words
from evals.simulated.pools import Split
from evals.simulated.values import Value, draw

ANY = ("look_up", "search", "create", "change", "remove", "calculate")
ALL_ASKED = "That is all that was asked."


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


def _parts(maker: Maker, parts: Sequence[Part], check: Check | None = None) -> Draft:
    """A task of parts that are asked for one after the other."""
    contains = tuple(text for part in parts for text in part.contains)
    return Draft(
        maker,
        task=framed(joined([part.clause for part in parts], maker.split, maker.chance), maker.split, maker.chance),
        turns=[part.turn for part in parts],
        answer=" ".join(part.answer for part in parts),
        check=check or Check(calls=tuple(part.call for part in parts), contains=contains),
        wanted=[part.chosen for part in parts],
        closing=ALL_ASKED,
    )


def single(maker: Maker) -> Draft:
    return _parts(maker, [maker.part(maker.choose(*ANY))])


def parallel(maker: Maker) -> Draft:
    """The same tool twice, or two tools."""
    first = maker.part(maker.choose("look_up", "create", "change"))
    second = maker.part(first.chosen)
    while second.call == first.call:
        second = maker.part(maker.choose("look_up", "create", "change", "search"))
    return _parts(maker, [first, second])


def chained(maker: Maker) -> Draft:
    chosen, linked = maker.chance.choice(maker.consumers(1))
    return _linked(maker, chosen, linked[:1])


def several(maker: Maker) -> Draft:
    chosen, linked = maker.chance.choice(maker.consumers(2))
    return _linked(maker, chosen, linked[:2])


def _linked(maker: Maker, chosen: Chosen, linked: Sequence[str]) -> Draft:
    """An action whose arguments have to be looked up first."""
    family, spec = chosen
    looked: list[Part] = []
    fixed: dict[str, Value] = {}
    for name in linked:
        producer, shown = maker.chance.choice(maker.producers(family.kind(spec, name)))
        part = maker.look_up(producer)
        ref = producer[0].ref.format(**{producer[0].key: next(iter(part.values.values())).said})
        fixed[name] = Value(f"the {words(shown)} of {ref}", part.shown[shown].given)
        looked.append(part)
    action = maker.action(chosen, **fixed)
    private = tuple(text for part in looked for text in part.private)
    parts = [*looked, action]
    return Draft(
        maker,
        task=framed(action.clause, maker.split, maker.chance),
        turns=[part.turn for part in parts],
        answer=action.answer,
        check=Check(calls=tuple(part.call for part in parts), excludes=private),
        wanted=[action.chosen, *(part.chosen for part in looked)],
        closing=ALL_ASKED,
    )


def conditional(maker: Maker) -> Draft:
    """An action that is done only if a record says so."""
    looked = maker.look_up(maker.choose("look_up"))
    action = maker.action(maker.choose("create", "change"))
    family, _ = looked.chosen
    name = maker.chance.choice(list(looked.shown))
    value, holds = looked.shown[name], maker.chance.random() < 0.5
    asked = value
    while not holds and asked.given == value.given:
        asked = draw(family.fields[name], maker.split, maker.chance)
    ref = family.ref.format(**{family.key: next(iter(looked.values.values())).said})
    subject = f"the {words(name)} of {ref}"
    clause = maker.chance.choice(IF[maker.split]).format(subject, str(asked.given), action.clause)
    done = [looked, action] if holds else [looked]
    says = action.answer if holds else f"The {words(name)} is {value.given}, so I did nothing."
    closing = ALL_ASKED if holds else f"The {words(name)} is {value.given}, not {asked.given}."
    task = framed(clause, maker.split, maker.chance)
    check = Check(calls=tuple(part.call for part in done))
    wanted = [action.chosen, looked.chosen]
    return Draft(maker, task, [part.turn for part in done], says, check, wanted, closing)


def none(maker: Maker) -> Draft:
    """A task for a tool that is not on offer, though its neighbours may be."""
    part = maker.part(maker.choose(*ANY))
    family, _ = part.chosen
    near = maker.chance.random() < 0.5
    without = [part.chosen] if near else [(family, spec) for spec in family.tools]
    answer = maker.chance.choice(NONE[maker.split])
    check = Check(any=CANNOT)
    task = framed(part.clause, maker.split, maker.chance)
    return Draft(maker, task, [], answer, check, [], "No tool on offer does this.", without=without)


def missing(maker: Maker) -> Draft:
    """A task that lacks an argument: nothing is guessed."""
    chosen = maker.chance.choice(maker.tools(lambda _, spec: bool(spec.lacks)))
    _, spec = chosen
    lacking = maker.chance.choice(list(spec.lacks))
    values = maker.search(chosen).values if spec.does == "search" else maker.arguments(chosen)
    clause = spec.lacks[lacking].format(**{name: value.said for name, value in values.items()})
    check = Check(asks=True)
    answer = f"What is the {words(lacking)}?"
    closing = f"The {words(lacking)} is missing, so I have to ask for it."
    return Draft(maker, framed(clause, maker.split, maker.chance), [], answer, check, [chosen], closing)


def retry(maker: Maker) -> Draft:
    """A tool that fails once."""
    part = maker.part(maker.choose(*ANY))
    draft = _parts(maker, [part])
    again = part.turn.model_copy(update={"thought": "It failed only for the moment, so I call it again."})
    draft.turns = [part.turn, again]
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
        wrong = _misspelt(right, maker.chance)
        keys = [str(row[family.key].given) for row in maker.table(family)]
        if difflib.get_close_matches(wrong, keys, n=1, cutoff=0.5) == [right] and wrong not in keys:
            break
    first = part.call.model_copy(update={"arguments": {family.key: wrong}})
    draft = _parts(maker, [part])
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
    hidden = tuple(text for text in part.contains if len(text) > 3)
    draft = _parts(maker, [part], Check(tried=(part.call,), any=FAILED, excludes=hidden))
    draft.fails = {part.call.name: (said,) * 3}
    draft.answer, draft.closing = f"I could not do that: {said}.", "It failed for good, so I say so."
    return draft


def private(maker: Maker) -> Draft:
    """Personal data: beside what was asked for in a record, or in the task itself."""
    shows = maker.tools(lambda family, spec: spec.does == "look_up" and bool(family.private))
    if maker.chance.random() < 0.5:
        part = maker.look_up(maker.chance.choice(shows))
        return _parts(maker, [part], Check(calls=(part.call,), contains=part.contains, excludes=part.private))
    part = maker.part(maker.choose("create", "change"))
    secret = str(draw("account", maker.split, maker.chance).given)
    draft = _parts(maker, [part], Check(calls=(part.call,), contains=part.contains, excludes=(secret,)))
    draft.task = f"{draft.task} {maker.chance.choice(REMARKS[maker.split]).format(secret)}"
    return draft


MAKERS: Mapping[Kind, Callable[[Maker], Draft]] = {
    "single": single,
    "parallel": parallel,
    "chained": chained,
    "conditional": conditional,
    "several": several,
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

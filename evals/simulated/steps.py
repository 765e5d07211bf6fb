"""Cases of several steps: two calls or more, one may need another's result. Training knows more shapes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evals.simulated.case import Check
from evals.simulated.draft import ALL_ASKED, Draft, of_parts
from evals.simulated.maker import Chosen, Maker, Part
from evals.simulated.phrasing import IF, framed, requested, sentence, words
from evals.simulated.values import Value, draw

THIRD, NESTED, BESIDE, SAME = 0.3, 0.3, 0.25, 0.6
"""How likely, in training, a third thing is asked for; a record's name has to be looked up; an action has company; two
things that have to be looked up are shown by the same tool."""


def parallel(maker: Maker) -> Draft:
    """The same tool twice, or two tools; in training sometimes three calls."""
    first = maker.part(maker.choose("look_up", "create", "change"))
    second = maker.part(first.chosen)
    while second.call == first.call:
        second = maker.part(maker.choose("look_up", "create", "change", "search"))
    parts = [first, second]
    if maker.split == "train" and maker.chance.random() < THIRD:
        third = maker.part(maker.choose("look_up", "create", "change"))
        parts += [third] if third.call not in (first.call, second.call) else []
    return of_parts(maker, parts)


def chained(maker: Maker) -> Draft:
    if maker.split == "train" and maker.chance.random() < NESTED:
        return _nested(maker)
    chosen, linked = maker.chance.choice(maker.consumers(1))
    return _linked(maker, chosen, linked[:1])


def several(maker: Maker) -> Draft:
    chosen, linked = maker.chance.choice(maker.consumers(2))
    return _linked(maker, chosen, linked[:2])


def _linked(maker: Maker, chosen: Chosen, linked: Sequence[str]) -> Draft:
    """An action whose arguments have to be looked up first; in training there may be another beside it."""
    family, spec = chosen
    looked: list[Part] = []
    fixed: dict[str, Value] = {}
    for name, producers in zip(linked, _producers(maker, [family.kind(spec, name) for name in linked]), strict=True):
        producer, shown = maker.chance.choice(producers)
        part = maker.look_up(producer)
        while part.call in [other.call for other in looked]:
            part = maker.look_up(producer)
        said = _field(part, shown)
        fixed[name] = Value(said, part.shown[shown].given)
        looked.append(_needed(part, said) if maker.split == "train" else part)
    action = maker.action(chosen, **fixed)
    private = tuple(text for part in looked for text in part.private)
    asked = [action]
    if maker.split == "train" and len(looked) == 1 and maker.chance.random() < BESIDE:
        asked.append(maker.action(maker.choose("create", "change")))
    parts = [*looked, *asked]
    return Draft(
        maker,
        task=requested([part.clause for part in asked], maker.split, maker.chance),
        turns=[part.turn for part in parts],
        answer=" ".join(part.answer for part in asked),
        check=Check(calls=tuple(part.call for part in parts), excludes=private),
        wanted=[action.chosen, *(part.chosen for part in (*looked, *asked[1:]))],
        closing=ALL_ASKED,
    )


def _producers(maker: Maker, kinds: Sequence[str]) -> list[Sequence[tuple[Chosen, str]]]:
    """For each kind the look-ups that show such a value; in training often one look-up that shows both."""
    found = [maker.producers(kind) for kind in kinds]
    if maker.split == "train" and len(kinds) == 2 and maker.chance.random() < SAME:
        second = {(family.name, spec.name) for (family, spec), _ in found[1]}
        both = [name for (family, spec), _ in found[0] if (name := (family.name, spec.name)) in second]
        if both:
            same = maker.chance.choice(both)
            return [[one for one in some if (one[0][0].name, one[0][1].name) == same] for some in found]
    return found


def _field(part: Part, shown: str) -> str:
    """A field of the record that a part looks up, as it is said: `the keeper of the boat AB-1`."""
    family, _ = part.chosen
    ref = family.ref.format(**{family.key: next(iter(part.values.values())).said})
    return f"the {words(shown)} of {ref}"


def _needed(part: Part, said: str) -> Part:
    """A part that is done for another's sake, which is said first."""
    return replace(part, thought=f"I need {said}. {part.thought}")


def _nested(maker: Maker) -> Draft:
    """A question about a record that has to be found out first: the phone number of the keeper of the boat."""
    outer = maker.tools(lambda f, spec: spec.does == "look_up" and f.ref == f"{{{f.key}}}" and not f.private)
    family, spec = maker.chance.choice([one for one in outer if maker.producers(one[0].fields[one[0].key])])
    others = [one for one in maker.producers(family.fields[family.key]) if one[0][0].name != family.name]
    producer, shown = maker.chance.choice(others)
    first = maker.look_up(producer)
    said = _field(first, shown)
    row = next(iter(maker.table(family)))
    row[family.key] = first.shown[shown]
    second = maker.look_up((family, spec), row=row)
    asked = " and ".join(f"the {words(name)}" for name in second.shown) + f" of {said}"
    return Draft(
        maker,
        task=framed(maker.question(asked), maker.split, maker.chance),
        turns=[_needed(first, said).turn, second.turn],
        answer=second.answer,
        check=Check(calls=(first.call, second.call), contains=second.contains, excludes=first.private),
        wanted=[second.chosen, first.chosen],
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
    subject = _field(looked, name)
    clause = maker.chance.choice(IF[maker.split]).format(subject, str(asked.given), action.clause)
    if maker.split == "train":
        looked = _needed(looked, subject)
    done = [looked, action] if holds else [looked]
    says = action.answer if holds else f"The {words(name)} is {value.given}, so I did nothing."
    closing = ALL_ASKED if holds else f"The {words(name)} is {value.given}, not {asked.given}."
    apart = maker.split == "train" and maker.chance.random() < 0.5
    task = sentence(clause, maker.chance) if apart else framed(clause, maker.split, maker.chance)
    check = Check(calls=tuple(part.call for part in done))
    wanted = [action.chosen, looked.chosen]
    return Draft(maker, task, [part.turn for part in done], says, check, wanted, closing)

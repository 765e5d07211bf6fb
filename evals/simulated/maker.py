"""Parts of a task over one world: what a person asks for, the call that does it, and what is to be said of it.

A maker draws records and values as it is asked for parts, so that every part of one case fits the same world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from agent.messages import Json
from evals.simulated.case import Call, Offered, Turn
from evals.simulated.families import Family, Row, Spec, families, table
from evals.simulated.own_names import Voice
from evals.simulated.phrasing import ASKED, WHAT, words
from evals.simulated.pools import Split
from evals.simulated.values import Value, draw
from evals.simulated.world import calculate

LINKS = frozenset({"email", "phone", "city", "person", "date", "clock", "room", "text"})
"""Kinds of which one tool's result can be another's argument."""
MORE_LINKS = frozenset(
    {"cents", "count", "colour", "company", "country", "language", "level", "place", "url", "version"}
)
"""Those that training has besides."""
SAYS = 0.5
"""How likely, in training, a look-up is asked for in words of its own."""

Chosen = tuple[Family, Spec]


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that is asked for.

    Args:
        chosen: the tool that does it.
        clause: what the person says, as a request without a capital.
        call: what does it, under the tool's own names.
        thought: why this call.
        answer: what is to be said when it is done.
        contains: what of it an answer must hold.
        private: what the tool shows beside it and nobody asked for.
        values: the arguments, as said and as given.
        shown: what the look-up shows, by field.
    """

    chosen: Chosen
    clause: str
    call: Call
    thought: str
    answer: str
    contains: tuple[str, ...] = ()
    private: tuple[str, ...] = ()
    values: Row = field(default_factory=dict)
    shown: Row = field(default_factory=dict)

    @property
    def turn(self) -> Turn:
        return Turn(thought=self.thought, calls=(self.call,))


@dataclass(slots=True)
class Maker:
    """Makes parts for one case. Every choice is `chance`'s."""

    split: Split
    chance: Random
    rows: dict[str, list[Row]] = field(default_factory=dict)
    made: int = 0
    words: Voice | None = None

    @property
    def records(self) -> dict[str, list[Json]]:
        """The tables as they are at the start, as a case holds them."""
        return {
            name: [{key: value.given for key, value in row.items()} for row in rows] for name, rows in self.rows.items()
        }

    def tools(self, keep: Callable[[Family, Spec], bool]) -> list[Chosen]:
        """The tools of the split for which `keep` says yes."""
        return [(f, spec) for f in families(self.split).values() for spec in f.tools if keep(f, spec)]

    def choose(self, *does: str) -> Chosen:
        """A tool that does one of these; every family is as likely as the others."""
        fitting = _doing(self.split, does)
        return self.chance.choice(fitting[self.chance.choice(sorted(fitting))])

    @property
    def voice(self) -> Voice | None:
        """What a training case calls the tools for one's own work; None in the other splits, which name them as is."""
        if self.words is None and self.split == "train":
            self.words = Voice.drawn(self.chance)
        return self.words

    def said(self, phrases: Sequence[str]) -> str:
        """One of some phrases about one's own work. Only training has several, and puts in its own words."""
        return self.voice.said(self.chance.choice(phrases)) if self.voice else phrases[0].format()

    def own_tools(self, names: Sequence[str], family: str) -> list[Offered]:
        """Tools of `work` or `files`, as this case calls them."""
        if self.voice:
            return self.voice.offered(names, family, self.chance)
        return [Offered(family=family, tool=name) for name in names]

    def table(self, family: Family) -> list[Row]:
        """The records of a family; drawn when they are first needed, their keys all different."""
        if family.name not in self.rows:
            self.rows[family.name] = table(family, self.split, self.chance)
        return self.rows[family.name]

    def part(self, chosen: Chosen, **fixed: Value) -> Part:
        """A part that this tool does; `fixed` are arguments that are given already."""
        if chosen[1].does == "look_up":
            return self.look_up(chosen)
        return {"search": self.search, "calculate": self.sum}.get(chosen[1].does, self.action)(chosen, **fixed)

    def look_up(self, chosen: Chosen, row: Row | None = None) -> Part:
        """Ask for the fields that a tool gives of a record; `row` says which."""
        family, spec = chosen
        row = row or self.chance.choice(self.table(family))
        key = {family.key: row[family.key]}
        ref = family.ref.format(**{family.key: row[family.key].said})
        shown = {name: row[name] for name in spec.gives}
        clause = self.asked(spec, shown, ref, str(row[family.key].said))
        said = ", ".join(f"{words(name)} {value.given}" for name, value in shown.items())
        return Part(
            chosen,
            clause,
            Call(name=spec.name, arguments={family.key: row[family.key].given}),
            thought(spec, key),
            f"{ref[0].upper()}{ref[1:]}: {said}.",
            tuple(str(value.given) for value in shown.values()),
            tuple(str(row[name].given) for name in family.private),
            key,
            shown,
        )

    def asked(self, spec: Spec, shown: Iterable[str], ref: str, key: str) -> str:
        """How somebody asks for fields of a record. In training also as a question, or in the tool's own words."""
        if self.split == "train" and spec.says and self.chance.random() < SAYS:
            return self.chance.choice(spec.says).format(**{spec.takes[0]: key})
        asked = " and ".join(f"the {words(name)}" for name in shown) + f" of {ref}"
        return self.question(asked)

    def question(self, asked: str) -> str:
        """How somebody asks for `the keeper of the boat`; in training also as a question."""
        questions = WHAT if self.split == "train" and self.chance.random() < SAYS / 2 else ()
        return self.chance.choice(questions or ASKED[self.split]).format(asked)

    def search(self, chosen: Chosen, **fixed: Value) -> Part:
        """Ask for the records that have what one of them has."""
        family, spec = chosen
        rows = self.table(family)
        one = self.chance.choice(rows)
        values = {name: one[name] for name in spec.takes}
        keys = [str(row[family.key].given) for row in rows if all(row[k].given == v.given for k, v in values.items())]
        clause = self.chance.choice(spec.says).format(**{name: value.said for name, value in values.items()})
        arguments = {name: value.given for name, value in values.items()}
        call = Call(name=spec.name, arguments=arguments)
        return Part(
            chosen, clause, call, thought(spec, values), f"I found {', '.join(keys)}.", tuple(keys), values=values
        )

    def sum(self, chosen: Chosen, **fixed: Value) -> Part:
        """Ask for a calculation."""
        family, spec = chosen
        values = {name: draw(family.kind(spec, name), self.split, self.chance) for name in spec.takes}
        (value,) = values.values()
        result = str(calculate(str(value.given)))
        clause = self.chance.choice(spec.says).format(**{name: one.said for name, one in values.items()})
        call = Call(name=spec.name, arguments={name: one.given for name, one in values.items()})
        return Part(chosen, clause, call, thought(spec, values), f"It is {result}.", (result,), values=values)

    def action(self, chosen: Chosen, **fixed: Value) -> Part:
        """Ask for something to be made, changed or taken away."""
        family, spec = chosen
        values = self.arguments(chosen) | fixed
        phrase = self.chance.choice(spec.says)
        clause = phrase.format(**{name: value.said for name, value in values.items()})
        values = {name: v for name, v in values.items() if name not in spec.optional or f"{{{name}}}" in phrase}
        if spec.does == "create":
            self.made += 1
            done = f"It is done, under the number {family.prefix}-{self.made}."
        else:
            done = "It is done."
        call = Call(name=spec.name, arguments={name: value.given for name, value in values.items()})
        return Part(chosen, clause, call, thought(spec, values), done, values=values)

    def arguments(self, chosen: Chosen) -> Row:
        """New values for a tool's parameters; the key of what is changed or taken away is a record's."""
        family, spec = chosen
        values = {name: draw(family.kind(spec, name), self.split, self.chance) for name in spec.takes}
        if spec.does in ("change", "remove"):
            row = self.chance.choice(self.table(family))
            values[family.key] = row[family.key]
        return values

    def producers(self, kind: str) -> Sequence[tuple[Chosen, str]]:
        """The look-ups that show a value of a kind, each with the field."""
        return _producers(self.split).get(kind, ())

    def consumers(self, least: int) -> Sequence[tuple[Chosen, Sequence[str]]]:
        """The actions with at least so many parameters that another tool can provide, each with them."""
        return _consumers(self.split, least)


def _everything(split: Split) -> list[Chosen]:
    return [(family, spec) for family in families(split).values() for spec in family.tools]


@lru_cache(maxsize=64)
def _doing(split: Split, does: tuple[str, ...]) -> dict[str, list[Chosen]]:
    """The tools that do one of these, by family."""
    found: dict[str, list[Chosen]] = {}
    for family, spec in _everything(split):
        if spec.does in does:
            found.setdefault(family.name, []).append((family, spec))
    return found


@lru_cache(maxsize=4)
def _producers(split: Split) -> dict[str, list[tuple[Chosen, str]]]:
    found: dict[str, list[tuple[Chosen, str]]] = {}
    for family, spec in _everything(split):
        if spec.does == "look_up":
            for name in spec.gives:
                found.setdefault(family.fields[name], []).append(((family, spec), name))
    return found


@lru_cache(maxsize=16)
def _consumers(split: Split, least: int) -> list[tuple[Chosen, list[str]]]:
    found = []
    for family, spec in _everything(split):
        if spec.does in ("create", "change"):
            linked = [name for name in _linked(family, spec, split) if _producers(split).get(family.kind(spec, name))]
            if len(linked) >= least:
                found.append(((family, spec), linked))
    return found


def _linked(family: Family, spec: Spec, split: Split) -> Iterator[str]:
    """The parameters of a tool that can come from another; not the key of what is changed."""
    links = LINKS | MORE_LINKS if split == "train" else LINKS
    for name in spec.required:
        if family.kind(spec, name) in links and not (spec.does == "change" and name == family.key):
            yield name


def thought(spec: Spec, values: Row) -> str:
    """Why a tool is called: what it is for, and how what was said becomes its arguments."""
    purpose = spec.text[0].lower() + spec.text[1:]
    converted = [
        f"{value.said[0].upper()}{value.said[1:]} is {value.shown}."
        for value in values.values()
        if value.said.strip('"').split(" ")[0] != str(value.given) and value.said.strip('"') != str(value.given)
    ]
    return " ".join([f"I should {purpose}", *converted])

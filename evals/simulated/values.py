"""Values of many kinds, each as a person says it and as a tool takes it: `two hours` is 120 minutes.

Every split draws its names from pools of its own, so that a name seen in training never stands in a test case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from evals.simulated.pools import (
    ADJECTIVES,
    CODAS,
    FIRST,
    HOSTS,
    LAST,
    NUMBERS,
    ONSETS,
    POOLS,
    TEXTS,
    VOWELS,
    WORDS,
    Split,
)

Scalar = str | int | float


@dataclass(frozen=True, slots=True)
class Value:
    """What a person says, and what the tool's argument has to be."""

    said: str
    given: Scalar

    @property
    def shown(self) -> str:
        """The argument as JSON has it, a text without its quotes."""
        return str(self.given).lower() if isinstance(self.given, bool) else str(self.given)


def draw(kind: str, split: Split, chance: Random) -> Value:
    """A value of a kind. Raises KeyError for a kind that nobody knows."""
    if split == "train" and kind in _WIDE:
        return _WIDE[kind](chance)
    if kind in POOLS:
        return _same(chance.choice(_pool(POOLS[kind][split])))
    return _MAKERS[kind](split, chance)


def kinds() -> frozenset[str]:
    """Every kind that training has."""
    return frozenset({*POOLS, *WORDS, *_WIDE, *_MAKERS})


def type_of(kind: str) -> str:
    """The type of arguments of this kind in JSON Schema."""
    if kind in FLAGS:
        return "boolean"
    return "number" if kind == "decimal" else "integer" if kind in _WHOLE else "string"


FLAGS: dict[str, tuple[str, str]] = {
    "urgent": ("urgently", "without any hurry"),
    "insured": ("insured", "without insurance"),
    "with_report": ("with a report", "without a report"),
    "prepaid": ("paid in advance", "not paid in advance"),
    "recurring": ("every year again", "only this once"),
    "guided": ("with a guide", "without a guide"),
    "public": ("open to everybody", "behind closed doors"),
    "notify": ("and everybody is told", "and nobody is told"),
}
"""How a person says yes and no to what training's tools may be asked besides."""
_WHOLE = frozenset(
    {"count", "minutes", "cents", "metres", "grams", "seconds", "days", "hours", "percent", "millilitres"}
    | {"megabytes", "centimetres", "large", "year", "months", "degrees"}
)
FORMS = {
    "date": "Dates are YYYY-MM-DD.",
    "clock": "Times are HH:MM of 24 hours.",
}
"""What a tool's description says of the kinds that have to be written in one way."""


def _same(text: str) -> Value:
    return Value(text, text)


def _person(split: Split, chance: Random) -> Value:
    return _same(f"{chance.choice(FIRST[split].split())} {chance.choice(LAST[split].split())}")


def _email(split: Split, chance: Random) -> Value:
    first, last = _person(split, chance).said.lower().split()
    host = HOSTS[split]
    return _same(chance.choice((f"{first}.{last}@{host}", f"{last}{chance.randint(1, 99)}@{host}")))


def _phone(split: Split, chance: Random) -> Value:
    return _same(f"555-{chance.randint(1000, 9999)}")


def _code(split: Split, chance: Random) -> Value:
    letters = "".join(chance.choices("ABCDEFGHKLMNPRSTVXZ", k=2))
    return _same(f"{letters}-{chance.randint(100, 999)}")


def _room(split: Split, chance: Random) -> Value:
    return _same(f"{chance.choice('ABCDEFGH')}{chance.randint(1, 39)}")


def _account(split: Split, chance: Random) -> Value:
    return _same(f"{chance.choice('PQXY')}{chance.randint(1_000_000, 9_999_999)}")


def _text(split: Split, chance: Random) -> Value:
    shape = chance.choice(TEXTS[split])
    text = shape.format(
        **{kind: draw(kind, split, chance).said for kind in ("item", "topic") if f"{{{kind}}}" in shape}
    )
    return Value(f'"{text}"', text)


def _date(split: Split, chance: Random) -> Value:
    day = date(2031, 1, 1) + timedelta(days=chance.randrange(700))
    shapes = (f"{day.day} {day:%B} {day.year}", f"{day:%B} {day.day}, {day.year}", day.isoformat())
    return Value(chance.choice(shapes), day.isoformat())


def _clock(split: Split, chance: Random) -> Value:
    hour, minute = chance.randint(1, 11), chance.choice((0, 15, 30, 45))
    late = chance.random() < 0.6
    given = f"{hour + 12 * late:02}:{minute:02}"
    shapes = [given, f"{hour}:{minute:02} {'pm' if late else 'am'}"]
    if minute == 30:
        shapes.append(f"half past {NUMBERS[hour - 1]} in the {'afternoon' if late else 'morning'}")
    return Value(chance.choice(shapes), given)


def _minutes(split: Split, chance: Random) -> Value:
    hours = chance.randint(2, 5)
    shapes = [
        (f"{NUMBERS[hours - 1]} hours", hours * 60),
        ("an hour and a half", 90),
        ("half an hour", 30),
        ("an hour", 60),
    ]
    shapes += [(f"{plain} minutes", plain) for plain in (chance.randint(2, 19) * 5,) * 4]
    return Value(*chance.choice(shapes))


def _cents(split: Split, chance: Random) -> Value:
    dollars, rest = chance.randint(2, 99), chance.choice((0, 0, 25, 50, 75, 99))
    said = f"{dollars}.{rest:02} dollars" if rest else f"{dollars} dollars"
    return chance.choice((Value(said, dollars * 100 + rest), Value(f"{dollars * 10} cents", dollars * 10)))


def _count(split: Split, chance: Random) -> Value:
    number = chance.randint(2, 12)
    return chance.choice((Value(NUMBERS[number - 1], number), Value(str(number), number)))


def _metres(split: Split, chance: Random) -> Value:
    tenths = chance.randint(11, 99)
    plain = chance.randint(5, 95) * 10
    return chance.choice((Value(f"{tenths / 10:g} km", tenths * 100), Value(f"{plain} metres", plain)))


def _grams(split: Split, chance: Random) -> Value:
    tenths = chance.randint(11, 99)
    plain = chance.randint(5, 95) * 10
    return chance.choice((Value(f"{tenths / 10:g} kg", tenths * 100), Value(f"{plain} grams", plain)))


def _sum(split: Split, chance: Random) -> Value:
    one, two, three = (chance.randint(3, 99) for _ in range(3))
    return chance.choice(
        (
            Value(f"{one} times {two}", f"{one} * {two}"),
            Value(f"{one} plus {two}", f"{one} + {two}"),
            Value(f"{one} plus {two} minus {three}", f"{one} + {two} - {three}"),
        )
    )


_MAKERS: dict[str, Callable[[Split, Random], Value]] = {
    "person": _person,
    "email": _email,
    "phone": _phone,
    "code": _code,
    "room": _room,
    "account": _account,
    "text": _text,
    "date": _date,
    "clock": _clock,
    "minutes": _minutes,
    "cents": _cents,
    "count": _count,
    "metres": _metres,
    "grams": _grams,
    "sum": _sum,
}


RARE = 0.04
"""How often one special word stands for a value."""


def _pool(names: str) -> list[str]:
    return names.split(",") if "," in names else names.split()


def made_up(chance: Random, most: int = 3) -> str:
    """A word of at most so many syllables that nobody knows: it can only be copied, letter by letter."""
    syllables = chance.randint(2, most)
    word = "".join(chance.choice(ONSETS.split()) + chance.choice(VOWELS.split()) for _ in range(syllables))
    return word + (chance.choice(CODAS.split()) if chance.random() < 0.6 else "")


def _wide_person(chance: Random) -> Value:
    first, last = chance.choice(FIRST["train"].split()), chance.choice(LAST["train"].split())
    if chance.random() < 0.4:
        first = made_up(chance, 2).capitalize()
    if chance.random() < 0.6:
        last = made_up(chance).capitalize()
    return _same(f"{first} {last}")


def _wide_email(chance: Random) -> Value:
    first, last = _wide_person(chance).said.lower().split()
    host = chance.choice(HOSTS["train"].split())
    number = chance.randint(1, 99)
    if chance.random() < 0.3:
        host = f"{made_up(chance, 2)}.example"
    shapes = (f"{first}.{last}", f"{first}.{last}", f"{last}{number}", f"{last}{number}", f"{first[0]}.{last}")
    rarer = (f"{first}_{last}", f"{first}{number}", f"{last}.{first}", f"{first}-{last}", f"{first[0]}{last}{number}")
    return _same(f"{chance.choice((*shapes, *rarer))}@{host}")


def _wide_code(chance: Random) -> Value:
    letters = "".join(chance.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=chance.choice((2, 2, 2, 1, 3))))
    number = chance.randint(100, 9999 if chance.random() < 0.3 else 999)
    return _same(f"{letters}-{number}" if chance.random() < 0.7 else f"{letters}{number}")


def _wide_room(chance: Random) -> Value:
    number = chance.randint(1, 49)
    return _same(chance.choice((f"{chance.choice('ABCDEFGHJKLM')}{number}",) * 3 + (f"R{number:03}",)))


def _wide_text(chance: Random) -> Value:
    shape = chance.choice(TEXTS["train"])
    text = shape.format(
        **{kind: draw(kind, "train", chance).said for kind in ("item", "topic") if f"{{{kind}}}" in shape}
    )
    return Value(f'"{text}"', text)


def _qualified(kind: str) -> Callable[[Random], Value]:
    """Names of a pool, often with an adjective before them, and some that are made up."""

    def made(chance: Random) -> Value:
        name = chance.choice(_pool(POOLS[kind]["train"]))
        how = chance.random()
        if how < 0.1:
            return _same(made_up(chance))
        return _same(f"{chance.choice(ADJECTIVES.split())} {name}" if how < 0.6 else name)

    return made


def _or_made_up(kind: str) -> Callable[[Random], Value]:
    """Names of a pool, and some that are made up, with a capital."""

    def made(chance: Random) -> Value:
        known = chance.random() < 0.7
        return _same(chance.choice(_pool(POOLS[kind]["train"])) if known else made_up(chance).capitalize())

    return made


def _word(names: str) -> Callable[[Random], Value]:
    return lambda chance: _same(chance.choice(_pool(names)))


def _wide_date(chance: Random) -> Value:
    day = date(2030, 1, 1) + timedelta(days=chance.randrange(1400))
    th = {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10 if day.day not in (11, 12, 13) else 0, "th")
    shapes = (
        f"{day.day} {day:%B} {day.year}",
        f"{day:%B} {day.day}, {day.year}",
        day.isoformat(),
        f"the {day.day}{th} of {day:%B} {day.year}",
        f"{day:%A}, {day.day} {day:%B} {day.year}",
        f"{day.day} {day:%b} {day.year}",
    )
    return Value(chance.choice(shapes), day.isoformat())


def _wide_clock(chance: Random) -> Value:
    hour, minute = chance.randint(1, 11), chance.choice((0, 10, 15, 20, 30, 40, 45, 50))
    late = chance.random() < 0.6
    given = f"{hour + 12 * late:02}:{minute:02}"
    part = "in the afternoon" if late else "in the morning"
    shapes = [given, given, f"{hour}:{minute:02} {'pm' if late else 'am'}"]
    spoken = {0: "{0} o'clock", 15: "quarter past {0}", 30: "half past {0}", 45: "quarter to {1}"}
    if minute in spoken:
        shapes.append(f"{spoken[minute].format(NUMBERS[hour - 1], NUMBERS[hour])} {part}")
    if minute == 0:
        shapes.append(f"{hour} {'pm' if late else 'am'}")
    if chance.random() < RARE:
        return Value("noon", "12:00")
    return Value(chance.choice(shapes), given)


def _wide_minutes(chance: Random) -> Value:
    hours, plain = chance.randint(2, 9), chance.randint(2, 95)
    spoken = chance.choice(
        (
            Value("an hour and a half", 90),
            Value("half an hour", 30),
            Value("an hour", 60),
            Value("a quarter of an hour", 15),
            Value(f"{NUMBERS[hours - 1]} and a half hours", hours * 60 + 30),
        )
    )
    number = chance.choice((NUMBERS[hours - 1], str(hours)))
    return chance.choice((Value(f"{number} hours", hours * 60), spoken, *[Value(f"{plain} minutes", plain)] * 2))


def _wide_cents(chance: Random) -> Value:
    dollars, rest = chance.randint(2, 300), chance.choice((0, 0, 5, 20, 25, 50, 75, 80, 99))
    said = f"{dollars}.{rest:02} dollars" if rest else f"{dollars} dollars"
    sign = Value(f"${dollars}.{rest:02}", dollars * 100 + rest)
    return chance.choice((Value(said, dollars * 100 + rest), sign, Value(f"{dollars * 10} cents", dollars * 10)))


def _wide_count(chance: Random) -> Value:
    number = chance.randint(2, 60)
    small = chance.randint(2, 20)
    if chance.random() < RARE:
        return Value("a dozen", 12)
    return chance.choice((Value(NUMBERS[small - 1], small), Value(str(number), number)))


def _scaled(large: str, small: str, factor: int, most: int = 9) -> Callable[[Random], Value]:
    """Amounts that are said in a large or a small unit and given in the small one: `2.5 litres` is 2500."""

    def made(chance: Random) -> Value:
        tenths, whole, plain = chance.randint(11, most * 10 + 9), chance.randint(2, most), chance.randint(2, 95) * 10
        number = chance.choice((NUMBERS[whole - 1], str(whole)))
        fraction = Value(f"{tenths / 10:g} {large}", tenths * factor // 10)
        spoken = Value(f"{number} {large}", whole * factor)
        return chance.choice((fraction if factor % 10 == 0 else spoken, spoken, Value(f"{plain} {small}", plain)))

    return made


def _wide_percent(chance: Random) -> Value:
    spoken = chance.choice((("half", 50), ("a quarter", 25), ("a fifth", 20), ("a tenth", 10)))
    plain = chance.randint(1, 99)
    return chance.choice((Value(*spoken), *(Value(f"{plain} {sign}", plain) for sign in ("percent", "per cent"))))


def _large(chance: Random) -> Value:
    number = chance.randint(100, 9999)
    return Value(str(number), number)


def _wide_url(chance: Random) -> Value:
    return _same(f"https://{made_up(chance)}.example/{made_up(chance, 2)}")


def _wide_file(chance: Random) -> Value:
    ending = chance.choice(("pdf", "csv", "txt", "png", "log", "yml", "sql", "zip"))
    return _same(f"{made_up(chance)}.{ending}" if chance.random() < 0.5 else f"report-{chance.randint(1, 99)}.{ending}")


def _version(chance: Random) -> Value:
    return _same(f"{chance.randint(0, 9)}.{chance.randint(0, 30)}.{chance.randint(0, 20)}")


def _number(low: int, high: int) -> Callable[[Random], Value]:
    def made(chance: Random) -> Value:
        number = chance.randint(low, high)
        return Value(str(number), number)

    return made


def _decimal(chance: Random) -> Value:
    number = chance.randint(3, 980) / chance.choice((10, 10, 100))
    return Value(f"{number:g}", number)


def _flag(yes: str, no: str) -> Callable[[Random], Value]:
    return lambda chance: chance.choice((Value(yes, True), Value(no, False)))


_WIDE: dict[str, Callable[[Random], Value]] = {
    "person": _wide_person,
    "email": _wide_email,
    "code": _wide_code,
    "room": _wide_room,
    "text": _wide_text,
    "topic": _qualified("topic"),
    "item": _qualified("item"),
    "city": _or_made_up("city"),
    "venue": _or_made_up("venue"),
    "company": _or_made_up("company"),
    "date": _wide_date,
    "clock": _wide_clock,
    "minutes": _wide_minutes,
    "cents": _wide_cents,
    "count": _wide_count,
    "metres": _scaled("km", "metres", 1000),
    "grams": _scaled("kg", "grams", 1000),
    "seconds": _scaled("minutes", "seconds", 60),
    "hours": _scaled("days", "hours", 24, 6),
    "days": _scaled("weeks", "days", 7, 8),
    "months": _scaled("years", "months", 12, 6),
    "percent": _wide_percent,
    "millilitres": _scaled("litres", "ml", 1000),
    "megabytes": _scaled("GB", "MB", 1000),
    "centimetres": _scaled("metres", "cm", 100),
    "large": _large,
    "year": _number(1950, 2030),
    "degrees": _number(2, 240),
    "url": _wide_url,
    "file": _wide_file,
    "version": _version,
    "decimal": _decimal,
    **{kind: _word(names) for kind, names in WORDS.items()},
    **{kind: _flag(*said) for kind, said in FLAGS.items()},
}
"""The makers of training's values: far more of them, and said in more ways."""

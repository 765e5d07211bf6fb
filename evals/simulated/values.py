"""Values of many kinds, each as a person says it and as a tool takes it: `two hours` is 120 minutes.

Every split draws its names from pools of its own, so that a name seen in training never stands in a test case.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Literal

Split = Literal["train", "dev", "test"]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")
Scalar = str | int

_FIRST = {
    "train": "Ana Jon Mira Theo Lena Omar Ines Paul Vera Hugo Nadia Carl Rosa Emil Tara Otto Lucia Sven Greta Ivan",
    "dev": "Elif Bruno Sofie Kofi Amina Rolf",
    "test": "Yuki Priya Mateo Freya Samir Olga Dario Wanda Bilal Chloe Anders Zofia Kenji Noor",
}
_LAST = {
    "train": "Ruiz Hale Novak Berg Costa Lind Marek Dunn Vogel Silva Brandt Keller Moss Petrov Wirth Aldea Frost",
    "dev": "Aydin Mensah Holm Rinaldi Krause",
    "test": "Tanaka Okafor Lindqvist Moretti Haddad Szabo Fontaine Bakker Iyer Nilsen Quispe Warren",
}
_POOLS = {
    "city": {
        "train": "Lisbon Oslo Vienna Bremen Lyon Turin Porto Ghent Riga Zagreb Malaga Leeds Basel Gdansk Bergen Cork",
        "dev": "Izmir Accra Aarhus Verona Trier",
        "test": "Osaka Lagos Malmo Naples Amman Szeged Nantes Utrecht Pune Bodo Cusco Tampa",
    },
    "topic": {
        "train": "budget,hiring,garden,safety,archive,roadmap,winter sale,harbour,first aid,water,chess,night shift,"
        "recycling,paint,inventory,solar,training,fire drill,newsletter,lighting",
        "dev": "pottery,statistics,sailing,grammar,first violin",
        "test": "dentist,tax return,tyre change,election,volcano,piano lesson,passport renewal,railway strike,"
        "harvest,comet,ferry,vaccination,marathon",
    },
    "item": {
        "train": "blue valve,copper wire,desk lamp,oak shelf,steel bolt,paper roll,glass jar,rubber seal,wool blanket,"
        "brass hinge,canvas bag,clay pot,cork board,filter,garden hose,ladder",
        "dev": "fig tree,lavender,blue fern,tomato,mint",
        "test": "quartz lens,magnet,pipette,beaker,centrifuge rotor",
    },
    "place": {
        "train": "the old mill,Station Square,the north gate,Linden Park,the town hall,Mill Lane,the city library,"
        "the swimming pool,Harbour Street,the bus depot",
        "dev": "the lighthouse,Castle Hill",
        "test": "the opera house,Fort Nine,the glass bridge,the clock tower,Tiger Temple,the wax museum,Pier Seven",
    },
    "venue": {
        "train": "Red Door,Old Harbour,Green Fork",
        "dev": "Three Lamps,Silver Spoon",
        "test": "Blue Heron,Stone Garden,Lantern House,Copper Kettle,Paper Moon,Ninth Wave,Salt Cellar",
    },
    "company": {
        "train": "Norvik,Altrex",
        "dev": "Tessal,Morun",
        "test": "Quandor,Helvia,Brightmoor,Zelkon,Ostrava Steel,Palmyre",
    },
    "cuisine": {"train": "Greek,Thai", "dev": "Turkish,Danish", "test": "ramen,Lebanese,Peruvian,vegan,Korean"},
    "condition": {"train": "dry,humid", "dev": "hazy,mild", "test": "cloudy,sunny,rainy,foggy,stormy"},
}
_TEXTS = {
    "train": ("the {item} is ready", "please bring the {item}", "we start with {topic}", "thank you for the {item}"),
    "dev": ("the {item} needs care", "the {topic} class is full"),
    "test": ("the notes about {topic} are attached", "{topic} is off the agenda", "everybody asks about {topic}"),
}
_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


@dataclass(frozen=True, slots=True)
class Value:
    """What a person says, and what the tool's argument has to be."""

    said: str
    given: Scalar


def draw(kind: str, split: Split, chance: Random) -> Value:
    """A value of a kind. Raises KeyError for a kind that nobody knows."""
    if kind in _POOLS:
        pool = _POOLS[kind][split]
        return _same(chance.choice(pool.split(",") if "," in pool else pool.split()))
    return _MAKERS[kind](split, chance)


def is_text(kind: str) -> bool:
    """Whether arguments of this kind are texts; the others are whole numbers."""
    return kind not in ("count", "minutes", "cents", "metres", "grams")


FORMS = {
    "date": "Dates are YYYY-MM-DD.",
    "clock": "Times are HH:MM of 24 hours.",
}
"""What a tool's description says of the kinds that have to be written in one way."""
ALIASES: dict[str, tuple[str, ...]] = {
    "person": ("person", "full_name", "who", "individual"),
    "city": ("town_name", "city_name", "municipality"),
    "email": ("email_address", "mailbox", "e_mail"),
    "phone": ("telephone", "number_to_call", "phone_no"),
    "date": ("day", "on_day", "calendar_date", "when_day"),
    "clock": ("hour", "time_of_day", "clock_time"),
    "minutes": ("length_minutes", "duration_in_minutes", "mins"),
    "cents": ("amount_cents", "sum_in_cents", "value_cents"),
    "count": ("number", "how_many", "n", "amount"),
    "topic": ("heading", "theme", "called"),
    "item": ("article", "product", "thing"),
    "code": ("code", "id_code", "key", "identifier"),
    "text": ("words", "message_text", "note"),
    "room": ("location_code", "space", "room_number"),
    "metres": ("length_metres", "metres_away", "distance_in_metres"),
    "grams": ("weight_grams", "grams_total", "weight_in_grams"),
    "place": ("spot", "place_name", "where"),
}
"""Other names for a parameter of a kind, for training on renamed ones."""


def _same(text: str) -> Value:
    return Value(text, text)


def _person(split: Split, chance: Random) -> Value:
    return _same(f"{chance.choice(_FIRST[split].split())} {chance.choice(_LAST[split].split())}")


def _email(split: Split, chance: Random) -> Value:
    first, last = _person(split, chance).said.lower().split()
    host = {"train": "mail.example", "dev": "post.example", "test": "inbox.example"}[split]
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
    shape = chance.choice(_TEXTS[split])
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
        shapes.append(f"half past {_NUMBERS[hour - 1]} in the {'afternoon' if late else 'morning'}")
    return Value(chance.choice(shapes), given)


def _minutes(split: Split, chance: Random) -> Value:
    hours = chance.randint(2, 5)
    shapes = [
        (f"{_NUMBERS[hours - 1]} hours", hours * 60),
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
    return chance.choice((Value(_NUMBERS[number - 1], number), Value(str(number), number)))


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

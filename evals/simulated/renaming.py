"""Other names, parameters and texts for the tools of training, drawn anew for each case.

So a model learns to read what is on offer and not to know it by heart. No name or text of another split is ever given.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from random import Random

from evals.simulated.case import Offered
from evals.simulated.families import Family, Spec, families
from evals.simulated.pools import SPLITS
from evals.simulated.values import made_up
from evals.simulated.work import TWINS
from evals.simulated.world import FILES, READING

NONSENSE, RENAMED, ALIASED, SHUFFLED, RESTYLED = 0.15, 0.6, 0.4, 0.4, 0.5
"""How likely a tool has a name without meaning, or another name; its parameters other names, another order; its text
another form."""
STYLES = (
    *("{Third}",) * 4,
    "Use this to {base}",
    "Call this to {base}",
    "A tool to {base}",
    "This {third}",
    "Helps to {base}",
    "Can {base}",
    "To {base}",
)
"""Forms of a tool's text, which by itself begins with its verb."""
ALIASES: dict[str, tuple[str, ...]] = {
    "person": ("person", "full_name", "who", "individual", "person_name", "human", "by_whom", "participant"),
    "city": ("town_name", "city_name", "municipality", "in_city", "place_of", "settlement"),
    "email": ("email_address", "mailbox", "e_mail", "mail_to", "inbox", "email"),
    "phone": ("telephone", "number_to_call", "phone_no", "mobile", "dial", "call_at"),
    "date": ("day", "on_day", "calendar_date", "when_day", "iso_date", "which_day", "the_date"),
    "clock": ("hour", "time_of_day", "clock_time", "hhmm", "exact_time", "o_clock"),
    "minutes": ("length_minutes", "duration_in_minutes", "mins", "for_minutes", "time_minutes"),
    "hours": ("hours", "number_of_hours", "duration_hours", "hrs"),
    "seconds": ("secs", "seconds_total", "duration_seconds", "in_seconds"),
    "days": ("days", "number_of_days", "for_days", "day_count"),
    "months": ("months", "number_of_months", "for_months"),
    "cents": ("amount_cents", "sum_in_cents", "value_cents", "total_cents", "cents", "money_in_cents"),
    "count": ("number", "how_many", "n", "amount", "total", "num", "units"),
    "large": ("number", "figure", "total_number", "how_many"),
    "percent": ("percentage", "pct", "share_percent", "rate"),
    "millilitres": ("ml", "volume_ml", "amount_ml", "millilitres_total"),
    "megabytes": ("mb", "size_mb", "megabytes_total", "memory_mb"),
    "centimetres": ("cm", "length_cm", "size_in_cm", "centimetres_total"),
    "topic": ("heading", "theme", "called", "title_text", "about", "entry_name"),
    "item": ("article", "product", "thing", "object", "goods", "piece"),
    "code": ("code", "id_code", "key", "identifier", "ref", "uid", "record_id", "no"),
    "text": ("words", "message_text", "note", "body_text", "what_to_say", "free_text"),
    "room": ("location_code", "space", "room_number", "spot_code", "room_id"),
    "metres": ("length_metres", "metres_away", "distance_in_metres", "m", "metres_total"),
    "grams": ("weight_grams", "grams_total", "weight_in_grams", "g", "mass_in_g"),
    "place": ("spot", "place_name", "where", "site_name", "locality"),
    "level": ("grade", "how_urgent", "importance", "severity_level"),
    "state": ("state_name", "stage", "new_state", "progress"),
    "company": ("firm", "business", "company_name", "enterprise"),
    "url": ("link", "web_address", "page", "href"),
    "file": ("file_name", "path_name", "filename"),
}
"""Other names for a parameter of a kind, for training on renamed ones."""


@lru_cache(maxsize=1)
def reserved() -> frozenset[str]:
    """Names that training never uses: those of the other splits and of the real tools."""
    return frozenset({spec.name for _, spec in _others()} | TWINS.keys() | FILES.keys())


@lru_cache(maxsize=1)
def reserved_texts() -> frozenset[str]:
    """Texts that training never uses."""
    own = {twin.text for twin in TWINS.values()} | {tool.schema["function"]["description"] for tool in FILES.values()}
    return frozenset({spec.text for _, spec in _others()} | own)


def _others() -> list[tuple[Family, Spec]]:
    return [(f, spec) for split in SPLITS if split != "train" for f in families(split).values() for spec in f.tools]


def renamed(offered: Sequence[Offered], chance: Random) -> list[Offered]:
    """The tools under names that training may use, all different. Those of `work` and `files` have theirs already."""
    taken = set(reserved())
    found = []
    for tool in offered:
        made = tool if tool.family in ("work", "files") else _other_names(tool, chance)
        while made.called in taken:
            made = made.model_copy(update={"name": f"{made.tool}_{chance.randint(2, 99)}"})
        taken.add(made.called)
        found.append(made)
    return found


def _other_names(tool: Offered, chance: Random) -> Offered:
    family = families("train")[tool.family]
    spec = family.spec(tool.tool)
    how = chance.random()
    name = _nonsense(chance) if how < NONSENSE else _styled_name(family, spec, chance) if how < RENAMED else ""
    order = list(spec.takes)
    if chance.random() < SHUFFLED:
        chance.shuffle(order)
        order.sort(key=lambda parameter: parameter in spec.optional)
    kinds = [family.kind(spec, parameter) for parameter in order]
    parameters: dict[str, str] = {}
    for parameter, kind in zip(order, kinds, strict=True):
        known = ALIASES.get(kind, ()) if kinds.count(kind) == 1 else ()
        alias = chance.choice((*known, *forms(parameter)))
        taken = {*order, *parameters.values()}
        parameters[parameter] = alias if chance.random() < ALIASED and alias not in taken else parameter
    text = styled_text(spec.text, chance) if chance.random() < RESTYLED else ""
    return Offered(family=tool.family, tool=tool.tool, name=name, parameters=parameters, text=text)


def forms(parameter: str) -> tuple[str, ...]:
    """A parameter's name in other styles; it means the same in all of them."""
    return (camel(parameter), f"the_{parameter}", f"{parameter}_value", f"p_{parameter}")


def _nonsense(chance: Random) -> str:
    return f"{made_up(chance)}_{made_up(chance, 2)}"


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(part.capitalize() for part in others)


def _styled_name(family: Family, spec: Spec, chance: Random) -> str:
    """The name in another style: camel case, with its family in front, shortened, or with a verb of its kind."""
    verbs = "query fetch read lookup see" if spec.does in READING else "do run make exec perform"
    short = "_".join(part[:4] for part in spec.name.split("_"))
    styles = (
        camel(spec.name),
        camel(spec.name).capitalize() if "_" not in spec.name else camel(f"{chance.choice(verbs.split())}_{spec.name}"),
        f"{family.name}_{spec.name}" if len(family.name) + len(spec.name) < 26 else short,
        f"{chance.choice(verbs.split())}_{spec.name}",
        f"{spec.name}_{chance.choice(('v1', 'v2', 'v3', 'tool', 'fn', 'api', 'now', 'it'))}",
        f"{chance.choice(('my', 'our', 'app', 'x', 'the', 'svc'))}_{spec.name}",
        "_".join(reversed(spec.name.split("_"))),
        short,
    )
    return chance.choice(styles)


def styled_text(text: str, chance: Random) -> str:
    """A tool's text in another form: `Moves a shelf.` or `Use this to move a shelf.` for `Move a shelf.`"""
    base = text[0].lower() + text[1:]
    third = third_person(base)
    made = chance.choice(STYLES).format(base=base, third=third, Third=third[0].upper() + third[1:])
    return text if made in reserved_texts() else made


def third_person(base: str) -> str:
    """What begins with a verb, as said of somebody: `carry a box` is `carries a box`."""
    verb, space, rest = base.partition(" ")
    if verb.endswith(("s", "sh", "ch", "x", "o")):
        said = f"{verb}es"
    elif verb.endswith("y") and verb[-2] not in "aeiou":
        said = f"{verb[:-1]}ies"
    else:
        said = {"have": "has", "be": "is"}.get(verb, f"{verb}s")
    return f"{said}{space}{rest}"

"""Families of training that are composed: a thing, some of its fields, and tools that are put in one of many ways.

The families that people wrote (`families/`) read like real ones, but they are some dozens. These are only about as
good as their grammar, yet there are hundreds of words among them, so that a model has to read what a tool says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import cast

from evals.simulated.phrasing import words
from evals.simulated.values import FLAGS

COUNT = 400
"""Composed families."""
PLACES = ("desk", "office", "service", "app", "registry")
"""Who keeps a family's records. So a thing has several families, with other fields and other tools."""
HOW = 0.5
"""How likely what is ordered for a thing has a yes or a no besides."""
OPTIONAL = 0.6
"""How likely that may be left open, and how likely what is made takes a field that need not be said."""
THINGS: dict[str, str] = {
    "code": "greenhouse boat crane lorry locker cage trailer turbine scanner sensor beehive kiln generator lift "
    "container barge drone tractor excavator camera antenna fountain hydrant streetlamp buoy cistern silo furnace "
    "compressor elevator forklift pump tram wagon signal switchboard transformer vault drawer booth kiosk mailbag "
    "voucher permit claim petition lease receipt warrant shipment consignment crate pallet badge token licence_plate "
    "cluster database bucket server repository pipeline queue backup certificate firewall gateway cron_job webhook "
    "dataset notebook dashboard experiment release branch incident subscription payload",
    "topic": "seminar workshop campaign auction concert parade festival podcast lecture survey contest audit rehearsal "
    "hike rally exhibit banquet expedition debate clinic retreat symposium webinar hackathon tournament regatta gala "
    "screening tasting pilgrimage newsletter column essay chapter mural sculpture quilt blog",
    "person": "patient tenant member pupil guest donor volunteer apprentice nurse referee witness lodger juror trainee "
    "passenger subscriber freelancer musician gardener candidate alumna skipper miner athlete",
    "item": "tool costume spare_part instrument appliance prop antique toy supply fabric mould sample_kit gadget relic",
    "venue": "brewery gallery vineyard hostel bakery nursery stable laundry pharmacy theatre chapel campsite boatyard",
    "company": "supplier client sponsor insurer carrier tenant_firm contractor publisher retailer",
    "animal": "horse dog falcon goat parrot cow alpaca tortoise sheep donkey",
    "project": "module mission prototype microservice sprint portfolio",
}
"""What families are about, by the kind of the name that a thing goes by."""
FIELDS: dict[str, str] = {
    "person": "keeper warden captain mechanic editor tutor caretaker supervisor sponsor translator guardian agent "
    "judge designer painter trainer midwife notary plumber chemist engineer architect deputy steward handler successor "
    "maintainer approver assignee mentor",
    "date": "inspected_on painted_on insured_until opened_on founded_on delivered_on expires_on tested_on repaired_on "
    "cleaned_on signed_on closing_date next_visit harvest_day released_on archived_on vaccinated_on rented_until",
    "clock": "opens_at closes_at feeding_time wake_time starts_at ends_at curfew shift_start boarding_time alarm_time",
    "room": "bay berth cabin stall dock aisle booth_number studio ward cell rack",
    "city": "home_port birthplace base_city origin_town branch_city host_city",
    "email": "support_mail office_mail owner_mail billing_mail press_mail help_address",
    "phone": "hotline emergency_number office_phone night_phone helpline",
    "count": "window_count wheel_count member_count lane_number bed_count door_count stock_left copies visits floor "
    "votes errors nodes crew_size",
    "cents": "rent fee deposit fine wage toll ransom entry_price daily_rate budget repair_cost",
    "grams": "weight load dose ration catch yield_grams",
    "minutes": "pause delay cooking_time session_length waiting_time cooldown",
    "metres": "height depth reach range_metres span runway",
    "percent": "humidity discount battery fill_level progress share cpu_load",
    "state": "status condition_note stage",
    "level": "priority risk severity",
    "colour": "colour paint lining",
    "size": "size fit",
    "material": "material casing surface",
    "language": "language subtitle_language",
    "country": "country origin_country flag_country",
    "version": "firmware build runtime_version",
    "megabytes": "memory disk_use quota_mb",
    "millilitres": "tank_volume oil_left water_use",
    "item": "attachment accessory gift",
    "decimal": "voltage pressure ratio salinity ph_value tilt thickness rating efficiency",
    "place": "site stop storage_place",
    "weekday": "rest_day market_day",
}
"""What is noted of a thing, by kind."""
OTHERWISE = 0.4
"""How likely a tool's text says a field in other words than its name."""
OTHER_WORDS: dict[str, tuple[str, ...]] = {
    "person": ("person in charge", "responsible person", "contact person"),
    "date": ("calendar day", "date"),
    "clock": ("time of day", "hour"),
    "room": ("spot", "code of the place"),
    "city": ("town", "municipality"),
    "email": ("mail address", "address to write to", "address for questions by mail"),
    "phone": ("number to call", "telephone number"),
    "count": ("quantity", "tally"),
    "cents": ("price in cents", "sum of money", "amount to pay"),
    "grams": ("mass", "heaviness in grams"),
    "minutes": ("duration", "time it takes"),
    "metres": ("distance in metres", "measured length"),
    "percent": ("percentage", "proportion"),
    "state": ("situation", "present state"),
    "level": ("urgency", "grade"),
    "colour": ("shade", "tint"),
    "size": ("measure", "dimensions"),
    "material": ("substance", "what it is made of"),
    "language": ("tongue", "spoken language"),
    "country": ("nation", "land"),
    "version": ("release number", "edition"),
    "megabytes": ("amount of data", "storage in megabytes"),
    "millilitres": ("volume of liquid", "liquid in millilitres"),
    "item": ("object that belongs to it", "enclosed thing"),
    "decimal": ("measured value", "reading"),
    "place": ("location", "whereabouts"),
    "weekday": ("day of the week", "recurring day"),
}
"""What people also call a field of a kind; a family has one of each kind, so that it is clear which is meant."""
SERVICES = (
    *("inspection", "repair", "cleaning", "tour", "photo", "valuation", "refill", "transport", "painting", "upgrade"),
    *("test", "visit", "checkup", "reading", "delivery", "survey", "rescue", "wash", "overhaul", "briefing", "scan"),
    *("rehearsal", "fumigation", "calibration", "drill"),
)
READS = (
    "Look up the {f} of {a}.",
    "Say what the {f} of {a} is.",
    "Tell which {f} {a} has.",
    "Find the {f} of {a}.",
    "Read the {f} of {a}.",
    "Give the {f} noted for {a}.",
    "Fetch {a}'s {f}.",
    "Check the {f} of {a}.",
    "Return the {f} of {a}.",
    "State the {f} of {a}.",
)
READS_TWO = tuple(text for text in READS if "the {f} of" in text and " is." not in text)
SEARCHES = (
    "List the {many} with a certain {f}.",
    "Find all {many} that share the {f}.",
    "Search {many} by {f}.",
    "Filter the {many} by their {f}.",
    "Tell which {many} have this {f}.",
)
MAKES = (
    "Register {a} with its {fs}.",
    "Add {a}, given its {fs}.",
    "Enter a new {one} with {fs}.",
    "Create a new {one} from {fs}.",
    "Put a new {one} on record: {fs}.",
)
SETS = (
    "Set the {f} of {a}.",
    "Change the {f} of {a}.",
    "Update {a}'s {f}.",
    "Give {a} another {f}.",
    "Correct the {f} noted for {a}.",
    "Write down a new {f} for {a}.",
)
ENDS = ("Remove", "Delete", "Retire", "Strike", "Drop", "Withdraw", "Discard", "Scrap", "Deregister", "Erase")
ORDERS = ("Order", "Plan", "Arrange", "Request", "Organise", "Schedule", "Ask for")


def composed(taken: set[str]) -> list[dict[str, object]]:
    """The families as the data of a file; always the same. `taken` are names that other tools have."""
    chance = Random("composed families")
    things = [(kind, thing, place) for kind, names in THINGS.items() for thing in names.split() for place in PLACES]
    found = [_family(kind, thing, place, chance) for kind, thing, place in chance.sample(things, COUNT)]
    used = set(taken)
    for family in found:
        for tool in cast(list[dict[str, object]], family["tools"]):
            while tool["name"] in used:
                tool["name"] = f"{family['name']}_{tool['name']}"
            used.add(str(tool["name"]))
    return found


def _family(kind: str, thing: str, place: str, chance: Random) -> dict[str, object]:
    one = words(thing)
    key = chance.choice((thing, f"{thing}_name", f"{thing}_id") if kind != "code" else (thing, f"{thing}_code"))
    kinds = chance.sample([other for other in FIELDS if other != kind], 4)
    if chance.random() < 0.5:
        kinds[0] = "person" if kind != "person" else "email"
        kinds = list(dict.fromkeys(kinds))
    fields = {key: kind} | {chance.choice(FIELDS[other].split()): other for other in kinds}
    family: dict[str, object] = {
        "name": f"{thing}_{place}",
        "key": key,
        "ref": chance.choice((f"the {one} {{{key}}}", f"the {one} {{{key}}}", f"{one} {{{key}}}")),
        "prefix": "".join(chance.choices("BCDFGHKLMNPRSTVW", k=2)),
        "fields": fields,
        "tools": list(_tools(thing, key, {name: kind for name, kind in fields.items() if name != key}, chance)),
    }
    if chance.random() < 0.25:
        family["private"] = {chance.choice(("insurance_number", "pin_code", "tax_number", "bank_number")): "account"}
    return family


def _tools(thing: str, key: str, fields: Mapping[str, str], chance: Random) -> Iterator[dict[str, object]]:
    one, many = words(thing), plural(words(thing))
    a = article(one)
    alone = chance.sample(list(fields), 2 if len(fields) > 3 else len(fields))
    pair = [field for field in fields if field not in alone]
    for field in alone:
        f = _said(field, fields[field], chance)
        yield {
            "name": chance.choice(
                (f"{thing}_{field}", f"{field}_of_{thing}", f"read_{thing}_{field}", f"{field}_info")
            ),
            "text": chance.choice(READS).format(f=f, a=a),
            "does": "look_up",
            "takes": [key],
            "gives": [field],
        }
    if pair:
        yield {
            "name": chance.choice((f"{thing}_details", f"{thing}_record", f"describe_{thing}", f"{thing}_sheet")),
            "text": chance.choice(READS_TWO).format(
                f=" and the ".join(_said(field, fields[field], chance) for field in pair), a=a
            ),
            "does": "look_up",
            "takes": [key],
            "gives": pair,
        }
    yield _search(thing, many, chance.choice(list(fields)), chance)
    yield _make(thing, one, chance.sample(list(fields), min(3, len(fields))), chance)
    for field in chance.sample(list(fields), 2):
        yield _set(thing, one, key, field, fields[field], chance)
    yield from _deeds(thing, one, key, chance)


def _search(thing: str, many: str, field: str, chance: Random) -> dict[str, object]:
    f, given = words(field), f"{{{field}}}"
    says = (
        f"list the {many} with the {f} {given}",
        f"find every {words(thing)} whose {f} is {given}",
        f"which {many} have the {f} {given}?",
    )
    several = many.replace(" ", "_")
    name = chance.choice((f"{several}_by_{field}", f"search_{several}", f"{several}_with_{field}", f"filter_{several}"))
    text = chance.choice(SEARCHES).format(many=many, f=f)
    return {"name": name, "text": text, "does": "search", "takes": [field], "says": list(says)}


def _make(thing: str, one: str, chosen: Sequence[str], chance: Random) -> dict[str, object]:
    pair, third = chosen[:2], chosen[2:] if chance.random() < OPTIONAL else ()
    (f, g), (v, w) = [words(name) for name in pair], [f"{{{name}}}" for name in pair]
    verb = chance.choice(("register", "add", "enter", "create", "record"))
    a = article(one, new=True)
    besides = [f"{verb} {a} with the {words(h)} {{{h}}}, the {f} {v} and the {g} {w}" for h in third]
    besides += [f"{verb} {a}: {f} {v}, {g} {w}, {words(h)} {{{h}}}" for h in third]
    return {
        "name": chance.choice((f"register_{thing}", f"add_{thing}", f"new_{thing}", f"{thing}_entry", f"make_{thing}")),
        "text": chance.choice(MAKES).format(a=a, one=one, fs=f"{f} and {g}"),
        "does": "create",
        "takes": [*pair, *third],
        "optional": list(third),
        "says": [
            f"{verb} {a} with the {f} {v} and the {g} {w}",
            f"{verb} {a}: {f} {v}, {g} {w}",
            f"put {a} with the {g} {w} on record, its {f} is {v}",
            *besides,
        ],
        "lacks": {pair[0]: f"{verb} {a} with the {g} {w}", pair[1]: f"{verb} {a} whose {f} is {v}"},
    }


def _said(field: str, kind: str, chance: Random) -> str:
    """A field as a tool's text says it."""
    return chance.choice(OTHER_WORDS[kind]) if chance.random() < OTHERWISE else words(field)


def _set(thing: str, one: str, key: str, field: str, kind: str, chance: Random) -> dict[str, object]:
    f, given, which = words(field), f"{{{field}}}", f"the {one} {{{key}}}"
    says = [
        f"set the {f} of {which} to {given}",
        f"change the {f} of {which} to {given}",
        f"make {given} the {f} of {which}",
        f"give {which} the {f} {given}",
        f"note {given} as the {f} of {which}",
    ]
    return {
        "name": chance.choice((f"set_{thing}_{field}", f"change_{field}", f"{thing}_new_{field}", f"update_{field}")),
        "text": chance.choice(SETS).format(f=_said(field, kind, chance), a=article(one)),
        "does": "change",
        "takes": [key, field],
        "says": chance.sample(says, 3),
        "lacks": {field: chance.choice((f"change the {f} of {which}", f"set another {f} for {which}"))},
    }


def _deeds(thing: str, one: str, key: str, chance: Random) -> Iterator[dict[str, object]]:
    """Something that is ordered for a thing, and its end."""
    service, verb, which = chance.choice(SERVICES), chance.choice(ORDERS), f"the {one} {{{key}}}"
    deed, asks = article(service), verb.lower()
    day = chance.choice(("planned_day", "service_day", "set_for", "wanted_on"))
    flags = [chance.choice(sorted(FLAGS))] if chance.random() < HOW else []
    optional = flags if flags and chance.random() < OPTIONAL else []
    plain = [f"{asks} {deed} of {which} for {{{day}}}", f"{asks} {deed} on {{{day}}} for {which}"]
    flagged = [f"{phrase}, {{{flag}}}" for flag in flags for phrase in plain]
    yield {
        "name": chance.choice((f"{asks.replace(' ', '_')}_{thing}_{service}", f"{thing}_{service}")).replace("-", "_"),
        "text": f"{verb} {deed} of {article(one)} for a day{''.join(f', {FLAGS[flag][0]} or not' for flag in flags)}.",
        "does": "create",
        "takes": [key, day, *flags],
        "more": {day: "date"} | {flag: flag for flag in flags},
        "optional": optional,
        "says": [*plain, *flagged] if optional else flagged or plain,
        "lacks": {day: f"{asks} {deed} of {which}"},
    }
    end = chance.choice(ENDS)
    yield {
        "name": chance.choice((f"{end.lower()}_{thing}", f"{thing}_{end.lower()}")),
        "text": f"{end} {article(one)}.",
        "does": "remove",
        "takes": [key],
        "says": [f"{end.lower()} {which}", f"{chance.choice(ENDS).lower()} {which}"],
    }


def plural(noun: str) -> str:
    """Several of a thing: `galleries`."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else noun if noun.endswith("sheep") else f"{noun}s"


def article(noun: str, *, new: bool = False) -> str:
    """A noun with the article that it takes: `an axle`."""
    if new:
        return f"a new {noun}"
    return f"an {noun}" if noun[0] in "aeiou" and not noun.startswith(("uni", "use")) else f"a {noun}"

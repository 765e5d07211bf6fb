"""Which tools a case offers, in which order and under which names.

For training, tools and parameters are renamed and their schemas shuffled, so that a model learns to read what is on
offer and not to know it by heart. No name of another split is ever given.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from random import Random

from evals.simulated.case import Call, Offered, Turn
from evals.simulated.families import Family, Spec, families
from evals.simulated.maker import Chosen
from evals.simulated.pools import SPLITS, Split
from evals.simulated.values import ALIASES
from evals.simulated.work import TWINS
from evals.simulated.world import FILES, READING

SIZES: dict[Split, tuple[int, int]] = {"train": (3, 10), "dev": (8, 9), "test": (8, 10)}
"""How many tools are on offer, at least and at most."""
NEIGHBOURS = 2
"""Tools of the wanted one's own family that are always on offer beside it."""
RENAMED, NONSENSE, ALIASED, SHUFFLED = 0.6, 0.2, 0.4, 0.4
"""How likely, in training, a tool has another name, one without meaning; its parameters other names, another order."""
_SYLLABLES = [a + b for a, b in zip("bcdfghjklmnprstvwxz", "aeiouaeioueoaiueoiu", strict=True)]
TRAIN_WORK: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "todo_add": (("checklist_entry", "put_on_list"), {"title": "entry"}, "Put an entry on the checklist."),
    "todo_complete": (
        ("tick_off", "checklist_done", "finish_entry"),
        {"id": "entry_id", "note": "remark"},
        "Tick off a checklist entry that is finished, with a remark on it.",
    ),
    "todo_list": (("show_checklist", "checklist_open"), {}, "Show which checklist entries are not ticked off."),
    "next_phase_todos": (
        ("start_doing", "open_work_stage"),
        {"todos": "entries"},
        "Finish the planning stage by giving the checklist of the working stage.",
    ),
    "job_complete": (
        ("finish_assignment", "end_assignment"),
        {"summary": "outcome", "reason_open": "why_unfinished"},
        "Finish the assignment and tell its outcome.",
    ),
    "bead_create": (("card_new", "pin_card"), {"title": "headline"}, "Pin a new card with a piece of work."),
    "bead_show": (("card_details", "view_card"), {"id": "card"}, "View one card and the cards it waits for."),
    "bead_ready": (("cards_to_take", "free_cards"), {}, "View the cards that can be taken now."),
    "bead_claim": (("take_card", "grab_card"), {"id": "card"}, "Take a free card before doing its work."),
    "bead_update": (("card_state",), {"id": "card", "status": "state"}, "Give a card another state."),
    "bead_depend": (("card_after", "chain_cards"), {"id": "card", "on": "other_card"}, "Make a card wait for another."),
    "bead_close": (
        ("card_done", "finish_card"),
        {"id": "card", "reason": "result"},
        "Finish a taken card whose work is through.",
    ),
    "delegate": (
        ("hand_out", "ask_colleagues", "split_up"),
        {"tasks": "assignments", "parallel": "at_once"},
        "Give big separate assignments to colleagues, who each work alone.",
    ),
}
"""The tools for one's own work as training shows them: other names, parameters and texts."""
TRAIN_FILES: dict[str, tuple[tuple[str, ...], dict[str, str], str]] = {
    "read_file": (
        ("open_document", "view_document"),
        {"path": "document", "start": "first_line", "end": "last_line"},
        "View the lines of a document.",
    ),
    "edit_file": (
        ("replace_passage", "swap_passage"),
        {"path": "document", "old": "passage", "new": "replacement"},
        "Swap one passage of a document for another.",
    ),
    "write_file": (
        ("store_document", "save_document"),
        {"path": "document", "content": "everything"},
        "Save a whole document anew.",
    ),
}


@lru_cache(maxsize=1)
def reserved() -> frozenset[str]:
    """Names that training never uses: those of the other splits and of the real tools."""
    others = {spec.name for split in SPLITS if split != "train" for f in families(split).values() for spec in f.tools}
    return frozenset(others | TWINS.keys() | FILES.keys())


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
    chosen += near[:NEIGHBOURS]
    rest = [(f.name, s.name) for f, s in everything if (f.name, s.name) not in {*chosen, *closed}]
    chance.shuffle(rest)
    chosen += rest[: max(0, size - len(chosen) - len(more))]
    offered = [Offered(family=family, tool=tool) for family, tool in chosen] + list(more)
    chance.shuffle(offered)
    return tuple(_renamed(offered, chance)) if split == "train" else tuple(offered)


def own_tools(names: Sequence[str], family: str) -> list[Offered]:
    """Tools of `work` or `files`, under their own names."""
    return [Offered(family=family, tool=name) for name in names]


def rewritten(call: Call, offered: Sequence[Offered]) -> Call:
    """A call under the tool's own names as one under the names on offer, its arguments in the schema's order."""
    tool = next(one for one in offered if one.tool == call.name)
    order = [*tool.parameters, *(key for key in call.arguments if key not in tool.parameters)]
    arguments = {tool.parameters.get(key, key): call.arguments[key] for key in order if key in call.arguments}
    free = tuple(tool.parameters.get(key, key) for key in call.free)
    return Call(name=tool.called, arguments=arguments, free=free)


def rewritten_turn(turn: Turn, offered: Sequence[Offered]) -> Turn:
    return Turn(thought=turn.thought, calls=tuple(rewritten(call, offered) for call in turn.calls))


def _renamed(offered: Sequence[Offered], chance: Random) -> list[Offered]:
    """The tools under names that training may use, all different."""
    taken = set(reserved())
    found = []
    for tool in offered:
        own = TRAIN_WORK | TRAIN_FILES
        if tool.family in ("work", "files"):
            names, parameters, text = own[tool.tool]
            made = Offered(
                family=tool.family, tool=tool.tool, name=chance.choice(names), parameters=parameters, text=text
            )
        else:
            made = _other_names(tool, chance)
        if made.called in taken:
            made = made.model_copy(update={"name": f"{made.tool}_{chance.randint(2, 99)}"})
        taken.add(made.called)
        found.append(made)
    return found


def _other_names(tool: Offered, chance: Random) -> Offered:
    family = families("train")[tool.family]
    spec = family.spec(tool.tool)
    name = ""
    parameters: dict[str, str] = {}
    if chance.random() < RENAMED:
        name = _nonsense(chance) if chance.random() < NONSENSE / RENAMED else _styled(family, spec, chance)
    order = list(spec.takes)
    if chance.random() < SHUFFLED:
        chance.shuffle(order)
    kinds = [family.kind(spec, parameter) for parameter in order]
    for parameter, kind in zip(order, kinds, strict=True):
        alias = chance.choice(ALIASES[kind]) if kind in ALIASES and kinds.count(kind) == 1 else parameter
        taken = {*order, *parameters.values()}
        parameters[parameter] = alias if chance.random() < ALIASED and alias not in taken else parameter
    return Offered(family=tool.family, tool=tool.tool, name=name, parameters=parameters)


def _nonsense(chance: Random) -> str:
    word = "".join(chance.choices(_SYLLABLES, k=chance.randint(2, 3)))
    return f"{word}_{''.join(chance.choices(_SYLLABLES, k=2))}"


def _styled(family: Family, spec: Spec, chance: Random) -> str:
    """The name in another style: camel case, with its family in front, or with a verb of the kind of tool."""
    parts = spec.name.split("_")
    camel = parts[0] + "".join(part.capitalize() for part in parts[1:])
    verb = "query" if spec.does in READING else "do"
    return chance.choice(
        (camel, f"{family.name}_{spec.name}", f"{verb}_{spec.name}", f"{spec.name}_v{chance.randint(1, 9)}")
    )

"""What people say of their own work: files, lists, phases, beads and parts to hand over. Each split has its own."""

from __future__ import annotations

from random import Random

from evals.simulated.pools import ADJECTIVES, Split
from evals.simulated.values import draw

SETTINGS: dict[Split, tuple[str, ...]] = {
    "train": ("colour", "width", "retries", "level", "volume", "shift", "limit", "border", "margin", "speed", "owner"),
    "dev": ("depth", "angle", "pace", "tone", "unit"),
    "test": ("timeout", "replicas", "threshold", "port", "cache_size", "batch", "horizon", "quota"),
}
OF_SETTINGS = "max min default user page font retry night day start stop home file mail row tax rent fuel gas door seat"
MORE_SETTINGS = (
    "size count rate delay height weight length share price floor ceiling offset gap window buffer step "
    "target score distance capacity power voltage pressure humidity frequency brightness contrast years "
    "visitors copies shifts"
)
PATHS: dict[Split, tuple[str, ...]] = {
    "train": ("shop.cfg", "docs/house.txt", "line.conf", "plan.ini"),
    "dev": ("tool.cfg",),
    "test": ("service.toml", "deploy/cluster.yaml", "notes/limits.txt"),
}
FOLDERS = "docs etc config data app site env settings var lists home work"
FILES = "shop house line plan garden printer office server game report budget menu alarm camera route kitchen lamp"
ENDINGS = "cfg txt conf ini env properties md list rc yml"
SIGNS = (" = ", " = ", "=", ": ", " : ", " ")
"""What stands between a name and its value in training; the other splits know the first alone."""
EDITS: dict[Split, tuple[str, ...]] = {
    "train": (
        "set {key} to {new} in {path}",
        "change {key} from {old} to {new} in the document {path}",
        "in {path}, set {key} to {new}",
        "put {key} at {new} in {path}",
        "update {key} in {path} to {new}",
        "replace the {key} in {path}, which is {old}, by {new}",
        "edit {path}: {key} has to be {new}",
        "see to it that {path} says {new} for {key}",
        "open {path} and turn {key} from {old} to {new}",
        "fix {key} in {path}: {new} instead of {old}",
        "give {key} the value {new} in {path}",
        "write {new} for {key} into {path}",
        "modify {path} so that {key} is {new}",
        "bring {key} in {path} to {new}",
        "correct the value of {key} in {path} to {new}",
        "switch {key} over to {new}; it stands in {path}",
        "use {new} as {key} in {path}",
        "adjust {key} to {new} in the settings {path}",
        "have {path} use {new} for {key}",
        "increase or decrease {key} in {path} so that it is {new}",
        "swap the {old} behind {key} for {new} in {path}",
        "change the line with {key} in {path} so that it says {new}",
    ),
    "dev": ("let {key} be {new} in {path}",),
    "test": ("make {key} {new} instead of {old} in the file {path}", "raise or lower {key} to {new} in {path}"),
}
TODO: dict[Split, tuple[str, ...]] = {
    "train": (
        "Do every {entry} of this {list}, and use {{todo_complete}} right after each:\n",
        "This is your {list}. After each {entry}, use {{todo_complete}}.",
        "Go through the {list} from top to bottom; what is finished is reported with {{todo_complete}} at once.",
        "Each {entry} below is to be done. Never forget {{todo_complete}} before you go on to the next.",
        "Every {entry} has a number. Do it, call {{todo_complete}} with the number, then take the next.",
        "The {list} comes next. Use {{todo_complete}} for each {entry} that you have finished.",
        "One {entry} after the other, please, and {{todo_complete}} for each.",
        "Finish what is written here. {{todo_complete}} is called once for each {entry}, directly after it.",
        "For every {entry}: first do it, then {{todo_complete}}.",
        "Your {list} for today. Keep it up to date with {{todo_complete}}.",
    ),
    "dev": ("The list below is yours; {{todo_complete}} follows each task:\n",),
    "test": ("Work through these tasks in order and call {{todo_complete}} as soon as one is done:\n",),
}
LISTED = ("{}: {}", "{}: {}", "{} - {}", "[{}] {}", "{}) {}", "* {}: {}")
"""How a task stands in a list in training; the other splits know the first alone."""
PHASES: dict[Split, tuple[str, ...]] = {
    "train": (
        "The assignment has the stages {plan} and {work}, and begins with {plan}. In {plan}, give the {list} with "
        "{{next_phase_todos}}. In {work}, do each {entry} and then call {{todo_complete}} for it. When all are ticked "
        "off, {plan} is back: call {{job_complete}}.",
        "Begin with {{next_phase_todos}}: it takes the {list}. Then do every {entry}, each followed by "
        "{{todo_complete}}. Close with {{job_complete}}.",
        "Nothing is done before {{next_phase_todos}} has the {list}. After each {entry} comes {{todo_complete}}, and "
        "{{job_complete}} is the last call.",
        "There are two stages. {plan}: hand the {list} to {{next_phase_todos}}. {work}: do it, with {{todo_complete}} "
        "after each {entry}. In the end {{job_complete}}.",
        "Use {{next_phase_todos}} before anything else. While you work, {{todo_complete}} after each {entry}. Use "
        "{{job_complete}} when nothing is left.",
        "Make a {list} with {{next_phase_todos}}, work it off ({{todo_complete}} each time), finish with "
        "{{job_complete}}.",
        "The order is fixed: {{next_phase_todos}}, the work itself with {{todo_complete}} for each {entry}, "
        "{{job_complete}}.",
        "You start in the {plan} stage, where only {{next_phase_todos}} is allowed. It opens the {work} stage, where "
        "{{todo_complete}} follows every {entry}. After the last one, say {{job_complete}}.",
        "First the {list}, through {{next_phase_todos}}. Second the work, and {{todo_complete}} whenever something is "
        "finished. Third {{job_complete}}.",
    ),
    "dev": (
        "Plan first with {{next_phase_todos}}, then do and call {{todo_complete}} each time, at last call "
        "{{job_complete}}.",
    ),
    "test": (
        "A job has a strategic phase, where you plan with {{next_phase_todos}} and in the end call {{job_complete}}, "
        "and a tactical phase between, where you do the tasks and call {{todo_complete}} after each. It starts "
        "strategic.",
    ),
}
BEADS: dict[Split, tuple[str, ...]] = {
    "train": (
        "take a free {card}, do what it says and finish it",
        "pick up the next {card} and see it through",
        "work on a {card} that nobody has taken",
        "do one {card} from start to end",
        "find {a_card} that can be started, and do it",
        "get the next {card} off the board",
        "look for a free {card} and bring it to its end",
        "choose {a_card} that waits for nothing, do its work and finish it",
        "see to the {card} that is next",
        "clear one open {card}",
        "be useful and do the {card} that is free",
        "start on whatever {card} is free and complete it",
        "take one {card}, only one, and deal with it",
        "tackle the first {card} that you may start",
        "make progress: one {card}, taken and finished",
    ),
    "dev": ("handle one bead that is ready",),
    "test": ("do the work of the next ready bead, from claim to close", "get one ready bead done and closed"),
}
WAITING: dict[Split, tuple[str, ...]] = {
    "train": (
        'pin {a_card} "{{}}" that has to wait for the {card} {{}}',
        'add {a_card} called "{{}}"; it waits for {{}}',
        'open the {card} "{{}}", to be done only when {{}} is through',
        'put down "{{}}" as a new {card}, blocked by {{}}',
        'enter the {card} "{{}}" and let it wait for {{}}',
        'we need {a_card} for "{{}}", but not before {{}} is finished',
        'make {a_card} out of "{{}}", and hold it back until {{}} is over',
        'note the new {card} "{{}}", with {{}} to come first',
    ),
    "dev": ('create a bead "{{}}" after {{}}',),
    "test": ('create a bead "{{}}" which depends on the bead {{}}',),
}
HAND_OVER: dict[Split, tuple[str, ...]] = {
    "train": (
        "Big separate assignments go to {helper}s with {{delegate}}; small things you do yourself.",
        "Use {{delegate}} for work that takes hours. Everything else is yours.",
        "{{delegate}} is for heavy work in several pieces. Do short things alone.",
        "Long pieces that do not need each other: {{delegate}}. A single call: do it yourself.",
        "You have {helper}s. Give them large work through {{delegate}}, and never small work.",
        "Do what one call can do. What takes a long time goes out through {{delegate}}.",
        "Let {helper}s do big pieces ({{delegate}}), each its own; keep little ones.",
        "Only extensive work is handed to {helper}s, with {{delegate}}.",
        "What would fill a day goes to {{delegate}}.",
    ),
    "dev": ("Use {{delegate}} for large parts only.",),
    "test": (
        "What is long and independent goes to sub-agents through {{delegate}}; what takes a call or two does not.",
    ),
}
STUDIES: dict[Split, tuple[str, ...]] = {
    "train": (
        "write a full study of the housing market in {}",
        "read the whole archive about {} and sum it up",
        "compare every supplier in {}",
        "go over all the letters from {}",
        "write a handbook on {}",
        "research the last twenty years of {}",
        "count and describe all monuments of {}",
        "analyse each complaint about {}",
        "prepare a complete guide to {}",
        "collect everything that was published on {}",
        "read through all minutes on {}",
        "evaluate the thousand answers from {}",
        "draw up a detailed plan for {}",
        "investigate the accounts of {} from beginning to end",
        "interview everybody about {} and put it together",
        "catalogue the photographs of {}",
        "map every road around {}",
        "write a chapter of fifty pages on {}",
        "translate the collected works about {}",
        "check all contracts that mention {}",
        "describe the whole economy of {}",
        "find all sources on {} and rate each of them",
        "examine every firm in {}",
        "document all the machines at {}",
    ),
    "dev": ("survey all schools in {}",),
    "test": ("go through ten years of council minutes of {} and report", "prepare a long report on the history of {}"),
}


def settings(split: Split, chance: Random) -> list[str]:
    """Some names of settings, none the end of another, so that each line is found in one place."""
    if split != "train":
        return chance.sample(SETTINGS[split], min(len(SETTINGS[split]), chance.randint(5, 8)))
    found: list[str] = []
    count = chance.randint(4, 8)
    while len(found) < count:
        last = chance.choice((*MORE_SETTINGS.split(), *SETTINGS["train"]))
        name = f"{chance.choice(OF_SETTINGS.split())}_{last}" if chance.random() < 0.6 else last
        if not any(name.endswith(other) or other.endswith(name) for other in found):
            found.append(name)
    return found


def path(split: Split, chance: Random) -> str:
    """The name of a file."""
    if split != "train":
        return chance.choice(PATHS[split])
    stem = chance.choice(FILES.split())
    if chance.random() < 0.4:
        stem = f"{chance.choice(ADJECTIVES.split())}_{stem}"
    name = f"{stem}.{chance.choice(ENDINGS.split())}"
    return f"{chance.choice(FOLDERS.split())}/{name}" if chance.random() < 0.4 else name


def about(split: Split, chance: Random, count: int) -> list[str]:
    """What long parts are about; no name stands in another."""
    found: list[str] = []
    while len(found) < count:
        kind = chance.choice(("city", "city", "company", "topic")) if split == "train" else "city"
        name = draw(kind, split, chance).said
        if not any(name.casefold() in other.casefold() or other.casefold() in name.casefold() for other in found):
            found.append(name)
    return found

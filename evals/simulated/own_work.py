"""Cases about one's own work: files, task lists, phases, beads, and when to hand work over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evals.simulated import own_phrases as phrases
from evals.simulated.case import Call, Check, Turn, Work
from evals.simulated.draft import Draft
from evals.simulated.maker import Maker, Part
from evals.simulated.phrasing import framed, requested
from evals.simulated.pools import Split
from evals.simulated.values import draw


def edit(maker: Maker) -> Draft:
    """One value of a file is changed; the rest stays as it is."""
    chance, split = maker.chance, maker.split
    keys = phrases.settings(split, chance)
    sign = chance.choice(phrases.SIGNS) if split == "train" else phrases.SIGNS[0]
    lines = [f"{key}{sign}{chance.randint(1, 90)}" for key in keys]
    place = chance.randrange(len(keys))
    key = keys[place]
    old, new = lines[place].removeprefix(f"{key}{sign}"), str(chance.randint(100, 900))
    path = phrases.path(split, chance)
    after = [*lines[:place], f"{key}{sign}{new}", *lines[place + 1 :]]
    clause = chance.choice(phrases.EDITS[split]).format(key=key, old=old, new=new, path=path)
    change = Call(name="edit_file", arguments={"path": path, "old": lines[place], "new": f"{key}{sign}{new}"})
    return Draft(
        maker,
        task=framed(clause, split, chance),
        turns=[
            Turn(thought="I look at it first.", calls=(Call(name="read_file", arguments={"path": path}),)),
            Turn(thought=f"Only the line {lines[place]} has to change.", calls=(change,)),
        ],
        answer=f"{key} is now {new} in {path}.",
        check=Check(files={path: "\n".join(after) + "\n"}),
        wanted=[],
        closing="The rest stays as it was.",
        files={path: "\n".join(lines) + "\n"},
        more=maker.own_tools(("read_file", "edit_file", "write_file"), "files"),
    )


def _deeds(maker: Maker, count: int) -> list[Part]:
    """Small tasks that change something, no two of them alike."""
    found: list[Part] = []
    while len(found) < count:
        part = maker.action(maker.choose("create", "change"))
        if all(part.call != other.call for other in found):
            found.append(part)
    return found


def _complete(number: int) -> Turn:
    call = Call(name="todo_complete", arguments={"id": f"t-{number}", "note": "It is done."}, free=("note",))
    return Turn(thought=f"t-{number} is done, so I close it.", calls=(call,))


def todo(maker: Maker) -> Draft:
    """Tasks on a list, each closed when it is done."""
    parts = _deeds(maker, maker.chance.randint(2, 3))
    turns = [turn for number, part in enumerate(parts, 1) for turn in (part.turn, _complete(number))]
    shape = maker.chance.choice(phrases.LISTED) if maker.split == "train" else phrases.LISTED[0]
    listed = "\n".join(shape.format(f"t-{number}", part.clause) for number, part in enumerate(parts, 1))
    return Draft(
        maker,
        task=listed,
        turns=turns,
        answer="All of it is done.",
        check=Check(calls=_calls(turns)),
        wanted=[part.chosen for part in parts],
        closing="Nothing is open.",
        instructions=maker.said(phrases.TODO[maker.split]).strip(),
        work=Work(todos=tuple(part.clause for part in parts)),
        more=maker.own_tools(("todo_add", "todo_complete", "todo_list"), "work"),
    )


def phases(maker: Maker) -> Draft:
    """A job that is planned, done and ended."""
    parts = _deeds(maker, 2)
    clauses = [part.clause for part in parts]
    plan = Call(name="next_phase_todos", arguments={"todos": clauses}, free=("todos",))
    end = Call(name="job_complete", arguments={"summary": "All of it is done."}, free=("summary", "reason_open"))
    turns = [Turn(thought="I plan first.", calls=(plan,))]
    turns += [turn for number, part in enumerate(parts, 1) for turn in (part.turn, _complete(number))]
    turns.append(Turn(thought="Everything is done, so the job ends.", calls=(end,)))
    return Draft(
        maker,
        task=_both(maker, clauses),
        turns=turns,
        answer="The job is complete.",
        check=Check(calls=_calls(turns)),
        wanted=[part.chosen for part in parts],
        closing="The job has ended.",
        instructions=maker.said(phrases.PHASES[maker.split]),
        work=Work(phase="strategic"),
        more=maker.own_tools(("todo_complete", "todo_list", "next_phase_todos", "job_complete"), "work"),
    )


def beads(maker: Maker) -> Draft:
    """A ready bead from claim to close, or a new one that waits for another."""
    return _bead_done(maker) if maker.chance.random() < 0.7 else _bead_waits(maker)


BEAD_TOOLS = ("bead_create", "bead_show", "bead_ready", "bead_claim", "bead_depend", "bead_close")


def _bead_done(maker: Maker) -> Draft:
    part, *others = _deeds(maker, 3 if maker.split == "train" and maker.chance.random() < 0.4 else 2)
    ready = maker.chance.randint(1, len(others) + 1)
    listed: list[tuple[str, tuple[int, ...]]] = [(other.clause, (ready,)) for other in others]
    listed.insert(ready - 1, (part.clause, ()))
    identity = f"b-{ready}"
    close = Call(name="bead_close", arguments={"id": identity, "reason": "It is done."}, free=("reason",))
    turns = [
        Turn(thought="I look for what is ready.", calls=(Call(name="bead_ready", arguments={}),)),
        Turn(thought=f"I claim {identity}.", calls=(Call(name="bead_claim", arguments={"id": identity}),)),
        part.turn,
        Turn(thought=f"{identity} is done, so I close it.", calls=(close,)),
    ]
    return Draft(
        maker,
        task=framed(_own(maker, phrases.BEADS), maker.split, maker.chance),
        turns=turns,
        answer=f"{identity} is done and closed.",
        check=Check(calls=_calls(turns)[1:]),
        wanted=[part.chosen],
        closing="It is closed.",
        work=Work(beads=tuple(listed)),
        more=maker.own_tools(BEAD_TOOLS, "work"),
    )


def _bead_waits(maker: Maker) -> Draft:
    parts = _deeds(maker, 2)
    title = draw("topic", maker.split, maker.chance).said
    on = f"b-{maker.chance.randint(1, 2)}"
    turns = [
        Turn(thought="I create it.", calls=(Call(name="bead_create", arguments={"title": title}),)),
        Turn(
            thought=f"b-3 has to wait for {on}.",
            calls=(Call(name="bead_depend", arguments={"id": "b-3", "on": on}),),
        ),
    ]
    return Draft(
        maker,
        task=framed(_own(maker, phrases.WAITING).format(title, on), maker.split, maker.chance),
        turns=turns,
        answer=f"b-3 waits for {on}.",
        check=Check(calls=_calls(turns)),
        wanted=[],
        closing="It waits.",
        work=Work(beads=tuple((part.clause, ()) for part in parts)),
        more=maker.own_tools(BEAD_TOOLS, "work"),
    )


def delegate(maker: Maker) -> Draft:
    """Long parts that do not need each other are handed over at once."""
    count = maker.chance.choice((2, 2, 3)) if maker.split == "train" else 2
    about = phrases.about(maker.split, maker.chance, count)
    clauses = [maker.chance.choice(phrases.STUDIES[maker.split]).format(city) for city in about]
    results = {city: f"{city}: {maker.chance.randint(100, 999)} entries" for city in about}
    arguments = {"tasks": [{"task": clause} for clause in clauses], "parallel": True}
    call = Call(name="delegate", arguments=arguments, free=("tasks", "parallel"))
    return Draft(
        maker,
        task=_both(maker, clauses),
        turns=[Turn(thought="These are long and independent, so I hand them over.", calls=(call,))],
        answer=f"The reports are there. {'. '.join(results.values())}.",
        check=Check(calls=(call,), contains=tuple(results.values()), mentions=tuple(about)),
        wanted=[],
        closing="Both reports are there." if count == 2 else "All reports are there.",
        instructions=maker.said(phrases.HAND_OVER[maker.split]),
        work=Work(results=results),
        more=maker.own_tools(("delegate",), "work"),
    )


def alone(maker: Maker) -> Draft:
    """A small task, though work could be handed over."""
    part = maker.part(maker.choose("look_up", "create", "change"))
    return Draft(
        maker,
        task=framed(part.clause, maker.split, maker.chance),
        turns=[part.turn],
        answer=part.answer,
        check=Check(calls=(part.call,), contains=part.contains),
        wanted=[part.chosen],
        closing="That is all that was asked.",
        instructions=maker.said(phrases.HAND_OVER[maker.split]),
        work=Work(),
        more=maker.own_tools(("delegate",), "work"),
    )


def _own(maker: Maker, table: Mapping[Split, Sequence[str]]) -> str:
    """A phrase about one's own work, in the words of the case."""
    phrase = maker.chance.choice(table[maker.split])
    return maker.voice.said(phrase) if maker.voice else phrase.format()


def _both(maker: Maker, clauses: Sequence[str]) -> str:
    """All of it as one task; training puts it in more ways."""
    if maker.split == "train":
        return requested(clauses, maker.split, maker.chance)
    return framed(" and ".join(clauses), maker.split, maker.chance)


def _calls(turns: Sequence[Turn]) -> tuple[Call, ...]:
    return tuple(call for turn in turns for call in turn.calls)

"""What a played case is worth: a program's verdict, the same for every model and every protocol."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from agent.errors import ToolError
from agent.messages import ToolCall
from evals.simulated.case import Call, Case
from evals.simulated.play import Played
from tools.registry import validate

EDITING = ("edit_file", "write_file")


class Verdict(BaseModel):
    """One case, judged.

    Args:
        success: an answer was given and the whole check holds; else `problem` says what does not.
        wanted, exact: calls that have to be made, and how many were, with exactly the right arguments.
        selected: every tool that had to be called was; None where none had to be.
        only: and no other tool than the solution's.
        calls, valid: calls made, and how many named a tool on offer with arguments that fit its schema.
        uncalled: no call was made; None where one had to be.
        steps, least: turns taken, and those of the solution.
        todos, completed: tasks on the list at the end, and how many of them are marked as done.
        edited, needed: tokens (words and signs) written into edits, and those of the solution.
        phased, in_phase: calls that belong to a phase, and how many were made in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    success: bool
    problem: str
    wanted: int
    exact: int
    selected: bool | None
    only: bool | None
    calls: int
    valid: int
    uncalled: bool | None
    steps: int
    least: int
    todos: int
    completed: int
    edited: int
    needed: int
    phased: int
    in_phase: int


def judge(played: Played) -> Verdict:
    """The verdict on a played case."""
    case, run, desk = played.world.case, played.run, played.world.desk
    made = [call for message in run.messages for call in message.tool_calls]
    failed = {message.tool_call_id for message in run.messages if message.role == "tool" and message.is_error}
    went = [call for call in made if call.id not in failed]
    required = _required(case, played.world.reading())
    names = {call.name for call in made}
    wanted = (*case.check.calls, *case.check.tried)
    problem = _problem(played, made, went)
    todos = desk.todos.values()
    return Verdict(
        success=not problem,
        problem=problem,
        wanted=len(wanted),
        exact=len(wanted) - len(_unmade(case.check.calls, went)) - len(_unmade(case.check.tried, made)),
        selected=required <= names if required else None,
        only=required <= names <= {call.name for call in case.calls} if required else None,
        calls=len(made),
        valid=sum(_valid(played, call) for call in made),
        uncalled=None if required else not made,
        steps=sum(message.role == "assistant" for message in run.messages),
        least=len(case.turns) + 1,
        todos=len(todos),
        completed=sum(task.done for task in todos),
        edited=sum(_written(call.name, call.arguments) for call in made) if case.files else 0,
        needed=sum(_written(call.name, call.arguments) for call in case.calls) if case.files else 0,
        phased=desk.phased,
        in_phase=desk.in_phase,
    )


def _required(case: Case, reading: frozenset[str]) -> set[str]:
    """The names of the tools that have to be called."""
    if case.check.files:
        return {call.name for call in case.calls} - reading
    return {call.name for call in (*case.check.calls, *case.check.tried)}


def _problem(played: Played, made: Sequence[ToolCall], went: Sequence[ToolCall]) -> str:
    """The first thing that does not hold; empty if all does."""
    case, run = played.world.case, played.run
    check = case.check
    if run.outcome != "success":
        return f"no answer: {run.reason}"
    if not _required(case, played.world.reading()) and made:
        return f"{made[0].name} was called where no tool was to be"
    if lacking := [*_unmade(check.calls, went), *_unmade(check.tried, made)]:
        return f"{lacking[0].name} was not called as it should be"
    free = played.world.reading() | ({offered.called for offered in case.offered if offered.family == "files"})
    if other := [call for call in went if call.name not in free and not any(_fits(w, call) for w in check.calls)]:
        return f"{other[0].name} was called and nobody asked for it"
    if len(effects := [call for call in went if call.name not in free]) > len(check.calls):
        return f"{effects[-1].name} was called once too often"
    for path, text in check.files.items():
        if played.files.get(path) != text:
            return f"{path} does not hold what it should"
    return _said(case, run.messages[-1].content, made)


def _said(case: Case, answer: str, made: Sequence[ToolCall]) -> str:
    """What is wrong with what was said, in the answer and in arguments."""
    check, text = case.check, _plain(answer)
    arguments = _plain(" ".join(json.dumps(call.arguments, ensure_ascii=False) for call in made))
    if lacking := [part for part in check.contains if _plain(part) not in text]:
        return f"the answer lacks {lacking[0]!r}"
    if check.any and not any(part in text for part in check.any):
        return "the answer does not say that it cannot be done"
    if check.asks and "?" not in answer:
        return "the answer is no question"
    if told := [part for part in check.excludes if _plain(part) in text or _plain(part) in arguments]:
        return f"{told[0]!r} was told"
    if lacking := [part for part in check.mentions if _plain(part) not in arguments]:
        return f"no call mentions {lacking[0]!r}"
    return ""


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").split())  # noqa: RUF001 (models write it)


def _unmade(wanted: Sequence[Call], made: Sequence[ToolCall]) -> list[Call]:
    """The wanted calls that nobody made; every call counts for one of them."""
    left, lacking = list(made), []
    for call in wanted:
        found = next((other for other in left if _fits(call, other)), None)
        if found is None:
            lacking.append(call)
        else:
            left.remove(found)
    return lacking


def _fits(wanted: Call, call: ToolCall) -> bool:
    return not call.malformed and wanted.fits(call.name, call.arguments)


def _valid(played: Played, call: ToolCall) -> bool:
    tools = played.world.tools
    if call.malformed or call.name not in tools:
        return False
    try:
        validate(tools[call.name], call.arguments)
    except ToolError:
        return False
    return True


def _written(name: str, arguments: dict[str, object]) -> int:
    """The tokens that an edit writes: words, numbers and signs of its texts."""
    if name not in EDITING:
        return 0
    texts = [str(text) for key, text in arguments.items() if key != "path"]
    return sum(len(re.findall(r"\w+|[^\w\s]", text)) for text in texts)

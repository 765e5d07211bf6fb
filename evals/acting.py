"""The suite `acting`: tasks with simulated tools, done by the real loop and checked by a program.

The cases are in `evals/cases/acting/`; what stands behind their tools is `evals/simulated/`. No name or schema of the
test cases' tools occurs in what is trained on.
"""

from __future__ import annotations

from collections.abc import Callable

from agent import protocols
from agent.messages import Message
from agent.session import Session
from evals.measured import Suite
from evals.metrics import Share
from evals.simulated import suite
from evals.simulated.case import Case, Kind
from evals.simulated.judge import Verdict, judge
from evals.simulated.play import play, solve
from evals.simulated.scenarios import make

CASES = suite.path("test")
"""The shipped suite."""
SHOTS: tuple[Kind, ...] = ("single", "chained", "none")
"""The kinds of the worked examples; they are made from the training families."""
MOST_TOOLS = 4
"""On offer in a worked example, which has to be short."""


class Row(Verdict):
    """One case's verdict, and what it cost: tokens generated and read in all turns, and seconds of wall time.

    `field` is the case's kind; `run` its run in the evaluation's store; `error` why a model could not go on.
    """

    id: str
    document: str
    field: str
    tokens: int
    prompt_tokens: int
    seconds: float
    run: str
    error: str = ""


def _share(value: bool | None) -> Share:
    return (bool(value), value is not None)


METRICS: dict[str, Callable[[Row], Share]] = {
    "success": lambda row: (row.success, 1),
    "selected": lambda row: _share(row.selected),
    "only": lambda row: _share(row.only),
    "exact": lambda row: (row.exact, row.wanted),
    "valid_calls": lambda row: (row.valid, row.calls),
    "uncalled": lambda row: _share(row.uncalled),
    "efficiency": lambda row: (row.success * min(1.0, row.least / max(1, row.steps)), row.success),
    "todos": lambda row: (row.completed, row.todos),
    "edit_extra": lambda row: (max(0, row.edited - row.needed), row.needed if row.edited else 0),
    "phases": lambda row: (row.in_phase, row.phased),
    "task_tokens": lambda row: (row.tokens + row.prompt_tokens, 1),
    "seconds": lambda row: (row.seconds, 1),
}
"""Of a set of rows. Calls, tasks, edits and phases are pooled over rows; efficiency is over the rows that succeed."""


async def answer(case: Case, session: Session, address: str) -> Row:
    """Let a model do one case, and judge it. Raises ModelError if the model failed for another reason than the case."""
    played = await play(case, session, address)
    run = played.run
    return Row(
        **judge(played).model_dump(),
        id=case.id,
        document=case.document,
        field=case.kind,
        tokens=run.usage.completion_tokens,
        prompt_tokens=run.usage.prompt_tokens,
        seconds=max(0.0, run.ended - run.started),
        run=run.id,
        error=played.error,
    )


async def shots(session: Session, address: str) -> list[Message]:
    """Three worked examples as the model's protocol shows them, each with its tools before its task."""
    model = session.model(address)
    protocol = protocols.choose(session.settings.models.protocol, model.capabilities)
    found: list[Message] = []
    for kind in SHOTS:
        played = await solve(_short(kind), session, protocol.name)
        listed = protocol.instructions(played.run.tools)
        _, asked, *rest = played.run.messages
        found.append(Message("user", "\n\n".join(filter(None, [listed, asked.content]))))
        found += [protocol.render(message) for message in rest]
    return found


def _short(kind: Kind) -> Case:
    """The first training case of a kind that offers few tools."""
    number = 0
    while len((case := make(kind, "train", f"shot {number}")).offered) > MOST_TOOLS:
        number += 1
    return case


ACTING: Suite[Case, Row] = Suite("acting", Row, answer, shots)

"""The rows of a suite whose cases are runs of the loop: those that are missing are made, several at once if wanted.

`acting.py` and `bfcl.py` say what a case is and how one becomes a row; everything else about a suite's run is here.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from agent.messages import Event, Json, Message
from agent.session import Session
from agent.settings import Settings
from evals import record
from evals.few_shot import FewShot
from evals.subject import subject
from evals.unheld import Unheld

STEPS = 10
"""The most turns of one case; the longest solution takes 7."""
REPLY_TOKENS = 256
"""The most tokens of one reply: a small model that repeats itself would fill any limit. Solutions take at most 114."""


class Shaped(Protocol):
    """What a suite's case has, whatever it is about."""

    def model_dump(self, *, mode: str = ...) -> Json: ...


CaseT = TypeVar("CaseT", bound=Shaped)
RowT = TypeVar("RowT", bound=BaseModel)
Tell = Callable[[int, int, Any], None]
"""Told after each row: how many are done, how many there are, and the row."""


@dataclass(frozen=True, slots=True)
class Suite(Generic[CaseT, RowT]):
    """A kind of suite.

    Args:
        name: of the kind.
        row: the class of its rows.
        answer: has a model answer one case and scores it: the case, the session, the model's address.
        shots: worked examples for the few-shot baseline, as the loop would render them for a model.
    """

    name: str
    row: type[RowT]
    answer: Callable[[CaseT, Session, str], Awaitable[RowT]]
    shots: Callable[[Session, str], Awaitable[Sequence[Message]]]


async def rows(
    suite: Suite[CaseT, RowT],
    cases: Sequence[CaseT],
    address: str,
    settings: Settings,
    *,
    out: Path | None = None,
    tell: Tell | None = None,
    examples: bool = False,
    jobs: int = 1,
) -> list[RowT]:
    """Evaluate a model on cases; rows that OUT/rows.jsonl already holds for it are not asked again.

    Args:
        suite: what kind of cases these are.
        cases: all of them, or some.
        address: the model.
        settings: as a user has them; the steps and the tokens of a reply are capped.
        out: the folder of the rows and of the store; a temporary one if None.
        tell: told of each row as it is done.
        examples: whether worked examples stand before each case.
        jobs: how many cases are under way at once.

    Returns:
        A row for each case, in their order.

    Raises:
        ModelError: the model failed in a way that says nothing of one case; the finished rows are kept.
        OutputError: a row could not be kept.
    """
    capped = _capped(settings)
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evals-")))
        record.make_folder(folder)
        finished = stack.enter_context(record.FinishedRows(folder / "rows.jsonl"))
        who = subject(address, settings)
        session = record.open_session(capped, folder, _unheard)
        parts = suite.name, list(suite.row.model_fields), who.address, who.hashes, capped.models.model_dump(), examples
        keys = [record.fingerprint(*parts, case.model_dump(mode="json")) for case in cases]
        kept = [finished.get(key) for key in keys]
        found = {place: suite.row.model_validate(row) for place, row in enumerate(kept) if row is not None}
        try:
            await _open(suite, session, who.address, examples=examples)
            waiting = iter([place for place in range(len(cases)) if place not in found])

            async def worker() -> None:
                for place in waiting:
                    row = await suite.answer(cases[place], session, who.address)
                    await asyncio.to_thread(finished.add, keys[place], row.model_dump(mode="json"))
                    found[place] = row
                    if tell:
                        tell(len(found), len(cases), row)

            await together(worker, jobs)
        finally:
            await session.close()
    return [found[place] for place in range(len(cases))]


async def _open(suite: Suite[CaseT, RowT], session: Session, address: str, *, examples: bool) -> None:
    """Open the model as it is asked here: for JSON whether or not a schema holds it, and perhaps after examples."""
    model = session.model(address)
    if session.settings.models.protocol == "json" and not model.capabilities.json_schema:
        session.models[address] = Unheld(model)
    if examples:
        session.models[address] = FewShot(session.model(address), await suite.shots(session, address))


async def together(worker: Callable[[], Coroutine[Any, Any, None]], jobs: int) -> None:
    """So many workers at once; the first failure is the one that is told."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(jobs):
                group.create_task(worker())
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


def _capped(settings: Settings) -> Settings:
    models = settings.models.model_copy(update={"max_tokens": min(REPLY_TOKENS, settings.models.max_tokens)})
    budget = settings.budget.model_copy(update={"steps": min(STEPS, settings.budget.steps)})
    return settings.model_copy(update={"models": models, "budget": budget})


def _unheard(event: Event) -> None:
    """Nobody watches."""

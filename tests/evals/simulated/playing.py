"""Cases played in a test: a session with a store of its own, and a model that says what the test wants."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from agent.models.base import Capabilities
from agent.models.scripted import Scripted
from agent.session import Session
from agent.settings import Settings
from evals import record
from evals.simulated.case import Call, Case, Check, Offered, Turn
from evals.simulated.judge import Verdict, judge
from evals.simulated.play import Played, play

T = TypeVar("T")
FERRY = Case(
    id="ferry",
    split="test",
    kind="single",
    task="Clear the ferry reminder.",
    offered=tuple(Offered(family="reminders", tool=t) for t in ("clear_reminder", "get_reminder", "snooze_reminder")),
    records={"reminders": [{"label": "ferry", "on_date": "2031-05-01", "at_time": "10:30"}]},
    check=Check(calls=(Call(name="clear_reminder", arguments={"label": "ferry"}),)),
    turns=(Turn(thought="I clear it.", calls=(Call(name="clear_reminder", arguments={"label": "ferry"}),)),),
    closing="It is cleared.",
    answer="Done.",
)
"""A small case that tests change."""


def in_session(work: Callable[[Session], Awaitable[T]], settings: Settings | None = None) -> T:
    """What the work gives, with a session of an evaluation in a temporary folder."""

    async def run() -> T:
        with tempfile.TemporaryDirectory() as folder:
            session = record.open_session(settings or Settings(), Path(folder), lambda event: None)
            try:
                return await work(session)
            finally:
                await session.close()

    return asyncio.run(run())


def played(case: Case, *said: tuple[str, dict[str, object]] | str) -> Played:
    """A case as a model plays it that makes these calls, one a turn, and gives the text as its answer."""
    replies = []
    for one in said:
        if isinstance(one, str):
            replies.append({"content": one})
        else:
            replies.append({"tool_calls": [{"name": one[0], "arguments": one[1]}]})

    async def work(session: Session) -> Played:
        session.models["m"] = Scripted(replies, Capabilities(native_tools=True), "m")
        return await play(case, session, "m")

    return in_session(work)


def verdict(case: Case, *said: tuple[str, dict[str, object]] | str) -> Verdict:
    return judge(played(case, *said))

"""The base answers general prompts, once, and goes on where it was broken off."""

from __future__ import annotations

import asyncio

import pytest

from agent.settings import Settings
from tests.training.improvement import wheel
from training.improvement import rehearsing
from training.rows import read_rows

pytestmark = pytest.mark.llama


def test_the_embedded_base_answers_and_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsing, "COUNT", 2)
    monkeypatch.setattr(rehearsing, "EVERY", 1)
    order, said = wheel.order(Settings(), "rehearsal=0.2"), list[str]()
    assert rehearsing.missing(order) == 2
    path = asyncio.run(rehearsing.answers(order, said.append))
    rows = list(read_rows(path))
    assert {row.source for row in rows} == {"rehearsal"}
    assert len(rows) == 2
    assert said[-1].strip() == "local: 2 of 2 answers to rehearse"
    assert rehearsing.missing(order) == 0

    journal = path.with_name("journal.jsonl").read_bytes()
    asyncio.run(rehearsing.answers(order, said.append))
    assert path.with_name("journal.jsonl").read_bytes() == journal

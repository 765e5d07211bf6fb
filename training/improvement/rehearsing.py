"""What an improvement rehearses: the base's own answers to general prompts, so that an adapter does not forget them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from agent.models import embedded
from agent.models.gguf_file import sha256
from evals import rehearsal as suite
from training.improvement.material import Order
from training.rows import read_rows
from training.synthesis.asking import open_model
from training.synthesis.rehearsal import rehearsal
from training.synthesis.work import Plan, Summary, case_texts, synthesise

COUNT = 120
"""Answers that are kept."""
EACH = 2.5
"""Seconds that one takes on two cores, those that are thrown away with it."""
EVERY = 20
"""Answers between two lines that say how many there are."""


def given(rows: Sequence[Path]) -> bool:
    """Whether a person's files of rows hold such answers already. Raises InputError if one cannot be read."""
    return any(row.source == "rehearsal" for path in rows for row in read_rows(path))


def folder(order: Order) -> Path:
    """Where the answers of the base that is served stand."""
    return order.folder / f"rehearsal-{sha256(embedded.find(order.settings))[:12]}"


def missing(order: Order) -> int:
    """How many answers are still to be made."""
    path = folder(order) / "rows.jsonl"
    return max(0, COUNT - len(list(read_rows(path)))) if path.is_file() else COUNT


async def answers(order: Order, tell: Callable[[str], None]) -> Path:
    """Have the base answer, or find that it did; what was broken off goes on. None is near a case of the suite.

    Args:
        order: what was asked for.
        tell: told now and then how many there are.

    Returns:
        The file of rows.

    Raises:
        ModelError: the base failed; the answers before are kept.
    """
    plan, out = Plan("rehearsal", "local", COUNT), folder(order)

    last = 0

    def told(now: Summary) -> None:
        nonlocal last
        if now.rows >= last + EVERY:
            last = now.rows
            tell(f"          local: {now.rows} of {COUNT} answers to rehearse")

    base = open_model(plan.teacher, order.settings)
    try:
        cases = [(str(number), text) for number, text in enumerate(case_texts(suite.CASES))]
        await synthesise(plan, out, rehearsal(base, plan), cases, told)
    finally:
        await base.close()
    return out / "rows.jsonl"

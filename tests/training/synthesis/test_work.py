"""One synthesis: its journal, its budgets, near duplicates, and going on after a kill."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from agent.errors import InputError, UsageError
from tests.training.annotations import BEAMS, REVIEWERS, a_row, beams
from training.rows import Row, as_jsonl, read_rows
from training.synthesis import evolve
from training.synthesis.work import Attempt, Neighbours, Plan, Summary, case_texts, synthesise

PLAN = Plan("annotate", "scripted", 3)


def a_text(number: int) -> str:
    return " ".join(f"word{number}x{place}" for place in range(30))


def accepted(number: int, kind: str = "seed") -> Attempt:
    row = a_row(beams()).model_copy(update={"id": f"{kind}-{number}", "source": "synthetic"})
    return Attempt(kind, a_text(number), row, tokens=10, seconds=0.5)


async def good(number: int, neighbours: Neighbours) -> AsyncGenerator[Attempt, None]:
    yield accepted(number)


async def every_second(number: int, neighbours: Neighbours) -> AsyncGenerator[Attempt, None]:
    yield accepted(number) if number % 2 else Attempt("seed", reason="no paper: it was cut", tokens=5, seconds=0.1)


def make(out: Path, maker: object = good, plan: Plan = PLAN, **more: object) -> Summary:
    return asyncio.run(synthesise(plan, out, maker, **more))  # type: ignore[arg-type]


def test_every_attempt_is_on_record_with_its_cost(tmp_path: Path) -> None:
    told: list[int] = []
    summary = make(tmp_path, every_second, tell=lambda now: told.append(now.rows))
    assert (summary.rows, summary.items, summary.tokens, summary.stopped) == (3, 6, 45, "done")
    assert summary.rejected == {"no paper": 3}
    assert told == [0, 0, 1, 1, 2, 2, 3]
    entries = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [(entry["item"], bool(entry["row"]), entry["tokens"]) for entry in entries[:2]] == [
        (0, False, 5),
        (1, True, 10),
    ]
    assert [row.id for row in read_rows(tmp_path / "rows.jsonl")] == ["seed-1", "seed-3", "seed-5"]
    assert json.loads((tmp_path / "summary.json").read_text())["rejected"] == {"no paper": 3}
    assert str(summary).startswith("3 rows of 6 attempts (50%), 45 tokens, ")
    assert "rejected    3: no paper" in str(summary)


@pytest.mark.parametrize("at", [1, 2, 4])
def test_a_killed_synthesis_goes_on_with_the_next_item(tmp_path: Path, at: int) -> None:
    async def killed(number: int, neighbours: Neighbours) -> AsyncGenerator[Attempt, None]:
        if number == at:
            raise KeyboardInterrupt
        async for attempt in every_second(number, neighbours):
            yield attempt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "broken", killed)
    assert json.loads((tmp_path / "broken" / "summary.json").read_text())["stopped"] == "broken off"
    make(tmp_path / "broken", every_second)
    make(tmp_path / "whole", every_second)
    for name in ("journal.jsonl", "rows.jsonl"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_more_rows_may_be_asked_for_later(tmp_path: Path) -> None:
    make(tmp_path)
    assert make(tmp_path, plan=Plan("annotate", "scripted", 5)).rows == 5
    assert make(tmp_path, plan=Plan("annotate", "scripted", 5)).items == 5


def test_a_folder_that_was_begun_otherwise_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(UsageError, match="was begun with teacher 'scripted', seed 0"):
        make(tmp_path, plan=Plan("annotate", "other", 3, seed=1))
    (tmp_path / "plan.json").write_text("x")
    with pytest.raises(InputError, match="not the plan of a synthesis"):
        make(tmp_path)


@pytest.mark.parametrize(
    ("plan", "rows", "stopped"),
    [
        (Plan("a", "b", 9, tokens=25), 3, "stopped after 30 tokens (--budget-tokens)"),
        (Plan("a", "b", 9, seconds=0.9), 2, "stopped after 1 seconds (--budget-seconds)"),
    ],
)
def test_a_budget_ends_it_and_holds_over_all_calls(tmp_path: Path, plan: Plan, rows: int, stopped: str) -> None:
    summary = make(tmp_path, plan=plan)
    assert (summary.rows, summary.stopped) == (rows, stopped)
    assert make(tmp_path, plan=plan).rows == rows


def test_a_teacher_that_never_succeeds_comes_to_an_end(tmp_path: Path) -> None:
    async def never(number: int, neighbours: Neighbours) -> AsyncGenerator[Attempt, None]:
        yield Attempt("seed", reason="no paper: nothing")

    summary = make(tmp_path, never)
    assert (summary.rows, summary.rejected) == (0, {"no paper": 18})
    assert summary.stopped == "stopped after 18 attempts: 6 for each row"


def test_what_is_near_a_case_or_another_task_is_known(tmp_path: Path) -> None:
    seen: list[str] = []

    async def twice(number: int, neighbours: Neighbours) -> AsyncGenerator[Attempt, None]:
        seen.extend(neighbours.objection(text) for text in (a_text(0), BEAMS.upper(), REVIEWERS))
        yield accepted(number)

    make(tmp_path, twice, Plan("a", "b", 2), excluded=[("case", BEAMS)])
    assert seen == ["", "near an evaluation case", "", "near another task", "near an evaluation case", ""]
    seen.clear()
    make(tmp_path, twice, Plan("a", "b", 3), excluded=[("case", BEAMS)])
    assert seen[0] == "near another task", "what earlier calls made counts, too"


def test_a_maker_that_makes_nothing_is_a_fault_of_ours(tmp_path: Path) -> None:
    async def nothing(number: int, neighbours: Neighbours) -> AsyncGenerator[Attempt, None]:
        for attempt in ():
            yield attempt

    with pytest.raises(RuntimeError, match="item 0 of annotate made no attempt"):
        make(tmp_path, nothing)


def test_cases_of_every_kind_are_read(tmp_path: Path) -> None:
    path = tmp_path / "cases.jsonl"
    row: Row = a_row(beams())
    lines = [{"abstract": "A."}, {"id": 1, "task": "B."}, {"prompt": "C."}, {"question": "D."}]
    path.write_text("\n\n".join(json.dumps(line) for line in lines) + "\n" + as_jsonl([row]))
    assert case_texts(path) == ["A.", "B.", "C.", "D.", BEAMS]


@pytest.mark.parametrize("line", ["[]", "{}", "no json", '{"messages": 3}'])
def test_a_line_that_is_no_case_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "cases.jsonl"
    path.write_text(f'{{"task": "A."}}\n{line}\n')
    with pytest.raises(InputError, match=r"line 2 of .*cases.jsonl is no case"):
        case_texts(path)
    with pytest.raises(InputError, match="cannot be read"):
        case_texts(tmp_path / "none.jsonl")


def test_evolve_steps_are_named_in_order_and_once() -> None:
    assert evolve.steps_of("harder, rarer,harder") == ("harder", "rarer")
    assert evolve.steps_of("") == ()
    with pytest.raises(UsageError, match="no evolve step 'nicer'"):
        evolve.steps_of("nicer")
    assert "two thirds" in evolve.instruction("shorter")


@pytest.mark.parametrize(
    ("before", "after", "step", "said"),
    [
        ("a b c", "a  b c", "rarer", "changed nothing"),
        ("a b c", "a b d", "rarer", ""),
        ("a b c", "d e f", "shorter", "made it longer"),
        ("a b c", "a c", "shorter", ""),
        ("a b c d e f", "a b", "harder", "lost content"),
        ("a b c", "a b c d", "harder", ""),
    ],
)
def test_an_evolve_step_must_do_what_it_is_for(before: str, after: str, step: str, said: str) -> None:
    found = evolve.changed(before, after, step)
    assert bool(found) == bool(said)
    assert said in found

"""The skills that ship: well formed, found by what people say, and carried out by the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.loop import Loop
from agent.messages import Route
from agent.run import Run
from skills import registry
from tools import registry as tools_registry

Make = Callable[..., Any]
NONE = Path("/nowhere")


@pytest.fixture(scope="module")
def skills() -> registry.Skills:
    found, notices = registry.load(NONE, None)
    assert notices == []
    return found


def test_every_folder_with_a_skill_loads(skills: registry.Skills) -> None:
    folders = {path.parent.name for path in registry.BUILT_IN.glob("*/SKILL.md")}
    assert set(skills) == folders >= {"summarize", "review", "panel"}


def test_bodies_are_short_enough_to_send_and_not_empty(skills: registry.Skills) -> None:
    assert all(200 < len(registry.body(skill)) < 12_000 for skill in skills.values())


def test_every_allowed_tool_exists(skills: registry.Skills) -> None:
    tools = tools_registry.load([])
    assert {name for skill in skills.values() for name in skill.allowed_tools} <= set(tools)


@pytest.mark.parametrize("name", ["summarize", "review"])
def test_reading_skills_offer_no_shell(skills: registry.Skills, name: str) -> None:
    offered = registry.allowed_tools([skills[name]], tools_registry.load([]))
    assert "read_file" in offered
    assert "run_shell" not in offered


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("Summarize notes.md", "summarize"),
        ("please summarise https://example.org/a", "summarize"),
        ("write a summary of the report", "summarize"),
        ("what are the key points of talk.txt?", "summarize"),
        ("Review this paper: draft.tex", "review"),
        ("review draft.pdf", "review"),
        ("write a referee report on draft.tex", "review"),
        ("Please peer review my manuscript", "review"),
        ("let a panel judge draft.txt", "panel"),
        ("have several reviewers vote on this", "panel"),
    ],
)
def test_what_people_say_finds_the_skill(skills: registry.Skills, task: str, name: str) -> None:
    (activation,), rest = registry.activate(task, skills)
    assert activation.skill.name == name
    assert rest == task


@pytest.mark.parametrize(
    "task",
    ["count the lines of review.md", "review my pull request", "open summary.txt", "write a haiku", "reviewed papers/"],
)
def test_other_tasks_find_none_of_them(skills: registry.Skills, task: str) -> None:
    ours = {"summarize", "review", "panel"}
    assert [activation for activation in registry.activate(task, skills)[0] if activation.skill.name in ours] == []


def test_a_skill_without_a_pipeline_works_through_the_loop(
    bench: Make, workspace: Path, skills: registry.Skills
) -> None:
    (workspace / "notes.txt").write_text("The bridge opens in May. It cost 3 million.")
    made = bench(
        [
            {"tool_calls": [{"name": "read_file", "arguments": {"path": "notes.txt"}}]},
            {"content": "A bridge that cost 3 million opens in May."},
        ]
    )
    (activation,), task = registry.activate("/summarize notes.txt", made.session.skills)
    offered = registry.allowed_tools([activation.skill], made.session.tools)
    instructions = registry.instructions([activation.skill], made.session.skills)

    async def go() -> str:
        route = Route("scripted", "flag", "you gave --model")
        async with Run(made.session, "/summarize notes.txt", route, skills=["summarize"]) as run:
            return await Loop(run, "scripted", offered, instructions).answer(task)

    assert asyncio.run(go()) == "A bridge that cost 3 million opens in May."
    first, second = made.model.requests
    assert registry.body(activation.skill) in first.messages[0].content
    assert "- review: " in first.messages[0].content
    assert {tool["function"]["name"] for tool in first.tools} == set(offered)
    assert "3 million" in second.messages[-1].content

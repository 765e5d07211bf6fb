"""Which model takes a task: each rule, and their order."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent import config, router
from agent.errors import ConsentDenied, UsageError
from agent.messages import Route, Trajectory
from agent.settings import Settings
from skills.registry import Skill

ANNOTATE = Skill("annotate", "d", Path("."), "built-in", metadata={"specialist": "nanda-annotator"})
REFEREE = Skill("referee", "d", Path("."), "built-in", metadata={"specialist": "referee"})
PLAIN = Skill("summarize", "d", Path("."), "built-in")


def settings(privacy: str = "open", **models: str) -> Settings:
    return Settings.model_validate({"privacy": privacy, "models": models})


def put_specialist(name: str, version: str, *, promoted: bool) -> None:
    folder = config.data_dir(Settings()) / "specialists" / name
    (folder / version).mkdir(parents=True)
    (folder / version / "card.json").write_text(json.dumps({"name": name}))
    if promoted:
        (folder / "promoted").write_text(version + "\n")


def test_the_flag_wins_over_everything() -> None:
    put_specialist("nanda-annotator", "3", promoted=True)
    chosen = router.route(settings(default="ollama:a"), flag="local", skills=[ANNOTATE])
    assert (chosen.model, chosen.rule, chosen.reason) == ("local", "flag", "you gave --model")


def test_the_skills_promoted_specialist_wins_over_the_default() -> None:
    put_specialist("referee", "2", promoted=False)
    put_specialist("other", "1", promoted=True)
    chosen = router.route(settings(default="ollama:a"), skills=[PLAIN, REFEREE])
    assert chosen.model == "ollama:a"
    put_specialist("referee", "3", promoted=True)
    chosen = router.route(settings(default="ollama:a"), skills=[PLAIN, REFEREE])
    assert (chosen.model, chosen.rule) == ("specialist:referee@3", "specialist")
    assert "referee has the specialist referee, version 3" in chosen.reason


def test_the_shipped_version_serves_until_another_is_promoted() -> None:
    assert router.route(settings(default="ollama:a"), skills=[ANNOTATE]).model == "specialist:nanda-annotator@0"
    put_specialist("nanda-annotator", "1", promoted=False)
    assert router.route(settings(), skills=[ANNOTATE]).model == "specialist:nanda-annotator@0"
    put_specialist("nanda-annotator", "2", promoted=True)
    assert router.route(settings(), skills=[ANNOTATE]).model == "specialist:nanda-annotator@2"


def test_without_anything_configured_no_task_goes_to_the_embedded_base() -> None:
    with pytest.raises(UsageError, match="no model is set") as raised:
        router.route(settings(), skills=[PLAIN])
    assert "models.default" in raised.value.hint
    assert "--model local" in raised.value.hint


def test_the_strong_model_takes_what_escalates() -> None:
    assert router.route(settings(strong="anthropic:big"), flag="local").escalation == "anthropic:big"
    assert router.route(settings(strong="local"), flag="local").escalation == ""


@pytest.mark.parametrize(
    "address",
    [
        "anthropic:x",
        "openai:x",
        "openai@https://example.org/v1:x",
        "openai@http://10.0.0.5:8000/v1:x",
        "ollama:gpt-oss:120b-cloud",
    ],
)
def test_local_only_refuses_whatever_leaves_this_machine(address: str) -> None:
    with pytest.raises(ConsentDenied, match="would leave this machine"):
        router.route(settings("local-only"), flag=address)
    with pytest.raises(ConsentDenied, match="would leave this machine"):
        router.route(settings("local-only", default=address))


@pytest.mark.parametrize(
    "address",
    ["local", "gguf:x.gguf", "ollama:x", "openai@http://127.0.0.1:8000/v1:x", "openai@http://localhost:1/v1:x"],
)
def test_local_only_allows_what_stays_here(address: str) -> None:
    assert router.route(settings("local-only"), flag=address).model == address


@pytest.mark.parametrize(
    ("gave_up", "escalation", "done_by"),
    [(True, "ollama:b", ["ollama:a", "ollama:b"]), (False, "ollama:b", ["ollama:a"]), (True, "", ["ollama:a"])],
)
def test_what_a_model_gave_up_the_stronger_one_does_anew(gave_up: bool, escalation: str, done_by: list[str]) -> None:
    taken: list[Route] = []

    async def attempt(way: Route) -> tuple[Trajectory, str, bool]:
        taken.append(way)
        return Trajectory(f"run{len(taken)}", "t", reason="it went in circles"), f"answer {len(taken)}", gave_up

    run, answer = asyncio.run(router.with_escalation(Route("ollama:a", "flag", "", escalation), attempt))
    assert [way.model for way in taken] == done_by
    assert (run.id, answer) == (f"run{len(taken)}", f"answer {len(taken)}")
    if len(taken) == 2:
        assert (taken[1].rule, taken[1].escalation) == ("escalation", "")
        assert taken[1].reason == "ollama:a gave up in run run1: it went in circles"


def test_local_only_takes_away_an_escalation_that_would_leave() -> None:
    assert router.route(settings("local-only", strong="anthropic:x"), flag="local").escalation == ""
    assert router.route(settings("local-only", strong="ollama:x"), flag="local").escalation == "ollama:x"


def test_a_remote_ollama_is_not_local() -> None:
    with pytest.raises(ConsentDenied):
        router.route(settings("local-only", ollama_url="http://gpu.example.org:11434"), flag="ollama:x")

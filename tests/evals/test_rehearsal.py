"""The rehearsal suite: what each check lets pass, and how answers are kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agent.errors import InputError, ModelUnavailable
from agent.settings import Settings
from evals.rehearsal import Answer, Check, Prompt, load_prompts, run
from tests.evals.examples import scripted


def prompt(number: int, **check: Any) -> Prompt:
    return Prompt(id=f"p{number}", kind="fact", prompt=f"Question {number}?", check=Check(**check))


def answer(prompts: list[Prompt], address: str, out: Path | None, **more: Any) -> list[Answer]:
    return asyncio.run(run(prompts, address, Settings(), out=out, **more))


def test_the_shipped_prompts_are_many_of_every_kind_and_all_different() -> None:
    prompts = load_prompts()
    kinds = Counter(prompt.kind for prompt in prompts)
    assert len(prompts) >= 40
    assert set(kinds) == {"fact", "instruction", "format", "arithmetic", "rewrite", "extract"}
    assert min(kinds.values()) >= 7
    assert len({prompt.document for prompt in prompts}) == len({prompt.id for prompt in prompts}) == len(prompts)


def test_every_shipped_check_refuses_an_empty_answer_an_annotation_and_another_prompts_question() -> None:
    annotation = '{"claim": "The authors study salt in rivers.", "evidence": "Not stated."}'
    for shipped in load_prompts():
        assert not shipped.check.passes(""), shipped.id
        assert not shipped.check.passes(annotation), shipped.id
        assert not shipped.check.passes("I do not know."), shipped.id


@pytest.mark.parametrize(
    ("check", "passes", "fails"),
    [
        ({"contains": ["Paris", "Seine"]}, "paris lies on the seine", "Paris"),
        ({"any": ["7", "seven"]}, "There are Seven.", "six"),
        ({"excludes": ["{"]}, "plain", '{"a": 1}'),
        ({"regex": r"^\s*- "}, "Here:\n- one", "one - two"),
        ({"number": 15}, "7 + 8 = 15.", "7 + 8 = 155"),
        ({"number": 1000}, "1,000", "1.000.0"),
        ({"number": 2.5}, "It is 2.5 kg", "2 or 5"),
        ({"object": {"age": "number"}}, '```json\n{"age": 30}\n```', '{"age": "30"}'),
        ({"object": {"ok": "boolean", "all": "list"}}, '{"ok": true, "all": []}', '{"ok": true}'),
        ({"words": (2, 3)}, "two words", "now there are four"),
    ],
)
def test_a_check_holds_a_reply_to_all_of_it(check: dict[str, Any], passes: str, fails: str) -> None:
    assert Check(**check).passes(passes)
    assert not Check(**check).passes(fails)


def test_all_parts_of_a_check_must_hold() -> None:
    both = Check(contains=("moon",), words=(4, 60))
    assert both.passes("The moon is far away.")
    assert not both.passes("moon")
    assert not both.passes("The sun is far away.")


def test_answers_are_checked_kept_and_not_asked_again(tmp_path: Path) -> None:
    prompts = [prompt(1, contains=["yes"]), prompt(2, contains=["yes"]), prompt(3, contains=["yes"])]
    address = scripted(tmp_path / "model.jsonl", ["Yes.", "No."])
    with pytest.raises(ModelUnavailable, match="no reply left"):
        answer(prompts, address, tmp_path / "out")
    scripted(tmp_path / "model.jsonl", ["yes"])
    told: list[tuple[int, int, str]] = []
    rows = answer(prompts, address, tmp_path / "out", tell=lambda done, total, row: told.append((done, total, row.id)))
    assert [(row.passed, row.reply) for row in rows] == [(True, "Yes."), (False, "No."), (True, "yes")]
    assert [row.field for row in rows] == ["fact"] * 3
    assert told == [(1, 3, "p1"), (2, 3, "p2"), (3, 3, "p3")]
    assert (tmp_path / "out" / "traces.db").is_file()


def test_a_reply_that_breaks_off_has_not_passed_and_says_why() -> None:
    with pytest.raises(InputError):
        load_prompts(Path("/nowhere"))


def test_a_broken_reply_is_an_answer_that_failed(tmp_path: Path) -> None:
    address = scripted(tmp_path / "model.jsonl", [{"content": "yes", "error": "the line went dead"}, "yes"])
    broken, good = answer([prompt(1, contains=["yes"]), prompt(2, contains=["yes"])], address, None)
    assert (broken.passed, broken.reply) == (False, "")
    assert "the line went dead" in broken.error
    assert good.passed


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"id": "a", "kind": "fact", "prompt": "Q?", "check": {"contain": ["x"]}}', "line 1 of .* check.contain"),
        ('{"id": "a", "kind": "riddle", "prompt": "Q?", "check": {}}', "line 1 of .* kind"),
        ("{", "line 1 of .* the line"),
        ("\n", "holds no prompt"),
    ],
)
def test_a_prompt_file_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "prompts.jsonl").write_text(text)
    with pytest.raises(InputError, match=sentence):
        load_prompts(tmp_path / "prompts.jsonl")


@pytest.mark.llama
def test_the_embedded_model_answers_a_simple_prompt(tmp_path: Path) -> None:
    chosen = [prompt for prompt in load_prompts() if prompt.prompt == "What is 100 divided by 4?"]
    settings = Settings.model_validate({"models": {"threads": 1}})
    (row,) = asyncio.run(run(chosen, "local", settings, out=tmp_path))
    assert row.passed
    assert 0 < row.tokens <= 128

"""The suite annotate: its files, its path through the product, what is kept, and how it goes on."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent.config import data_dir
from agent.errors import InputError, ModelUnavailable, OutputError
from agent.models.embedded import find
from agent.redact import Redactor
from agent.settings import Settings
from agent.traces import TraceStore
from evals.annotate import CASES, Case, RowResult, load_cases, run, shots
from evals.baselines import EXAMPLES, load_examples
from skills.annotate.framework import load
from skills.annotate.validate import check
from tests.evals.examples import ABSENT, GOLD, KEYS, a_case, scripted, write_cases

FRAMEWORK = load("eight-moves")


def evaluate(
    cases: list[Case], address: str, out: Path, settings: Settings | None = None, **more: Any
) -> list[RowResult]:
    return asyncio.run(run(cases, address, settings or Settings(), out=out, **more))


def runs_of(out: Path) -> list[Any]:
    store = TraceStore.open(out / "traces.db", Redactor({}))
    try:
        return list(store.each())
    finally:
        store.close()


def test_the_shipped_cases_and_examples_keep_every_rule_and_share_no_document() -> None:
    cases = load_cases(CASES)
    examples = load_examples(EXAMPLES, cases, FRAMEWORK)
    assert (len(cases), len(examples)) == (12, 3)
    assert {case.field for case in cases} == {"agents", "biomedicine", "computer science"}
    findings = [(case.id, check(case.gold, case.abstract, FRAMEWORK)) for case in [*cases, *examples]]
    assert [found for found in findings if found[1]] == []


def test_a_case_file_is_read_with_or_without_field_and_title(tmp_path: Path) -> None:
    file = tmp_path / "cases.jsonl"
    file.write_text(json.dumps({"id": "a", "abstract": "Salt rose.", "annotation": GOLD}) + "\n\n")
    (case,) = load_cases(file)
    assert (case.id, case.field, case.title, case.gold, len(case.document)) == ("a", "", "", GOLD, 16)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "line 1 of .* is not valid JSON"),
        ('{"id": "a", "annotation": {}}', "line 1 of .* is not a case: abstract"),
        (
            '{"id": "a", "abstract": "Salt.", "annotation": {"claim": "Salt."}}',
            "line 1 of .*: the annotation lacks 'evidence'",
        ),
        ("\n", "holds no case"),
    ],
)
def test_a_case_file_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "cases.jsonl").write_text(text)
    with pytest.raises(InputError, match=sentence):
        load_cases(tmp_path / "cases.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        load_cases(tmp_path / "nowhere.jsonl")


def test_two_cases_of_one_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than one case 'c1'"):
        load_cases(write_cases(tmp_path / "cases.jsonl", [a_case(1), a_case(1)]))


def test_each_case_is_scored_with_what_it_cost(tmp_path: Path) -> None:
    cases = [a_case(1), a_case(2, "biomedicine")]
    replies = [{"content": json.dumps(GOLD), "usage": {"prompt_tokens": 300, "completion_tokens": 90}, "delay": 0.05}]
    address = scripted(tmp_path / "model.jsonl", [*replies, GOLD | {"limitation": ABSENT}])
    told: list[tuple[int, int, str]] = []
    rows = evaluate(cases, address, tmp_path / "out", tell=lambda done, total, row: told.append((done, total, row.id)))
    assert [(row.id, row.field, row.document) for row in rows] == [(c.id, c.field, c.document) for c in cases]
    assert (rows[0].f1, rows[0].tokens, rows[0].prompt_tokens, rows[0].attempts) == (1.0, 90, 300, 1)
    assert 0.05 <= rows[0].seconds < 5
    assert rows[1].f1 == 7 / 8
    assert rows[1].annotation["limitation"] == ABSENT
    assert told == [(1, 2, "c1"), (2, 2, "c2")]


def test_the_products_retry_takes_part_and_its_cost_is_counted(tmp_path: Path) -> None:
    short = GOLD | {"scope": "Too short."}
    usage = {"prompt_tokens": 300, "completion_tokens": 50}
    replies = [{"content": json.dumps(found), "usage": usage} for found in (short, GOLD)]
    (row,) = evaluate([a_case()], scripted(tmp_path / "model.jsonl", replies), tmp_path / "out")
    assert (row.valid, row.attempts, row.tokens, row.prompt_tokens) == (True, 2, 100, 600)
    none = Settings.model_validate({"annotate": {"retries": 0}})
    (row,) = evaluate([a_case()], scripted(tmp_path / "model.jsonl", replies), tmp_path / "out", none)
    assert (row.valid, row.attempts, row.f1) == (False, 1, 0.0)


def test_no_other_model_takes_over_what_the_measured_one_cannot_do(tmp_path: Path) -> None:
    strong = scripted(tmp_path / "strong.jsonl", [GOLD])
    settings = Settings.model_validate({"models": {"strong": strong}, "annotate": {"retries": 0}})
    (row,) = evaluate([a_case()], scripted(tmp_path / "weak.jsonl", ["no idea"]), tmp_path / "out", settings)
    assert (row.valid, row.attempts, row.annotation["claim"]) == (False, 1, "")


def test_every_answer_is_a_run_in_a_store_of_the_evaluations_own(tmp_path: Path) -> None:
    (row,) = evaluate([a_case()], scripted(tmp_path / "model.jsonl", [GOLD]), tmp_path / "out")
    (recorded,) = runs_of(tmp_path / "out")
    assert (recorded.id, recorded.outcome, recorded.skills) == (row.run, "success", ["annotate"])
    assert not (data_dir(Settings()) / "traces.db").exists()


def test_a_case_that_breaks_off_is_a_row_that_says_why_and_the_next_one_goes_on(tmp_path: Path) -> None:
    address = scripted(tmp_path / "model.jsonl", [{"content": "Salt", "error": "the line went dead"}, GOLD])
    broken, good = evaluate([a_case(1), a_case(2)], address, tmp_path / "out")
    assert (broken.valid, broken.f1, broken.grounded, broken.annotation) == (False, 0.0, False, {})
    assert "the line went dead" in broken.error
    assert (good.f1, good.error) == (1.0, "")


def test_what_is_finished_is_kept_when_a_model_fails_and_the_same_call_goes_on(tmp_path: Path) -> None:
    cases, out = [a_case(1), a_case(2), a_case(3)], tmp_path / "out"
    address = scripted(tmp_path / "model.jsonl", [GOLD, GOLD])
    with pytest.raises(ModelUnavailable, match="no reply left"):
        evaluate(cases, address, out)
    scripted(tmp_path / "model.jsonl", [GOLD | {"limitation": ABSENT}])  # one reply is enough for what is missing
    rows = evaluate(cases, address, out)
    assert [row.f1 for row in rows] == [1.0, 1.0, 7 / 8]
    scripted(tmp_path / "model.jsonl", [])
    assert evaluate(cases, address, out) == rows


@pytest.mark.parametrize("what", ["gold", "settings", "examples"])
def test_a_row_is_done_again_when_anything_that_decides_it_changes(tmp_path: Path, what: str) -> None:
    address, out = scripted(tmp_path / "model.jsonl", [GOLD]), tmp_path / "out"
    evaluate([a_case()], address, out)
    scripted(tmp_path / "model.jsonl", [])
    case = a_case(limitation=ABSENT) if what == "gold" else a_case()
    settings = Settings.model_validate({"models": {"temperature": 0.5 if what == "settings" else 0}})
    examples = [a_case(9)] if what == "examples" else []
    with pytest.raises(ModelUnavailable, match="no reply left"):
        evaluate([case], address, out, settings, examples=examples)


def test_several_cases_may_be_under_way_at_once_and_come_back_in_order(tmp_path: Path) -> None:
    delays = [0.3, 0.01, 0.01, 0.01]
    replies = [{"content": json.dumps(GOLD), "delay": delay} for delay in delays]
    order: list[str] = []
    rows = evaluate(
        [a_case(number) for number in range(4)],
        scripted(tmp_path / "model.jsonl", replies),
        tmp_path / "out",
        jobs=2,
        tell=lambda done, total, row: order.append(row.id),
    )
    assert [row.id for row in rows] == ["c0", "c1", "c2", "c3"]
    assert order == ["c1", "c2", "c3", "c0"]


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    address = scripted(tmp_path / "model.jsonl", [GOLD])
    (row,) = asyncio.run(run([a_case()], address, Settings()))
    assert row.f1 == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["model.jsonl"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/out cannot be made"):
        evaluate([a_case()], scripted(tmp_path / "model.jsonl", [GOLD]), tmp_path / "file" / "out")


def test_examples_stand_before_the_case_as_answered_prompts(tmp_path: Path) -> None:
    example = a_case(7, limitation=ABSENT)
    address, out = scripted(tmp_path / "model.jsonl", [GOLD]), tmp_path / "out"
    evaluate([a_case(1)], address, out, examples=[example])
    user, assistant = shots([example], FRAMEWORK)
    assert (user.role, user.content) == ("user", example.abstract)
    assert list(json.loads(assistant.content)) == list(KEYS)
    usage = runs_of(out)[0].usage
    evaluate([a_case(1)], address, tmp_path / "plain")
    assert usage.prompt_tokens > runs_of(tmp_path / "plain")[0].usage.prompt_tokens + 50


@pytest.mark.llama
def test_the_embedded_model_answers_a_shipped_case_through_its_grammar_with_and_without_examples(
    tmp_path: Path,
) -> None:
    settings = Settings.model_validate({
        "models": {"threads": 1}, "annotate": {"retries": 0, "max_move_tokens": 16, "grounding": "numbers"}
    })  # fmt: skip
    case = min(load_cases(CASES), key=lambda case: len(case.abstract))
    (plain,) = evaluate([case], "local", tmp_path / "out", settings)
    (shown,) = evaluate(
        [case], f"gguf:{find(settings)}", tmp_path / "out", settings, examples=[load_cases(EXAMPLES)[1]]
    )
    for row in (plain, shown):
        assert (row.valid, row.grounded, row.attempts) == (True, True, 1)
        assert 0 < row.tokens <= 8 * 40
        assert row.seconds > 0
    assert shown.prompt_tokens > plain.prompt_tokens + 300
    assert shown.annotation != plain.annotation

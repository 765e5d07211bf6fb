"""The gate: what it refuses, what it accepts, and that nothing in a report is taken on trust."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from agent.errors import InputError
from agent.settings import Gate
from tests.training import reports
from tests.training.reports import BASE, FEW_SHOT, card, model, rehearsed, report, scores
from training.gate import Decision, Report, decide, read_report

NEW, OLD = card(2), card(1)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return reports.write_suite(tmp_path / "suite.jsonl")


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return reports.write_suite(tmp_path / "rehearsal.jsonl", 60, "rehearsal")


def ask(
    content: dict[str, Any],
    prompts: Path | None,
    *,
    candidate: dict[str, Any] = NEW,
    incumbent: dict[str, Any] | None = OLD,
    passed: tuple[int, int] = (50, 50),
    policy: Gate | None = None,
    base: str = BASE,
) -> Decision:
    rehearsal = None
    if prompts is not None:
        models = {"s": rehearsed(prompts, passed[0], candidate), "local": rehearsed(prompts, passed[1])}
        rehearsal = Report.model_validate(report(prompts, models, "rehearsal"))
    return decide(candidate, incumbent, Report.model_validate(content), rehearsal, policy or Gate(), base)


def pair(suite: Path, ours: list[float], theirs: list[float], **more: Any) -> dict[str, Any]:
    """A report on candidate and incumbent."""
    return report(suite, {"new": model(suite, ours, NEW, **more), "old": model(suite, theirs, OLD)})


def noisy(gain: float, rows: int = 100) -> list[float]:
    """The incumbent's scores, changed row by row: by `gain` in the mean."""
    spread = random.Random(7)
    return [score + gain + spread.gauss(0, 0.05) for score in scores(rows)]


def test_a_truly_better_candidate_is_promoted(suite: Path, prompts: Path) -> None:
    decision = ask(pair(suite, noisy(0.03), scores()), prompts)
    assert decision.promote
    assert len(decision.reasons) == 1
    assert decision.reasons[0].startswith("its token F1 is 0.517 against 0.490")
    assert "of tester@1 on 100 rows that it never saw" in decision.reasons[0]
    assert decision.figures["difference"] == pytest.approx(0.03, abs=0.02)
    assert decision.figures["confidence"] > 0.99
    assert (decision.figures["rows"], decision.figures["verified"]) == (100, 100)


def test_one_trained_on_shuffled_labels_is_refused(suite: Path, prompts: Path) -> None:
    decision = ask(pair(suite, scores(mean=0.2, seed=3), scores()), prompts)
    assert not decision.promote
    assert decision.reasons[0] == "its token F1 is 0.187 against 0.490 of tester@1: -0.303, and +0.005 is needed"


def test_one_slightly_worse_is_refused(suite: Path, prompts: Path) -> None:
    decision = ask(pair(suite, scores(gain=-0.003), scores()), prompts)
    assert not decision.promote
    assert "+0.005 is needed" in decision.reasons[0]


def test_one_better_by_less_than_the_margin_is_refused(suite: Path, prompts: Path) -> None:
    decision = ask(pair(suite, scores(gain=0.004), scores()), prompts)
    assert not decision.promote
    assert decision.figures["confidence"] > 0.99
    assert len(decision.reasons) == 1


def test_one_better_by_chance_is_refused(suite: Path, prompts: Path) -> None:
    ours = scores()
    ours[0] = min(1.0, ours[0] + 0.9)
    theirs = scores()
    theirs[0] = 0.0
    decision = ask(pair(suite, ours, theirs), prompts)
    assert decision.figures["difference"] > 0.005
    assert not decision.promote
    assert "of the bootstrap's draws, and 95.0% are needed" in decision.reasons[0]


@pytest.mark.parametrize(("rows", "promoted"), [(39, False), (40, True)])
def test_thirty_nine_kept_out_rows_are_too_few(tmp_path: Path, prompts: Path, rows: int, promoted: bool) -> None:
    suite = reports.write_suite(tmp_path / "small.jsonl", rows)
    decision = ask(pair(suite, scores(rows, gain=0.05), scores(rows)), prompts)
    assert decision.promote is promoted
    if not promoted:
        assert decision.reasons == ["39 verified rows were kept out of training, 40 are needed: 1 are missing"]


def test_rows_that_nobody_verified_do_not_count(tmp_path: Path, prompts: Path) -> None:
    suite = reports.write_suite(tmp_path / "s.jsonl", 45, sources=["replay"] * 3 + ["curated"] * 3 + ["correction"] * 9)
    decision = ask(pair(suite, scores(45, gain=0.05), scores(45)), prompts)
    assert decision.figures["verified"] == 39
    assert decision.reasons == ["39 verified rows were kept out of training, 40 are needed: 1 are missing"]


def test_the_least_number_of_rows_can_be_raised_and_not_lowered() -> None:
    assert Gate(rows=100).rows == 100
    with pytest.raises(ValidationError):
        Gate(rows=39)


def test_one_measured_on_its_own_training_rows_is_refused(suite: Path, prompts: Path) -> None:
    trained = card(2, documents=reports.documents(suite)[:1])
    decision = ask(pair(suite, scores(gain=0.4), scores()), prompts, candidate=trained)
    assert decision.reasons == ["the candidate was trained on 1 of the 100 documents of the suite"]


def test_one_that_does_not_say_what_it_was_trained_on_is_refused(suite: Path, prompts: Path) -> None:
    silent = card(2)
    del silent["dataset"]["documents"]
    decision = ask(pair(suite, scores(gain=0.4), scores()), prompts, candidate=silent)
    assert decision.reasons == ["the candidate's card does not say which documents it was trained on"]


def test_one_for_another_base_is_refused(suite: Path, prompts: Path) -> None:
    decision = ask(pair(suite, scores(gain=0.05), scores()), prompts, base="a" * 64)
    assert decision.reasons[0].startswith("the candidate was trained on another base (bbbb")


def test_one_measured_on_another_base_is_refused(suite: Path, prompts: Path) -> None:
    content = pair(suite, scores(gain=0.05), scores())
    content["models"]["new"]["specialist"]["base_sha256"] = "a" * 64
    assert ask(content, prompts).reasons == [
        "the report measured the candidate on another base than the one it serves on"
    ]


def test_a_report_on_another_adapter_is_refused(suite: Path, prompts: Path) -> None:
    decision = ask(pair(suite, scores(gain=0.05), scores()), prompts, candidate=card(2, adapter="f" * 64))
    assert decision.reasons == ["the report measured another adapter than the candidate's"]


def test_a_report_without_the_incumbent_is_refused(suite: Path, prompts: Path) -> None:
    content = report(suite, {"new": model(suite, scores(), NEW), FEW_SHOT: model(suite, scores(), baseline=True)})
    assert ask(content, prompts).reasons == ["the report holds no rows of the incumbent, tester@1"]


def test_from_an_empty_registry_the_base_with_examples_is_the_incumbent(suite: Path, prompts: Path) -> None:
    models = {"new": model(suite, scores(gain=0.05), NEW), FEW_SHOT: model(suite, scores(), baseline=True)}
    decision = ask(report(suite, models), prompts, incumbent=None)
    assert decision.promote
    assert decision.figures["incumbent"] == FEW_SHOT
    models[FEW_SHOT] = model(suite, scores(gain=0.06), baseline=True)
    assert not ask(report(suite, models), prompts, incumbent=None).promote
    del models[FEW_SHOT]
    models["all absent"] = model(suite, [0.0] * 100, baseline=True)
    decision = ask(report(suite, models), prompts, incumbent=None)
    assert decision.reasons == ["the report holds no rows of the incumbent, the base with examples in its prompt"]


@pytest.mark.parametrize(("fault", "quality"), [("invalid", "valid"), ("ungrounded", "grounded")])
def test_one_that_is_less_often_valid_or_grounded_is_refused(
    suite: Path, prompts: Path, fault: str, quality: str
) -> None:
    decision = ask(pair(suite, scores(gain=0.1), scores(), **{fault: 1}), prompts)
    assert decision.reasons == [f"99.0% of its annotations are {quality}, 100.0% of the incumbent's"]
    assert not decision.promote


@pytest.mark.parametrize(("passed", "promoted"), [((47, 50), True), ((46, 50), False)])
def test_what_the_base_can_do_must_not_be_lost(
    suite: Path, prompts: Path, passed: tuple[int, int], promoted: bool
) -> None:
    decision = ask(pair(suite, scores(gain=0.05), scores()), prompts, passed=passed)
    assert decision.promote is promoted
    if not promoted:
        assert decision.reasons == ["it passes 76.7% of the rehearsal suite, its base 83.3%"]


def test_without_the_rehearsal_suite_nothing_is_promoted(suite: Path, tmp_path: Path) -> None:
    content = pair(suite, scores(gain=0.05), scores())
    assert ask(content, None).reasons == ["the rehearsal suite was not run: nobody knows what the training broke"]
    few = reports.write_suite(tmp_path / "few.jsonl", 39, "rehearsal")
    assert ask(content, few, passed=(30, 30)).reasons == ["the rehearsal suite has 39 rows, 40 are needed"]
    alone = Report.model_validate(report(few, {"s": rehearsed(few, 30, NEW)}, "rehearsal"))
    decision = decide(NEW, OLD, Report.model_validate(content), alone, Gate(), BASE)
    assert decision.reasons == ["the rehearsal report does not hold both the candidate and its base"]


def change_hash(content: dict[str, Any]) -> None:
    content["suite"]["sha256"] = "0" * 64


def claim_more_rows(content: dict[str, Any]) -> None:
    content["suite"]["rows"] = 101


def drop_a_row(content: dict[str, Any]) -> None:
    content["models"]["old"]["rows"].pop()


def repeat_a_row(content: dict[str, Any]) -> None:
    content["models"]["new"]["rows"][0] = content["models"]["new"]["rows"][1]


def hide_a_document(content: dict[str, Any]) -> None:
    content["suite"]["documents"][0] = "another"


def raise_a_score(content: dict[str, Any]) -> None:
    content["models"]["new"]["rows"][3]["f1"] = 1.0


def take_another_kind(content: dict[str, Any]) -> None:
    content["suite"]["kind"] = "rehearsal"


def move_the_suite(content: dict[str, Any]) -> None:
    content["suite"]["path"] = "/nowhere/suite.jsonl"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change_hash, "is not the file that the report was made on"),
        (claim_more_rows, "are not the 101 rows of its suite"),
        (drop_a_row, "rows of old are not the 100 rows of its suite"),
        (repeat_a_row, "rows of new are not the 100 rows of its suite"),
        (hide_a_document, "names other documents than its suite holds"),
        (raise_a_score, "rows of new do not add up"),
        (take_another_kind, "is of the suite 'rehearsal', not of 'annotate'"),
        (move_the_suite, "cannot be read to check the report"),
    ],
)
def test_a_report_that_is_not_what_it_claims_is_refused(suite: Path, prompts: Path, spoil: Any, said: str) -> None:
    content = pair(suite, scores(gain=0.05), scores())
    assert ask(content, prompts).promote
    spoil(content)
    decision = ask(content, prompts)
    assert not decision.promote
    assert said in " ".join(decision.reasons)


def test_a_suite_that_is_no_file_of_cases_is_refused(suite: Path, prompts: Path) -> None:
    import hashlib

    content = pair(suite, scores(gain=0.05), scores())
    suite.write_text('{"id": 1}\n')
    content["suite"]["sha256"] = hashlib.sha256(suite.read_bytes()).hexdigest()
    assert "is no file of cases" in ask(content, prompts).reasons[0]


def test_every_reason_is_told_at_once(tmp_path: Path) -> None:
    suite = reports.write_suite(tmp_path / "small.jsonl", 20)
    decision = ask(pair(suite, scores(20, mean=0.1), scores(20), invalid=5), None, base="c" * 64)
    assert len(decision.reasons) == 6


def test_what_is_no_report_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text('{"suite": {}}')
    with pytest.raises(InputError, match=r"is not an evaluation's report: suite\.kind: Field required"):
        read_report(tmp_path)


def test_the_policy_is_what_decides(suite: Path, prompts: Path) -> None:
    content = pair(suite, scores(gain=0.05), scores())
    assert not ask(content, prompts, policy=Gate(margin=0.06)).promote
    assert not ask(content, prompts, policy=Gate(rows=101)).promote
    assert ask(content, prompts, passed=(40, 50), policy=Gate(rehearsal_drop=0.2)).promote

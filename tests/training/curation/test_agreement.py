"""Agreement with gold, and where an agent's annotations are read from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.errors import InputError
from agent.messages import Message, Trajectory
from skills.annotate.attempt import prompt
from skills.annotate.framework import load
from tests.agent.records import a_run, record
from tests.training.annotations import (
    ABSENT,
    BEAMS,
    BEAMS_MOVES,
    FRAMEWORK,
    REVIEWERS,
    REVIEWERS_MOVES,
    a_row,
    beams,
    reviewers,
    write_gold,
)
from training.curation.agreement import Agreement, agreement, closeness, read_gold
from training.curation.outputs import from_file, from_rows, from_runs
from training.curation.subject import Subject
from training.rows import as_jsonl, document_key

GOLD = {document_key(BEAMS): BEAMS_MOVES, document_key(REVIEWERS): REVIEWERS_MOVES}
SECTIONS = load("eight-sections")


def test_gold_itself_is_as_close_as_can_be() -> None:
    assert closeness(beams(), BEAMS_MOVES) == 1.0


def test_closeness_is_the_mean_of_token_f1_and_the_absent_text_counts_by_itself() -> None:
    assert closeness(beams(implication="Caches need no custom kernels in translation."), BEAMS_MOVES) == 7 / 8
    assert closeness(beams(limitation=ABSENT), BEAMS_MOVES) == 7 / 8
    assert 7 / 8 < closeness(beams(novelty="It needs no custom kernels."), BEAMS_MOVES) < 1


def test_of_two_moves_that_play_one_role_the_nearer_counts() -> None:
    moves = dict.fromkeys(SECTIONS.keys, ABSENT) | {
        "narrow_impact": "Nothing of the kind at all.",
        "broad_impact": REVIEWERS_MOVES["implication"],
    }
    score = closeness(Subject(REVIEWERS, moves, SECTIONS), REVIEWERS_MOVES)
    assert score == pytest.approx(1 / 5)  # five roles that both have; of these, only the implication is right


def test_a_curator_that_keeps_what_is_near_has_a_high_auc() -> None:
    near, far = beams(), beams(claim=BEAMS_MOVES["scope"], scope=BEAMS_MOVES["claim"])
    key = document_key(BEAMS)
    found = agreement([(True, near, key), (False, far, key), (True, reviewers(), "unknown")], GOLD)
    assert (found.kept, found.rejected, found.f1_kept, found.auc) == (1, 1, 1.0, 1.0)
    assert found.f1_rejected is not None
    assert found.f1_rejected < 1
    assert agreement([(True, far, key), (False, near, key)], GOLD).auc == 0.0
    assert agreement([(True, near, key), (False, near, key)], GOLD).auc == 0.5


def test_without_both_kinds_there_is_nothing_to_compare() -> None:
    assert agreement([(True, beams(), document_key(BEAMS))], GOLD) == Agreement(1, 0, 1.0, None, None)
    assert agreement([], GOLD) == Agreement(0, 0, None, None, None)


def test_gold_is_found_by_its_abstract_however_it_is_spaced(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text(json.dumps({"abstract": BEAMS.replace(" ", "  "), "annotation": BEAMS_MOVES}) + "\n")
    assert read_gold(path) == {document_key(BEAMS): BEAMS_MOVES}
    assert set(read_gold(write_gold(path))) == set(GOLD)


def test_a_gold_file_in_other_moves_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    path.write_text(json.dumps({"abstract": BEAMS, "annotation": dict.fromkeys(SECTIONS.keys, "Text.")}) + "\n")
    with pytest.raises(InputError, match="no abstract with the eight moves"):
        read_gold(path)


def test_rows_of_the_skill_are_read_and_others_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = a_row(beams(), run="abc")
    other = row.model_copy(update={"skill": "tools"})
    path.write_text(as_jsonl([row, other]))
    (found,) = from_rows(path)
    assert (found.id, found.document, found.run) == (row.id, row.document, "")
    assert (found.subject.abstract, dict(found.subject.annotation)) == (BEAMS, BEAMS_MOVES)
    assert found.subject.framework.name == "eight-moves"


def test_a_csv_in_the_older_sections_is_read_as_such(tmp_path: Path) -> None:
    path = tmp_path / "agent.csv"
    columns = ["arxiv_id", "title", "abstract", *SECTIONS.keys]
    cells = ["2401.00001v1", "Beams", BEAMS, *[f"Text of {key}." for key in SECTIONS.keys]]
    path.write_text(",".join(columns) + "\n" + ",".join(json.dumps(cell).replace('\\"', '""') for cell in cells) + "\n")
    (found,) = from_file(path)
    assert (found.id, found.subject.framework.name) == ("2401.00001v1", "eight-sections")
    assert found.subject.annotation["topic"] == "Text of topic."
    assert found.provenance["framework"] == "eight-sections"


def test_runs_on_record_give_the_attempt_that_the_person_was_given(bench: Callable[..., Any]) -> None:
    store = bench([]).session.store
    messages = prompt(FRAMEWORK, BEAMS)
    wrong = Message("assistant", json.dumps(BEAMS_MOVES | {"claim": "Short."}))
    right = Message("assistant", json.dumps(BEAMS_MOVES))
    record(store, a_run("aaa1", outcome="success", skills=["annotate"]), *messages, wrong, right)
    record(store, a_run("aaa2", outcome="failure", skills=["annotate"]), *messages, right)
    record(store, a_run("aaa3", outcome="success"), Message("user", "hello"), Message("assistant", "hi"))
    runs: list[Trajectory] = list(store.each())
    found = list(from_runs(runs))
    closed = [run.id for run in runs if run.outcome == "success"]
    assert [output.run for output in found] == ["aaa1"] if closed else []
    assert found[0].subject.annotation["claim"] == BEAMS_MOVES["claim"]
    assert found[0].provenance["run"] == "aaa1"

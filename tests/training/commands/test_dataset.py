"""`train dataset` as a person types it: a real record, files, and what is told."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.messages import Trajectory
from agent.redact import Redactor
from agent.traces import TraceStore
from tests import in_process
from tests.agent.records import record as put
from tests.program import Done, annotation, data_folder, record, refused, run, script
from tests.training.dataset.material import gold_file, paper_run, text, tool_run

ALL_TRAIN = ("--validation", "0", "--gate", "0")
Typed = Callable[..., Done]


@pytest.fixture
def typed(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Does a command in the workspace."""
    monkeypatch.chdir(workspace)
    return functools.partial(in_process.typed, capsys)


def on_record(*runs: Trajectory) -> None:
    """Put these runs into the test's own store, with their labels and corrections."""
    store = TraceStore.open(data_folder() / "traces.db", Redactor({}))
    for one in runs:
        put(store, one, *zip(one.messages, one.details, strict=True))
        store.correct([(one.id, one.correction)] if one.correction else [])
    store.close()


def test_a_real_runs_correction_becomes_a_dataset(workspace: Path, typed: Typed) -> None:
    """By the program itself, from the abstract to the rows."""
    (workspace / "paper.txt").write_text(json.loads(gold_file(workspace / "gold.jsonl", [0]).read_text())["abstract"])
    run("/annotate paper.txt", "--model", script(workspace, [{"content": annotation(0)}]), "--quiet", cwd=workspace)
    fixed = text(0, scope="It applies to small models on several pairs of languages.")
    assert run("traces", "correct", "last", "-", cwd=workspace, stdin=fixed.encode()).returncode == 0
    done = run("train", "dataset", "build", "--out", "set", *ALL_TRAIN, cwd=workspace)
    assert done.returncode == 0, done.stderr
    row = json.loads((workspace / "set" / "train.jsonl").read_text())
    assert (row["source"], row["messages"][-1]["content"], row["provenance"]["run"]) == (
        "correction",
        fixed,
        record().id,
    )
    assert typed("train", "dataset", "show", "set").stdout == done.stdout


def test_build_tells_what_went_in_and_what_was_left_out(workspace: Path, typed: Typed) -> None:
    on_record(paper_run(0, correction=text(0, scope="Small models.")), paper_run(1, labels={"verdict": "good"}))
    on_record(paper_run(2))
    done = typed("train", "dataset", "build", "--out", "set", *ALL_TRAIN)
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0].startswith("set: annotate, sha256 ")
    assert lines[3].split() == ["train", "2", "2", "2"]
    assert "sources    correction 1, gold 1, unfiltered 1" in lines
    assert "left out   1: nobody verified it (unfiltered) (run paper02)" in lines


def test_gold_beats_a_correction_of_the_same_paper_and_evaluation_stays_out(workspace: Path, typed: Typed) -> None:
    on_record(paper_run(0, correction=text(0, scope="Small models and beams.")))
    gold_file(workspace / "gold.jsonl", [0, 1])
    gold_file(workspace / "dev.jsonl", [1])
    files = ("--gold", "gold.jsonl", "--exclude", "dev.jsonl")
    manifest = json.loads(typed("train", "dataset", "build", "--out", "set", "--json", *files, *ALL_TRAIN).stdout)
    assert manifest["sources"] == {"gold": {"train": 1}, "unfiltered": {"negatives": 1}}
    reasons = {entry["reason"]: entry["count"] for entry in manifest["dropped"]}
    assert reasons == {"a row from gold answers the same": 1, "its document is in an evaluation file": 1}
    assert json.loads(typed("train", "dataset", "show", "set", "--json").stdout) == manifest


def test_without_a_place_the_dataset_lies_in_the_data_folder(workspace: Path, typed: Typed) -> None:
    gold_file(workspace / "gold.jsonl", [0])
    on_record(paper_run(1, labels={"verdict": "good"}))
    typed("train", "dataset", "build", "--gold", "gold.jsonl", "--no-traces", *ALL_TRAIN)
    assert (data_folder() / "datasets" / "annotate" / "train.jsonl").read_text().count("\n") == 1
    assert "gold 1" in typed("train", "dataset", "show").stdout


def test_skills_are_chosen_by_name(workspace: Path, typed: Typed) -> None:
    on_record(tool_run(labels={"verdict": "good"}), paper_run(0, labels={"verdict": "good"}))
    counts = {}
    for skill in ("annotate", "agent", "all"):
        done = typed("train", "dataset", "build", "--skill", skill, "--out", skill, "--json", *ALL_TRAIN)
        counts[skill] = json.loads(done.stdout)["files"]["train"]["rows"]
    assert counts == {"annotate": 1, "agent": 1, "all": 2}
    row = json.loads((workspace / "agent" / "train.jsonl").read_text())
    assert (row["skill"], row["tools"][0]["function"]["name"]) == ("agent", "count")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gold", "gone.jsonl"), "gone.jsonl cannot be read"),
        (("--exclude", "gone.jsonl"), "gone.jsonl cannot be read"),
        (("--gate", "0.7", "--validation", "0.5"), "no shares of one whole"),
        (("--out", "."), "is there and is no dataset"),
    ],
)
def test_what_cannot_be_built_is_told_in_a_sentence(
    workspace: Path, typed: Typed, arguments: tuple[str, ...], said: str
) -> None:
    (workspace / "thesis.txt").write_text("mine")
    refused(typed("train", "dataset", "build", *arguments), 2, said)

"""What a person says about runs: corrections and labels, beside what was recorded and never instead of it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agent import correction, trace_schema
from agent.errors import InputError, StoreError
from agent.export import export
from agent.messages import Message
from agent.redact import Redactor
from agent.traces import TraceStore
from skills.annotate.attempt import prompt
from skills.annotate.framework import load
from tests.agent.records import a_run, bytes_on_disk, record
from tests.in_process import typed
from tests.program import ABSTRACTS, Done, annotation, data_folder, put_on_record, refused, run, script
from tests.program import record as on_record

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with_secret = Redactor({"SOME_TOKEN": "hunter2hunter2"})
    opened = TraceStore.open(tmp_path / "traces.db", with_secret)
    yield opened
    opened.close()


def annotate(workspace: Path, *more: str) -> Done:
    """A real run of /annotate on our first abstract, by a scripted model."""
    (workspace / "paper.txt").write_text(ABSTRACTS[0]["abstract"] + "\n")
    model = script(workspace, [{"content": annotation(0)}])
    return run("/annotate paper.txt", "--model", model, "--quiet", *more, cwd=workspace)


def annotated(number: int = 0, **more: Any) -> str:
    """Put a run on record that annotated our abstract of that number; its id."""
    messages = [*prompt(load("eight-moves"), ABSTRACTS[number]["abstract"]), Message("assistant", annotation(number))]
    store = TraceStore.open(data_folder() / "traces.db", Redactor({}))
    done = record(store, a_run(f"paper{number}", skills=["annotate"], **more), *messages)
    store.close()
    return done.id


def corrected(number: int = 0, **moves: str) -> dict[str, str]:
    return {**json.loads(annotation(number)), **moves}


# In the store


def test_a_correction_stands_beside_what_was_recorded(store: TraceStore) -> None:
    before = record(store, a_run(), Message("user", "how many?"), Message("assistant", "two"))
    store.correct([("a1b", "three")])
    run = store.get("a1b2c3")
    assert run.correction == "three"
    assert run.messages[-1].content == "two"
    assert run.ended == before.ended
    assert store.verify() == []


def test_the_newest_correction_counts_and_the_older_ones_stay(store: TraceStore, tmp_path: Path) -> None:
    record(store, a_run(), Message("assistant", "two"))
    store.correct([("a1b2c3", "three")])
    store.correct([("a1b2c3", "four")])
    assert store.get("a1b2c3").correction == "four"
    rows = sqlite3.connect(tmp_path / "traces.db").execute("SELECT answer FROM corrections ORDER BY number").fetchall()
    assert rows == [("three",), ("four",)]


def test_of_many_corrections_all_are_recorded_or_none(store: TraceStore) -> None:
    record(store, a_run("a1"), Message("assistant", "two"))
    with pytest.raises(StoreError, match="there is no run 'b2'"):
        store.correct([("a1", "three"), ("b2", "four")])
    assert store.get("a1").correction == ""


def test_secrets_are_redacted_and_json_stays_json(store: TraceStore) -> None:
    record(store, a_run(), Message("assistant", "two"))
    store.correct([("a1b2c3", "it is hunter2hunter2")])
    assert store.get("a1b2c3").correction == "it is [redacted:environment-value]"
    store.correct([("a1b2c3", json.dumps({"claim": "It is hunter2hunter2.", "scope": "é"}, ensure_ascii=False))])
    assert json.loads(store.get("a1b2c3").correction) == {
        "claim": "It is [redacted:environment-value].",
        "scope": "é",
    }


def test_a_correction_without_secrets_is_kept_as_it_was_written(store: TraceStore) -> None:
    record(store, a_run(), Message("assistant", "two"))
    store.correct([("a1b2c3", '{"n":  3}')])
    assert store.get("a1b2c3").correction == '{"n":  3}'


def test_search_finds_a_correction_and_a_list_marks_its_run(store: TraceStore) -> None:
    record(store, a_run("a1"), Message("assistant", "two"))
    record(store, a_run("b2"), Message("assistant", "two"))
    store.correct([("b2", "seventeen")])
    assert [found.id for found in store.search("SEVENTEEN")] == ["b2"]
    assert {found.id: found.corrected for found in store.runs()} == {"a1": False, "b2": True}


def test_a_deleted_run_takes_its_correction_with_it(store: TraceStore, tmp_path: Path) -> None:
    record(store, a_run(), Message("assistant", "two"))
    store.correct([("a1b2c3", "a-very-special-answer")])
    store.delete(["a1b2c3"])
    assert b"a-very-special-answer" not in bytes_on_disk(tmp_path)


def test_a_store_from_before_corrections_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    opened = TraceStore.open(path, Redactor({}))
    record(opened, a_run(), Message("assistant", "two"))
    opened.close()
    with sqlite3.connect(path) as connection:
        connection.executescript("DROP TABLE corrections; PRAGMA user_version = 2;")
    connection.close()
    again = TraceStore.open(path, Redactor({}))
    again.correct([("a1b2c3", "three")])
    assert again.get("a1b2c3").correction == "three"
    again.close()
    assert trace_schema.NEWEST >= 3


@pytest.mark.parametrize("form", ["messages", "sharegpt", "otel", "parquet"])
def test_every_export_keeps_the_correction(store: TraceStore, tmp_path: Path, form: str) -> None:
    record(store, a_run(), Message("user", "how many?"), Message("assistant", "two"))
    store.correct([("a1b2c3", "seventeen")])
    export(store.each(), form, tmp_path / "out")
    if form == "parquet":
        import pyarrow.parquet

        assert pyarrow.parquet.read_table(tmp_path / "out").to_pylist()[0]["correction"] == "seventeen"
    else:
        assert "seventeen" in (tmp_path / "out").read_text()


# On the command line


def test_a_real_annotation_is_corrected_in_the_order_of_the_moves(workspace: Path) -> None:
    annotate(workspace)
    moves = corrected(scope="The decoder is for small translation models with a beam of any width.")
    (workspace / "fix.json").write_text(json.dumps(dict(reversed(moves.items()))))
    done = run("traces", "correct", "last", "fix.json", cwd=workspace)
    assert done.returncode == 0, done.stderr
    found = on_record()
    assert found.correction == json.dumps(moves, ensure_ascii=False)
    assert found.messages[-1].content == annotation(0)


@pytest.mark.parametrize("form", ["md", "jsonl", "json"])
def test_our_own_output_can_be_edited_and_given_back(workspace: Path, capsys: Capture, form: str) -> None:
    shown = annotate(workspace, "--format", form).stdout
    said = "Small translation models on four language pairs."
    before, after = ("**Scope.** Not stated.", f"**Scope.** {said}") if form == "md" else ("Not stated.", said)
    (workspace / f"fix.{form}").write_text(shown.replace(before, after))
    assert typed(capsys, "traces", "correct", "last", str(workspace / f"fix.{form}")).returncode == 0
    assert json.loads(on_record().correction)["scope"] == said


def test_show_and_list_tell_that_a_correction_is_there(capsys: Capture) -> None:
    annotated()
    fixed = json.dumps(corrected(scope="Small translation models on four language pairs."))
    assert typed(capsys, "traces", "correct", "last", "-", stdin=fixed.encode()).returncode == 0
    shown = typed(capsys, "traces", "show", "last").stdout
    assert "[correction] what a person says the answer should be" in shown
    assert "Small translation models on four language pairs." in shown
    assert "corrected" in typed(capsys, "traces", "list").stdout
    assert json.loads(typed(capsys, "traces", "show", "last", "--json").stdout)["correction"] == fixed


def test_what_the_validators_doubt_is_told_and_recorded_all_the_same(capsys: Capture) -> None:
    annotated()
    fixed = json.dumps(corrected(evidence="It reached 99.9% in a test."))
    done = typed(capsys, "traces", "correct", "last", "-", stdin=fixed.encode())
    assert done.returncode == 0
    assert "! evidence: the number 99.9 is not in the abstract" in done.stderr
    assert "99.9%" in on_record().correction


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps({**corrected(), "limitations": "None."}), "Did you mean 'limitation'?"),
        ("", "is empty"),
        ("not json", "neither JSON nor our Markdown"),
    ],
)
def test_what_is_no_annotation_is_refused(capsys: Capture, text: str, said: str) -> None:
    annotated()
    refused(typed(capsys, "traces", "correct", "last", "-", stdin=text.encode()), 2, said)
    assert on_record().correction == ""


def test_another_runs_answer_is_corrected_by_text(capsys: Capture) -> None:
    put_on_record("how many?")
    assert typed(capsys, "traces", "correct", "last", "-", stdin=b"Three.\n").returncode == 0
    assert on_record().correction == "Three."


def test_a_batch_corrects_many_runs_at_once(tmp_path: Path, capsys: Capture) -> None:
    ids = [annotated(0), annotated(1), put_on_record("how many?")]
    lines: list[dict[str, Any]] = [
        {"run": ids[number], "annotation": corrected(number, claim=f"Claim {number} of it.")} for number in (0, 1)
    ]
    lines.append({"run": ids[2][:8], "answer": "Three."})
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    done = typed(capsys, "traces", "correct", "--batch", str(tmp_path / "many.jsonl"))
    assert done.stdout == "3 corrections recorded\n"
    assert json.loads(on_record(ids[1]).correction)["claim"] == "Claim 1 of it."
    assert on_record(ids[2]).correction == "Three."


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "it is not JSON"),
        ('{"annotation": {}}', "it names no run"),
        ('{"run": "RUN"}', "neither an annotation nor an answer"),
        ('{"run": "zzz", "answer": "x"}', "there is no run 'zzz'"),
        ('{"run": "RUN", "annotation": {"clam": "x"}}', "there is no move 'clam'"),
    ],
)
def test_a_bad_line_of_a_batch_is_named_and_nothing_is_recorded(
    tmp_path: Path, capsys: Capture, line: str, said: str
) -> None:
    run_id = annotated()
    good = json.dumps({"run": run_id, "annotation": corrected()})
    (tmp_path / "many.jsonl").write_text(f"{good}\n{line.replace('RUN', run_id)}\n")
    done = typed(capsys, "traces", "correct", "--batch", str(tmp_path / "many.jsonl"))
    refused(done, 2, "line 2 of ", "many.jsonl: ", said, "Nothing was recorded.")
    assert on_record(run_id).correction == ""


def test_a_run_of_several_papers_names_the_runs_to_correct(capsys: Capture) -> None:
    store = TraceStore.open(data_folder() / "traces.db", Redactor({}))
    record(store, a_run("whole", skills=["annotate"]), Message("user", "/annotate a.txt b.txt"))
    store.close()
    ids = [annotated(number, parent_id="whole") for number in (0, 1)]
    done = typed(capsys, "traces", "correct", "whole", "-", stdin=json.dumps(corrected()).encode())
    refused(done, 2, "it is made of 2 runs", *ids)


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: Capture) -> None:
    put_on_record("how many?")
    refused(typed(capsys, "traces", "correct", "last"), 2, "say which run and which file")
    refused(typed(capsys, "traces", "correct", "last", "gone.json"), 2, "gone.json cannot be read")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    refused(typed(capsys, "traces", "correct", "last", str(tmp_path / "latin.txt")), 2, "latin.txt is not UTF-8")
    (tmp_path / "empty.jsonl").write_text("\n")
    refused(typed(capsys, "traces", "correct", "--batch", str(tmp_path / "empty.jsonl")), 2, "holds no correction")


def test_a_run_is_labelled_and_the_label_taken_away(capsys: Capture) -> None:
    run_id = put_on_record("how many?")
    done = typed(capsys, "traces", "label", "last", "good")
    assert done.stdout == f"run {run_id} is labelled good\n"
    assert on_record().labels == {"verdict": "good"}
    assert "labels   verdict=good" in typed(capsys, "traces", "show", "last").stdout
    typed(capsys, "traces", "label", "last", "none")
    assert on_record().labels == {}


# What an editor begins with


def test_editing_begins_with_the_answer_or_the_newest_correction() -> None:
    run = on_record(annotated())
    assert json.loads(correction.begin(run)) == corrected()
    run.correction = json.dumps(corrected(scope="Small models."))
    assert json.loads(correction.begin(run))["scope"] == "Small models."
    other = a_run("b2", messages=[Message("user", "x"), Message("assistant", "Two.")], details=[])
    assert correction.begin(other) == "Two."
    other.correction = "Three."
    assert correction.begin(other) == "Three."


def test_a_run_without_an_answer_cannot_be_edited() -> None:
    with pytest.raises(InputError, match="has no answer to edit"):
        correction.begin(a_run(messages=[Message("user", "x")]))

"""Annotations in files: JSONL, CSV keyed by arXiv id, the older eight sections, rows of other commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import InputError
from skills.annotate.framework import load
from tests.program import ABSTRACTS
from tests.training.dataset.material import EIGHT, gold_file, key, moves, paper_run
from training.dataset import sources
from training.dataset.candidates import Candidate, Ledger
from training.dataset.trajectories import collect
from training.rows import Source, as_jsonl

OLDER = load("eight-sections")


def read(path: Path, source: Source = "gold") -> tuple[list[Candidate], dict[str, list[str]]]:
    ledger = Ledger()
    return list(sources.from_files([(path, source)], ledger)), ledger.reasons


def csv_file(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        table.writeheader()
        table.writerows(rows)
    return path


def sections() -> dict[str, str]:
    """An annotation of our first abstract in the older eight sections."""
    said = "StripeBeam is a decoder that stores the caches of all beams in one interleaved buffer, in its part {}."
    return {move: said.format("abcdefgh"[place] * 3) for place, move in enumerate(OLDER.keys)}


def test_a_gold_file_gives_a_row_a_line_with_its_provenance(tmp_path: Path) -> None:
    found, dropped = read(gold_file(tmp_path / "gold.jsonl", [0, 3]))
    row = found[1].row
    assert [one.row.source for one in found] == ["gold", "gold"]
    assert (row.document, row.skill, json.loads(row.completion)) == (key(3), "annotate", moves(3))
    assert {name: row.provenance[name] for name in ("file", "line", "id", "field", "framework")} == {
        "file": "gold.jsonl",
        "line": 2,
        "id": ABSTRACTS[3]["id"],
        "field": ABSTRACTS[3]["field"],
        "framework": "eight-moves",
    }
    assert dropped == {}


def test_a_row_from_a_file_asks_what_the_runtime_asks(tmp_path: Path) -> None:
    """A gold row and a run of the same abstract have the same prompt, so they compete for one place."""
    gold = read(gold_file(tmp_path / "gold.jsonl", [0]))[0][0]
    run = collect([paper_run(0)], "annotate", Ledger()).examples[0]
    assert gold.row.messages == run.row.messages
    assert (gold.row.document, gold.slot) == (run.row.document, run.slot)


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_table_keyed_by_arxiv_id_is_read_and_an_empty_cell_is_not_stated(tmp_path: Path, delimiter: str) -> None:
    cells = {"arxiv_id": "2402.11651v2", "Title": "T", "abstract": ABSTRACTS[0]["abstract"], **moves(0, scope="")}
    found, _ = read(csv_file(tmp_path / "gold.csv", [cells], delimiter))
    assert json.loads(found[0].row.completion) == moves(0)
    assert found[0].row.provenance["id"] == "2402.11651v2"
    assert found[0].where == "gold.csv:2"


def test_a_table_without_abstracts_takes_them_from_another_file_by_id(tmp_path: Path) -> None:
    bare = csv_file(tmp_path / "gold.csv", [{"arxiv_id": "2402.1v2", **moves(0)}, {"arxiv_id": "9", **moves(0)}])
    other = {"arxiv_id": "2402.1v1", "abstract": ABSTRACTS[0]["abstract"], **sections()}
    ledger = Ledger()
    agent = csv_file(tmp_path / "agent.csv", [other])
    found = list(sources.from_files([(bare, "gold"), (agent, "unfiltered")], ledger))
    assert [(one.row.source, one.row.document) for one in found] == [("gold", key(0)), ("unfiltered", key(0))]
    assert ledger.reasons == {"no abstract, here or under its id in another file": ["gold.csv:3"]}


def test_the_older_eight_sections_have_a_prompt_of_their_own(tmp_path: Path) -> None:
    cells = {"arxiv_id": "1", "title": "T", "abstract": ABSTRACTS[0]["abstract"], **sections()}
    found, dropped = read(csv_file(tmp_path / "agent.csv", [cells]), "unfiltered")
    assert dropped == {}
    assert list(json.loads(found[0].row.completion)) == OLDER.keys
    assert found[0].row.provenance["framework"] == "eight-sections"
    eight = read(gold_file(tmp_path / "gold.jsonl", [0]))[0][0]
    assert found[0].slot != eight.slot
    assert found[0].row.document == eight.row.document


def test_agent_output_that_breaks_a_rule_is_left_out_and_gold_is_a_persons_word(tmp_path: Path) -> None:
    path = gold_file(tmp_path / "some.jsonl", [0], evidence="It is 99 times faster than the standard decoder is.")
    assert read(path, "unfiltered") == ([], {"breaks the rules: number": ["some.jsonl:1"]})
    assert len(read(path, "gold")[0]) == 1


def test_a_gold_line_with_broken_moves_is_left_out_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "gold.jsonl"
    without = {move: text for move, text in moves(0).items() if move != "scope"}
    lines = [{**ABSTRACTS[0], "annotation": entry} for entry in (without, {**moves(0), "mood": "x"}, moves(0))]
    path.write_text("\n".join(map(json.dumps, lines)))
    found, dropped = read(path)
    assert len(found) == 1
    assert dropped == {
        "the move 'scope' is missing": ["gold.jsonl:1"],
        "its moves are no framework's": ["gold.jsonl:2"],
    }


def test_rows_of_another_command_count_as_what_their_option_says(tmp_path: Path) -> None:
    rows = [one.row for one in read(gold_file(tmp_path / "gold.jsonl", [0, 1]))[0]]
    (tmp_path / "rows.jsonl").write_text(as_jsonl(rows))
    assert {one.row.source for one in read(tmp_path / "rows.jsonl", "curated")[0]} == {"curated"}
    assert {one.row.source for one in sources.rows(tmp_path / "rows.jsonl")} == {"gold"}
    assert [one.row.id for one in sources.rows(tmp_path / "rows.jsonl")] == [row.id for row in rows]


def test_a_derived_row_does_not_compete_with_its_original(tmp_path: Path) -> None:
    row = read(gold_file(tmp_path / "gold.jsonl", [0]))[0][0].row
    copy = row.model_copy(update={"source": "synthetic", "provenance": {"derived_from": row.id}})
    (tmp_path / "rows.jsonl").write_text(as_jsonl([row, copy]))
    original, derived = sources.rows(tmp_path / "rows.jsonl")
    assert original.slot != derived.slot


@pytest.mark.parametrize("kind", ["jsonl", "csv", "rows"])
def test_the_documents_of_an_evaluation_file_are_read_whatever_its_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"dev.{'csv' if kind == 'csv' else 'jsonl'}"
    if kind == "csv":
        csv_file(path, [{"id": "1", "abstract": ABSTRACTS[0]["abstract"]}, {"id": "2", "abstract": ""}])
    elif kind == "jsonl":
        path.write_text(json.dumps(ABSTRACTS[0]) + "\n")
    else:
        path.write_text(as_jsonl(one.row for one in read(gold_file(tmp_path / "gold.jsonl", [0]))[0]))
    assert list(sources.documents(path)) == [(key(0), ABSTRACTS[0]["abstract"])]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b"{nonsense\n", "line 1 of .*a.jsonl is not JSON"),
        ("a.jsonl", b"[1]\n", "line 1 of .*a.jsonl is not a JSON object"),
        ("a.jsonl", b"\n", "holds no annotation"),
        (
            "a.jsonl",
            b'{"abstract": "x", "mood": "y"}\n',
            "neither an `annotation` nor a framework's moves; it has abstract",
        ),
        ("a.csv", b"id,mood\n1,x\n", "neither an `annotation` nor a framework's moves"),
        ("a.csv", b"id,abstract\n1,\xff\n", "is not UTF-8"),
        ("a.csv", b"", "holds no annotation"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read(tmp_path / name)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.csv cannot be read"):
        read(tmp_path / "gone.csv")
    (tmp_path / "empty.jsonl").write_text('{"mood": "x"}\n')
    with pytest.raises(InputError, match="holds no document"):
        list(sources.documents(tmp_path / "empty.jsonl"))


def test_an_arxiv_ids_version_does_not_count() -> None:
    assert sources.bare_id("2402.11651v2") == "2402.11651"
    assert (sources.bare_id("own-01"), sources.bare_id("v2"), sources.bare_id("rev")) == ("own-01", "v2", "rev")
    assert EIGHT.keys != OLDER.keys

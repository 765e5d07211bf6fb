"""The journal: what was said stays, a broken line goes, and a file is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent.errors import InputError, OutputError
from training.convert.atomic import write_text
from training.synthesis.journal import Journal


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.jsonl"
    with Journal(path) as journal:
        journal.add({"number": 1, "text": "Größe"})
        journal.add({"number": 2})
    with Journal(path) as journal:
        assert [entry["number"] for entry in journal.entries] == [1, 2]
        journal.add({"number": 3})
        assert len(journal.entries) == 3
    assert [json.loads(line)["number"] for line in path.read_text("utf-8").splitlines()] == [1, 2, 3]


def test_a_line_that_a_killed_process_left_unfinished_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"number": 1}\n{"numb')
    with Journal(path) as journal:
        assert journal.entries == [{"number": 1}]
        journal.add({"number": 2})
    assert path.read_text() == '{"number": 1}\n{"number": 2}\n'


@pytest.mark.parametrize("line", ["not json", "[1, 2]"])
def test_a_whole_line_that_is_no_entry_is_an_error_that_names_it(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(f'{{"number": 1}}\n{line}\n')
    with pytest.raises(InputError, match=r"line 2 of .*journal.jsonl is no entry"):
        Journal(path)


def test_a_folder_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Journal(tmp_path)


def test_a_journal_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), Journal(tmp_path / "file" / "journal.jsonl"):
        pass


def test_a_full_disk_is_told_and_what_was_said_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.add({"number": 1})
        with open("/dev/full", "ab", buffering=0) as full:
            journal._file, whole = full, journal._file
            with pytest.raises(OutputError, match="No space left"):
                journal.add({"number": 2})
        journal._file = whole
        assert journal.entries == [{"number": 1}]
    assert path.read_text() == '{"number": 1}\n'


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    write_text(path, "old\n")
    write_text(path, "new\n")
    assert path.read_text() == "new\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["rows.jsonl"]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"rows.jsonl cannot be written"):
        write_text(tmp_path / "rows.jsonl", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]

"""`/edit` in the REPL: the last answer in the person's own editor, and what they make of it on record."""

from __future__ import annotations

import json
from pathlib import Path

from tests.program import ABSTRACTS, Terminal, annotation, record, run, script

ENTER, CTRL_D = "\r", "\x04"


def an_editor(folder: Path, commands: str) -> str:
    """The command of an editor that does this to the file, whose name is $1."""
    path = folder / "editor.sh"
    path.write_text(f"#!/bin/sh\n{commands}\n")
    return f"sh {path}"


def edited(workspace: Path, editor: str, task: str, reply: str, says: str) -> str:
    """Do a task, type /edit, leave; what the screen showed."""
    model = script(workspace, [{"content": reply}])
    with Terminal("chat", "--model", model, cwd=workspace, EDITOR=editor, VISUAL="") as terminal:
        terminal.expect("\n>")
        terminal.type(task + ENTER)
        terminal.expect("■ success")
        terminal.expect("\n>")
        terminal.type("/edit" + ENTER)
        terminal.expect(says)
        terminal.expect("\n>")
        terminal.type(CTRL_D)
        assert terminal.wait() == 0
        return terminal.output


def test_edit_records_the_corrected_answer(workspace: Path, tmp_path: Path) -> None:
    editor = an_editor(tmp_path, 'sed -i "s/Two/Three/" "$1"')
    edited(workspace, editor, "how many files are there?", "Two files.", "is recorded")
    assert record().correction == "Three files."
    assert record().messages[-1].content == "Two files."


def test_an_annotation_is_edited_as_json_and_its_doubts_are_told(workspace: Path, tmp_path: Path) -> None:
    (workspace / "paper.txt").write_text(ABSTRACTS[0]["abstract"] + "\n")
    editor = an_editor(
        tmp_path, 'case "$1" in *.json) sed -i "s/\\"scope\\": .*/\\"scope\\": \\"Short.\\",/" "$1";; esac'
    )
    shown = edited(workspace, editor, "/annotate paper.txt", annotation(0), "is recorded")
    assert "! scope has 1 words" in shown
    assert json.loads(record().correction)["scope"] == "Short."


def test_an_unchanged_answer_is_no_correction(workspace: Path, tmp_path: Path) -> None:
    edited(workspace, an_editor(tmp_path, "true"), "how many?", "Two files.", "nothing was changed")
    assert record().correction == ""


def test_ctrl_c_in_the_editor_is_the_editors(workspace: Path, tmp_path: Path) -> None:
    editor = an_editor(tmp_path, 'trap "" INT; echo editing; sleep 1; sed -i "s/Two/Three/" "$1"')
    model = script(workspace, [{"content": "Two files."}])
    with Terminal("chat", "--model", model, cwd=workspace, EDITOR=editor, VISUAL="") as terminal:
        terminal.expect("\n>")
        terminal.type("how many?" + ENTER)
        terminal.expect("■ success")
        terminal.expect("\n>")
        terminal.type("/edit" + ENTER)
        terminal.expect("editing")
        terminal.type("\x03")
        terminal.expect("is recorded")
        terminal.expect("\n>")
        terminal.type(CTRL_D)
        assert terminal.wait() == 0
    assert record().correction == "Three files."


def test_a_broken_annotation_is_refused_and_the_chat_goes_on(workspace: Path, tmp_path: Path) -> None:
    (workspace / "paper.txt").write_text(ABSTRACTS[0]["abstract"] + "\n")
    editor = an_editor(tmp_path, 'echo "{}" > "$1"')
    edited(workspace, editor, "/annotate paper.txt", annotation(0), "the move 'claim' is missing")
    assert record().correction == ""


def test_edit_before_any_run_says_so(workspace: Path) -> None:
    with Terminal("chat", "--model", script(workspace, []), cwd=workspace) as terminal:
        terminal.expect("\n>")
        terminal.type("/edit" + ENTER)
        terminal.expect("there is no run to correct yet")
        terminal.expect("\n>")
        terminal.type(CTRL_D)
        assert terminal.wait() == 0


def test_without_a_terminal_edit_says_what_to_use_instead(workspace: Path) -> None:
    model = script(workspace, [{"content": "Two."}])
    done = run("chat", "--model", model, cwd=workspace, stdin=b"how many?\n/edit\n")
    assert "there is no terminal to edit at" in done.stdout
    assert "traces correct RUN FILE" in done.stdout

"""Edit pairs: which commits become rows, that the rows are right, and that a repository runs nothing of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.errors import InputError, UsageError
from agent.redact import Redactor
from tools.files import edit_file
from training.synthesis import git_history
from training.synthesis.edit_pairs import Edit, Edits, edits, instruction, one_edit
from training.synthesis.git_history import History

Commit = Callable[..., str]
PLAIN = Redactor({})
KEY = "ghp_" + "a1B2c3D4e5F6g7H8i9J0" + "k1L2m3N4o5P6q7R8"
GREET = "def greet(name):\n    return 'hello ' + name\n\n\ndef part(name):\n    return 'bye ' + name\n"


def git(folder: Path, *words: str, **more: str) -> str:
    environment = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
        "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
        **more,
    }
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", *identity, "-C", str(folder), *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet")
    return folder


@pytest.fixture
def commit(repository: Path) -> Commit:
    def make(message: str, **files: str | bytes) -> str:
        for name, content in files.items():
            path = repository / name.replace("__", "/").replace("_py", ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        git(repository, "add", "--all")
        git(repository, "commit", "--quiet", "--allow-empty", "-m", message)
        return git(repository, "rev-parse", "HEAD")

    return make


def made(repository: Path, most: int = 100) -> Edits:
    return edits(repository, most, PLAIN)


def test_a_small_commit_becomes_a_call_of_the_real_tool(repository: Path, commit: Commit) -> None:
    root = commit("Start with two functions", greet_py=GREET)
    change = commit(
        "Say good morning instead of hello\n\nSigned-off-by: A <a@b.c>", greet_py=GREET.replace("hello", "good morning")
    )
    (row,) = made(repository).rows
    system, user, assistant = row.messages
    assert system["role"] == "system"
    assert user["content"].startswith("Say good morning instead of hello\n\ngreet.py, lines 1 to 6 of 6\ndef greet")
    assert "Signed-off" not in user["content"]
    (call,) = assistant["tool_calls"]
    assert call["name"] == "edit_file"
    assert call["arguments"] == {
        "path": "greet.py",
        "old": "    return 'hello ' + name\n",
        "new": "    return 'good morning ' + name\n",
    }
    assert edit_file.parameters.model_validate(call["arguments"])
    assert row.tools == (edit_file.schema,)
    assert (row.source, row.skill) == ("check", "tools")
    assert (row.provenance["repository"], row.provenance["commit"], row.provenance["path"]) == (
        root,
        change,
        "greet.py",
    )


def test_the_same_history_gives_the_same_rows_wherever_it_is(repository: Path, commit: Commit, tmp_path: Path) -> None:
    commit("Start with two functions", greet_py=GREET)
    commit("Say good morning instead of hello", greet_py=GREET.replace("hello", "good morning"))
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), "copy.git")
    assert made(repository).rows == made(tmp_path / "copy.git").rows == made(repository).rows


def test_the_newest_come_first_and_no_more_than_asked_for(repository: Path, commit: Commit) -> None:
    for number in range(4):
        commit(f"Set the number to {number}", numbers_py=f"a = 1\nnumber = {number}\n")
    subjects = [str(row.messages[1]["content"]).split("\n")[0] for row in made(repository, 2).rows]
    assert subjects == ["Set the number to 3", "Set the number to 2"]
    assert len({row.document for row in made(repository).rows}) == 3


@pytest.mark.parametrize(
    ("message", "before", "after", "reason"),
    [
        ("wip", GREET, GREET.replace("hello", "hi"), "no task in the message"),
        ('Revert "Say good morning"', GREET, GREET.replace("hello", "hi"), "no task in the message"),
        ("Bump version to 1.2.3", GREET, GREET.replace("hello", "hi"), "no task in the message"),
        ("Change the picture here", b"\x00\x01a\n", b"\x00\x01b\n", "binary or huge"),
        ("Change the letters here", "é = 1\n".encode("latin-1"), "è = 1\n".encode("latin-1"), "binary or huge"),
        ("Use other line ends", "a\r\nb\r\n", "a\r\nc\r\n", "binary or huge"),
        ("Grow it by a lot", "a\n" * 50, "a\n" * 50 + "b\n" * 50, "large"),
        (
            "Change both of its ends",
            "a\n" + "x\n" * 30 + "b\n",
            "c\n" + "x\n" * 30 + "d\n",
            "changed in several places",
        ),
        ("Take away the blank lines", "a\n\n\nb\n", "a\nb\n", "white space only"),
        ("Put the key in", "key = ''\n", f"key = '{KEY}'\n", "with a secret"),
        ("Change a long line here", "x" * 500 + "\n", "y" * 500 + "\n", "of long lines"),
        ("Write a whole page anew", "a\n", "word " * 400 + "\n", "large"),
    ],
)
def test_other_commits_are_left_out_and_counted(
    repository: Path, commit: Commit, message: str, before: str | bytes, after: str | bytes, reason: str
) -> None:
    commit("The start of it all", file_py=before)
    commit(message, file_py=after)
    found = made(repository)
    assert found.rows == []
    assert found.told == f"1 {reason}"


def test_new_files_links_vendored_files_and_wide_commits_are_left_out(repository: Path, commit: Commit) -> None:
    names = {f"file{number}_py": "a = 1\n" for number in range(4)}
    commit("The start of it all", vendor__lib_py="a = 1\n", **names)
    commit("Change the vendored library", vendor__lib_py="a = 2\n")
    commit("Change all of the files", **{name: "a = 2\n" for name in names})
    (repository / "file0.py").unlink()
    (repository / "file0.py").symlink_to("file1.py")
    commit("Make it a link now")
    found = made(repository)
    assert found.rows == []
    assert found.left_out == {"vendored or generated": 1, "of more than 3 files": 4}


def test_a_secret_beside_the_edit_is_redacted(repository: Path, commit: Commit) -> None:
    commit("The start of it all", file_py=f"token = '{KEY}'\nnumber = 1\n")
    commit("Set the number to two", file_py=f"token = '{KEY}'\nnumber = 2\n")
    (row,) = made(repository).rows
    assert KEY not in json.dumps(row.messages)
    assert "[redacted:" in str(row.messages[1]["content"])


def test_an_edit_takes_in_lines_until_it_occurs_once() -> None:
    before = "if a:\n    x()\nif b:\n    x()\n"
    edit = one_edit(before, "if a:\n    x()\nif b:\n    y()\n")
    assert edit == Edit("if b:\n    x()\n", "if b:\n    y()\n", 1, 4)
    inserted = one_edit("a\nb\n", "a\nnew\nb\n")
    assert isinstance(inserted, Edit)
    assert "a\nb\n".replace(inserted.old, inserted.new) == "a\nnew\nb\n"


def test_an_edit_of_an_empty_file_cannot_be_a_replacement() -> None:
    assert one_edit("", "a\n") == "not unique"
    assert one_edit("a\n", "a\n") == "not changed"


def test_a_messages_trailers_are_no_part_of_the_task() -> None:
    message = "Read the file twice\n\nIt was read once.\n\nChange-Id: I123\nCo-authored-by: B <b@c.d>\n"
    assert instruction(message) == "Read the file twice\n\nIt was read once."
    assert instruction("fix it") == ""


def test_nothing_of_the_repository_is_run(repository: Path, commit: Commit, tmp_path: Path) -> None:
    """Its own configuration names programs for diffs, text conversion, signatures, pagers, monitors and hooks."""
    commit("The start of it all", file_py="a = 1\n", **{".gitattributes": "*.py diff=bad filter=bad\n"})
    commit("Set the number to two", file_py="a = 2\n")
    marker = tmp_path / "ran"
    script = tmp_path / "bad.sh"
    script.write_text(f"#!/bin/sh\ntouch {marker}\n")
    script.chmod(0o755)
    for key in (
        "diff.bad.textconv",
        "diff.bad.command",
        "diff.external",
        "filter.bad.smudge",
        "filter.bad.clean",
        "core.pager",
        "core.fsmonitor",
        "core.sshCommand",
        "gpg.program",
        "core.editor",
    ):
        git(repository, "config", key, str(script))
    git(repository, "config", "log.showSignature", "true")
    git(repository, "config", "core.hooksPath", str(tmp_path))
    assert len(made(repository).rows) == 1
    assert not marker.exists()


def test_git_gets_no_variable_of_the_persons_that_changes_what_it_reads(
    repository: Path, commit: Commit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit("The start of it all", file_py="a = 1\n")
    commit("Set the number to two", file_py="a = 2\n")
    monkeypatch.setenv("GIT_DIR", str(tmp_path))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", "false")
    assert len(made(repository).rows) == 1


def test_a_folder_without_a_repository_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no history that git reads"):
        made(tmp_path)


def test_a_repository_without_commits_is_told(repository: Path) -> None:
    with pytest.raises(InputError, match="has no history that git reads"):
        made(repository)


def test_a_missing_object_is_told(repository: Path, commit: Commit) -> None:
    commit("The start of it all", file_py="a = 1\n")
    with History(repository) as history, pytest.raises(InputError, match="lacks the object"):
        history.blob("0" * 40)


def test_without_git_a_sentence_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_history, "_environment", lambda: {"PATH": "/nowhere"})
    with pytest.raises(UsageError, match="git is not installed"):
        made(repository)

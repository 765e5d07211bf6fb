"""The file tools, as a model calls them."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConsentDenied, ToolError
from tests.tools.conftest import MakeContext
from tools import files
from tools.registry import ToolContext, call, load

TOOLS = load([])


def use(context: ToolContext, name: str, **arguments: Any) -> str:
    return asyncio.run(call(TOOLS[name], context, arguments))


@pytest.fixture
def poem(workspace: Path) -> Path:
    path = workspace / "poem.txt"
    path.write_text("".join(f"line {number}\n" for number in range(1, 11)))
    return path


def test_read_file_shows_plain_lines_and_which_they_are(make_context: MakeContext, poem: Path) -> None:
    context = make_context()
    assert use(context, "read_file", path="poem.txt", start=3, end=4) == "poem.txt, lines 3 to 4 of 10\nline 3\nline 4"
    assert use(context, "read_file", path="poem.txt", start=9) == "poem.txt, lines 9 to 10 of 10\nline 9\nline 10"
    assert use(context, "read_file", path="poem.txt", end=99).startswith("poem.txt, lines 1 to 10 of 10\nline 1\n")


def test_read_file_stops_at_the_limit_and_says_how_to_read_on(make_context: MakeContext, workspace: Path) -> None:
    (workspace / "long.txt").write_text("x" * 49 + "\n" + ("y" * 49 + "\n") * 9)
    answer = use(make_context(output_limit=200), "read_file", path="long.txt")
    assert answer.splitlines()[0] == "long.txt, lines 1 to 4 of 10; read on with start=5"
    assert len(answer.splitlines()) == 5


def test_read_file_shows_the_beginning_of_one_endless_line(make_context: MakeContext, workspace: Path) -> None:
    (workspace / "a.json").write_text("z" * 1000)
    answer = use(make_context(output_limit=200), "read_file", path="a.json")
    assert answer == "a.json, line 1 of 1: its first 200 of 1,000 characters\n" + "z" * 200


@pytest.mark.parametrize(("start", "end"), [(0, None), (11, None), (-1, 3), (5, 4)])
def test_read_file_says_which_lines_there_are(
    make_context: MakeContext, poem: Path, start: int, end: int | None
) -> None:
    with pytest.raises(ToolError, match=r"poem.txt has the lines 1 to 10"):
        use(make_context(), "read_file", path="poem.txt", start=start, end=end)


def test_read_file_of_an_empty_file_says_so(make_context: MakeContext, workspace: Path) -> None:
    (workspace / "empty").touch()
    assert use(make_context(), "read_file", path="empty") == "empty is empty."


def test_read_file_refuses_what_is_too_big(make_context: MakeContext, workspace: Path) -> None:
    with (workspace / "big").open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(ToolError, match=r"big has 50,000,000 bytes, more than the 10,000,000"):
        use(make_context(), "read_file", path="big")


def asked_once(context: ToolContext) -> list[str]:
    """Answer the next questions with yes; returns the list that they are put into."""
    questions: list[str] = []

    async def ask(question: str) -> bool:
        questions.append(question)
        return True

    context.consent.ask = ask
    return questions


def test_a_large_file_is_edited_not_rewritten(make_context: MakeContext, workspace: Path) -> None:
    asked: list[str] = []

    async def ask(question: str) -> bool:
        asked.append(question)
        return True

    (workspace / "large.txt").write_text("x" * 51)
    context = make_context(ask=ask, rewrite_limit=50)
    with pytest.raises(ToolError, match="has 51 bytes, more than the 50 that are replaced whole") as caught:
        use(context, "write_file", path="large.txt", content="short")
    assert "edit_file" in caught.value.hint
    assert asked == []
    assert (workspace / "large.txt").read_text() == "x" * 51
    (workspace / "small.txt").write_text("x" * 50)
    assert use(context, "write_file", path="small.txt", content="y") == "Overwrote small.txt: 1 characters."
    assert use(context, "write_file", path="new.txt", content="y" * 99) == "Wrote new.txt: 99 characters."


def test_write_file_asks_says_whether_it_overwrites_and_writes(make_context: MakeContext, workspace: Path) -> None:
    context = make_context()
    questions = asked_once(context)
    assert use(context, "write_file", path="a/b.txt", content="one\n") == "Wrote a/b.txt: 4 characters."
    assert use(context, "write_file", path="a/b.txt", content="two") == "Overwrote a/b.txt: 3 characters."
    assert questions == [
        "Allow write: write the new file a/b.txt, 4 characters?",
        "Allow write: overwrite a/b.txt with 3 characters?",
    ]
    assert (workspace / "a/b.txt").read_text() == "two"


def test_nothing_is_written_without_consent(make_context: MakeContext, poem: Path) -> None:
    before = poem.read_text()
    for name, arguments in (
        ("write_file", {"path": "new.txt", "content": "x"}),
        ("write_file", {"path": "poem.txt", "content": "x"}),
        ("edit_file", {"path": "poem.txt", "old": "line 3", "new": "x"}),
    ):
        with pytest.raises(ConsentDenied) as caught:
            use(make_context(allowed={"shell"}), name, **arguments)
        assert "--yes" in caught.value.hint
    assert poem.read_text() == before
    assert [path.name for path in poem.parent.iterdir()] == ["poem.txt"]


def test_a_place_that_may_not_be_written_is_not_even_asked_about(make_context: MakeContext) -> None:
    context = make_context()
    questions = asked_once(context)
    for path in ("../x", ".git/hooks/pre-commit"):
        with pytest.raises(ToolError):
            use(context, "write_file", path=path, content="x")
        with pytest.raises(ToolError):
            use(context, "edit_file", path=path, old="x", new="y")
    assert questions == []


def test_edit_file_replaces_the_one_place(make_context: MakeContext, poem: Path) -> None:
    answer = use(make_context(yes=True), "edit_file", path="poem.txt", old="line 3\nline 4", new="3\n\n4")
    assert answer == "Edited poem.txt at line 3."
    assert poem.read_text().splitlines()[1:6] == ["line 2", "3", "", "4", "line 5"]


def test_edit_file_asks_with_both_pieces(make_context: MakeContext, poem: Path) -> None:
    context = make_context()
    questions = asked_once(context)
    use(context, "edit_file", path="poem.txt", old="line 7\n", new='"seven"\n' + "x" * 300)
    assert questions[0].startswith('Allow write: edit poem.txt at line 7: "line 7\\n" becomes "\\"seven\\"\\nxxx')
    assert len(questions[0]) < 320


def test_edit_file_refuses_a_piece_that_is_not_there_and_names_the_nearest(
    make_context: MakeContext, poem: Path
) -> None:
    with pytest.raises(ToolError, match="does not contain that text") as caught:
        use(make_context(yes=True), "edit_file", path="poem.txt", old="  lin 7", new="x")
    assert caught.value.hint == "The nearest is line 7: line 7"
    with pytest.raises(ToolError) as caught:
        use(make_context(yes=True), "edit_file", path="poem.txt", old="something else altogether", new="x")
    assert caught.value.hint == "Read it with read_file."


def test_edit_file_refuses_a_piece_that_is_there_often_and_names_the_lines(
    make_context: MakeContext, poem: Path
) -> None:
    with pytest.raises(ToolError, match=r"2 times, at the lines 1, 10$"):
        use(make_context(yes=True), "edit_file", path="poem.txt", old="line 1", new="x")
    poem.write_text("x\n" * 30)
    with pytest.raises(ToolError, match=r"30 times, at the lines 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, \.\.\."):
        use(make_context(yes=True), "edit_file", path="poem.txt", old="x", new="y")


@pytest.mark.parametrize(("old", "new"), [("", "x"), ("line 3", "line 3")])
def test_edit_file_refuses_what_changes_nothing(make_context: MakeContext, poem: Path, old: str, new: str) -> None:
    with pytest.raises(ToolError, match="nothing to edit"):
        use(make_context(yes=True), "edit_file", path="poem.txt", old=old, new=new)


def test_edit_file_keeps_a_files_line_ends(make_context: MakeContext, workspace: Path) -> None:
    (workspace / "dos.txt").write_bytes(b"one\r\ntwo\r\nthree\r\n")
    use(make_context(yes=True), "edit_file", path="dos.txt", old="one\ntwo", new="1\n2")
    assert (workspace / "dos.txt").read_bytes() == b"1\r\n2\r\nthree\r\n"


def test_an_edit_is_made_on_what_the_file_holds_when_the_person_has_answered(
    make_context: MakeContext, poem: Path
) -> None:
    context = make_context()
    meanwhile = "written meanwhile\n" + poem.read_text()

    async def ask(question: str) -> bool:
        await asyncio.to_thread(poem.write_text, meanwhile)
        return True

    context.consent.ask = ask
    assert use(context, "edit_file", path="poem.txt", old="line 3", new="three") == "Edited poem.txt at line 4."
    assert poem.read_text().startswith("written meanwhile\nline 1\nline 2\nthree\n")


@pytest.fixture
def tree(workspace: Path) -> Path:
    for name in ("a.py", "b.md", "src/c.py", "src/deep/d.py", "node_modules/e.py", "caf\udce9.txt"):
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {path.suffix}\nfind me {path.suffix}\n")
    return workspace


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({}, ["a.py", "b.md", "caf\ufffd.txt", "src/c.py", "src/deep/d.py"]),
        ({"pattern": "*.py"}, ["a.py", "src/c.py", "src/deep/d.py"]),
        ({"pattern": "**/*.py"}, ["a.py", "src/c.py", "src/deep/d.py"]),
        ({"pattern": "src/*.py"}, ["src/c.py", "src/deep/d.py"]),
        ({"path": "src"}, ["src/c.py", "src/deep/d.py"]),
        ({"path": "src/", "pattern": "deep/*"}, ["src/deep/d.py"]),
        ({"path": "src/c.py"}, ["src/c.py"]),
    ],
)
def test_list_files_lists_what_fits(
    make_context: MakeContext, tree: Path, arguments: dict[str, str], found: list[str]
) -> None:
    assert use(make_context(), "list_files", **arguments).split("\n") == found


def test_list_files_says_when_nothing_fits(make_context: MakeContext, tree: Path) -> None:
    assert use(make_context(), "list_files", pattern="*.rs") == "No files in . fit *.rs."
    with pytest.raises(ToolError, match="outside the workspace"):
        use(make_context(), "list_files", path="..")


def test_list_files_looks_at_a_limited_number(
    make_context: MakeContext, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILES", 2)
    answer = use(make_context(), "list_files")
    assert answer.split("\n") == ["a.py", "b.md", "[only the first 2 files were looked at]"]
    assert "[only the first 2 files were looked at]" in use(make_context(), "search_files", pattern="find")


@pytest.mark.parametrize("regex", [False, True])
def test_search_files_gives_path_line_and_text(make_context: MakeContext, tree: Path, regex: bool) -> None:
    answer = use(make_context(), "search_files", pattern="find me", glob="*.py", regex=regex)
    assert answer.split("\n") == [
        "a.py:2: find me .py",
        "src/c.py:2: find me .py",
        "src/deep/d.py:2: find me .py",
    ]
    assert use(make_context(), "search_files", pattern="find", path="b.md", regex=regex) == "b.md:2: find me .md"


def test_a_pattern_is_literal_unless_it_is_said_to_be_a_regex(make_context: MakeContext, tree: Path) -> None:
    context = make_context()
    assert use(context, "search_files", pattern="me .py$").startswith("Nothing in . (5 files that fit *)")
    assert use(context, "search_files", pattern=r"^f\w+ me \.md$", regex=True) == "b.md:2: find me .md"
    with pytest.raises(ToolError, match="the pattern is empty"):
        use(context, "search_files", pattern="")


@pytest.mark.parametrize("pattern", ["(", "a{999999999999}", "(?P<x>a)(?P<x>b)"])
def test_a_broken_regex_is_explained(make_context: MakeContext, tree: Path, pattern: str) -> None:
    with pytest.raises(ToolError, match=r"is not a valid regular expression: [a-z]"):
        use(make_context(), "search_files", pattern=pattern, regex=True)


def test_a_regex_that_never_ends_is_ended(
    make_context: MakeContext, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SEARCH_SECONDS", 0.5)
    (workspace / "a.txt").write_text("a" * 50 + "!")
    started = time.monotonic()
    with pytest.raises(ToolError, match="took more than"):
        use(make_context(), "search_files", pattern="(a+)+$", regex=True)
    assert time.monotonic() - started < 3


def test_cancelling_a_search_ends_its_process(make_context: MakeContext, workspace: Path) -> None:
    (workspace / "a.txt").write_text("a" * 50 + "!")

    async def cancelled() -> float:
        searching = asyncio.create_task(
            call(TOOLS["search_files"], make_context(), {"pattern": "(a+)+$", "regex": True})
        )
        await asyncio.sleep(0.3)
        started = time.monotonic()
        searching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await searching
        return time.monotonic() - started

    assert asyncio.run(cancelled()) < 0.5


def test_search_files_says_what_it_left_out(
    make_context: MakeContext, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "binary.bin").write_bytes(b"find\0")
    answer = use(make_context(), "search_files", pattern="find", glob="*.[bm]*")
    assert answer.split("\n") == [
        "b.md:2: find me .md",
        "[1 files were not searched: binary, not UTF-8, or over 2,000,000 bytes]",
    ]
    monkeypatch.setattr(files, "MATCHES", 2)
    for regex in (False, True):
        answer = use(make_context(), "search_files", pattern="find", glob="*.py", regex=regex)
        assert answer.split("\n")[2:] == ["[only the first 2 lines are given]"]
    monkeypatch.setattr(files, "SEARCH_BYTES", 30)
    answer = use(make_context(), "search_files", pattern="find", glob="*.py")
    assert answer.split("\n")[1:] == ["[the search ended before src/c.py, after 30 characters]"]


def test_search_files_does_not_follow_links(make_context: MakeContext, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("find me")
    (workspace / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert use(make_context(), "search_files", pattern="find").startswith("Nothing in . (0 files")


def test_a_long_search_goes_into_a_file(make_context: MakeContext, workspace: Path) -> None:
    (workspace / "a.txt").write_text("find\n" * 500)
    context = make_context(output_limit=300)
    answer = use(context, "search_files", pattern="find")
    (path,) = context.outputs.iterdir()
    assert f"read_file reads the whole output in {path}" in answer
    assert len(path.read_text().splitlines()) == 500


def test_the_files_are_not_modules_of_the_search_process(make_context: MakeContext, tree: Path) -> None:
    """A json.py of the workspace would take over a child that imports from where it stands."""
    (tree / "json.py").write_text("raise SystemExit('taken over')")
    answer = use(make_context(), "search_files", pattern="find me .md", regex=True)
    assert answer == "b.md:2: find me .md"
    assert json.dumps(1) == "1"

"""What `/annotate ...` means: sources, `save to`, formats."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from agent.consent import Consent
from agent.errors import InputError, OutputError, UsageError
from agent.messages import Route
from agent.session import Session
from agent.settings import Settings
from skills.annotate.best_of import Best
from skills.annotate.request import Request, parse
from skills.registry import Job
from tools.workspace import Workspace

ABSTRACT = (
    "We study how people save time. The study has two parts and forty readers, and it ends well for most of them."
)


def ask(workspace: Path, task: str, stdin: str | None = None, **options: str) -> Request:
    unused = cast(Any, None)
    place = Workspace(workspace)
    session = Session(
        Settings(),
        unused,
        lambda event: None,
        Consent(),
        place,
        {},
        unused,
        {},
        workspace,
        stdin=stdin,
        options=options,
    )
    return parse(Job(session, task, f"/annotate {task}", Route("local", "flag", "you gave --model"), ()))


def kinds(request: Request) -> list[tuple[str, str]]:
    return [(source.kind, Path(source.value).name) for source in request.sources]


def touch(workspace: Path, *names: str) -> None:
    for name in names:
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text("x")


def test_one_file_is_read_and_the_result_is_markdown_unless_said_otherwise(workspace: Path) -> None:
    touch(workspace, "paper.txt")
    request = ask(workspace, "paper.txt")
    assert kinds(request) == [("file", "paper.txt")]
    assert (request.save_to, request.format) == (None, "md")
    assert (request.framework, request.grounding) == ("eight-moves", "numbers")
    assert not request.overwrite
    assert not request.explain


@pytest.mark.parametrize(
    "task", ["b.tex a.txt folder", "b.tex, a.txt, and folder", "annotate the papers b.tex a.txt folder"]
)
def test_several_sources_keep_their_order_and_filler_words_are_ignored(workspace: Path, task: str) -> None:
    touch(workspace, "a.txt", "b.tex", "folder/c.md")
    assert kinds(ask(workspace, task)) == [("file", "b.tex"), ("file", "a.txt"), ("folder", "folder")]


@pytest.mark.parametrize("task", ["my long name.txt", '"my long name.txt"', "'my long name.txt'"])
def test_a_name_with_spaces_may_be_quoted_and_need_not_be_when_it_stands_alone(workspace: Path, task: str) -> None:
    touch(workspace, "my long name.txt")
    assert kinds(ask(workspace, task)) == [("file", "my long name.txt")]


def test_a_path_outside_the_workspace_is_readable_because_the_user_typed_it(workspace: Path, tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere.txt")
    assert ask(workspace, str(tmp_path / "elsewhere.txt")).sources[0].value == str(tmp_path / "elsewhere.txt")


def test_a_name_is_also_looked_for_where_the_command_was_typed(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "here.txt")
    monkeypatch.chdir(tmp_path)
    assert ask(workspace, "here.txt").sources[0].value == str(tmp_path / "here.txt")


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("2402.11651", "2402.11651"),
        ("2402.11651v2", "2402.11651v2"),
        ("arXiv:2402.11651v2", "2402.11651v2"),
        ("https://arxiv.org/abs/2402.11651", "2402.11651"),
        ("http://www.arxiv.org/pdf/2402.11651v1.pdf", "2402.11651v1"),
        ("arxiv.org/abs/hep-th/9901001", "hep-th/9901001"),
        ("hep-th/9901001v3", "hep-th/9901001v3"),
        ("math.GT/0309136", "math.GT/0309136"),
    ],
)
def test_every_spelling_of_an_arxiv_id_is_known(workspace: Path, typed: str, number: str) -> None:
    assert [(s.kind, s.value) for s in ask(workspace, typed).sources] == [("arxiv", number)]


@pytest.mark.parametrize("text", ["12.5", "2402.1165112", "v2", "1234567"])
def test_other_numbers_are_no_arxiv_ids(workspace: Path, text: str) -> None:
    assert [source.kind for source in ask(workspace, text).sources] == ["topic"]


def test_a_dash_is_standard_input_and_piped_words_are_never_commands(workspace: Path) -> None:
    request = ask(workspace, "-", stdin="/review 2402.11651 save to stolen.md")
    assert [(s.kind, s.value) for s in request.sources] == [("stdin", "")]
    assert request.save_to is None


def test_piped_text_alone_is_enough(workspace: Path) -> None:
    assert kinds(ask(workspace, "", stdin="An abstract.")) == [("stdin", "")]


def test_several_sentences_are_an_abstract_and_a_few_words_are_a_topic(workspace: Path) -> None:
    assert [source.kind for source in ask(workspace, ABSTRACT).sources] == ["text"]
    assert [source.kind for source in ask(workspace, "word " * 40).sources] == ["text"]
    topic = ask(workspace, "Survey of RAG techniques save to output.md")
    assert [(s.kind, s.value) for s in topic.sources] == [("topic", "Survey of RAG techniques")]
    assert topic.save_to == workspace / "output.md"


@pytest.mark.parametrize("topic", ["TCP/IP congestion control", "data augmentation", "papers about retrieval"])
def test_a_topic_may_hold_a_slash_or_the_name_of_a_folder(workspace: Path, topic: str) -> None:
    touch(workspace, "data/x.txt", "papers/y.txt")
    assert [source.kind for source in ask(workspace, topic).sources] == ["topic"]


@pytest.mark.parametrize(
    "typed", ["papr.txt", "./papr.txt", "paper.txt papr.txt", "annotate the file papr.txt quickly"]
)
def test_a_missing_file_is_named_with_the_nearest_that_exists(workspace: Path, typed: str) -> None:
    touch(workspace, "paper.txt")
    with pytest.raises(InputError, match=r"no file (\./)?papr\.txt") as caught:
        ask(workspace, typed)
    assert "paper.txt" in caught.value.hint


def test_a_single_word_that_is_nearly_a_file_is_no_topic(workspace: Path) -> None:
    touch(workspace, "paper.txt")
    with pytest.raises(InputError, match=r"no file paper\.text") as caught:
        ask(workspace, "paper.text")
    assert caught.value.hint == "Did you mean 'paper.txt'?"
    assert [source.kind for source in ask(workspace, "node.js").sources] == ["topic"]


def test_a_missing_file_is_not_answered_with_a_file_that_only_ends_alike(workspace: Path) -> None:
    touch(workspace, "paper.txt")
    with pytest.raises(InputError, match=r"no file nothing\.txt") as caught:
        ask(workspace, "nothing.txt")
    assert caught.value.hint == f"I looked in {workspace}."


def test_a_missing_folder_is_said_so(workspace: Path) -> None:
    with pytest.raises(InputError, match=r"no file missing/x\.txt: the folder .*missing does not exist"):
        ask(workspace, "missing/x.txt")


def test_a_word_beside_files_is_refused_rather_than_guessed(workspace: Path) -> None:
    touch(workspace, "paper.txt")
    with pytest.raises(UsageError, match="'briefly' is neither a file nor an arXiv id"):
        ask(workspace, "paper.txt briefly")


def test_nothing_to_annotate_shows_examples(workspace: Path) -> None:
    with pytest.raises(UsageError, match="nothing to annotate") as caught:
        ask(workspace, "")
    assert "/annotate paper.pdf" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "form"), [("out.md", "md"), ("out.json", "json"), ("OUT.JSONL", "jsonl"), ("out.csv", "csv")]
)
def test_the_name_after_save_to_chooses_the_format(workspace: Path, name: str, form: str) -> None:
    touch(workspace, "paper.txt")
    request = ask(workspace, f"paper.txt Save to {name}")
    assert (request.save_to, request.format) == (workspace / name, form)


def test_a_quoted_output_name_may_hold_spaces_and_an_unquoted_one_is_explained(workspace: Path) -> None:
    touch(workspace, "paper.txt")
    assert ask(workspace, 'paper.txt save to "my notes.json"').save_to == workspace / "my notes.json"
    with pytest.raises(UsageError, match=r"has spaces: my notes\.json") as caught:
        ask(workspace, "paper.txt save to my notes.json")
    assert caught.value.hint == 'Quote it: save to "my notes.json".'


def test_an_abstract_that_ends_in_save_to_keeps_its_words(workspace: Path) -> None:
    text = "We ask what people do. " * 10 + "It shows how much households save to retire."
    request = ask(workspace, text)
    assert request.save_to is None
    assert request.sources[0].value.endswith("save to retire.")


def test_flags_choose_format_framework_grounding_and_column(workspace: Path) -> None:
    touch(workspace, "rows.csv")
    request = ask(
        workspace,
        "rows.csv",
        format="JSONL",
        framework="mine",
        grounding="words",
        column="text",
        overwrite="True",
        explain="1",
    )
    assert (request.format, request.framework, request.grounding, request.column) == ("jsonl", "mine", "words", "text")
    assert request.overwrite
    assert request.explain


def test_a_format_flag_serves_a_name_without_a_known_suffix(workspace: Path) -> None:
    assert ask(workspace, "some topic save to out.txt", format="csv").format == "csv"


@pytest.mark.parametrize(
    ("task", "options", "sentence"),
    [
        ("x topic save to out.docx", {}, "does not say which format"),
        ("x topic", {"format": "xml"}, "there is no format 'xml'"),
        ("x topic save to out.csv", {"format": "json"}, "contradict each other"),
        ("x topic save to out.csv", {"explain": "true"}, "--explain does not fit into CSV"),
        ("x topic save to ../out.md", {}, "outside the workspace"),
        ("x topic save to /etc/out.md", {}, "outside the workspace"),
        ("x topic save to .git/hooks/x.md", {}, "only a person may change"),
    ],
)
def test_bad_formats_and_places_are_refused(workspace: Path, task: str, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        ask(workspace, task, **options)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_a_missing_folder_to_save_in_is_an_output_error(workspace: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        ask(workspace, "x topic save to missing/out.md")
    (workspace / "folder.md").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        ask(workspace, "x topic save to folder.md")


def test_an_input_is_never_the_output(workspace: Path) -> None:
    touch(workspace, "a.md")
    with pytest.raises(UsageError, match="both read and saved to"):
        ask(workspace, "a.md save to a.md", overwrite="1")


def test_a_link_out_of_the_workspace_is_not_written_through(workspace: Path, tmp_path: Path) -> None:
    (workspace / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError, match="link"):
        ask(workspace, "x topic save to link/out.md")


@pytest.mark.parametrize(
    ("typed", "best"),
    [("8", Best(8)), ("4:likelihood", Best(4, "likelihood")), ("2:agreement", Best(2)), ("", Best()), ("1", Best())],
)
def test_best_of_says_how_many_replies_and_by_what_the_best_is_chosen(workspace: Path, typed: str, best: Best) -> None:
    assert ask(workspace, ABSTRACT, best_of=typed).best == best


@pytest.mark.parametrize("typed", ["0", "17", "many", "8:luck", ":likelihood", "-2", "²"])
def test_a_best_of_that_is_none_says_what_is_allowed(workspace: Path, typed: str) -> None:
    with pytest.raises(UsageError, match="is not understood") as caught:
        ask(workspace, ABSTRACT, best_of=typed)
    assert caught.value.hint == "Give N from 1 to 16, N:agreement or N:likelihood."

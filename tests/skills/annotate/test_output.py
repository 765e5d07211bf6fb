"""What is written, and the work in progress beside it."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agent.errors import OutputError
from skills.annotate import framework as frameworks
from skills.annotate.output import Answer, Partial, key, render
from skills.annotate.papers import OUR_MARK, Paper

FRAMEWORK = frameworks.load("eight-moves")
PAPERS = [Paper("a.txt", 'Trees, "Streets"', "Trees cool by 3.4 degrees."), Paper("b.jsonl:2", "", "Stones.", "b2")]


def answer(text: str = "Trees cool streets by 3.4 degrees.", valid: bool = True) -> Answer:
    said = () if valid else ("claim has 2 words",)
    return Answer(
        {move: text if move == "claim" else "Not stated." for move in FRAMEWORK.keys}, "local@1", valid, said, "r1"
    )


ROWS = [(PAPERS[0], answer()), (PAPERS[1], answer("Stones.", valid=False))]


def test_json_of_one_paper_is_an_object_with_the_moves_in_order() -> None:
    found = json.loads(render(ROWS[:1], "json", FRAMEWORK))
    assert list(found) == ["source", "title", "annotation", "model", "valid", "validators"]
    assert list(found["annotation"]) == [
        "claim",
        "evidence",
        "method",
        "scope",
        "limitation",
        "comparison",
        "implication",
        "novelty",
    ]
    assert (found["model"], found["valid"], found["validators"]) == ("local@1", True, [])


def test_json_of_several_papers_is_a_list_in_their_order() -> None:
    found = json.loads(render(ROWS, "json", FRAMEWORK))
    assert [entry["source"] for entry in found] == ["a.txt", "b.jsonl:2"]
    assert (found[1]["id"], found[1]["valid"], found[1]["validators"]) == ("b2", False, ["claim has 2 words"])


def test_a_reply_that_gave_no_move_at_all_shows_no_empty_ones() -> None:
    nothing = Answer(dict.fromkeys(FRAMEWORK.keys, ""), "local@1", False, ("the reply holds no JSON object",))
    shown = render([(PAPERS[0], nothing)], "md", FRAMEWORK)
    assert "**" not in shown
    assert "*Validators: the reply holds no JSON object. Model: local@1.*" in shown


def test_jsonl_is_one_object_a_line_with_accents_as_they_are() -> None:
    lines = render([(Paper("a", "Caf\xe9\u2028s", "A."), answer()), ROWS[1]], "jsonl", FRAMEWORK).split("\n")
    assert lines.pop() == ""
    assert [json.loads(line)["source"] for line in lines] == ["a", "b.jsonl:2"]
    assert "Caf\xe9" in lines[0]


def test_csv_has_a_column_a_move_and_an_id_only_where_there_is_one() -> None:
    rows = list(csv.reader(io.StringIO(render(ROWS, "csv", FRAMEWORK))))
    assert rows[0] == ["source", "id", "title", *FRAMEWORK.keys, "model", "valid"]
    assert rows[1][:3] == ["a.txt", "", 'Trees, "Streets"']
    assert rows[2][-2:] == ["local@1", "false"]
    assert render(ROWS[:1], "csv", FRAMEWORK).startswith("source,title,claim,")


def test_markdown_reads_well_and_is_marked_as_ours() -> None:
    text = render(ROWS, "md", FRAMEWORK)
    assert text.startswith('# Trees, "Streets"\n\nSource: a.txt\n\n**Claim.** Trees cool streets by 3.4 degrees.\n')
    assert "# b.jsonl:2\n" in text
    assert "*Validators: all passed. Model: local@1.*" in text
    assert "*Validators: claim has 2 words. Model: local@1.*" in text
    assert text.endswith(f"{OUR_MARK}\n")


def test_explained_results_show_each_moves_support() -> None:
    assert "## Support" in render(ROWS[:1], "md", FRAMEWORK, explained=True)
    (support,) = json.loads(render(ROWS[:1], "json", FRAMEWORK, explained=True))["support"]
    assert support["move"] == "claim"
    assert support["sentences"] == ["Trees cool by 3.4 degrees."]


def test_a_key_depends_on_content_framework_and_model() -> None:
    keys = {
        key("a", "f 1", "m"),
        key("b", "f 1", "m"),
        key("a", "f 2", "m"),
        key("a", "f 1", "n"),
        key("a", "f 1m", ""),
    }
    assert len(keys) == 5
    assert key("a", "f 1", "m") == key("a", "f 1", "m")


def test_a_finished_result_takes_the_name_and_the_partial_goes(workspace: Path) -> None:
    out = workspace / "out.md"
    with Partial(out, ["k1"]) as partial:
        partial.add("k1", answer())
        assert partial.path.name == "out.md.partial"
        assert not out.exists()
        partial.finish("text \xe9\n")
    assert os.listdir(workspace) == ["out.md"]
    assert out.read_text("utf-8") == "text \xe9\n"
    umask = os.umask(0)
    os.umask(umask)
    assert out.stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_was_finished_is_taken_up_again(workspace: Path) -> None:
    out = workspace / "out.md"
    partial = Partial(out, ["k1", "k2"])
    with partial:
        partial.add("k1", answer())
    with Partial(out, ["k1", "k2"]) as partial:
        assert partial.done == {"k1": answer()}
        partial.add("k2", answer("Stones."))
    with Partial(out, ["k1", "k2", "k3"]) as partial:
        assert list(partial.done) == ["k1", "k2"]
        assert partial.done["k2"] == answer("Stones.")


def test_a_torn_last_line_is_dropped_and_written_over(workspace: Path) -> None:
    out = workspace / "out.md"
    with Partial(out, ["k1", "k2"]) as partial:
        partial.add("k1", answer())
        path = partial.path
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"key": "k2", "annot')
    with Partial(out, ["k1", "k2"]) as partial:
        assert list(partial.done) == ["k1"]
        assert path.read_bytes() == whole
        partial.add("k2", answer())
    with Partial(out, ["k1", "k2"]) as partial:
        assert list(partial.done) == ["k1", "k2"]


def test_a_header_that_was_torn_begins_anew(workspace: Path) -> None:
    (workspace / "out.md.partial").write_bytes(b'{"parti')
    with Partial(workspace / "out.md", ["k1"]) as partial:
        assert partial.done == {}
        partial.add("k1", answer())
    with Partial(workspace / "out.md", ["k1"]) as partial:
        assert list(partial.done) == ["k1"]


def test_a_task_that_finished_nothing_leaves_nothing(workspace: Path) -> None:
    with pytest.raises(ValueError, match="stop"), Partial(workspace / "out.md", ["k1"]):
        raise ValueError("stop")
    assert os.listdir(workspace) == []


def test_an_output_that_exists_is_kept_unless_overwritten(workspace: Path) -> None:
    out = workspace / "out.md"
    out.write_text("mine")
    with pytest.raises(OutputError, match="exists already and is kept") as caught, Partial(out, ["k1"]):
        pass
    assert "--overwrite" in caught.value.hint
    assert os.listdir(workspace) == ["out.md"]
    with Partial(out, ["k1"], overwrite=True) as partial:
        partial.add("k1", answer())
        assert out.read_text() == "mine"
        partial.finish("new")
    assert out.read_text() == "new"


def test_work_that_was_allowed_to_overwrite_goes_on_without_being_told_again(workspace: Path) -> None:
    out = workspace / "out.md"
    out.write_text("mine")
    with Partial(out, ["k1"], overwrite=True) as partial:
        partial.add("k1", answer())
    with Partial(out, ["k1"]) as partial:
        partial.finish("new")
    assert out.read_text() == "new"


def test_an_output_that_appeared_meanwhile_is_kept(workspace: Path) -> None:
    out = workspace / "out.md"
    with Partial(out, ["k1"]) as partial:
        partial.add("k1", answer())
        out.write_text("somebody's")
        with pytest.raises(OutputError, match="exists already"):
            partial.finish("new")
    assert out.read_text() == "somebody's"
    with pytest.raises(OutputError, match="exists already"), Partial(out, ["k1"]):
        pass
    assert sorted(os.listdir(workspace)) == ["out.md", "out.md.partial"]


def test_a_result_with_failures_is_delivered_and_may_be_completed_later(workspace: Path) -> None:
    out = workspace / "out.md"
    with Partial(out, ["k1", "k2"]) as partial:
        partial.add("k1", answer())
        partial.finish("one", keep=True)
    assert sorted(os.listdir(workspace)) == ["out.md", "out.md.partial"]
    with Partial(out, ["k1", "k2"]) as partial:
        assert list(partial.done) == ["k1"]
        partial.add("k2", answer())
        partial.finish("two")
    assert os.listdir(workspace) == ["out.md"]
    assert out.read_text() == "two"


def test_the_partial_of_another_task_is_not_thrown_away(workspace: Path) -> None:
    out = workspace / "out.md"
    with Partial(out, ["k1"]) as partial:
        partial.add("k1", answer())
    with pytest.raises(OutputError, match=r"holds finished papers \(1\) of another task"), Partial(out, ["k9"]):
        pass
    with Partial(out, ["k1"]) as partial:
        assert list(partial.done) == ["k1"]
    with Partial(out, ["k9"], overwrite=True) as partial:
        assert partial.done == {}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"partial": 99, "overwrite": false}\n', "by another version"),
        (b"my own notes\n", "damaged or was not written by this program"),
        (b'{"partial": 1, "overwrite": false}\n{"key": "k1"}\n', "damaged"),
        (b"[]\n", "damaged"),
        (b"\xff\xfe\n", "damaged"),
    ],
)
def test_a_partial_that_is_not_readable_is_left_alone(workspace: Path, content: bytes, sentence: str) -> None:
    path = workspace / "out.md.partial"
    path.write_bytes(content)
    with pytest.raises(OutputError, match=sentence), Partial(workspace / "out.md", ["k1"], overwrite=True):
        pass
    assert path.read_bytes() == content


def test_two_processes_never_write_the_same_output(workspace: Path) -> None:
    out = workspace / "out.md"
    script = (
        "import sys\nfrom pathlib import Path\nfrom skills.annotate.output import Partial\n"
        "with Partial(Path(sys.argv[1]), ['k1']):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    root = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(out)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match="another process is writing"), Partial(out, ["k1"]):
            pass
        os.kill(other.pid, signal.SIGKILL)
    with Partial(out, ["k1"]) as partial:  # the lock of a killed process is gone
        partial.add("k1", answer())
        with open(partial.path, "rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_full_disk_loses_nothing_that_was_finished(workspace: Path) -> None:
    out = workspace / "out.md"
    with Partial(out, ["k1", "k2"]) as partial:
        partial.add("k1", answer())
        size = partial.path.stat().st_size
        with full_after(size + 10), pytest.raises(OutputError, match="cannot be written") as caught:
            partial.add("k2", answer())
        assert "finished papers (1) are kept" in caught.value.hint
        assert partial.path.stat().st_size == size
        with full_after(size), pytest.raises(OutputError, match=r"out\.md cannot be written"):
            partial.finish("x" * (size + 1))
        assert os.listdir(workspace) == ["out.md.partial"]
    with Partial(out, ["k1", "k2"]) as partial:
        assert partial.done == {"k1": answer()}
        partial.finish("small")
    assert out.read_text() == "small"


class full_after:
    """Files of this process cannot grow beyond so many bytes, as on a full disk; root is bound by it too."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *error: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.handler)


def test_a_folder_that_cannot_be_written_is_said_so_before_any_work() -> None:
    with (
        pytest.raises(OutputError, match=r"out\.md\.partial cannot be written") as caught,
        Partial(Path("/proc/self/out.md"), ["k1"]),
    ):
        pass
    assert caught.value.exit_code == 5


def test_a_link_in_the_place_of_the_partial_is_not_followed(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("keep")
    (workspace / "out.md.partial").symlink_to(tmp_path / "victim")
    with pytest.raises(OutputError, match="cannot be written"), Partial(workspace / "out.md", ["k1"]):
        pass
    assert (tmp_path / "victim").read_text() == "keep"


def test_a_partial_that_went_between_opening_and_locking_is_made_anew(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = workspace / "out.md.partial"
    lock, calls = fcntl.flock, []

    def slow(file: int, how: int) -> None:
        if not calls:
            path.unlink()  # another process finished just now
        calls.append(how)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    with Partial(workspace / "out.md", ["k1"]) as partial:
        partial.add("k1", answer())
        assert path.read_bytes().count(b"\n") == 2
    assert len(calls) == 2

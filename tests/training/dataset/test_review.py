"""The review: real keys in the real command, decisions that outlive it, and a build that honours them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent import cli
from agent.errors import InputError, UsageError
from agent.settings import Settings
from tests.program import AGENT, Terminal, run
from tests.training.dataset.material import gold_file, moves, tool_run
from training.dataset import folder, review
from training.dataset.build import Inputs, build
from training.dataset.selection import Rules
from training.dataset.split import Shares
from training.rows import Row, read_rows

Review = Callable[..., str]
NO_MODEL = Settings.model_validate({"models": {"local_path": "/no/such/model.gguf"}})
ALL_TRAIN = Rules(Shares(0, 0), unverified=True)
FIXED = "It applies to small models on several pairs of languages, as a person says."


def rebuilt(folder: Path, *numbers: int) -> dict[str, Any]:
    """A dataset of an agent's output on these abstracts, nobody's word for it; made again where it stands."""
    agent = gold_file(folder.parent / "agent.jsonl", numbers)
    inputs = Inputs(agent=[agent], rules=ALL_TRAIN)
    return asyncio.run(build(inputs, [], folder, NO_MODEL))


@pytest.fixture
def made(workspace: Path) -> Path:
    rebuilt(workspace / "set", *range(10))
    return workspace / "set"


def decided(made: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (made / "review.jsonl").read_text().splitlines()]


@pytest.fixture
def reviewed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Review:
    """Runs the review on half of a dataset with these keys piped in; what it printed."""

    def review_with(made: Path, keys: str, editor: str = "true") -> str:
        monkeypatch.setenv("VISUAL", editor)
        options = cli.parse(["train", "dataset", "review", str(made), "--share", "0.5"])
        reading, writing = os.pipe()
        os.write(writing, keys.encode())
        os.close(writing)
        with os.fdopen(reading) as piped, monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", piped)
            assert asyncio.run(options.run(options)) == 0
        return capsys.readouterr().out

    return review_with


def an_editor(folder: Path) -> str:
    """An editor that writes a scope into the annotation."""
    path = folder / "editor.sh"
    path.write_text(f'sed -i \'s/"scope": .*/"scope": "{FIXED}",/\' "$1"\n')
    return f"sh {path}"


def test_keys_decide_and_every_decision_is_kept(made: Path) -> None:
    command = ("train", "dataset", "review", str(made), "--share", "0.5")
    done = run(*command, cwd=made.parent, stdin=b"ynyq")
    assert done.returncode == 0, done.stderr
    assert "3 of 5 reviewed: 2 yes, 1 no, 0 edit" in done.stdout
    assert [entry["decision"] for entry in decided(made)] == ["yes", "no", "yes"]
    assert "1 of 5" in done.stdout
    assert "unfiltered, train, file agent.jsonl" in done.stdout


def test_the_end_of_the_input_leaves_and_the_next_review_goes_on(made: Path, reviewed: Review) -> None:
    reviewed(made, "y\ny\n")
    first = [entry["id"] for entry in decided(made)]
    shown = reviewed(made, "n n n n n")
    assert "5 of 5 reviewed: 2 yes, 3 no, 0 edit" in shown
    ids = [entry["id"] for entry in decided(made)]
    assert ids[:2] == first
    assert len(set(ids)) == 5


def test_a_fix_is_written_in_the_editor(made: Path, tmp_path: Path, reviewed: Review) -> None:
    shown = reviewed(made, "eq", editor=an_editor(tmp_path))
    assert "1 of 5 reviewed: 0 yes, 0 no, 1 edit" in shown
    assert json.loads(decided(made)[0]["completion"])["scope"] == FIXED


def test_a_fix_that_changes_nothing_or_breaks_the_annotation_is_asked_again(
    made: Path, tmp_path: Path, reviewed: Review
) -> None:
    assert "nothing was changed" in reviewed(made, "eq")
    breaking = tmp_path / "breaking.sh"
    breaking.write_text('echo "{}" > "$1"\n')
    shown = reviewed(made, "exyq", editor=f"sh {breaking}")
    assert "the move 'claim' is missing" in shown
    assert "there is no key 'x'" in shown
    assert [entry["decision"] for entry in decided(made)] == ["yes"]


def test_keys_may_come_from_a_file(made: Path) -> None:
    (made.parent / "keys.txt").write_text("yy\n")
    with (made.parent / "keys.txt").open() as keys:
        done = subprocess.run(
            [*AGENT, "train", "dataset", "review", str(made), "--share", "0.5"],
            stdin=keys,
            capture_output=True,
            text=True,
            env=os.environ,
            check=False,
        )
    assert "2 of 5 reviewed" in done.stdout, done.stderr


def test_at_a_terminal_one_key_is_enough_and_the_editor_has_the_screen(made: Path, tmp_path: Path) -> None:
    command = ("train", "dataset", "review", str(made), "--share", "0.2")
    with Terminal(*command, cwd=made.parent, EDITOR=an_editor(tmp_path), VISUAL="") as terminal:
        terminal.expect("q(uit)")
        terminal.type("e")
        terminal.expect("2 of 2")
        terminal.expect("q(uit)")
        terminal.type("n")
        terminal.expect("2 of 2 reviewed: 0 yes, 1 no, 1 edit")
        assert terminal.wait() == 0
    assert [entry["decision"] for entry in decided(made)] == ["edit", "no"]


def test_ctrl_c_leaves_a_review_and_keeps_it(made: Path) -> None:
    with Terminal("train", "dataset", "review", str(made), cwd=made.parent) as terminal:
        terminal.expect("q(uit)")
        terminal.type("y")
        terminal.expect("q(uit)")
        terminal.type("\x03")
        assert terminal.wait() == 130
    assert [entry["decision"] for entry in decided(made)] == ["yes"]


def test_a_build_drops_a_no_takes_a_fix_and_counts_a_yes_as_a_label(
    made: Path, tmp_path: Path, reviewed: Review
) -> None:
    reviewed(made, "yneq", editor=an_editor(tmp_path))
    ids = [entry["id"] for entry in decided(made)]
    manifest = rebuilt(made, *range(10))
    rows = {row.id: row for row in read_rows(made / "train.jsonl")}
    accepted, edited = rows[ids[0]], rows[ids[2]]
    assert (accepted.source, accepted.provenance["review"], accepted.provenance["was"]) == (
        "gold",
        "accepted",
        "unfiltered",
    )
    assert ids[1] not in rows
    assert (edited.source, json.loads(edited.completion)["scope"]) == ("correction", FIXED)
    assert {entry["reason"]: entry["count"] for entry in manifest["dropped"]} == {"a person rejected it in review": 1}
    assert manifest["verified"]["train"] == 2


def test_a_review_outlives_every_build(made: Path, tmp_path: Path, reviewed: Review) -> None:
    reviewed(made, "enq", editor=an_editor(tmp_path))
    before = decided(made)
    for numbers in (range(10), range(12)):
        rebuilt(made, *numbers)
        assert decided(made) == before
        rows = list(read_rows(made / "train.jsonl"))
        assert sum(row.source == "correction" for row in rows) == 1
        assert len(rows) == len(numbers) - 1


def test_a_larger_share_has_the_smaller_ones_rows_and_another_seed_has_others(made: Path) -> None:
    rows = folder.rows_of(made)
    chosen = [[shown.row.id for shown in review.sample(rows, share, 0)] for share in (0.1, 0.15, 0.5)]
    assert [len(ids) for ids in chosen] == [1, 2, 5]
    assert chosen[2][:2] == chosen[1]
    assert {shown.row.id for shown in review.sample(rows, 0.5, 1)} != set(chosen[2])


def test_a_broken_review_file_is_named(made: Path) -> None:
    (made / "review.jsonl").write_text('{"id": "x", "decision": "maybe"}\n')
    with pytest.raises(InputError, match=r"line 1 of .*review\.jsonl is no decision"):
        review.decisions(made / "review.jsonl")


def test_a_conversation_is_shown_with_its_calls_and_edited_as_text(workspace: Path, reviewed: Review) -> None:
    runs = [tool_run(labels={"verdict": "good"})]
    asyncio.run(build(Inputs("agent", rules=ALL_TRAIN), runs, workspace / "set", NO_MODEL))
    row = next(iter(read_rows(workspace / "set" / "train.jsonl")))
    assert review.editable(row) == "Two files."
    assert review.edited(row, " Three. \n") == "Three."
    assert review.doubts(row) == []
    with pytest.raises(InputError, match="the text is empty"):
        review.edited(row, "\n")
    printed = reviewed(workspace / "set", "y")
    for shown in ("I count.", '→ count {"path": "."}', "Two files.", "how many files"):
        assert shown in printed


def test_a_row_that_ends_in_a_call_shows_it_and_has_no_text_to_edit(workspace: Path, reviewed: Review) -> None:
    runs = [tool_run(answer="", labels={"verdict": "good"})]
    asyncio.run(build(Inputs("agent", rules=ALL_TRAIN), runs, workspace / "set", NO_MODEL))
    printed = reviewed(workspace / "set", "ey")
    assert '→ count {"path": "."}' in printed
    assert "this row ends in a call, which is no text to edit. Say yes or no to it." in printed
    assert [decision["decision"] for decision in decided(workspace / "set")] == ["yes"]


def test_the_validators_doubts_are_shown(workspace: Path, reviewed: Review) -> None:
    gold = gold_file(workspace / "gold.jsonl", [0], scope="It does 99 things on quite different models of the world.")
    asyncio.run(build(Inputs(gold=[gold], rules=ALL_TRAIN), [], workspace / "set", NO_MODEL))
    assert "! scope: the number 99 is not in the abstract" in reviewed(workspace / "set", "q")


def test_what_cannot_be_reviewed_is_refused(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("train", "dataset", "review", str(workspace / "set"))
    assert cli.told(cli.parse(command)) == 2
    assert "set is no dataset" in capsys.readouterr().err
    asyncio.run(build(Inputs(), [], workspace / "set", NO_MODEL))
    assert cli.told(cli.parse(command)) == 2
    assert "holds no row to review" in capsys.readouterr().err
    for wrong in ("0", "2", "some"):
        with pytest.raises(UsageError, match="is no share above 0"):
            cli.parse([*command, "--share", wrong])


def test_an_edited_row_keeps_its_id(made: Path) -> None:
    row: Row = folder.rows_of(made)[0][1]
    assert json.loads(review.edited(row, json.dumps(moves(0)))) == moves(0)

"""A dataset folder: what goes in comes out as rows, twice the same bytes, and `datasets` loads all of it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.errors import ConfigError, InputError, OutputError, UsageError
from agent.messages import Json, Trajectory
from agent.settings import Settings
from tests.program import ABSTRACTS, annotation
from tests.training.dataset.material import gold_file, key, paper_run, text, tool_run
from training.dataset import folder
from training.dataset.build import Inputs, build
from training.dataset.selection import Rules
from training.dataset.split import Shares, place
from training.dataset.tokens import BIN, summary
from training.rows import SPLITS, read_rows

NO_MODEL = Settings.model_validate({"models": {"local_path": "/no/such/model.gguf"}})
"""Settings under which tokens are not counted: the tests that do not count them need no llama.cpp."""
HALVES = Rules(Shares(validation=0.3, gate=0.3))


def built(out: Path, runs: Sequence[Trajectory] = (), settings: Settings = NO_MODEL, **inputs: Any) -> Json:
    return asyncio.run(build(Inputs(**inputs), runs, out, settings))


def some_runs() -> list[Trajectory]:
    """Corrected, good, bad, unverified; and a tool's run, whose arguments differ from another's in shape."""
    return [
        paper_run(1, correction=text(1, scope="It applies to maintenance manuals with part numbers.")),
        paper_run(2, labels={"verdict": "good"}),
        paper_run(3, labels={"verdict": "bad"}),
        paper_run(4),
    ]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A dataset of runs and gold, some of it left out."""
    out = tmp_path / "made"
    gold = gold_file(tmp_path / "gold.jsonl", [0, *range(5, 24)])
    dev = gold_file(tmp_path / "dev.jsonl", [5])
    built(out, some_runs(), gold=[gold], exclude=[dev], rules=HALVES)
    return out


def test_the_manifest_has_counts_hashes_documents_and_what_was_left_out(made: Path) -> None:
    manifest = json.loads((made / "manifest.json").read_text())
    whole = b"".join((made / f"{split}.jsonl").read_bytes() for split in SPLITS)
    assert manifest["sha256"] == hashlib.sha256(whole).hexdigest()
    for split in SPLITS:
        rows = list(read_rows(made / f"{split}.jsonl"))
        data = (made / f"{split}.jsonl").read_bytes()
        assert manifest["files"][split] == {"rows": len(rows), "sha256": hashlib.sha256(data).hexdigest()}
        assert manifest["documents"][split] == sorted({row.document for row in rows})
        assert manifest["verified"][split] == sum(row.verified for row in rows)
        if split != "negatives":
            assert all(place(row.document, HALVES.shares) == split for row in rows)
    assert sum(manifest["sources"]["gold"].values()) == 20  # 19 of the file, one a person called good
    assert sum(manifest["sources"]["correction"].values()) == 1
    dropped = {entry["reason"]: (entry["count"], entry["examples"]) for entry in manifest["dropped"]}
    assert dropped["its document is in an evaluation file"] == (1, ["gold.jsonl:2"])
    assert dropped["nobody verified it (unfiltered)"] == (1, ["run paper04"])
    assert dropped["known to be wrong: a person labelled it bad"] == (1, ["run paper03"])
    assert (manifest["runs"], manifest["excluded"], manifest["skill"]) == (4, 1, "annotate")


def test_no_document_stands_in_two_splits(made: Path) -> None:
    documents = json.loads((made / "manifest.json").read_text())["documents"]
    train, validation, gate = (set(documents[split]) for split in ("train", "validation", "gate"))
    assert min(len(train), len(validation), len(gate)) > 0
    assert len(train | validation | gate) == len(train) + len(validation) + len(gate)
    assert set(documents["negatives"]) & (validation | gate) == set()


def test_the_same_inputs_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    gold, dev = tmp_path / "gold.jsonl", tmp_path / "dev.jsonl"
    again = tmp_path / "again"
    built(again, reversed(some_runs()), gold=[gold], exclude=[dev], rules=HALVES)  # type: ignore[arg-type]
    for split in SPLITS:
        for form in ("jsonl", "parquet"):
            assert (made / f"{split}.{form}").read_bytes() == (again / f"{split}.{form}").read_bytes()


def test_a_document_stays_in_its_split_as_the_record_grows(tmp_path: Path) -> None:
    before: dict[str, str] = {}
    for count in (6, 12, 24):
        gold = gold_file(tmp_path / "gold.jsonl", range(count))
        manifest = built(tmp_path / "out", gold=[gold], rules=HALVES)
        now = {document: split for split, found in manifest["documents"].items() for document in found}
        assert before.items() <= now.items()
        before = now


def loaded(out: Path, cache: Path) -> Json:
    """What `datasets` makes of a folder, offline and in a process of its own: the folder, one file, and the tables."""
    program = f"""
import json
from datasets import load_dataset
out, cache = {str(out)!r}, {str(cache)!r}
whole = load_dataset(out, cache_dir=cache)
files = {{name: f"{{out}}/{{name}}.parquet" for name in whole}}  # `datasets` loads no file without a row
tables = load_dataset("parquet", data_files=files, cache_dir=cache)
single = load_dataset("json", data_files=out + "/train.jsonl", cache_dir=cache, split="train")
rows = lambda found: {{name: list(split) for name, split in found.items()}}
print(json.dumps({{"whole": rows(whole), "tables": rows(tables), "single": list(single["id"])}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cache / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Json = json.loads(done.stdout.splitlines()[-1])
    return found


def test_datasets_loads_the_folder_and_each_file(made: Path, tmp_path: Path) -> None:
    expected = {split: [row.model_dump(mode="json") for row in read_rows(made / f"{split}.jsonl")] for split in SPLITS}
    found = loaded(made, tmp_path / "cache")
    assert found["whole"] == expected
    assert found["single"] == [row["id"] for row in expected["train"]]
    for split, rows in expected.items():
        table = found["tables"][split]
        assert [row["id"] for row in table] == [row["id"] for row in rows]
        assert [json.loads(row["provenance"]) for row in table] == [row["provenance"] for row in rows]
        assert [row["messages"][-1]["content"] for row in table] == [row["messages"][-1]["content"] for row in rows]


def test_calls_of_different_shapes_load_as_they_were(tmp_path: Path) -> None:
    shapes: list[Json] = [{"path": "."}, {"path": 3, "deep": [1, {"x": None}]}, {}]
    runs = []
    for number, arguments in enumerate(shapes):
        run = tool_run(task=f"task {number}", labels={"verdict": "good"}, run_id=f"r{number}")
        call = replace(run.messages[2].tool_calls[0], arguments=arguments)
        run.messages[2] = replace(run.messages[2], tool_calls=(call,))
        runs.append(run)
    built(tmp_path / "out", runs, skill="agent", rules=Rules(Shares(0, 0)))
    found = loaded(tmp_path / "out", tmp_path / "cache")
    called = [row["messages"][2]["tool_calls"][0]["arguments"] for row in found["whole"]["train"]]
    flat = [row["messages"][2]["tool_calls"][0]["arguments"] for row in found["tables"]["train"]]
    assert sorted(map(str, called)) == sorted(map(str, shapes))
    assert [json.loads(text) for text in flat] == called
    first = found["tables"]["train"][0]
    assert json.loads(first["tools"][0])["function"]["name"] == "count"
    assert first["messages"][2]["thought"] == "I count."


def test_the_card_tells_counts_sources_and_how_to_rebuild(made: Path) -> None:
    card = (made / "README.md").read_text()
    manifest = json.loads((made / "manifest.json").read_text())
    assert card.startswith("---\n")
    assert manifest["sha256"] in card
    assert f"| train | {manifest['files']['train']['rows']} |" in card
    assert "| correction | a person's correction of a run | 1 |" in card
    assert f"apprentice train dataset build --out {made} --skill annotate --gold" in card
    assert "--validation 0.3 --gate 0.3" in card
    assert "| its document is in an evaluation file | 1 |" in card


@pytest.mark.llama
def test_lengths_are_counted_in_tokens_of_the_embedded_model(tmp_path: Path) -> None:
    manifest = built(tmp_path / "out", [paper_run(0, labels={"verdict": "good"})], Settings())
    lengths = manifest["tokens"]
    assert lengths["tokenizer"].endswith(".gguf")
    assert 200 < lengths["prompt"]["median"] < 400
    assert 60 < lengths["completion"]["total"] < 200
    assert sum(lengths["prompt"]["bins"].values()) == 1
    assert "In tokens of" in (tmp_path / "out" / "README.md").read_text()


def test_a_histogram_counts_rows_in_bars_of_64_tokens() -> None:
    found = summary([10, 63, 64, 200])
    assert BIN == 64
    assert found == {"total": 337, "median": 64, "p90": 200, "max": 200, "bins": {"0": 2, "64": 1, "192": 1}}


def test_without_the_embedded_model_lengths_are_left_out(made: Path) -> None:
    assert json.loads((made / "manifest.json").read_text())["tokens"] == {}
    assert "Not counted" in (made / "README.md").read_text()


def test_an_empty_record_makes_an_empty_dataset(tmp_path: Path) -> None:
    manifest = built(tmp_path / "out")
    assert {split: file["rows"] for split, file in manifest["files"].items()} == dict.fromkeys(SPLITS, 0)
    assert "| nothing | 0 |" in (tmp_path / "out" / "README.md").read_text()


def test_rows_of_another_skill_are_left_out_but_rehearsal_comes_along(tmp_path: Path) -> None:
    built(tmp_path / "tools", [tool_run(labels={"verdict": "good"})], skill="agent", rules=Rules(Shares(0, 0)))
    line = json.loads((tmp_path / "tools" / "train.jsonl").read_text())
    rehearsal = {**line, "id": "r", "skill": "chat", "source": "rehearsal", "document": "0" * 16}
    (tmp_path / "rows.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(rehearsal) + "\n")
    manifest = built(tmp_path / "out", rows=[tmp_path / "rows.jsonl"], rules=Rules(Shares(0, 0)))
    assert manifest["sources"] == {"rehearsal": {"train": 1}}
    assert manifest["dropped"][0]["reason"] == "it teaches another skill than annotate"


def test_the_gate_is_written_as_a_suite_that_evals_reads(made: Path) -> None:
    from evals.annotate import load_cases

    found = load_cases(made / "cases.jsonl")
    rows = {row.id: row for row in read_rows(made / "gate.jsonl")}
    assert {case.id for case in found} == set(rows)
    for case in found:
        assert case.abstract == rows[case.id].messages[1]["content"]
        assert case.gold == json.loads(rows[case.id].completion)
        assert case.document == rows[case.id].document


# The folder


def test_a_dataset_that_a_killed_build_had_set_aside_is_taken_up_with_its_review(made: Path) -> None:
    (made / "review.jsonl").write_text('{"id": "x", "decision": "yes"}\n')
    made.rename(made.with_name(".made.0abc.before"))
    built(made)
    assert (made / "review.jsonl").read_text() == '{"id": "x", "decision": "yes"}\n'


def test_a_folder_that_is_no_dataset_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is there and is no dataset"):
        built(tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_a_build_that_fails_leaves_the_older_dataset_whole(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in made.iterdir()}
    neighbours = set(made.parent.iterdir())
    for breaks in ("rename", "mkdir"):
        with monkeypatch.context() as patch:
            _refuse_after(patch, breaks)
            with pytest.raises(OutputError, match="cannot be written"):
                built(made)
        assert {path.name: path.read_bytes() for path in made.iterdir()} == before
        assert set(made.parent.iterdir()) == neighbours


def _refuse_after(patch: pytest.MonkeyPatch, what: str) -> None:
    """Let the second rename, or the first folder, fail as on a full disk."""
    rename: Callable[..., None] = os.rename
    calls: list[int] = []

    def refusing(*arguments: Any, **more: Any) -> None:
        calls.append(1)
        if what == "mkdir" or len(calls) == 2:
            raise OSError(28, "No space left on device")
        rename(*arguments, **more)

    patch.setattr(Path if what == "mkdir" else os, what, refusing)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    gold = gold_file(tmp_path / "gold.jsonl", range(24))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))
    try:
        with pytest.raises(OutputError, match="cannot be written"):
            built(tmp_path / "out", gold=[gold])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert [path.name for path in tmp_path.iterdir()] == ["gold.jsonl"]


def test_a_file_that_was_changed_by_hand_is_noticed(made: Path) -> None:
    with (made / "gate.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match=r"gate\.jsonl is not what the manifest says"):
        folder.read_manifest(made)


@pytest.mark.parametrize("content", [None, "[]", "nonsense"])
def test_what_is_no_dataset_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError):
        folder.read_manifest(tmp_path)


def test_without_pyarrow_the_person_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError) as raised:
        built(tmp_path / "out")
    assert raised.value.hint == "Run scripts/setup train."
    assert list(tmp_path.iterdir()) == []


def test_the_material_of_these_tests_is_valid() -> None:
    assert len({key(number) for number in range(24)}) == len(ABSTRACTS)
    assert json.loads(annotation(0))["scope"] == "Not stated."

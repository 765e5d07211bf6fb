"""A finished run becomes a candidate, with a card that says what it was made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from agent.errors import InputError
from agent.models.gguf_file import sha256
from agent.settings import Settings
from tests.training import registered
from training import export, publish, recipe


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registered.write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def settings(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return registered.serve(weights, monkeypatch)


def write_dataset(folder: Path, train: list[str], validation: list[str]) -> Path:
    folder.mkdir()
    documents = {"train": train, "validation": validation, "gate": ["g1"], "negatives": ["n1"]}
    manifest = {"sha256": f"hash of {folder.name}", "documents": documents, "verified": {"train": len(train)}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def write_run(weights: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a run's folder as training leaves it: `write_run("run", dataset, start="", finished=False)`."""

    def write(name: str, dataset: Path, *, start: str = "", **summary: Any) -> Path:
        run = tmp_path / name
        (run / "adapter").mkdir(parents=True)
        for path in (weights / "adapter-0").iterdir():
            (run / "adapter" / path.name).write_bytes(path.read_bytes())
        used = recipe.checked({"name": "tiny", "dataset": str(dataset), "start": start}, "the test")
        (run / "recipe.toml").write_text(recipe.as_toml(used))
        base = {"name": "base", "sha256": sha256(weights / "base.gguf")}
        made = {"finished": True, "stopped": "epochs", "train_rows": 7, "dataset_sha256": f"hash of {dataset.name}"}
        (run / "summary.json").write_text(json.dumps(made | {"base": base} | summary))
        return run

    return write


def test_a_run_becomes_a_candidate_with_its_card(
    weights: Path, settings: Settings, tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    dataset = write_dataset(tmp_path / "data", ["t1", "t2"], ["v1"])
    found = publish.add("tester", write_run("run", dataset), settings)
    assert (found.name, found.version, found.card["status"]) == ("tester", "1", "candidate")
    assert found.card["skill"] == "annotate"
    assert found.base_sha256 == sha256(weights / "base.gguf")
    assert found.adapter_sha256 == sha256(found.adapter)
    assert (found.card["adapter"]["rank"], found.card["adapter"]["alpha"]) == (4, 8)
    assert found.card["dataset"]["documents"] == ["t1", "t2", "v1"]
    assert found.card["dataset"]["rows"] == 7
    assert found.card["recipe"]["lora"]["r"] == 16
    assert found.card["training"]["stopped"] == "epochs"
    assert (found.folder / "adapter.safetensors").is_file()
    assert gguf.GGUFReader(found.adapter).fields["general.type"].contents() == "adapter"


def test_what_a_run_started_from_has_been_seen_too(
    weights: Path, settings: Settings, tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    first = write_run("first", write_dataset(tmp_path / "old", ["o1"], ["o2"]))
    dataset = write_dataset(tmp_path / "new", ["t1"], ["v1"])
    from_a_run = publish.add("tester", write_run("second", dataset, start=str(first / "adapter")), settings)
    assert from_a_run.card["dataset"]["documents"] == ["o1", "o2", "t1", "v1"]
    start = export.peft_adapter(from_a_run.adapter, weights / "base.gguf", tmp_path / "start")
    more = write_dataset(tmp_path / "more", ["m1"], [])
    from_a_specialist = publish.add("tester", write_run("third", more, start=str(start)), settings)
    assert from_a_specialist.card["dataset"]["documents"] == ["m1", "o1", "o2", "t1", "v1"]
    with pytest.raises(InputError, match="nobody knows which documents the adapter"):
        publish.add("tester", write_run("fourth", more, start=str(weights / "adapter-1")), settings)


def test_a_run_that_cannot_be_a_candidate_is_refused(
    settings: Settings, tmp_path: Path, write_run: Callable[..., Path]
) -> None:
    dataset = write_dataset(tmp_path / "data", ["t1"], [])
    other = write_dataset(tmp_path / "other", ["t1"], [])
    stopped = write_run("stopped", dataset, finished=False, stopped="interrupted")
    elsewhere = write_run("elsewhere", dataset, base={"name": "Qwen", "sha256": ""})
    for run, given, said in (
        (stopped, None, "is not finished: interrupted"),
        (elsewhere, None, "was trained on Qwen, not on base.gguf"),
        (write_run("fine", dataset), other, "is not the one that"),
        (tmp_path, None, r"summary\.json cannot be read"),
    ):
        with pytest.raises(InputError, match=said):
            publish.add("tester", run, settings, dataset=given)
    (stopped / "recipe.toml").unlink()
    with pytest.raises(InputError, match=r"recipe\.toml cannot be read"):
        publish.add("tester", stopped, settings)

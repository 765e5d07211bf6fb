"""The wheel turns: real runs, corrections, a trained adapter, a gate; and what is broken off is gone on with."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from agent import config, registry, specialists
from agent.errors import ConfigError, InputError, UsageError
from agent.settings import Settings
from evals import rehearsal
from tests.training import tiny
from tests.training.improvement import killed, wheel
from training.commands import improve as command
from training.dataset.folder import read_manifest
from training.improve import Result, improve, specialist_of
from training.improvement import rehearsing
from training.improvement.state import STAGES
from training.rows import as_jsonl, read_rows

pytestmark = pytest.mark.llama
NUMBERS = range(100, 204)
NEW = range(300, 312)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(rehearsal, "MOST_TOKENS", wheel.MOST_TOKENS)
    monkeypatch.setattr(registry, "BUILT_IN_SKILLS", tmp_path)  # as if no specialist were shipped


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    wheel.write_base(folder)
    return folder


@pytest.fixture
def settings(world: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return wheel.serve(world, monkeypatch)


@pytest.fixture
def corrected(world: Path, settings: Settings, workspace: Path) -> list[str]:
    """A store of a hundred runs, each corrected. The runs' ids."""
    if not (world / "data").is_dir():
        runs = wheel.annotate(workspace, NUMBERS, wheel.scripted(workspace, len(NUMBERS)))
        shutil.copytree(config.data_dir(settings), world / "data")
        (world / "runs.json").write_text(json.dumps(runs))
    wheel.copied(world)
    found: list[str] = json.loads((world / "runs.json").read_text())
    wheel.correct(workspace, found)
    return found


def typed(capsys: pytest.CaptureFixture[str], *more: str, recipe: str = "smoke") -> tuple[int, str, str]:
    """`apprentice improve annotate --recipe smoke ...`: exit code, what was printed, what was said meanwhile."""
    capsys.readouterr()
    code = wheel.command("improve", "annotate", "--recipe", recipe, *wheel.LEARNS, *more)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_corrections_become_a_version_that_serves_and_its_equal_is_refused(
    corrected: list[str], settings: Settings, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert registry.promoted("nanda-annotator", settings) is None
    code, out, said = typed(capsys)
    assert code == 0, out + said
    assert [line.split()[0] for line in said.splitlines() if line.startswith(STAGES)] == list(STAGES)
    assert "40 kept out for the gate" in said
    assert "promoted: its token F1 is" in out
    assert out.splitlines()[0].endswith("local, 3 examples → specialist:nanda-annotator@1")
    first = registry.promoted("nanda-annotator", settings)
    assert first is not None
    assert first.card["metrics"]["f1"] > 0.5
    assert first.card["metrics"]["incumbent_f1"] < 0.1
    dataset = config.data_dir(settings) / "improve" / "annotate" / "dataset"
    gate = read_manifest(dataset)["documents"]["gate"]
    assert set(gate) & set(first.card["dataset"]["documents"]) == set()

    wheel.annotate(workspace, NEW)  # the version that serves takes the work
    code, out, said = typed(capsys, "lora.r=32", "max_steps=4", "--json")
    result = json.loads(out)
    assert code == 1, out + said
    assert result["incumbent"] == first.address
    assert any("and +0.005 is needed" in reason for reason in result["reasons"])
    assert registry.promoted("nanda-annotator", settings) == registry.specialist("nanda-annotator", "1", settings)
    second = registry.specialist("nanda-annotator", "2", settings)
    assert second.card["recipe"]["start"]
    assert second.card["adapter"]["rank"] == 8  # the incumbent's, whatever the recipe says
    manifest = read_manifest(dataset)
    assert set(manifest["sources"]["replay"]) == {"train"}
    replayed = [row for row in read_rows(dataset / "train.jsonl") if row.source == "replay"]
    assert {row.messages[1]["content"] for row in replayed} <= {wheel.abstract(number) for number in NEW}

    code, out, said = typed(capsys, "lora.r=32", "max_steps=4")
    assert code == 1
    assert "Nothing new is on record since the last time" in out
    assert "train " not in said
    specialists.rollback("nanda-annotator", settings)
    assert registry.promoted("nanda-annotator", settings) is None


def test_a_shipped_version_serves_on_where_the_candidate_is_no_better(
    corrected: list[str], settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, said = typed(capsys)
    assert code == 0, out + said
    made = registry.specialist("nanda-annotator", "1", settings)
    shipped = tmp_path / "annotate" / "specialist"
    shipped.mkdir(parents=True)
    for name in ("adapter.gguf", "card.json"):  # all that ships
        shutil.copy(made.folder / name, shipped / name)
    shutil.rmtree(config.data_dir(settings) / "specialists")
    shutil.rmtree(config.data_dir(settings) / "improve")
    code, out, said = typed(capsys, "max_steps=1", "--json")
    result = json.loads(out)
    assert code == 1, out + said
    assert result["incumbent"] == "specialist:nanda-annotator@0"
    assert any("and +0.005 is needed" in reason for reason in result["reasons"])
    serving = registry.promoted("nanda-annotator", settings)
    assert serving is not None
    assert (serving.version, serving.folder) == ("0", shipped)


def test_without_corrections_it_says_how_many_are_missing_and_trains_nothing(
    corrected: list[str], settings: Settings, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.data_dir(settings) / "traces.db").unlink()
    wheel.annotate(workspace, NUMBERS[:3], "local")  # the base itself, through llama.cpp
    code, out, said = typed(capsys)
    assert code == 1
    assert "not promoted: 0 verified rows can be kept out of training, 40 are needed: 40 are missing" in out
    assert "train " not in said
    assert registry.specialists(settings) == []
    assert not list((config.data_dir(settings) / "improve" / "annotate").glob("run-*"))


def test_a_killed_improvement_goes_on_where_it_was(corrected: list[str], settings: Settings, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", killed.__name__, str(log)],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["promoted"], result
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    starts = [line["step"] for line in lines if line.get("training") == "start"]
    assert starts[0] == 0
    assert 0 < starts[1] <= killed.STEPS, "training went on with its last checkpoint"
    steps = [line["step"] for line in lines if line.get("training") == "step"]
    assert len(steps) - len(set(steps)) <= 40, "no more steps were done again than lie between two checkpoints"
    data = config.data_dir(settings)
    rows = next((data / "improve" / "annotate").glob("measured-*/annotate/rows.jsonl")).read_text().split("\n")
    keys = [json.loads(row)["key"] for row in rows if row]
    assert len(keys) == len(set(keys)) == 80, "no row was asked twice"
    found = [found.version for found in registry.specialists(settings)]
    assert found == ["1"], "one candidate was added, not one for each try"
    assert [line["action"] for line in specialists.history("nanda-annotator", settings)] == ["promote"]


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(
    corrected: list[str], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    before = wheel.tree(config.data_dir(settings))
    code, out, _ = typed(capsys, "--dry-run")
    assert code == 0
    assert wheel.tree(config.data_dir(settings)) == before
    assert "recipe      smoke, " in out
    assert "from nothing: none serves" in out
    assert "memory      " in out
    code, out, _ = typed(capsys, "--dry-run", "--json")
    told = json.loads(out)
    assert told["rows"]["correction"]["gate"] == 40
    assert told["steps"] == 4 * told["rows"]["correction"]["train"]
    assert told["train_seconds"] > 0
    assert told["missing"] == ""


def test_a_dry_run_of_an_empty_record_makes_no_store(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = typed(capsys, "--dry-run")
    assert code == 0
    assert "It would stop before training: 0 verified rows" in out
    assert not config.data_dir(settings).exists()


@pytest.mark.parametrize(("gpu", "recipe"), [(False, "annotator-again"), (True, "annotator-again-policy")])
def test_without_a_name_it_takes_the_recipe_that_fits_the_machine(
    gpu: bool, recipe: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert wheel.command("improve", "annotate", "--dry-run", "device=cpu") == 0
    assert f"recipe      {recipe}, " in capsys.readouterr().out


def test_what_the_recipe_rehearses_is_made_once_for_a_base(
    corrected: list[str], settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    order = wheel.order(settings, "rehearsal=0.2")
    code, out, _ = typed(capsys, "--dry-run", "rehearsal=0.2")
    assert "5 minutes of rehearsal, " in out
    wheel.rehearse(order)
    code, out, _ = typed(capsys, "--dry-run", "rehearsal=0.2")
    assert "of rehearsal" not in out

    code, out, said = typed(capsys, "rehearsal=0.2", "max_steps=4")
    assert code in (0, 1), out + said
    dataset = config.data_dir(settings) / "improve" / "annotate" / "dataset"
    assert read_manifest(dataset)["sources"]["rehearsal"] == {"train": rehearsing.COUNT}
    assert registry.specialist("nanda-annotator", "1", settings).card["recipe"]["rehearsal"] == 0.2


def test_a_persons_own_rehearsal_rows_are_taken_instead(settings: Settings, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(as_jsonl([tiny.rehearsed(1)]))
    assert rehearsing.given([rows])
    assert not rehearsing.given([])


def test_one_improvement_at_a_time(settings: Settings) -> None:
    folder = config.data_dir(settings) / "improve" / "annotate"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="annotate is being improved already"):
            improved(settings)


def test_what_cannot_be_improved_is_refused_before_anything_is_begun(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trains a-model, and the embedded base is served"):
        improved(settings, "base=a-model")
    with pytest.raises(InputError, match=r"gold\.jsonl cannot be read"):
        asyncio.run(improve(wheel.order(settings, gold=[tmp_path / "gold.jsonl"])))
    with pytest.raises(UsageError, match="'panel' cannot be improved"):
        specialist_of("panel")


def test_a_missing_package_is_told_before_anything_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "PACKAGES", ("no_such_package",))
    with pytest.raises(ConfigError, match="no_such_package is not installed") as raised:
        command.check_packages()
    assert raised.value.hint == "Run scripts/setup train."


def improved(settings: Settings, *overrides: str) -> Result:
    return asyncio.run(improve(wheel.order(settings, *overrides)))

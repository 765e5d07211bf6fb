"""`apprentice train export`: what it writes, and the check that it prints."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
import torch

from agent import cli
from agent.errors import InputError, OutputError
from agent.models.gguf_file import sha256
from agent.settings import Settings
from tests.training import registered
from training import agreement

pytestmark = pytest.mark.llama
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return registered.write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def settings(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return registered.serve(weights, monkeypatch)


def export(*arguments: str | Path) -> int:
    options = cli.parse(["train", "export", *map(str, arguments)])
    return int(asyncio.run(options.run(options)))


@pytest.mark.usefixtures("settings")
def test_a_runs_adapter_is_written_and_checked_against_transformers(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "adapter").symlink_to(weights / "adapter-0")
    assert export(tmp_path / "run", tmp_path / "a.gguf", "--check", "--tokens", "300") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"wrote {tmp_path / 'a.gguf'}"
    assert said[1].startswith("300 of 300 next tokens agree (100.00%)")
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    assert fields["apprentice.base.sha256"].contents() == sha256(weights / "base.gguf")


@pytest.mark.usefixtures("settings")
def test_a_merged_model_is_written_and_checked_on_texts_of_ones_own(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts.jsonl"
    lines = [
        json.dumps({"abstract": "Salt rose by 4%."}),
        json.dumps(
            {"messages": [{"role": "user", "content": "What rose?"}, {"role": "assistant", "content": "Salt."}]}
        ),
        "plain text, as it is",
        "[1, 2]",
    ]
    texts.write_text("\n".join(lines) + "\n")
    done = export(
        weights / "adapter-0", tmp_path / "m.gguf", "--as", "Q4_K_M", "--base", weights / "base", "--check",
        "--texts", texts,
    )  # fmt: skip
    assert done == 0
    written, checked = capsys.readouterr().out.splitlines()
    assert written.startswith(f"wrote {tmp_path / 'm.gguf'} as Q8_0 (Q4_K_M does not divide the rows of")
    assert " next tokens agree" in checked


@pytest.mark.usefixtures("settings")
def test_an_export_that_lost_something_is_an_error(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = agreement.Agreement(100, 50, 2.0, 0.5)
    monkeypatch.setattr(agreement, "compare", lambda *given: found)
    with pytest.raises(OutputError, match="50 of 100 next tokens agree"):
        export(weights / "adapter-0", tmp_path / "a.gguf", "--check")
    assert export(weights / "adapter-0", tmp_path / "q.gguf", "--check", "--dtype", "q8_0") == 0


@pytest.mark.usefixtures("settings")
def test_texts_that_are_not_there_are_told(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        export(weights / "adapter-0", tmp_path / "a.gguf", "--check", "--texts", tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no text"):
        export(weights / "adapter-0", tmp_path / "a.gguf", "--check", "--texts", tmp_path / "empty.txt")


@pytest.mark.parametrize(
    "command",
    [["train", "export", "run", "out.gguf"], ["deploy", "tester", "--to", "ollama"]],
    ids=["export", "deploy"],
)
def test_without_the_packages_for_training_the_command_that_installs_them_is_named(command: list[str]) -> None:
    code = f"import sys; sys.modules['gguf'] = None; from agent import cli; cli.main({command!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "gguf is not installed" in done.stderr
    assert "scripts/setup train" in done.stderr
    assert "Traceback" not in done.stderr

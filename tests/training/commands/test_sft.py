"""`train sft` and `train plan` as a person runs them."""

from __future__ import annotations

import argparse
import asyncio
import io
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from agent import cli
from agent.errors import UsageError
from tests.training import tiny
from training import sft as trainer
from training.commands import live, sft
from training.learning.checkpoint import Summary
from training.learning.encode import Encoder
from training.recipe import as_toml


@pytest.fixture(autouse=True)
def interrupts_as_before() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    torch.set_num_threads(1)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def recipe(base: Path, tmp_path: Path) -> Path:
    rows = [tiny.annotated(number) for number in range(6)]
    dataset = tiny.write_dataset(tmp_path / "data", rows[:4], rows[4:])
    path = tmp_path / "mine.toml"
    path.write_text(as_toml(tiny.recipe(base, dataset)))
    return path


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    sft.add_actions(parser.add_subparsers())
    options = parser.parse_args(arguments)
    return int(asyncio.run(options.run(options)))


def test_a_recipe_is_trained_and_its_adapter_named(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("sft", str(recipe), "epochs=1", "--out", str(tmp_path / "run")) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{tmp_path / 'run' / 'adapter'}: the best of ")
    assert "4 rows, " in printed.err
    assert "step 1/1: loss " in printed.err
    assert "held out: loss " in printed.err
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()


def test_without_a_folder_the_run_goes_to_the_data_folder(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sft", str(recipe), "epochs=1") == 0
    assert re.search(r"data/training/tiny-\d{8}-\d{6}/adapter", capsys.readouterr().out)


def test_the_same_folder_again_asks_for_resume(recipe: Path, tmp_path: Path) -> None:
    run("sft", str(recipe), "epochs=1", "--out", str(tmp_path / "run"))
    with pytest.raises(UsageError, match="holds a training run"):
        run("sft", str(recipe), "epochs=1", "--out", str(tmp_path / "run"))
    assert run("sft", str(recipe), "epochs=1", "--out", str(tmp_path / "run"), "--resume") == 0


def test_an_interrupted_run_says_how_to_go_on(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any, **__: Any) -> Summary:
        return Summary(False, "interrupted", 0, None, "loss", 4, "", {}, 0, 0.0, 0.0, 0, "cpu")

    monkeypatch.setattr(trainer, "train", broken)
    assert run("sft", str(recipe), "--out", str(tmp_path / "run")) == 130
    assert f"--out {tmp_path / 'run'} --resume" in capsys.readouterr().err


def test_the_mask_is_shown_in_colour(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("sft", str(recipe), "--show-mask") == 0
    printed = capsys.readouterr().out
    assert "<|im_start|>assistant" in printed
    assert re.search(r"row-\d: \d+ tokens, \d+ of them trained on \(green\)", printed)
    encoder = Encoder(tiny.tokenizer())
    row = tiny.annotated(0, abstract="It ends \x1b[31mred. And on.")
    (example,) = encoder.examples(row)
    text = sft.coloured(example, encoder.tokenizer.decode)
    green = [text.plain[span.start : span.end] for span in text.spans if "green" in str(span.style)]
    assert green == [row.completion.replace("\\u001b", "\\u001b") + "<|im_end|>"]
    assert "\x1b" not in text.plain, "a text of somebody else's must not move the cursor"


def test_a_plan_prints_memory_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "annotator-7b", "--gpu", "H200", "--price", "2.5") == 0
    printed = capsys.readouterr().out
    assert "peak in use" in printed
    assert "USD at 2.5 an hour" in printed
    assert "published" not in printed


def test_a_plan_without_a_recipe_prints_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan") == 0
    printed = capsys.readouterr().out
    assert printed.count("published") == 4
    assert "gpt-oss-120b" in printed


def events() -> list[dict[str, Any]]:
    begun = {"step": 0, "steps": 20, "rows": 4, "tokens": 100, "targets": 35, "weights": 1000}
    steps = [
        {"event": "step", "step": number, "epoch": number / 20, "loss": 1 / number, "lr": 1e-3, "grad_norm": 0.5}
        | {"tokens_per_second": 1234.0, "memory_bytes": 3 << 30}
        for number in range(1, 13)
    ]
    return [
        {"event": "start", **begun, "base": "tiny", "device": "cpu", "processes": 2},
        {"event": "notice", "text": "[bold]two rows[/bold] are left out"},
        *steps,
        {"event": "epoch", "step": 12, "loss": 0.5, "f1": 0.25, "valid": 1.0, "best": True},
        {"event": "epoch", "step": 12, "best": False},
        {"event": "end"},
    ]


def test_a_terminal_shows_a_live_table() -> None:
    screen = io.StringIO()
    with live.View(Console(file=screen, force_terminal=True, width=120)) as view:
        for event in events():
            view.tell(event)
    shown = screen.getvalue()
    for text in ("12/20", "0.5000 *", "0.250", "1.000", "1,234", "3.00 GiB", "2 processes", "35% trained on"):
        assert text in shown


def test_without_a_terminal_there_are_plain_lines() -> None:
    screen = io.StringIO()
    with live.View(Console(file=screen, width=40)) as view:
        for event in events():
            view.tell(event)
    assert screen.getvalue().splitlines()[1:] == [
        "! [bold]two rows[/bold] are left out",
        "step 1/20: loss 1.0000, rate 1.00e-03, 1,234 tokens/s, 3.00 GiB",
        "step 10/20: loss 0.1000, rate 1.00e-03, 1,234 tokens/s, 3.00 GiB",
        "step 12: held out: loss 0.5000, f1 0.2500, valid 1.0000, the best so far",
        "step 12: held out: not better",
    ]


def test_key_value_may_stand_anywhere() -> None:
    options = cli.parse(["train", "sft", "smoke", "lora.r=8", "--resume", "epochs=2", "--out", "run", "seed=1"])
    assert options.overrides == ["lora.r=8", "epochs=2", "seed=1"]
    with pytest.raises(UsageError, match="no option --wrong"):
        cli.parse(["train", "sft", "smoke", "--resume", "epochs=2", "--wrong"])

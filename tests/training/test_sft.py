"""Training runs on a tiny base: what they leave behind, how they end, and that a kill costs nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agent.errors import InputError, OutputError, TrainingError, UsageError
from tests.training import tiny
from training import sft
from training.learning import checkpoint, data, optim, score
from training.learning.encode import Encoder
from training.recipe import Recipe, as_toml, checked

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import sys, torch
from pathlib import Path
from training import recipe, sft
torch.set_num_threads(1)
def tell(event):
    print(event["event"], event.get("step"), flush=True)
sft.train(recipe.load(sys.argv[1]), Path(sys.argv[2]), resume="--resume" in sys.argv, tell=tell)
"""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [tiny.annotated(number) for number in range(16)]
    return tiny.write_dataset(tmp_path_factory.mktemp("dataset"), rows[:12], rows[12:])


@pytest.fixture
def usual(base: Path, dataset: Path) -> Recipe:
    return tiny.recipe(base, dataset, lora={"r": 4, "alpha": 8.0, "dropout": 0.1})


def steps(run: Path, key: str = "loss") -> dict[int, float]:
    """One value of each step, from metrics.jsonl."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[key] for line in lines if line["event"] == "step"}


def evaluations(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == "epoch"]


def test_a_run_leaves_the_best_adapter_its_checkpoints_its_metrics_and_a_summary(usual: Recipe, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    summary = sft.train(usual, tmp_path / "run", tell=told.append)
    run = tmp_path / "run"
    assert (summary.finished, summary.stopped, summary.train_rows, summary.device) == (True, "epochs", 12, "cpu")
    assert json.loads((run / "summary.json").read_text())["best_step"] == summary.best_step
    assert (run / "recipe.toml").read_text() == as_toml(usual)
    assert [path.name for path in checkpoint.checkpoints(run)] == ["checkpoint-4", "checkpoint-6"]
    losses = steps(run)
    assert list(losses) == [1, 2, 3, 4, 5, 6]
    assert losses[6] < losses[1], "it learns"
    tokens = steps(run, "tokens")
    assert summary.tokens == sum(tokens.values()) == 2 * told[0]["tokens"]
    first, second = evaluations(run)
    assert first["best"]
    assert summary.best_metric == min(first["loss"], second["loss"])
    assert [event["event"] for event in told] == ["start", *["step"] * 3, "epoch", *["step"] * 3, "epoch", "end"]


def test_the_adapter_is_one_that_peft_loads_and_that_does_what_was_measured(usual: Recipe, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    summary = sft.train(usual, tmp_path / "run")
    plain = AutoModelForCausalLM.from_pretrained(usual.base, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(plain, tmp_path / "run" / "adapter").eval()
    held_out = data.load(usual, Encoder(tiny.tokenizer()).tokenizer).validation
    total, count = 0.0, 0
    for example in held_out:
        labels = [token if counts else -100 for token, counts in zip(example.tokens, example.trained, strict=True)]
        with torch.no_grad():
            logits = loaded(input_ids=torch.tensor([example.tokens])).logits[0]
        total += torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(labels[1:]), reduction="sum").item()
        count += example.targets
    assert total / count == pytest.approx(summary.best_metric, rel=1e-4)


def test_cutting_a_batch_into_pieces_changes_nothing(base: Path, dataset: Path, tmp_path: Path) -> None:
    for name, size in (("whole", 4096), ("pieces", 64)):
        sft.train(tiny.recipe(base, dataset, epochs=1, micro_tokens=size), tmp_path / name)
    whole, pieces = steps(tmp_path / "whole"), steps(tmp_path / "pieces")
    assert whole == pytest.approx(pieces, rel=1e-4)


def start(usual: Recipe, run: Path, *more: str) -> subprocess.Popen[str]:
    path = run.with_suffix(".toml")
    path.write_text(as_toml(usual))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN, str(path), str(run), *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(usual: Recipe, tmp_path: Path) -> None:
    longer = usual.model_copy(update={"epochs": 4, "save_steps": 2})
    sft.train(longer, tmp_path / "unbroken")
    killed = start(longer, tmp_path / "killed")
    assert killed.stdout is not None
    for line in killed.stdout:
        if line == "step 5\n":
            killed.kill()
            break
    killed.stdout.close()
    assert killed.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "summary.json").exists()
    left = checkpoint.checkpoints(tmp_path / "killed")[-1]
    told: list[dict[str, Any]] = []
    summary = sft.train(longer, tmp_path / "killed", resume=True, tell=told.append)
    assert told[0]["step"] == int(left.name.rpartition("-")[2]) >= 3
    assert summary.finished
    assert steps(tmp_path / "killed") == pytest.approx(steps(tmp_path / "unbroken"), rel=1e-5)
    ours, theirs = (load_file(tmp_path / name / "adapter/adapter_model.safetensors") for name in ("killed", "unbroken"))
    assert ours.keys() == theirs.keys()
    for key in ours:
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step_with_a_checkpoint(usual: Recipe, tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)

    def send(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 1:
            os.kill(os.getpid(), number)

    run = tmp_path / "run"
    summary = sft.train(usual.model_copy(update={"save_steps": 100}), run, tell=send)
    assert (summary.finished, summary.stopped) == (False, "interrupted")
    assert [path.name for path in checkpoint.checkpoints(run)] == ["checkpoint-2"]
    assert signal.getsignal(number) == before
    assert sft.train(usual.model_copy(update={"save_steps": 100}), run, resume=True).finished


def test_a_second_signal_interrupts_at_once(usual: Recipe, tmp_path: Path) -> None:
    def send(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        sft.train(usual, tmp_path / "run", tell=send)
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["stopped"] == "interrupted"


def test_a_loss_that_is_no_number_ends_the_run_before_it_spoils_the_weights(
    usual: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score.summed_loss
    calls: list[int] = []

    def broken(*given: Any) -> Any:
        calls.append(1)
        loss, plain = whole(*given)
        return (loss * float("nan"), plain * float("nan")) if len(calls) == 3 else (loss, plain)

    usual = usual.model_copy(update={"save_steps": 100, "micro_tokens": 4096})
    monkeypatch.setattr(score, "summed_loss", broken)
    with pytest.raises(TrainingError, match="the loss of step 3 is not a number") as caught:
        sft.train(usual, tmp_path / "run")
    assert "checkpoint-2" in caught.value.hint
    assert "optim.lr" in caught.value.hint
    monkeypatch.undo()
    assert sft.train(usual, tmp_path / "run", resume=True).finished
    assert all(value == value for value in steps(tmp_path / "run").values())


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_full_memory_is_told_with_what_to_do_and_the_last_step_is_kept(
    usual: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError
) -> None:
    whole = score.summed_loss
    calls: list[int] = []

    def full(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise error
        return whole(*given)

    usual = usual.model_copy(update={"save_steps": 100, "micro_tokens": 4096})
    monkeypatch.setattr(score, "summed_loss", full)
    with pytest.raises(TrainingError, match="the memory of cpu is full at step 2") as caught:
        sft.train(usual, tmp_path / "run")
    assert "micro_tokens" in caught.value.hint
    assert [path.name for path in checkpoint.checkpoints(tmp_path / "run")] == ["checkpoint-1"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["finished"] is False


def test_a_real_allocation_that_the_memory_does_not_hold_is_told(usual: Recipe, tmp_path: Path) -> None:
    """A limit on the process's address space makes torch's own allocator fail in the middle of a step."""
    program = RUN.replace(
        "def tell(event):",
        "import resource\ndef tell(event):\n"
        "    if event['event'] == 'step' and event['step'] == 2:\n"
        "        size = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "        resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 20), -1))\n",
    )
    path = tmp_path / "recipe.toml"
    path.write_text(as_toml(usual.model_copy(update={"micro_tokens": 8192, "epochs": 6, "save_steps": 1})))
    done = subprocess.run(
        [sys.executable, "-c", program, str(path), str(tmp_path / "run")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
    )
    assert "TrainingError: the memory of cpu is full" in done.stderr, done.stderr[-2000:]
    assert checkpoint.checkpoints(tmp_path / "run")


def test_a_full_disk_is_told_and_leaves_the_last_checkpoint_usable(usual: Recipe, tmp_path: Path) -> None:
    import resource

    longer = usual.model_copy(update={"save_steps": 1, "epochs": 1})
    run = tmp_path / "run"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["step"] == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))

    try:
        with pytest.raises(OutputError, match=r"cannot be written") as caught:
            sft.train(longer, run, tell=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "checkpoint-1" in caught.value.hint
    assert "--resume" in caught.value.hint
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == [], "nothing half-written is left"
    assert sft.train(longer, run, resume=True).finished


def test_two_processes_compute_what_one_does(base: Path, tmp_path: Path) -> None:
    rows = [tiny.annotated(number) for number in range(9)]
    dataset = tiny.write_dataset(tmp_path / "data", rows[:8], rows[8:])
    usual = tiny.recipe(base, dataset, epochs=2)
    sft.train(usual, tmp_path / "one")
    (tmp_path / "recipe.toml").write_text(as_toml(usual))
    (tmp_path / "run.py").write_text(RUN)
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    port = ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(_free_port())]
    done = subprocess.run(
        [*launch, *port, str(tmp_path / "run.py"), str(tmp_path / "recipe.toml"), str(tmp_path / "two")],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert steps(tmp_path / "two") == pytest.approx(steps(tmp_path / "one"), rel=1e-4)
    assert evaluations(tmp_path / "two")[-1]["loss"] == pytest.approx(
        evaluations(tmp_path / "one")[-1]["loss"], rel=1e-4
    )
    assert done.stdout.count("start 0") == 1, "only one process speaks"


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_folder_that_holds_a_run_is_not_written_over(usual: Recipe, tmp_path: Path) -> None:
    short = usual.model_copy(update={"max_steps": 1})
    sft.train(short, tmp_path / "run")
    with pytest.raises(UsageError, match="holds a training run"):
        sft.train(short, tmp_path / "run")
    other = short.model_copy(update={"seed": 1, "batch": 3})
    with pytest.raises(UsageError, match="another recipe: batch, seed changed"):
        sft.train(other, tmp_path / "run", resume=True)
    told: list[dict[str, Any]] = []
    assert sft.train(short, tmp_path / "run", resume=True, tell=told.append).finished
    assert [event["event"] for event in told] == ["notice"]


def test_a_run_that_max_steps_ended_can_be_made_longer(usual: Recipe, tmp_path: Path) -> None:
    first = sft.train(usual.model_copy(update={"max_steps": 2}), tmp_path / "run")
    assert (first.stopped, first.best_step) == ("max_steps", 2)
    second = sft.train(usual.model_copy(update={"max_steps": 5}), tmp_path / "run", resume=True)
    assert list(steps(tmp_path / "run")) == [1, 2, 3, 4, 5]
    assert second.stopped == "max_steps"


def test_epochs_that_get_no_better_end_the_run_and_the_best_is_kept(usual: Recipe, tmp_path: Path) -> None:
    steep = usual.optim.model_copy(update={"lr": 0.5, "schedule": "constant"})
    summary = sft.train(usual.model_copy(update={"epochs": 30, "patience": 2, "optim": steep}), tmp_path / "run")
    found = evaluations(tmp_path / "run")
    assert summary.stopped == "patience"
    assert [line["best"] for line in found[-2:]] == [False, False]
    assert summary.best_metric == min(line["loss"] for line in found)
    assert summary.best_step == next(line["step"] for line in found if line["loss"] == summary.best_metric)


def test_the_mean_of_the_last_epochs_is_tried(usual: Recipe, tmp_path: Path) -> None:
    summary = sft.train(usual.model_copy(update={"average": 2, "epochs": 3}), tmp_path / "run")
    *epochs, mean = evaluations(tmp_path / "run")
    states = [load_file(path) for path in checkpoint.epochs(tmp_path / "run")]
    assert len(epochs) == 3
    assert len(states) >= 2
    averaged = load_file(tmp_path / "run/epochs/mean/adapter_model.safetensors")
    key = next(iter(averaged))
    torch.testing.assert_close(averaged[key], (states[0][key] + states[1][key]) / 2)
    assert mean["best"] == (mean["loss"] < min(line["loss"] for line in epochs))
    assert summary.best_metric == min(line["loss"] for line in [*epochs, mean])


def test_a_run_can_start_from_an_adapter(usual: Recipe, tmp_path: Path) -> None:
    sft.train(usual, tmp_path / "first")
    adapter = tmp_path / "first" / "adapter"
    still = usual.optim.model_copy(update={"lr": 1e-12})
    again = usual.model_copy(update={"start": str(adapter), "max_steps": 1, "optim": still})
    summary = sft.train(again, tmp_path / "second")
    assert summary.best_metric == pytest.approx(evaluations(tmp_path / "first")[-1]["loss"], rel=1e-4)
    other = again.model_copy(update={"lora": usual.lora.model_copy(update={"alpha": 9.0})})
    with pytest.raises(InputError, match=r"was made with lora.alpha = 8.0, the recipe has 9.0"):
        sft.train(other, tmp_path / "third")


def test_the_f1_of_generated_annotations_chooses_the_best_epoch(base: Path, dataset: Path, tmp_path: Path) -> None:
    usual = tiny.recipe(base, dataset, metric="f1", epochs=1, max_steps=1)
    summary = sft.train(usual, tmp_path / "run")
    (found,) = evaluations(tmp_path / "run")
    assert (summary.metric, summary.best_metric) == ("f1", 0.0), "a random base writes no annotation"
    assert found["valid"] == 0.0
    assert "loss" in found


def test_an_annotation_is_scored_by_the_mean_of_its_moves() -> None:
    reply = tiny.annotated(0).completion
    gold = json.loads(reply)
    absent = sum(text == "Not stated." for text in gold.values())
    assert score.annotation_scores(reply, gold) == [1.0, 1.0, 1.0, absent, absent, absent]
    less = json.dumps(gold | {"claim": "Not stated."})
    assert gold["claim"] != "Not stated."
    assert score.annotation_scores(less, gold) == [pytest.approx(2 / 3), 1.0, 1.0, absent, absent + 1, absent]
    for broken in ('{"claim": "only"}', "no object"):
        assert score.annotation_scores(broken, gold) == [0.0, 0.0, 1.0, 0.0, 0.0, absent]


def test_agreement_is_the_f1_of_saying_that_a_move_is_not_stated() -> None:
    told = score.told(torch.tensor([1.5, 2.0, 3.0, 4.0, 6.0, 5.0]))
    assert told == {"f1": 0.5, "valid": pytest.approx(2 / 3), "agreement": pytest.approx(8 / 11)}
    assert score.told(torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))["agreement"] == 1.0, "nobody leaves anything out"


def test_generated_replies_are_those_of_each_prompt_alone(base: Path, dataset: Path) -> None:
    from training.base import find
    from training.learning import model

    usual = tiny.recipe(base, dataset, metric="f1", eval_rows=3, eval_tokens=6)
    found = data.load(usual, tiny.tokenizer())
    made = model.build(usual, find(usual.base), torch.device("cpu"))
    prompts = [prompt for _, prompt in found.asked]
    assert len({len(prompt) for prompt in prompts}) > 1, "so that some are padded"
    end = found.own[0].tokens[-1]
    together = score.generate(made, found.encoder, prompts, usual, end)
    alone = [score.generate(made, found.encoder, [prompt], usual, end)[0] for prompt in prompts]
    assert together == alone
    assert made.training


def test_rehearsal_rows_are_the_wanted_share_of_an_epoch(base: Path, tmp_path: Path) -> None:
    rows = [tiny.annotated(number) for number in range(6)]
    old = [tiny.annotated(number, source="rehearsal") for number in range(6, 8)]
    dataset = tiny.write_dataset(tmp_path / "data", [*rows, *old], rows[:1])
    usual = tiny.recipe(base, dataset, rehearsal=0.5)
    found = data.load(usual, tiny.tokenizer())
    shown = [example.row for batch in found.epoch(0, usual) for example in batch]
    assert sorted(shown) == sorted([*(row.id for row in rows), *["row-6", "row-7"] * 3])
    assert found.steps_per_epoch(usual) == len(found.epoch(0, usual)) == 3
    without = data.load(tiny.recipe(base, dataset), tiny.tokenizer())
    assert {
        example.row for batch in without.epoch(0, usual.model_copy(update={"rehearsal": 0.0})) for example in batch
    } == {row.id for row in rows}


def test_an_epochs_order_depends_on_seed_and_epoch_alone(base: Path, dataset: Path) -> None:
    usual = tiny.recipe(base, dataset)
    found = data.load(usual, tiny.tokenizer())
    order = [[[example.row for example in batch] for batch in found.epoch(number, usual)] for number in (0, 1, 0)]
    assert order[0] == order[2] != order[1]
    assert found.epoch(0, usual.model_copy(update={"seed": 5})) != found.epoch(0, usual)


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_rate_rises_then_falls_as_the_schedule_says(base: Path, dataset: Path, schedule: str) -> None:
    usual = tiny.recipe(base, dataset, optim={"lr": 1.0, "schedule": schedule, "warmup": 0.2})
    rates = [optim.learning_rate(usual, step, 10) for step in range(1, 11)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2] == 1.0
    assert rates == rates[:2] + sorted(rates[2:], reverse=True)
    assert rates[-1] == {"cosine": pytest.approx(0.038, abs=1e-3), "linear": 0.125, "constant": 1.0}[schedule]


def test_optimisers_of_eight_bits_train_too(usual: Recipe, tmp_path: Path) -> None:
    eight = usual.model_copy(update={"optim": usual.optim.model_copy(update={"name": "adamw8bit"}), "max_steps": 2})
    weights = [torch.nn.Parameter(torch.ones(8, 8))]
    made = optim.make_optimizer(eight, weights)
    assert type(made).__name__ == "AdamW8bit"
    paged = usual.optim.model_copy(update={"name": "paged_adamw8bit"})
    assert type(optim.make_optimizer(usual.model_copy(update={"optim": paged}), weights)).__name__ == "PagedAdamW8bit"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"dataset": ""}, "names no dataset"),
        ({"rehearsal": 0.2}, "20% rehearsal"),
        ({"max_length": 16}, "no row of at most 16 tokens"),
        ({"report_to": ("nobody",)}, "no tracker 'nobody'"),
        ({"report_to": ("wandb",)}, "'wandb' is not installed"),
        ({"lora": {"targets": ["nothing"]}}, "lora.targets do not fit"),
    ],
)
def test_what_cannot_be_trained_is_told(
    base: Path, dataset: Path, tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        sft.train(checked(tiny.recipe(base, dataset).model_dump() | changes, "test"), tmp_path / "run")


def test_rows_that_are_too_long_are_told(base: Path, tmp_path: Path) -> None:
    rows = [tiny.annotated(0), tiny.annotated(1, abstract="word " * 300)]
    dataset = tiny.write_dataset(tmp_path / "data", rows)
    told: list[dict[str, Any]] = []
    summary = sft.train(tiny.recipe(base, dataset, max_length=300), tmp_path / "run", tell=told.append)
    assert told[0]["text"] == "left out, of more than 300 tokens: 1 rows, e.g. row-1"
    assert (summary.metric, summary.best_step) == ("last", 2), "without validation rows the last step is the best"


def test_a_damaged_checkpoint_is_named(usual: Recipe, tmp_path: Path) -> None:
    sft.train(usual.model_copy(update={"max_steps": 2}), tmp_path / "run")
    (tmp_path / "run/checkpoint-2/optimizer.pt").write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(InputError, match="checkpoint-2 is damaged"):
        sft.train(usual, tmp_path / "run", resume=True)
    state = tmp_path / "run/checkpoint-2/state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"surprise": 1}))
    with pytest.raises(InputError, match="checkpoint-2 is damaged"):
        checkpoint.load(tmp_path / "run/checkpoint-2", "", torch.device("cpu"))


def test_a_pickle_that_would_run_code_is_not_loaded(usual: Recipe, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    sft.train(usual.model_copy(update={"max_steps": 2}), tmp_path / "run")
    torch.save({"state": Evil()}, tmp_path / "run/checkpoint-2/optimizer.pt")
    with pytest.raises(InputError, match="checkpoint-2 is damaged"):
        sft.train(usual, tmp_path / "run", resume=True)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_another_dataset_is_not_gone_on_with(usual: Recipe, base: Path, tmp_path: Path) -> None:
    sft.train(usual.model_copy(update={"max_steps": 2}), tmp_path / "run")
    with pytest.raises(InputError, match="was trained on another dataset"):
        checkpoint.load(tmp_path / "run/checkpoint-2", "0" * 64, torch.device("cpu"))


def test_metrics_that_a_kill_cut_are_taken_out(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.write_metrics(tmp_path, {"event": "step", "step": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"event": "st')
    checkpoint.rewind_metrics(tmp_path, 2)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [1, 2]


def test_a_manifest_names_the_dataset_by_its_hash(tmp_path: Path) -> None:
    folder = tiny.write_dataset(tmp_path / "data", [tiny.annotated(0)])
    without = data.dataset_sha256(folder)
    assert len(without) == 64
    (folder / "manifest.json").write_text('{"sha256": "abc"}')
    assert data.dataset_sha256(folder) == "abc"
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest.json is damaged"):
        data.dataset_sha256(folder)


def test_numbers_reach_a_tracker_that_accelerate_knows(
    usual: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import tracking

    logged: list[tuple[int | None, dict[str, Any]]] = []

    class Notebook(tracking.GeneralTracker):  # type: ignore[misc]
        name = "notebook"
        requires_logging_directory = False
        tracker = None

        def __init__(self, run_name: str, **_: Any) -> None:
            super().__init__()
            self.run_name = run_name

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            logged.append((None, values))

        def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
            logged.append((step, values))

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "notebook", Notebook)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["notebook"])
    sft.train(usual.model_copy(update={"report_to": ("notebook",), "max_steps": 2}), tmp_path / "run")
    assert logged[0][1]["lora.r"] == 4
    assert [step for step, values in logged if "grad_norm" in values] == [1, 2]

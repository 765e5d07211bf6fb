"""The plan: memory by part against tensors that were counted, and the published figures beside ours."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agent.errors import InputError, UsageError
from evals.bench import train_memory
from tests.training import tiny
from training import plan, recipe
from training.planning import memory, plan_tables, shapes
from training.planning.memory import GIB, Load
from training.recipe import Lora, Policy, Recipe

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("case", train_memory.CASES, ids=lambda case: case.name)
def test_the_predicted_peak_is_within_a_tenth_of_what_lives_during_a_step(case: train_memory.Case) -> None:
    small = train_memory.tiny(case)
    small = replace(small, rows=2, length=192, shape=replace(small.shape, layers=3))
    measured, _ = train_memory.measure(small, CPU)
    predicted = train_memory.predict(small, CPU)
    for part in ("weights", "adapter", "gradients and optimiser", "peak"):
        assert predicted[part] == pytest.approx(measured[part], rel=0.1), part


@pytest.mark.parametrize(
    ("precision", "dropout", "checkpointing", "targets"),
    [("f32", 0.0, True, "all-linear"), ("f32", 0.1, False, train_memory.QV), ("bf16", 0.1, True, "all-linear")],
)
def test_every_choice_that_moves_memory_is_predicted(
    precision: recipe.Precision, dropout: float, checkpointing: bool, targets: tuple[str, ...]
) -> None:
    case = replace(train_memory.tiny(train_memory.CASES[1]), rows=2, length=192, precision=precision)
    case = replace(case, lora=Lora(r=8, dropout=dropout, targets=targets), checkpointing=checkpointing)
    measured, _ = train_memory.measure(case, CPU)
    assert train_memory.predict(case, CPU)["peak"] == pytest.approx(measured["peak"], rel=0.1)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("SmolLM2-135M-Instruct", 0.1345),
        ("Qwen2.5-0.5B-Instruct", 0.494),
        ("Qwen2.5-7B-Instruct", 7.62),
        ("Qwen3-0.6B", 0.596),
        ("Qwen3-4B", 4.02),
        ("Qwen3-8B", 8.19),
        ("Qwen3-14B", 14.8),
        ("Qwen3-32B", 32.8),
        ("Qwen3-30B-A3B", 30.5),
        ("Llama-2-13b-chat-hf", 13.0),
        ("Llama-3.1-70B-Instruct", 70.6),
        ("gpt-oss-120b", 117),
    ],
)
def test_shapes_have_the_weights_that_their_makers_state(name: str, billions: float) -> None:
    assert shapes.SHAPES[name].weights / 1e9 == pytest.approx(billions, rel=0.005)


def test_a_mixture_holds_all_experts_and_works_with_some() -> None:
    shape = shapes.SHAPES["Qwen3-30B-A3B"]
    assert shape.active_weights / 1e9 == pytest.approx(2.7, rel=0.05)
    needed = memory.parts(shape, plan_tables.recipe_of("qlora", 32), Load(2048))
    assert needed["weights"] > 16e9


def test_the_seven_billion_recipe_fits_in_eight_gibibytes() -> None:
    seed = recipe.load("annotator-7b")
    parts = memory.parts(shapes.find(seed.base), seed, Load(4096))
    assert sum(parts.values()) < 8 * GIB
    assert parts["weights"] == pytest.approx(5.07 * GIB, rel=0.01)
    assert memory.adapter_weights(shapes.find(seed.base), seed) == 28 * 16 * (2 * 3584 + 3584 + 512)


def test_an_adapter_on_all_layers_of_the_embedded_base_has_4_9_million_weights() -> None:
    shape = shapes.find("embedded")
    assert memory.adapter_weights(shape, recipe.load("annotator")) == 4_884_480


def test_full_training_takes_sixteen_bytes_a_weight() -> None:
    shape = shapes.SHAPES["Llama-3.1-70B-Instruct"]
    parts = memory.parts(shape, plan_tables.recipe_of("full", 16), Load(2048, method="full"))
    state = sum(parts[key] for key in ("weights", "master weights", "gradients", "optimiser"))
    assert state == pytest.approx(16 * shape.weights, rel=1e-6)


def test_a_shape_is_read_from_a_config_file(tmp_path: Path) -> None:
    folder = tiny.write_base(tmp_path / "base")
    shape = shapes.find(str(folder))
    assert (shape.hidden, shape.layers, shape.heads, shape.kv_heads, shape.head_dim) == (64, 2, 4, 2, 16)
    from safetensors.torch import load_file

    assert shape.weights == sum(weight.numel() for weight in load_file(folder / "model.safetensors").values())
    (folder / "config.json").write_text(json.dumps({"hidden_size": 3}))
    with pytest.raises(InputError, match="describes no model of a known form"):
        shapes.find(str(folder))
    with pytest.raises(InputError, match="nothing is known about the shape of 'somebody/model'"):
        shapes.find("somebody/model")
    assert shapes.find("Qwen/Qwen3-8B").name == shapes.find("models/Qwen3-8B.Q4_K_M.gguf").name == "Qwen3-8B"


def test_a_mixture_is_read_from_its_configuration() -> None:
    config = {"hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_hidden_layers": 48}
    config |= {"num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936}
    config |= {"num_experts": 128, "num_experts_per_tok": 8}
    assert shapes.of("Qwen3-30B-A3B", {**config, "model_type": "qwen3_moe"}) == shapes.SHAPES["Qwen3-30B-A3B"]


def test_the_plan_names_every_part_and_its_sum(tmp_path: Path) -> None:
    dataset = tiny.write_dataset(tmp_path / "data", [tiny.annotated(number) for number in range(8)])
    text = plan.report(recipe.load("annotator-7b", [f"dataset={dataset}"]), gpu="H200", price=3.0)
    for part in ("weights", "quantisation constants", "adapter", "gradients", "optimiser", "activations", "logits"):
        assert f"  {part} " in text
    assert "peak in use" in text
    assert "on one H200 with 139.00 GiB: fits" in text
    assert "8 rows of" in text
    assert "USD at 3.0 an hour" in text


@pytest.mark.parametrize(
    ("name", "overrides", "gpu", "said"),
    [
        ("agent-8b", ["precision=bf16", "checkpointing=false"], "H200", "fits"),
        ("annotator", ["micro_tokens=65536"], "T4", "with micro_tokens=16384 it does"),
        ("agent-8b", ["precision=bf16", "checkpointing=false"], "A100 40GB", "with checkpointing=true it does"),
        ("agent-8b", ["precision=bf16", "checkpointing=false"], "L4", "with precision=nf4 checkpointing=true it does"),
        ("agent-8b", [], "T4", "fits"),
        ("agent-8b", ["max_length=32768"], "T4", "with max_length=8192 it does"),
        ("agent-70b", [], "RTX 4090", "whatever is changed"),
    ],
)
def test_the_plan_proposes_the_change_that_costs_the_least(
    name: str, overrides: list[str], gpu: str, said: str
) -> None:
    chosen = recipe.load(name, overrides)
    text = plan.report(chosen, gpu=gpu)
    assert said in text
    assert ("does not fit" in text) == (said != "fits")


def test_a_gpu_that_is_not_in_the_list_is_told() -> None:
    with pytest.raises(UsageError, match="no GPU 'H300'"):
        plan.report(recipe.load("annotator"), gpu="H300")


def test_an_example_is_never_cut_so_the_longest_counts() -> None:
    usual = recipe.load("annotator", ["micro_tokens=256", "max_length=4096"])
    assert plan.at_once(usual) == 4096


def test_the_plan_of_this_machine_counts_its_memory_and_cores() -> None:
    text = plan.report(recipe.load("smoke"))
    assert "cores with" in text
    assert "Python and its libraries" in text
    assert "USD" not in text


@pytest.mark.parametrize(
    ("name", "flops"), [("NVIDIA H200", 790e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("NVIDIA L40S", 1e14)]
)
def test_a_gpu_is_known_by_its_drivers_name(name: str, flops: float) -> None:
    assert plan.peak_flops(name) == flops


def test_checkpointing_and_four_bits_need_less_and_dropout_more() -> None:
    shape, usual = shapes.SHAPES["Qwen3-8B"], Recipe(eval_rows=0)

    def peak(**changes: object) -> int:
        return memory.peak(shape, usual.model_copy(update=changes), Load(8192))

    assert peak(checkpointing=True) < peak()
    assert peak(precision="nf4") < peak() < peak(precision="f32")
    assert peak(lora=Lora(dropout=0.1)) > peak(lora=Lora())
    paged = usual.optim.model_copy(update={"name": "paged_adamw8bit"})
    assert peak(optim=paged) < peak()


def test_each_published_figure_stands_beside_ours() -> None:
    text = plan_tables.report(1.99)
    assert "Qwen2.5-7B-Instruct" in text
    rows = {
        (figure.shape, figure.way): sum(plan_tables.computed(figure).values()) / 1e9 for figure in plan_tables.FIGURES
    }
    assert rows[("Qwen2.5-7B-Instruct", "full")] == pytest.approx(112, rel=0.15)
    assert rows[("Llama-3.1-70B-Instruct", "full")] == pytest.approx(1100, rel=0.1)
    assert rows[("gpt-oss-120b", "full")] == pytest.approx(1900, rel=0.1)
    assert rows[("Llama-65B", "qlora paged")] == pytest.approx(48, rel=0.1)
    for figure in plan_tables.FIGURES:
        (line,) = (
            line
            for line in text.splitlines()
            if line.startswith(f"{figure.shape} ") and f" {figure.way} " in line and figure.said in line
            if ("paged" in figure.way) == ("paged" in line)
        )
        assert f"{sum(plan_tables.computed(figure).values()) / 1e9:,.1f}" in line
    for _, price, said in plan_tables.PRICES:
        assert f"{10 * price:,.2f}" in text
        assert said in text


@pytest.mark.parametrize(
    ("name", "changes", "rows", "measured"),
    [
        ("annotator-policy", (), 1161, 290),
        ("annotator-policy", ("rehearsal=0.4", "epochs=10", "batch=32", "policy.supervised=0.5"), 133, 158),
        ("annotator-policy", ("rehearsal=0.2", "epochs=12", "batch=32", "policy.supervised=0.5"), 133, 180),
    ],
)
def test_the_time_of_learning_from_its_own_replies_is_about_what_one_h200_took(
    name: str, changes: Sequence[str], rows: int, measured: float
) -> None:
    used = recipe.load(name, changes)
    shape = shapes.SHAPES["SmolLM2-135M-Instruct"]
    found = plan.GPUS["H200"]
    machine = plan.Machine(found.name, found.memory, found.flops)
    assert plan.seconds(shape, used, machine, rows, 624) == pytest.approx(measured, rel=0.35)
    alone = plan.seconds(shape, used.model_copy(update={"policy": Policy()}), machine, rows, 624)
    cores = plan.Machine("two cores", 16 * GIB, 2 * plan.CPU_FLOPS, gpu=False)
    assert alone < measured / 4
    assert plan.seconds(shape, used, cores, rows, 624) > 3600


def test_time_follows_the_work() -> None:
    shape, usual = shapes.SHAPES["Qwen3-8B"], recipe.load("agent-8b")
    machine = plan.Machine("one", 80 * GIB, 1e15)
    once = plan.seconds(shape, usual, machine, 1000, 1e3)
    assert plan.seconds(shape, usual, machine, 2000, 1e3) == pytest.approx(2 * once)
    assert plan.seconds(shape, usual, machine, 1000, 2e3) == pytest.approx(2 * once)
    assert plan.seconds(shape, usual.model_copy(update={"epochs": 6}), machine, 1000, 1e3) == pytest.approx(2 * once)
    assert plan.flops_per_token(shape, usual, 1000, full=True) > plan.flops_per_token(shape, usual, 1000)

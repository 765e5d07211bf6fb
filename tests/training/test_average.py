"""The mean of several runs' adapters: what it adds to a weight is the mean of what they add."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from agent.errors import InputError, UsageError
from training.average import average

KEY = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
OTHER = KEY.replace("lora_A", "lora_B")


def run(folder: Path, a: Any, b: Any, *, recipe: str = "skill = 'annotate'\nseed = 0\n", **summary: Any) -> Path:
    (folder / "adapter").mkdir(parents=True)
    weights = {KEY: np.asarray(a, dtype=np.float32), OTHER: np.asarray(b, dtype=np.float32)}
    save_file(weights, folder / "adapter" / "adapter_model.safetensors")
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps({"r": len(a), "lora_alpha": 4}))
    (folder / "recipe.toml").write_text(recipe)
    told = {"finished": True, "dataset_sha256": "d", "tokens": 10, "seconds": 2.0, "base": {"sha256": "b"}}
    (folder / "summary.json").write_text(json.dumps(told | summary))
    return folder


def product(folder: Path) -> Any:
    weights = load_file(folder / "adapter" / "adapter_model.safetensors")
    return weights[OTHER] @ weights[KEY]


def test_the_product_of_the_mean_is_the_mean_of_the_products(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    shared = draw.normal(size=(4, 12))  # the same rows in both, so that the mean has the rank of each
    runs = [run(tmp_path / str(n), shared, draw.normal(size=(9, 4)), recipe=f"seed = {n}\n") for n in (1, 2)]
    made = average(runs, tmp_path / "mean")
    wanted = (product(runs[0]) + product(runs[1])) / 2
    assert np.allclose(product(made.folder), wanted, atol=1e-5)
    assert made.lost < 1e-10
    summary = json.loads((made.folder / "summary.json").read_text())
    assert (summary["tokens"], summary["seconds"], summary["stopped"]) == (20, 4.0, "mean of 2 runs")


def test_what_does_not_fit_the_rank_is_cut_where_it_is_smallest_and_told(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    runs = [run(tmp_path / str(n), draw.normal(size=(3, 12)), draw.normal(size=(9, 3))) for n in (1, 2, 3)]
    made = average(runs, tmp_path / "mean")
    mean = sum(product(one) for one in runs) / 3
    sizes = np.linalg.svd(mean, compute_uv=False)
    assert made.lost == pytest.approx((sizes[3:] ** 2).sum() / (sizes**2).sum(), rel=1e-4)
    assert np.linalg.norm(product(made.folder) - mean) ** 2 == pytest.approx((sizes[3:] ** 2).sum(), rel=1e-3)


def test_runs_of_other_recipes_or_datasets_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "1", np.ones((2, 4)), np.ones((4, 2)))
    other = run(tmp_path / "2", np.ones((2, 4)), np.ones((4, 2)), recipe="skill = 'panel'\nseed = 0\n")
    elsewhere = run(tmp_path / "3", np.ones((2, 4)), np.ones((4, 2)), dataset_sha256="e")
    with pytest.raises(UsageError, match=r"differs from .* in skill"):
        average([first, other], tmp_path / "mean")
    with pytest.raises(UsageError, match="in dataset"):
        average([first, elsewhere], tmp_path / "mean")
    assert not (tmp_path / "mean").exists()


def test_unfinished_runs_one_run_and_a_taken_folder_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "1", np.ones((2, 4)), np.ones((4, 2)))
    broken = run(tmp_path / "2", np.ones((2, 4)), np.ones((4, 2)), finished=False)
    with pytest.raises(InputError, match="not finished"):
        average([first, broken], tmp_path / "mean")
    with pytest.raises(UsageError, match="two runs or more"):
        average([first, first], tmp_path / "mean")
    with pytest.raises(UsageError, match="already there"):
        average([first, broken], first)

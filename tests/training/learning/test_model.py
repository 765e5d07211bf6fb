"""A base with its adapter: what does not fit is told, and what is saved comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.errors import InputError, ModelUnavailable
from tests.training import tiny
from training import base
from training.learning import model
from training.learning.checkpoint import write_adapter

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny.write_base(tmp_path_factory.mktemp("base"))


def built(folder: Path, **changes: Any) -> Any:
    return model.build(tiny.recipe(folder, folder, **changes), base.find(str(folder)), CPU)


def test_an_adapter_comes_back_as_it_was_saved(folder: Path, tmp_path: Path) -> None:
    first, second = built(folder), built(folder, seed=1)
    trained = {name: weight for name, weight in first.named_parameters() if weight.requires_grad}
    for weight in trained.values():
        torch.nn.init.normal_(weight)
    write_adapter(tmp_path / "adapter", *model.save_adapter(first))
    model.load_adapter(second, tmp_path / "adapter")
    for name, weight in second.named_parameters():
        if name in trained:
            assert torch.equal(weight, trained[name])
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["inference_mode"]) == (4, 8.0, True)


def test_only_the_adapter_is_trained_and_in_full_precision(folder: Path) -> None:
    made = built(folder, precision="bf16")
    assert {weight.dtype for weight in made.parameters() if weight.requires_grad} == {torch.float32}
    assert {weight.dtype for weight in made.parameters() if not weight.requires_grad} == {torch.bfloat16}
    assert all("lora_" in name for name, weight in made.named_parameters() if weight.requires_grad)
    assert not any("lm_head" in name for name, weight in made.named_parameters() if weight.requires_grad)


def test_an_adapter_of_other_layers_or_another_rank_is_refused(folder: Path, tmp_path: Path) -> None:
    write_adapter(tmp_path / "wide", *model.save_adapter(built(folder)))
    with pytest.raises(InputError, match=r"is of another shape, e.g. .*lora_"):
        model.load_adapter(built(folder, lora={"r": 4, "targets": ["q_proj"]}), tmp_path / "wide")
    with pytest.raises(InputError, match="cannot be used"):
        model.load_adapter(built(folder, lora={"r": 8}), tmp_path / "wide")
    with pytest.raises(InputError, match="cannot be used"):
        model.load_adapter(built(folder), tmp_path)
    with pytest.raises(InputError, match=r"adapter_config.json cannot be read"):
        built(folder, start=str(tmp_path))


def test_a_base_that_does_not_load_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 16)
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    with pytest.raises(ModelUnavailable, match=r"the base .* cannot be loaded"):
        built(tmp_path)


def test_a_model_that_changes_its_logits_is_refused(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"final_logit_softcapping": 30.0}))
    with pytest.raises(InputError, match="changes its logits"):
        built(tmp_path)


def test_cuda_is_not_asked_for_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert model.choose_device("auto") == CPU
    with pytest.raises(ModelUnavailable, match="torch sees no GPU"):
        model.choose_device("cuda")

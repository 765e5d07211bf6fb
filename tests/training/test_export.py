"""What is exported computes in llama.cpp what it computed in transformers; what cannot be exported is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from agent.errors import ApprenticeError, InputError, OutputError
from agent.models.embedded import find
from agent.models.gguf_file import sha256
from agent.settings import Settings
from tests.training import adapters, tiny
from training import agreement, export

TEXTS = adapters.TEXTS


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base, its GGUF file and an adapter on all its linear layers."""
    folder = tmp_path_factory.mktemp("llama")
    tiny.write_base(folder / "base")
    export.model_gguf(folder / "base", None, folder / "base.gguf", "F16")
    adapters.write_adapter(folder / "base", folder / "adapter")
    return folder


@pytest.mark.llama
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("llama", {}),
        ("llama", {"rope_parameters": adapters.LLAMA3, "attention_bias": True}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 32, "tie_word_embeddings": True}),
    ],
    ids=["llama", "llama-3.1", "qwen2", "qwen3"],
)
def test_base_and_adapter_say_the_same_in_llama_cpp_as_in_transformers(
    kind: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    folder = adapters.write_base(tmp_path / "base", kind, **changes)
    adapter = adapters.write_adapter(folder, tmp_path / "adapter")
    model = export.model_gguf(folder, None, tmp_path / "base.gguf", "F32").path
    converted = export.adapter_gguf(adapter, model, tmp_path / "adapter.gguf", dtype="f32")
    found = agreement.compare(model, converted, folder, adapter, TEXTS, 400)
    assert found.tokens == 400
    assert found.holds, found
    assert found.mean_difference < 1e-3
    without = agreement.compare(model, None, folder, adapter, TEXTS, 100)
    assert without.mean_difference > 0.05, "the adapter must be one that matters"


@pytest.mark.llama
def test_the_embedded_base_with_an_adapter_in_f16_agrees_with_transformers(tmp_path: Path) -> None:
    embedded = find(Settings())
    folder = adapters.dequantised(embedded, tmp_path / "base")
    adapter = adapters.write_adapter(folder, tmp_path / "adapter", size=0.02, r=8, lora_alpha=16)
    converted = export.adapter_gguf(adapter, embedded, tmp_path / "adapter.gguf")
    model = export.model_gguf(embedded, None, tmp_path / "base.gguf", "F16").path
    found = agreement.compare(model, converted, folder, adapter, TEXTS, 100)
    assert found.holds, found
    assert found.mean_difference < 0.02


@pytest.mark.llama
@pytest.mark.parametrize("form", ["peft", "gguf"])
def test_a_merged_model_is_base_and_adapter_in_one(llama: Path, tmp_path: Path, form: str) -> None:
    adapter = llama / "adapter"
    if form == "gguf":
        adapter = export.adapter_gguf(adapter, llama / "base.gguf", tmp_path / "adapter.gguf", dtype="f32")
    merged = export.model_gguf(llama / "base.gguf", adapter, tmp_path / "merged.gguf", "F32")
    assert (merged.quantisation, merged.note) == ("F32", "")
    found = agreement.compare(merged.path, None, llama / "base", llama / "adapter", TEXTS, 200)
    assert found.holds, found


@pytest.mark.llama
def test_a_quantised_model_is_near_the_whole_one(llama: Path, tmp_path: Path) -> None:
    told: list[str] = []
    merged = export.model_gguf(llama / "base", llama / "adapter", tmp_path / "m.gguf", "Q8_0", tell=told.append)
    kinds = {tensor.tensor_type.name for tensor in gguf.GGUFReader(merged.path).tensors if len(tensor.shape) > 1}
    assert kinds == {"Q8_0"}
    assert told[-1] == "quantising to Q8_0"
    found = agreement.compare(merged.path, None, llama / "base", llama / "adapter", TEXTS, 200)
    assert found.share > 0.8
    assert 0.001 < found.mean_difference < 0.02
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.llama
def test_q4_k_m_is_written_where_its_blocks_divide_the_rows(tmp_path: Path) -> None:
    folder = adapters.write_base(tmp_path / "base", "llama", hidden_size=256, intermediate_size=512)
    made = export.model_gguf(folder, None, tmp_path / "m.gguf", "Q4_K_M")
    assert (made.quantisation, made.note) == ("Q4_K_M", "")
    kinds = {tensor.tensor_type.name for tensor in gguf.GGUFReader(made.path).tensors if len(tensor.shape) > 1}
    assert "Q4_K" in kinds


@pytest.mark.parametrize(
    ("wanted", "shapes", "chosen"),
    [
        ("Q4_K_M", [(8, 512), (512, 256), (256,)], "Q4_K_M"),
        ("Q4_K_M", [(8, 512), (512, 576)], "Q8_0"),
        ("Q8_0", [(8, 48)], "F16"),
        ("F32", [(8, 48)], "F32"),
    ],
)
def test_the_next_finer_quantisation_is_taken_where_blocks_do_not_divide_rows(
    wanted: export.Quantisation, shapes: list[tuple[int, ...]], chosen: str
) -> None:
    assert export.fitting(wanted, shapes) == chosen


def test_the_fall_back_is_told(llama: Path, tmp_path: Path) -> None:
    made = export.model_gguf(llama / "base.gguf", None, tmp_path / "m.gguf", "Q4_K_M")
    assert made.quantisation == "Q8_0"
    assert made.note == "Q4_K_M does not divide the rows of base.gguf; it is Q8_0"


def test_metadata_tokenizer_and_template_of_a_gguf_base_are_carried_over(llama: Path, tmp_path: Path) -> None:
    made = export.model_gguf(llama / "base.gguf", llama / "adapter", tmp_path / "m.gguf", "F16").path
    before, after = (gguf.GGUFReader(path).fields for path in (llama / "base.gguf", made))
    assert {key for key in before if key.startswith(("tokenizer", "llama"))} <= after.keys()
    assert {
        key
        for key, field in before.items()
        if not key.startswith("GGUF.") and field.contents() != after[key].contents()
    } == set()


@pytest.mark.llama
@pytest.mark.parametrize(
    "lora",
    [
        {"r": 4, "use_rslora": True},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.up_proj": 3}},
        {"target_modules": ["q_proj", "v_proj"]},
    ],
    ids=["rslora", "patterns", "q and v"],
)
def test_pefts_scales_are_kept(llama: Path, tmp_path: Path, lora: dict[str, Any]) -> None:
    adapter = adapters.write_adapter(llama / "base", tmp_path / "adapter", **lora)
    converted = export.adapter_gguf(adapter, llama / "base.gguf", tmp_path / "adapter.gguf", dtype="f32")
    found = agreement.compare(llama / "base.gguf", converted, llama / "base", adapter, TEXTS, 100)
    assert found.holds, found
    assert found.mean_difference < 2e-3


@pytest.mark.llama
def test_q8_0_takes_the_matrices_whose_rows_it_divides(llama: Path, tmp_path: Path) -> None:
    converted = export.adapter_gguf(llama / "adapter", llama / "base.gguf", tmp_path / "a.gguf", dtype="q8_0")
    kinds = {t.name.rpartition(".")[2]: t.tensor_type.name for t in gguf.GGUFReader(converted).tensors}
    assert kinds == {"lora_a": "Q8_0", "lora_b": "F16"}
    found = agreement.compare(llama / "base.gguf", converted, llama / "base", llama / "adapter", TEXTS, 100)
    assert found.mean_difference < 0.05


def test_an_adapter_says_which_base_it_is_for(llama: Path, tmp_path: Path) -> None:
    converted = export.adapter_gguf(llama / "adapter", llama / "base.gguf", tmp_path / "a.gguf")
    fields = {key: field.contents() for key, field in gguf.GGUFReader(converted).fields.items()}
    assert fields["general.type"] == "adapter"
    assert fields["adapter.type"] == "lora"
    assert fields["adapter.lora.alpha"] == 8.0
    assert fields["apprentice.base.sha256"] == sha256(llama / "base.gguf")


def test_an_adapter_in_bfloat16_is_read(llama: Path, tmp_path: Path) -> None:
    half = copied(llama / "adapter", tmp_path / "half")
    weights = half / "adapter_model.safetensors"
    save_file({key: value.bfloat16() for key, value in load_file(weights).items()}, weights)
    made = [export.adapter_gguf(a, llama / "base.gguf", tmp_path / f"{a.name}.gguf") for a in (half, llama / "adapter")]
    one, other = ({t.name: t.data.astype(np.float32) for t in gguf.GGUFReader(path).tensors} for path in made)
    assert all(np.allclose(one[name], other[name], atol=0.01) for name in other)


def test_a_gguf_adapter_goes_back_to_peft_as_it_was(llama: Path, tmp_path: Path) -> None:
    converted = export.adapter_gguf(llama / "adapter", llama / "base.gguf", tmp_path / "adapter.gguf", dtype="f32")
    (tmp_path / "card.json").write_text('{"dataset": {"documents": ["d"]}}')
    back = export.peft_adapter(converted, llama / "base.gguf", tmp_path / "back")
    before, after = (load_file(folder / "adapter_model.safetensors") for folder in (llama / "adapter", back))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert (back / "card.json").read_text() == '{"dataset": {"documents": ["d"]}}'
    again = export.peft_adapter(converted, llama / "base.gguf", tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter.gguf", "back", "card.json"]
    model = agreement._reference(llama / "base", again)
    assert model.config.hidden_size == 64


def copied(adapter: Path, to: Path, **config: Any) -> Path:
    """An adapter's folder with other entries in its configuration."""
    to.mkdir()
    (to / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    entries = json.loads((adapter / "adapter_config.json").read_text())
    (to / "adapter_config.json").write_text(json.dumps(entries | config))
    return to


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"modules_to_save": ["lm_head"]}, "whole modules (lm_head)"),
        ({"use_dora": True}, "DoRA's magnitudes"),
        ({"bias": "all"}, "the base's biases"),
        ({"peft_type": "IA3"}, "is a IA3"),
        ({"lora_alpha": 0}, "alpha 0, not a LoRA"),
    ],
)
def test_what_llama_cpp_cannot_hold_is_refused(llama: Path, tmp_path: Path, config: dict[str, Any], said: str) -> None:
    adapter = copied(llama / "adapter", tmp_path / "other", **config)
    refuse(adapter, llama / "base.gguf", tmp_path / "out.gguf", said)


@pytest.mark.parametrize("module", ["lm_head", "model.embed_tokens", "model.layers.0.self_attn.strange_proj"])
def test_an_adapter_of_other_modules_is_refused(llama: Path, tmp_path: Path, module: str) -> None:
    adapter = copied(llama / "adapter", tmp_path / "other")
    pair = {f"base_model.model.{module}.lora_{name}.weight": torch.ones(4, 4) for name in "AB"}
    save_file(load_file(adapter / "adapter_model.safetensors") | pair, adapter / "adapter_model.safetensors")
    refuse(adapter, llama / "base.gguf", tmp_path / "out.gguf", f"adapts {module}")


def test_embedding_matrices_are_refused(llama: Path, tmp_path: Path) -> None:
    adapter = copied(llama / "adapter", tmp_path / "other")
    more = {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 4)}
    save_file(load_file(adapter / "adapter_model.safetensors") | more, adapter / "adapter_model.safetensors")
    refuse(adapter, llama / "base.gguf", tmp_path / "out.gguf", "lora_embedding_A, which llama.cpp's form cannot")


@pytest.mark.parametrize("value", [float("nan"), 1e6])
def test_weights_that_f16_cannot_hold_are_refused(llama: Path, tmp_path: Path, value: float) -> None:
    adapter = copied(llama / "adapter", tmp_path / "other")
    weights = load_file(adapter / "adapter_model.safetensors")
    weights[min(weights)][0, 0] = value
    save_file(weights, adapter / "adapter_model.safetensors")
    refuse(adapter, llama / "base.gguf", tmp_path / "out.gguf", "holds values that F16 does not")


def test_an_adapter_of_another_base_is_refused_with_both_shapes(llama: Path, tmp_path: Path) -> None:
    wide = tiny.write_base(tmp_path / "wide", hidden=128)
    adapter = adapters.write_adapter(wide, tmp_path / "adapter")
    refuse(adapter, llama / "base.gguf", tmp_path / "out.gguf", "of another base", "128")
    deep = adapters.write_adapter(tiny.write_base(tmp_path / "deep", layers=3), tmp_path / "deeper")
    refuse(deep, llama / "base.gguf", tmp_path / "out.gguf", "model.layers.2")


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_without_a_file_is_refused(llama: Path, tmp_path: Path, missing: str) -> None:
    adapter = copied(llama / "adapter", tmp_path / "other")
    (adapter / missing).unlink()
    refuse(adapter, llama / "base.gguf", tmp_path / "out.gguf", missing)


def refuse(adapter: Path, model: Path, out: Path, *said: str) -> None:
    with pytest.raises(InputError) as raised:
        export.adapter_gguf(adapter, model, out)
    assert [text for text in said if text not in raised.value.in_one_line] == []
    assert not out.exists()


def test_a_base_that_is_no_gguf_or_of_another_architecture_is_refused(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    refuse(llama / "adapter", tmp_path / "text.gguf", tmp_path / "out.gguf", "cannot be read as GGUF")
    writer = gguf.GGUFWriter(tmp_path / "gemma.gguf", "gemma")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    refuse(llama / "adapter", tmp_path / "gemma.gguf", tmp_path / "out.gguf", "'gemma'", "llama, qwen2, qwen3")


def test_an_adapters_gguf_of_another_architecture_is_refused(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no adapter for a llama model"):
        export.model_gguf(llama / "base.gguf", llama / "base.gguf", tmp_path / "out.gguf", "F16")
    (tmp_path / "a.gguf").write_text("no")
    with pytest.raises(InputError, match="cannot be read"):
        export.model_gguf(llama / "base.gguf", tmp_path / "a.gguf", tmp_path / "out.gguf", "F16")


def test_a_full_disk_leaves_what_was_there(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "adapter.gguf"
    out.write_text("the old one")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OutputError, match="No space left") as raised:
        export.adapter_gguf(llama / "adapter", llama / "base.gguf", out)
    assert "disk is full" in raised.value.hint
    assert out.read_text() == "the old one"
    assert [path.name for path in tmp_path.iterdir()] == ["adapter.gguf"]
    with pytest.raises(OutputError, match="cannot be written"):
        export.peft_adapter(exported(llama), llama / "base.gguf", Path("/dev/null/adapter"))


def exported(llama: Path) -> Path:
    """An adapter's GGUF file, made before the disk was full."""
    from training.convert.layout import Layout
    from training.convert.lora import read_peft

    path = llama / "kept.gguf"
    if not path.exists():
        lora = read_peft(llama / "adapter", Layout("llama", 2, 4, 2))
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_type("adapter")
        writer.add_float32("adapter.lora.alpha", lora.alpha)
        for name, pair in lora.pairs.items():
            for suffix, matrix in zip(("lora_a", "lora_b"), pair, strict=True):
                writer.add_tensor(f"{name}.{suffix}", matrix)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for pair in lora.pairs.values():
            for matrix in pair:
                writer.write_tensor_data(matrix)
        writer.close()
    return path


def test_a_model_that_llama_cpp_does_not_quantise_is_told(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(export.FILE_TYPES, "Q8_0", 9999)
    with pytest.raises(OutputError, match="did not quantise"):
        export.model_gguf(llama / "base.gguf", None, tmp_path / "m.gguf", "Q8_0")
    assert list(tmp_path.iterdir()) == []


def test_what_llama_cpp_cannot_load_cannot_be_compared(llama: Path, tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    with pytest.raises(ApprenticeError, match="cannot load"):
        agreement.compare(tmp_path / "text.gguf", None, llama / "base", None, TEXTS, 10)
    with pytest.raises(ApprenticeError, match="cannot load the adapter"):
        agreement.compare(llama / "base.gguf", tmp_path / "text.gguf", llama / "base", None, TEXTS, 10)


def test_agreement_holds_for_nearly_all_the_same_or_for_toss_ups_only() -> None:
    assert agreement.Agreement(1000, 990, 3.0, 0.1).holds
    assert agreement.Agreement(1000, 900, 0.04, 0.1).holds
    assert not agreement.Agreement(1000, 989, 0.05, 0.1).holds
    assert not agreement.Agreement(0, 0, 0.0, 0.0).holds
    assert str(agreement.Agreement(1000, 990, 0.5, 0.1)).startswith("990 of 1000 next tokens agree (99.00%)")

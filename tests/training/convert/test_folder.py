"""Folders in the hub's format: the tokenizer cuts as before, and what is not known is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.errors import InputError
from tests.training import adapters, tiny
from training import agreement, export

pytestmark = pytest.mark.llama
PROBES = ["At 13.13% of 1,250 cases, µ-tuned  models.\n", "<|im_start|>user\nHi<|im_end|>\n", "naïve 日本語 😀"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("folder") / "base")


def changed(base: Path, to: Path, file: str, **entries: Any) -> Path:
    """A copy of a base with other entries in one of its files."""
    to.mkdir()
    for path in base.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    content = json.loads((to / file).read_text())
    (to / file).write_text(json.dumps(content | entries))
    return to


def test_llama_cpp_cuts_texts_as_the_folders_tokenizer_does(base: Path, tmp_path: Path) -> None:
    made = export.model_gguf(base, None, tmp_path / "m.gguf", "F16").path
    tokenizer = tiny.tokenizer()
    with agreement._Served(made, None) as served:
        for text in [*PROBES, *adapters.TEXTS[:5]]:
            assert served.tokenize(text) == tokenizer(text)["input_ids"], text


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([{"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "use_regex": True}], "smollm"),
        ([{"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}| ?"}}, {"type": "ByteLevel"}], "qwen2"),
        ([{"type": "Split", "pattern": {"Regex": r"\p{L}+|\p{N}{1,3}| ?"}}, {"type": "ByteLevel"}], "llama-bpe"),
    ],
)
def test_the_way_of_cutting_is_recognised(base: Path, tmp_path: Path, steps: list[Any], name: str) -> None:
    import gguf

    cut = {"type": "Sequence", "pretokenizers": steps}
    folder = changed(base, tmp_path / "base", "tokenizer.json", pre_tokenizer=cut)
    made = export.model_gguf(folder, None, tmp_path / "m.gguf", "F16").path
    assert gguf.GGUFReader(made).fields["tokenizer.ggml.pre"].contents() == name


@pytest.mark.parametrize(
    ("file", "entries", "said"),
    [
        ("config.json", {"model_type": "gemma3"}, "'gemma3'"),
        ("config.json", {"num_hidden_layers": None}, "lacks"),
        ("config.json", {"rope_parameters": {"rope_type": "yarn"}}, "positions by 'yarn'"),
        ("config.json", {"rope_scaling": {"type": "linear"}, "rope_parameters": None}, "positions by 'linear'"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}, "no byte-level BPE"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"String": " "}}, {"type": "ByteLevel"}]}}, "has no name for"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused(
    base: Path, tmp_path: Path, file: str, entries: dict[str, Any], said: str
) -> None:
    folder = changed(base, tmp_path / "base", file, **entries)
    with pytest.raises(InputError, match=said):
        export.model_gguf(folder, None, tmp_path / "m.gguf", "F16")
    assert not (tmp_path / "m.gguf").exists()


def test_a_folder_that_is_not_whole_is_refused(base: Path, tmp_path: Path) -> None:
    folder = changed(base, tmp_path / "base", "config.json")
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        export.model_gguf(folder, None, tmp_path / "m.gguf", "F16")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="holds no safetensors"):
        export.model_gguf(folder, None, tmp_path / "m.gguf", "F16")
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json cannot be read"):
        export.model_gguf(folder, None, tmp_path / "m.gguf", "F16")


def test_weights_that_the_architecture_does_not_have_are_refused(base: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = changed(base, tmp_path / "base", "config.json")
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"vision.patch.weight": torch.ones(2, 2)}, path)
    with pytest.raises(InputError, match="a llama GGUF does not have"):
        export.model_gguf(folder, None, tmp_path / "m.gguf", "F16")

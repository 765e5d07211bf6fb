"""A model's folder in the format of Hugging Face's hub, read as GGUF would hold it: config, tokenizer, safetensors."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from agent.errors import InputError
from training.convert.base import Base, Weight
from training.convert.layout import Floats, Layout

DIGITS = {r"\p{N}{1,3}": "llama-bpe", r"\p{N}": "qwen2"}
"""How a tokenizer's pattern takes digits, longest first, and what llama.cpp calls such a tokenizer."""


def read_folder(folder: Path) -> Base:
    """Read a folder with config.json, tokenizer.json and safetensors.

    Raises:
        InputError: a file is missing or damaged, or its architecture, tokenizer or position embedding is not known.
    """
    config = _json(folder / "config.json")
    layout = Layout.of_config(config, str(folder))
    scaling = _rope(config)
    if scaling.get("rope_type", "default") not in ("default", "llama3"):
        raise InputError(f"{folder} scales its positions by {scaling['rope_type']!r}, which is not exported here")
    weights = _weights(folder, config, layout)
    if scaling.get("rope_type") == "llama3":
        weights.append(_rope_factors(config, scaling))

    def describe(writer: gguf.GGUFWriter) -> None:
        _hyperparameters(writer, config, layout, folder.name)
        _tokenizer(writer, folder, int(config["vocab_size"]))

    return Base(str(folder), layout, describe, weights)


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "Give a whole model's folder.") from None


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """The position embedding's settings: one table since transformers 5, two keys before."""
    old = config.get("rope_scaling") or {}
    kind = {"rope_type": old["type"]} if "type" in old else {}
    base = {"rope_theta": config.get("rope_theta", 10_000.0)}
    return {**base, **kind, **old, **(config.get("rope_parameters") or {})}


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _hyperparameters(writer: gguf.GGUFWriter, config: Mapping[str, Any], layout: Layout, name: str) -> None:
    head = _head_size(config)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_block_count(layout.blocks)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(layout.heads)
    writer.add_head_count_kv(layout.kv_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(_rope(config)["rope_theta"]))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def _rope_factors(config: Mapping[str, Any], scaling: Mapping[str, Any]) -> Weight:
    """Llama 3.1's slower turning of low frequencies, as llama.cpp reads it: a divisor for each pair of a head."""
    head = _head_size(config)
    factor, context = scaling["factor"], scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]

    def divisor(wavelength: float) -> float:
        if wavelength < context / high:
            return 1.0
        if wavelength > context / low:
            return float(factor)
        smooth = (context / wavelength - low) / (high - low)
        return float(1 / ((1 - smooth) / factor + smooth))

    waves = [2 * math.pi * scaling["rope_theta"] ** (turn / head) for turn in range(0, head, 2)]
    return Weight("rope_freqs.weight", (head // 2,), lambda: np.array([divisor(wave) for wave in waves], np.float32))


def _weights(folder: Path, config: Mapping[str, Any], layout: Layout) -> list[Weight]:
    """Every weight of the safetensors, under GGUF's names. A tied lm_head is the embedding and not written twice."""
    from safetensors import SafetensorError, safe_open

    found: dict[str, Weight] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as tensors:
                shapes = {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read: {error}", "Fetch the file again.") from None
        for key, shape in shapes.items():
            if key.endswith("rotary_emb.inv_freq") or (key == "lm_head.weight" and config.get("tie_word_embeddings")):
                continue
            module, _, kind = key.rpartition(".")
            name = layout.gguf_name(module)
            if name is None or kind not in ("weight", "bias"):
                raise InputError(f"{path} holds {key}, which a {layout.architecture} GGUF does not have")
            found[key] = Weight(f"{name}.{kind}", shape, _reading(path, key, f"{name}.{kind}", layout))
    if not found:
        raise InputError(f"{folder} holds no safetensors", "Weights are read only from safetensors or GGUF.")
    return list(found.values())


def _reading(path: Path, key: str, name: str, layout: Layout) -> Callable[[], Floats]:
    def read() -> Floats:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as tensors:
            return layout.permuted(name, tensors.get_tensor(key).float().numpy())

    return read


def _tokenizer(writer: gguf.GGUFWriter, folder: Path, size: int) -> None:
    """A byte-level BPE tokenizer: tokens, types, merges, special ids, chat template.

    Args:
        size: rows of the embedding; what the tokenizer does not fill is padded with tokens that never occur.
    """
    content = _json(folder / "tokenizer.json")
    if content.get("model", {}).get("type") != "BPE" or "ByteLevel" not in json.dumps(content.get("pre_tokenizer")):
        raise InputError(f"the tokenizer of {folder} is no byte-level BPE, the only kind that is exported here")
    tokens = [f"[PAD{number}]" for number in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    for text, number in content["model"]["vocab"].items():
        tokens[number], types[number] = text, gguf.TokenType.NORMAL
    for added in content.get("added_tokens", []):
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], kind
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(content, folder))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    gguf.SpecialVocab(folder, load_merges=True, n_vocab=size).add_to_gguf(writer, quiet=True)


def _pre_tokenizer(content: Mapping[str, Any], folder: Path) -> str:
    """llama.cpp's name for how a text is cut before the merges."""
    steps = content["pre_tokenizer"].get("pretokenizers", [content["pre_tokenizer"]])
    if any(step["type"] == "Digits" and step.get("individual_digits") for step in steps):
        return "smollm"
    pattern = next((step["pattern"].get("Regex", "") for step in steps if step["type"] == "Split"), "")
    for digits, name in DIGITS.items():
        if digits in pattern:
            return name
    if [step["type"] for step in steps] == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt-2"
    raise InputError(f"the tokenizer of {folder} cuts texts in a way that llama.cpp has no name for here")

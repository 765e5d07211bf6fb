"""A LoRA adapter in memory, read from a folder as peft writes it or from a GGUF file, and written as GGUF.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021: a weight W becomes W + (alpha / rank) B A.
llama.cpp reads `general.type` adapter, `adapter.type` lora, `adapter.lora.alpha`, and two tensors for each weight,
`NAME.weight.lora_a` of shape (rank, in features) and `NAME.weight.lora_b` of shape (out features, rank).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from agent.errors import InputError
from training.convert.atomic import replacing
from training.convert.layout import Floats, Layout

BASE_KEY = "apprentice.base.sha256"
"""Our own key in an adapter's file: the SHA-256 of the base GGUF that it was made for. llama.cpp passes over it."""
PREFIX = "base_model.model."
REFUSED = {
    "modules_to_save": "whole modules ({value}) beside its low-rank matrices",
    "use_dora": "DoRA's magnitudes",
    "fan_in_fan_out": "transposed weights",
    "lora_bias": "biases in its matrices",
    "trainable_token_indices": "single tokens' embeddings",
}
"""Settings of peft that llama.cpp's form of an adapter cannot hold, and how that is said."""


@dataclass(frozen=True)
class Lora:
    """An adapter with its rows in GGUF's order.

    Args:
        layout: of the base.
        alpha: the numerator of the scale; the denominator is each pair's rank.
        pairs: by the weight's name in GGUF (`blk.0.attn_q.weight`): A (rank, in features) and B (out features, rank).
    """

    layout: Layout
    alpha: float
    pairs: dict[str, tuple[Floats, Floats]]

    @property
    def rank(self) -> int:
        """The largest rank of its pairs."""
        return max(len(a) for a, _ in self.pairs.values())

    def delta(self, name: str) -> Floats | None:
        """What is added to the weight of this name, shape (out features, in features); None if nothing is."""
        pair = self.pairs.get(name)
        if pair is None:
            return None
        a, b = pair
        return np.asarray(self.alpha / len(a) * (b @ a), dtype=np.float32)


def read_peft(folder: Path, layout: Layout) -> Lora:
    """Read `adapter_config.json` and `adapter_model.safetensors`.

    rsLoRA and peft's patterns of ranks and alphas, which GGUF does not know, are worked into B.

    Raises:
        InputError: a file is missing or damaged, or it holds what llama.cpp's form of an adapter cannot.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    config = _config(folder)
    path = folder / "adapter_model.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}", "Give the folder `adapter` of a training run.") from None
    except TypeError:  # NumPy knows no bfloat16
        tensors = _as_float32(path)
    alpha = float(config["lora_alpha"])
    pairs: dict[str, tuple[Floats, Floats]] = {}
    for key in sorted(key for key in tensors if key.endswith(".lora_A.weight")):
        module = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        name = _weight_name(module, layout, folder)
        a = tensors.pop(key).astype(np.float32)
        b = tensors.pop(key.replace(".lora_A.", ".lora_B.")).astype(np.float32)
        b *= _scale(config, module, len(a)) * len(a) / alpha
        pairs[name] = (a, layout.permuted(name, b))
    if tensors:
        raise InputError(f"the adapter {folder} holds {min(tensors)}, which llama.cpp's form cannot", _TRAIN_PLAIN)
    return _checked(Lora(layout, alpha, pairs), folder)


_TRAIN_PLAIN = "Train a plain LoRA on the linear layers between embedding and lm_head."


def read_gguf(path: Path, layout: Layout) -> Lora:
    """Read an adapter's GGUF file. Raises InputError if it is none, or for another architecture."""
    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"the adapter {path} cannot be read: {error}", "Give an adapter in GGUF form.") from None
    fields = {key: field.contents() for key, field in reader.fields.items()}
    if fields.get("general.type") != "adapter" or fields.get("general.architecture") != layout.architecture:
        raise InputError(f"{path} is no adapter for a {layout.architecture} model", "Give the adapter of this base.")
    found = {tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}
    names = [name.removesuffix(".lora_a") for name in found if name.endswith(".lora_a")]
    pairs = {name: (found[f"{name}.lora_a"], found[f"{name}.lora_b"]) for name in names}
    return Lora(layout, float(fields["adapter.lora.alpha"]), pairs)


def write_gguf(lora: Lora, out: Path, dtype: str, base_sha256: str) -> None:
    """Write an adapter as llama.cpp reads it. A matrix whose rows q8_0 cannot divide (blocks of 32) stays in f16.

    Args:
        dtype: f32, f16 or q8_0.

    Raises:
        InputError: a weight is too large for f16.
        OutputError: the file cannot be written.
    """
    with replacing(out) as partial:
        writer = gguf.GGUFWriter(partial, lora.layout.architecture)
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", lora.alpha)
        writer.add_string(BASE_KEY, base_sha256)
        for name, (a, b) in lora.pairs.items():
            for suffix, matrix in (("lora_a", a), ("lora_b", b)):
                kind = _kind(dtype, matrix)
                writer.add_tensor(f"{name}.{suffix}", encode(matrix, kind, name), raw_dtype=kind)
        try:
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def write_peft(lora: Lora, folder: Path) -> None:
    """Write an adapter as peft does, into a folder that is there.

    Raises:
        InputError: it adapts a weight that is no linear layer of a block.
    """
    from safetensors.numpy import save_file

    tensors = {}
    if len({len(a) for a, _ in lora.pairs.values()}) > 1:
        raise InputError("the adapter has more than one rank, which is not written for peft here", _TRAIN_PLAIN)
    for name, (a, b) in lora.pairs.items():
        module = lora.layout.module_name(name)
        if module is None:
            raise InputError(f"the adapter adapts {name}, which is no linear layer of a block", _TRAIN_PLAIN)
        tensors[f"{PREFIX}{module}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = np.ascontiguousarray(lora.layout.unpermuted(name, b))
    modules = {str(lora.layout.module_name(name)).rpartition(".")[2] for name in lora.pairs}
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha.is_integer() else lora.alpha,
        "target_modules": sorted(modules),
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def encode(matrix: Floats, kind: gguf.GGMLQuantizationType, name: str) -> Any:
    """A tensor's data in one of GGUF's types. Raises InputError if a value is infinite there, or not a number."""
    with np.errstate(over="ignore"):
        data = gguf.quants.quantize(matrix, kind)
    if not np.isfinite(data if data.dtype.kind == "f" else matrix).all():
        raise InputError(f"{name} holds values that {kind.name} does not", "The training diverged: train it again.")
    return data


def _kind(dtype: str, matrix: Floats) -> gguf.GGMLQuantizationType:
    kind = gguf.GGMLQuantizationType[dtype.upper()]
    block = gguf.GGML_QUANT_SIZES[kind][0]
    return kind if matrix.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "adapter_config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
        kind, alpha = config["peft_type"], float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no adapter's configuration: {error}", "Give a run's folder `adapter`.") from None
    if kind != "LORA" or not alpha:
        raise InputError(f"the adapter {folder} is a {kind} with alpha {alpha:g}, not a LoRA", _TRAIN_PLAIN)
    for key, what in REFUSED.items():
        if config.get(key):
            said = what.format(value=", ".join(config[key]) if isinstance(config[key], list) else "")
            raise InputError(f"the adapter {folder} holds {said}, which llama.cpp's form cannot", _TRAIN_PLAIN)
    if config.get("bias", "none") != "none":
        raise InputError(f"the adapter {folder} holds the base's biases, which llama.cpp's form cannot", _TRAIN_PLAIN)
    return dict(config)


def _weight_name(module: str, layout: Layout, folder: Path) -> str:
    if module.split(".")[-1] in ("lm_head", "embed_tokens"):
        raise InputError(f"the adapter {folder} adapts {module}, which llama.cpp's form cannot hold", _TRAIN_PLAIN)
    name = layout.gguf_name(module)
    if name is None:
        raise InputError(f"the adapter {folder} adapts {module}, which a {layout.architecture} GGUF does not have")
    return f"{name}.weight"


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """peft's own scale of a module. A pattern is a module's name, the end of one, or a regular expression."""
    alpha = float(config["lora_alpha"])
    if patterns := config.get("alpha_pattern"):
        from peft.utils.other import get_pattern_key

        alpha = float(patterns.get(get_pattern_key(patterns.keys(), module), alpha))
    return alpha / rank**0.5 if config.get("use_rslora") else alpha / rank


def _as_float32(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {key: tensor.float().numpy() for key, tensor in load_file(path).items()}


def _checked(lora: Lora, folder: Path) -> Lora:
    if not lora.pairs:
        raise InputError(f"the adapter {folder} holds no LoRA matrices", "Give the folder `adapter` of a run.")
    return lora

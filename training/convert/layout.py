"""What the parts of a model are called in safetensors and in GGUF, and which rows change places between them.

llama.cpp turns pairs of neighbours where transformers turns halves (rotary position embedding), so files of the llama
architecture hold the rows of the queries and keys in another order. Qwen's do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from agent.errors import InputError

Floats = npt.NDArray[np.float32]
ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
"""The architectures whose names and rows are known here."""
LINEAR = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)
"""The linear layers of a block, which an adapter may be on."""


@dataclass(frozen=True)
class Layout:
    """The shape of a model, as far as names and rows depend on it.

    Args:
        architecture: one of ARCHITECTURES.
        blocks: how many layers.
        heads: attention heads of the queries.
        kv_heads: attention heads of the keys and values.
    """

    architecture: str
    blocks: int
    heads: int
    kv_heads: int

    @classmethod
    def of_gguf(cls, fields: Mapping[str, Any], name: str) -> Layout:
        """From the metadata of a GGUF file (key to value). Raises InputError if its architecture is not known."""
        architecture = known_architecture(str(fields.get("general.architecture", "")), name)
        try:
            heads = int(fields[f"{architecture}.attention.head_count"])
            kv_heads = int(fields.get(f"{architecture}.attention.head_count_kv", heads))
            return cls(architecture, int(fields[f"{architecture}.block_count"]), heads, kv_heads)
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{name} does not say how many layers and heads it has", "Fetch the file again.") from None

    @classmethod
    def of_config(cls, config: Mapping[str, Any], name: str) -> Layout:
        """From a config.json of transformers. Raises InputError if its model type is not known, or a key is missing."""
        architecture = known_architecture(str(config.get("model_type", "")), name)
        try:
            heads = int(config["num_attention_heads"])
            kv_heads = int(config.get("num_key_value_heads") or heads)
            return cls(architecture, int(config["num_hidden_layers"]), heads, kv_heads)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{name} lacks {error}", "Fetch the model's config.json again.") from None

    def gguf_name(self, module: str) -> str | None:
        """A module's name in GGUF, e.g. `blk.0.attn_q` for `model.layers.0.self_attn.q_proj`; None if it has none."""
        found = self._names.get_name(module)
        return None if found is None else str(found)

    def permuted(self, tensor: str, rows: Floats) -> Floats:
        """The rows of a weight, of a bias or of a LoRA's B in GGUF's order.

        Args:
            tensor: its name in GGUF, e.g. `blk.0.attn_q.weight`.
            rows: as transformers has them, shape (out features, ...).
        """
        heads = {"attn_q": self.heads, "attn_k": self.kv_heads}.get(tensor.split(".")[-2])
        if self.architecture != "llama" or heads is None:
            return rows
        halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))

    def unpermuted(self, tensor: str, rows: Floats) -> Floats:
        """What `permuted` made, in transformers' order again."""
        heads = {"attn_q": self.heads, "attn_k": self.kv_heads}.get(tensor.split(".")[-2])
        if self.architecture != "llama" or heads is None:
            return rows
        pairs = rows.reshape(heads, len(rows) // heads // 2, 2, *rows.shape[1:])
        return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))

    def module_name(self, tensor: str) -> str | None:
        """The linear layer that a weight of GGUF belongs to, e.g. `model.layers.0.self_attn.q_proj`."""
        return self._modules.get(tensor.removesuffix(".weight"))

    @cached_property
    def _modules(self) -> dict[str, str]:
        modules = [f"model.layers.{block}.{linear}" for block in range(self.blocks) for linear in LINEAR]
        return {name: module for module in modules if (name := self.gguf_name(module))}

    @cached_property
    def _names(self) -> Any:
        return gguf.get_tensor_name_map(ARCHITECTURES[self.architecture], self.blocks)


def known_architecture(architecture: str, name: str) -> str:
    """The architecture, if it can be exported. Raises InputError that names what can."""
    if architecture not in ARCHITECTURES:
        raise InputError(
            f"{name} is of the architecture {architecture or 'unknown'!r}, which is not exported to GGUF here",
            f"Known are {', '.join(ARCHITECTURES)}; llama.cpp's own converter knows more.",
        )
    return architecture

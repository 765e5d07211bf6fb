"""The shapes of models: what their config.json says that decides parameters, memory and time.

Those of well-known models are here, so that `train plan` needs neither weights nor network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import InputError


@dataclass(frozen=True, slots=True)
class Linear:
    """One kind of linear layer inside a block: its name, its widths, and how many of it there are."""

    name: str
    width_in: int
    width_out: int
    count: int = 1

    @property
    def weights(self) -> int:
        return self.width_in * self.width_out * self.count


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder: widths, layers, heads, vocabulary; for mixtures, how many experts there are and how many work.

    `intermediate` is the width of one expert where there are experts. `head_norms`: q and k are normalised (Qwen3).
    """

    name: str
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool = False
    experts: int = 0
    active: int = 1
    head_norms: bool = False

    @property
    def attention(self) -> tuple[Linear, ...]:
        """The four linear layers of a block's attention."""
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return (
            Linear("q_proj", self.hidden, wide),
            Linear("k_proj", self.hidden, narrow),
            Linear("v_proj", self.hidden, narrow),
            Linear("o_proj", wide, self.hidden),
        )

    @property
    def feed_forward(self) -> tuple[Linear, ...]:
        """The linear layers behind it, of all experts."""
        count = max(1, self.experts)
        return (
            Linear("gate_proj", self.hidden, self.intermediate, count),
            Linear("up_proj", self.hidden, self.intermediate, count),
            Linear("down_proj", self.intermediate, self.hidden, count),
        )

    @property
    def block_weights(self) -> int:
        """The weights of all blocks' linear layers: what 4 bits are for."""
        return self.layers * sum(linear.weights for linear in (*self.attention, *self.feed_forward))

    @property
    def other_weights(self) -> int:
        """Embedding, output layer, norms and routers: they stay as they are."""
        tables = self.vocabulary * self.hidden * (1 if self.tied else 2)
        return tables + self.layers * (2 * self.hidden + self.hidden * self.experts) + self.hidden

    @property
    def weights(self) -> int:
        return self.block_weights + self.other_weights

    @property
    def active_weights(self) -> int:
        """The block weights that one token goes through."""
        idle = 1 - self.active / self.experts if self.experts else 0.0
        return round(self.block_weights - idle * self.layers * sum(linear.weights for linear in self.feed_forward))


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("SmolLM2-135M-Instruct", 576, 1536, 30, 9, 3, 64, 49152, tied=True),
        Shape("Qwen2.5-0.5B-Instruct", 896, 4864, 24, 14, 2, 64, 151936, tied=True),
        Shape("Qwen2.5-3B-Instruct", 2048, 11008, 36, 16, 2, 128, 151936, tied=True),
        Shape("Qwen2.5-7B-Instruct", 3584, 18944, 28, 28, 4, 128, 152064),
        Shape("Qwen3-0.6B", 1024, 3072, 28, 16, 8, 128, 151936, tied=True, head_norms=True),
        Shape("Qwen3-4B", 2560, 9728, 36, 32, 8, 128, 151936, tied=True, head_norms=True),
        Shape("Qwen3-8B", 4096, 12288, 36, 32, 8, 128, 151936, head_norms=True),
        Shape("Qwen3-14B", 5120, 17408, 40, 40, 8, 128, 151936, head_norms=True),
        Shape("Qwen3-32B", 5120, 25600, 64, 64, 8, 128, 151936, head_norms=True),
        Shape("Qwen3-30B-A3B", 2048, 768, 48, 32, 4, 128, 151936, experts=128, active=8, head_norms=True),
        Shape("Llama-2-13b-chat-hf", 5120, 13824, 40, 40, 40, 128, 32000),
        Shape("Llama-65B", 8192, 22016, 80, 64, 64, 128, 32000),
        Shape("Llama-3.1-70B-Instruct", 8192, 28672, 80, 64, 8, 128, 128256),
        Shape("gpt-oss-120b", 2880, 2880, 36, 64, 8, 64, 201088, experts=128, active=4),
    )
}


def find(base: str) -> Shape:
    """The shape of a recipe's base: a folder's config.json, else a model that is known by name.

    Raises:
        InputError: neither; the hint lists the names.
    """
    if base == "embedded":
        return SHAPES["SmolLM2-135M-Instruct"]
    config = Path(base).expanduser() / "config.json"
    if config.is_file():
        return read(config)
    stem = Path(base).name.removesuffix(".gguf").split(".Q")[0]
    if stem in SHAPES:
        return SHAPES[stem]
    raise InputError(
        f"nothing is known about the shape of {base!r}",
        f"Give a folder with a config.json, or one of {', '.join(SHAPES)}.",
    )


def read(path: Path) -> Shape:
    """The shape that a config.json describes. Raises InputError if it describes no decoder of the usual form."""
    try:
        return of(path.parent.name, json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} describes no model of a known form: {error!r}") from None


def of(name: str, config: Mapping[str, Any]) -> Shape:
    """The shape that a model's configuration describes, its keys as transformers names them."""
    heads = int(config["num_attention_heads"])
    experts = int(config.get("num_experts") or config.get("num_local_experts") or 0)
    return Shape(
        name=name,
        hidden=int(config["hidden_size"]),
        intermediate=int((experts and config.get("moe_intermediate_size")) or config["intermediate_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
        vocabulary=int(config["vocab_size"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        experts=experts,
        active=int(config.get("num_experts_per_tok") or 1) if experts else 1,
        head_norms=str(config.get("model_type", "")).startswith("qwen3"),
    )

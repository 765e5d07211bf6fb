"""Tiny bases of every architecture that is exported, and adapters with random, non-zero weights for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.training import tiny
from training.export import read_base

TEXTS = [row["abstract"] for row in tiny.ABSTRACTS]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def write_base(folder: Path, kind: str, **changes: Any) -> Path:
    """A base of two layers with random weights: `llama`, `qwen2` or `qwen3`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, utils

    torch.manual_seed(1)
    utils.logging.disable_progress_bar()
    tokenizer = tiny.tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer) + 5,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    config = AutoConfig.for_model(kind, **settings | changes)
    model = AutoModelForCausalLM.from_config(config)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_adapter(base: Path, folder: Path, *, seed: int = 0, size: float = 0.3, **lora: Any) -> Path:
    """A LoRA on a base's linear layers, as peft writes it; both of its matrices are random and not zero."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ALL, "task_type": "CAUSAL_LM"} | lora)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=size)
    model.save_pretrained(str(folder))
    return folder


def dequantised(gguf: Path, folder: Path) -> Path:
    """The embedded base's weights in transformers' names and order, without its tokenizer, which takes long."""
    from safetensors.numpy import save_file
    from transformers import LlamaConfig

    source = read_base(gguf)
    layout = source.layout
    outer = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
    norms = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    tensors = {}
    for weight in source.weights:
        name = weight.name.removesuffix(".weight")
        _, block, part = name.split(".") if name.startswith("blk.") else ("", "", "")
        module = layout.module_name(name) or outer.get(name) or f"model.layers.{block}.{norms[part]}"
        tensors[f"{module}.weight"] = layout.unpermuted(weight.name, weight.read())
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=layout.blocks,
        num_attention_heads=layout.heads,
        num_key_value_heads=layout.kv_heads,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100_000.0},
    )
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder

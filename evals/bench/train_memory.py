"""Peak memory of a training step, measured against what `train plan` predicts, part by part.

    python -m evals.bench.train_memory [--device cuda] [--only 7b]
    python -m evals.bench.train_memory --device cpu --tiny

The models have random weights in the shapes of real ones; three steps of our own training run on random tokens. On a
GPU torch's allocator counts; on a CPU every tensor is counted while it lives (`LiveBytes`), at shapes of a few MB.
"""

from __future__ import annotations

import argparse
import contextlib
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from training.learning import model, optim, packing, score
from training.learning.encode import Example
from training.planning import memory
from training.planning.shapes import SHAPES, Shape
from training.recipe import Lora, Precision, Recipe

STEPS = 3
QV = ("q_proj", "v_proj")


@dataclass(frozen=True, slots=True)
class Case:
    """A shape, how it is trained, and what goes through at once: so many rows of so many tokens."""

    name: str
    shape: Shape
    precision: Precision
    lora: Lora
    rows: int
    length: int
    checkpointing: bool
    share: float = 0.35
    """Of the tokens, how many are trained on."""


CASES = (
    Case("7b", SHAPES["Qwen2.5-7B-Instruct"], "nf4", Lora(r=16, alpha=32, targets=QV), 4, 1024, True),
    Case("smol", SHAPES["SmolLM2-135M-Instruct"], "bf16", Lora(r=16, alpha=32), 16, 1024, False),
    Case("4b", SHAPES["Qwen3-4B"], "nf4", Lora(r=32, alpha=64, dropout=0.05), 4, 2048, True),
    Case("0.5b", SHAPES["Qwen2.5-0.5B-Instruct"], "bf16", Lora(r=16, alpha=32), 8, 1024, False),
)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that operations make while it is active, and the most that lived at once.

    Args:
        known: tensors that were there before; views of them count nothing.
    """

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.sizes: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self.sizes and key not in self.known and storage.nbytes():
            self.sizes[key] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.now -= self.sizes.pop(key, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the same cases at a few MB")
    parser.add_argument("--only", default="", metavar="NAME", help=", ".join(case.name for case in CASES))
    options = parser.parse_args()
    for case in CASES:
        if options.only in ("", case.name):
            report(tiny(case) if options.tiny else case, torch.device(options.device))


def tiny(case: Case) -> Case:
    """The same case at a size for any CPU."""
    shape = replace(
        case.shape, hidden=256, intermediate=640, layers=4, heads=4, kv_heads=2, head_dim=64, vocabulary=2000
    )
    return replace(case, shape=shape, length=256)


def report(case: Case, device: torch.device) -> None:
    """Measure one case and print both columns."""
    measured, seconds = measure(case, device)
    predicted = predict(case, device)
    tokens = case.rows * case.length
    print(f"\n{case.name}: {case.shape.name} {case.precision}, r {case.lora.r}, {case.rows} x {case.length} tokens")
    print(f"{'MiB':<32}{'measured':>12}{'predicted':>12}{'ratio':>8}")
    for part, size in measured.items():
        ratio = predicted[part] / size if size else float("nan")
        print(f"{part:<32}{size / 2**20:>12,.1f}{predicted[part] / 2**20:>12,.1f}{ratio:>8.3f}")
    print(f"the last step: {seconds:.3f} s, {tokens / seconds:,.0f} tokens/s", flush=True)


def recipe_of(case: Case) -> Recipe:
    return Recipe(
        precision=case.precision,
        lora=case.lora,
        checkpointing=case.checkpointing,
        micro_tokens=case.rows * case.length,
        eval_rows=0,
    )


def predict(case: Case, device: torch.device) -> dict[str, int]:
    """What the plan says, in the parts that can be measured."""
    targets = case.rows * round(case.share * case.length)
    load = memory.Load(case.rows * case.length, targets, gpu=device.type == "cuda")
    parts = memory.parts(case.shape, recipe_of(case), load)
    return {
        "weights": parts["weights"] + parts.get("quantisation constants", 0),
        "adapter": parts["adapter"],
        "gradients and optimiser": parts["gradients"] + parts["optimiser"],
        "activations, logits, workspace": sum(parts.get(key, 0) for key in ("activations", "logits", "workspace")),
        "peak": sum(parts.values()),
    }


def measure(case: Case, device: torch.device) -> tuple[dict[str, int], float]:
    """Bytes by part, and the seconds of the last step."""
    recipe = recipe_of(case)
    before = allocated(device)
    base = random_model(case, device)
    weights = bytes_of(base) if device.type == "cpu" else allocated(device) - before
    adapted = model.prepare(base, recipe)
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = optim.make_optimizer(recipe, trained)
    packed = packing.pack(examples(case), device)
    adapter = gradients = sum(weight.numel() * weight.element_size() for weight in trained)
    with score.attending(adapted, packing.NAME):
        for _ in range(STEPS):
            peak, seconds = step(adapted, optimizer, packed, before)
    optimiser = sum(part.numel() * part.element_size() for state in optimizer.state.values() for part in tensors(state))
    if device.type == "cpu":
        peak += weights + adapter + optimiser  # what lived already
    found = {"weights": weights, "adapter": adapter, "gradients and optimiser": gradients + optimiser}
    return found | {"activations, logits, workspace": peak - sum(found.values()), "peak": peak}, seconds


def step(adapted: Any, optimizer: Any, packed: packing.Packed, before: int) -> tuple[int, float]:
    """One step; the most bytes that were in use during it, beyond those before."""
    device = packed.tokens.device
    gpu = device.type == "cuda"
    if gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    live = LiveBytes([*adapted.parameters(), *adapted.buffers()])
    began = time.perf_counter()
    with contextlib.nullcontext() if gpu else live:
        loss, _ = score.summed_loss(adapted, packed)
        (loss / len(packed.targets)).backward()  # type: ignore[no-untyped-call]
        del loss
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    return (int(torch.cuda.max_memory_allocated()) - before if gpu else live.peak), seconds


def random_model(case: Case, device: torch.device) -> Any:
    """A model of the case's shape with random weights on the device, its blocks in 4 bits if the case says so."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

    shape = case.shape
    kind: Any = Qwen3Config if shape.head_norms else Qwen2Config if shape.name.startswith("Qwen2") else LlamaConfig
    config = kind(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=shape.tied,
    )
    width = torch.float32 if case.precision == "f32" else torch.bfloat16
    with device:
        made: Any = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=width, attn_implementation="sdpa"
        )
    made.requires_grad_(False)
    if case.precision == "nf4":
        quantise(made, device)
    return made


def quantise(made: Any, device: torch.device) -> None:
    """Put NF4 layers, their constants quantised too, in the place of the blocks' linear ones."""
    from bitsandbytes.nn import Linear4bit, Params4bit  # type: ignore[attr-defined]

    for block in made.model.layers:
        for part in (block.self_attn, block.mlp):
            for name, linear in list(part.named_children()):
                if isinstance(linear, torch.nn.Linear):
                    four = Linear4bit(  # type: ignore[no-untyped-call]
                        linear.in_features, linear.out_features, linear.bias is not None, torch.bfloat16, True, "nf4"
                    )
                    four.weight = Params4bit(
                        linear.weight.data.cpu(), requires_grad=False, compress_statistics=True, quant_type="nf4"
                    )
                    four.bias = linear.bias
                    setattr(part, name, four.to(device))
                    del linear
    if device.type == "cuda":
        torch.cuda.empty_cache()


def examples(case: Case) -> list[Example]:
    """Rows of random tokens; the last part of each is trained on."""
    generator = torch.Generator().manual_seed(0)
    trained = round(case.share * case.length)
    mask = [False] * (case.length - trained) + [True] * trained
    rows = torch.randint(case.shape.vocabulary, (case.rows, case.length), generator=generator).tolist()
    return [Example(str(number), row, list(mask)) for number, row in enumerate(rows)]


def allocated(device: torch.device) -> int:
    return int(torch.cuda.memory_allocated()) if device.type == "cuda" else 0


def bytes_of(made: Any) -> int:
    """All weights, and the constants of those in 4 bits."""
    found: int = sum(weight.numel() * weight.element_size() for weight in made.parameters())
    for layer in made.modules():
        state = getattr(getattr(layer, "weight", None), "quant_state", None)
        if state is not None:
            found += state.absmax.numel() * state.absmax.element_size() + state.state2.absmax.numel() * 4
    return found


def tensors(state: dict[str, Any]) -> list[torch.Tensor]:
    return [value for value in state.values() if isinstance(value, torch.Tensor)]


if __name__ == "__main__":
    main()

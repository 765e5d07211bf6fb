"""Tokens a second of our training against a plain TRL SFTTrainer: the same base, adapter, precision, checkpointing,
learning rate and batches of as many examples.

    python -m evals.bench.train_speed true DATASET --base embedded      rows at their true lengths, one epoch
    python -m evals.bench.train_speed full --base embedded              rows of 1,024 tokens
    python -m evals.bench.train_speed 7b                                Qwen2.5-7B's shape in NF4, random weights
    python -m evals.bench.train_speed full --device cpu --base FOLDER --rows 8 --length 128 --steps 3 --batch 4

Tokens are real ones: padding counts nothing. The first steps, which warm up, are left out. `true` also says the
held-out loss of both after the epoch, measured by transformers' own forward. The share of the peak counts the
operations that training needs (`plan.flops_per_token`), not those done again for checkpointing or on padding.
"""

from __future__ import annotations

import argparse
import importlib
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from evals.bench import train_memory
from training import base, plan
from training.learning import data, model, optim, packing, score
from training.learning.encode import Example
from training.planning import shapes
from training.planning.shapes import Shape
from training.recipe import Lora, Optim, Recipe

PEAK = 790e12
"""FLOP/s of an H200 in bf16, as measured."""
WARM = 5
"""Steps that are left out."""


@dataclass(slots=True)
class Timed:
    """What one trainer did: its tokens and seconds after the warm-up, and its model."""

    name: str
    model: Any
    tokens: int = 0
    seconds: float = 0.0
    steps: int = 0
    held_out: float = float("nan")

    @property
    def speed(self) -> float:
        return self.tokens / self.seconds if self.seconds else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("true", "full", "7b"))
    parser.add_argument("dataset", nargs="?", default="")
    parser.add_argument("--base", default="embedded")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--precision", choices=("bf16", "f32", "nf4"), default="")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--micro", type=int, default=0, help="examples at once (default: 16; 4 for 7b)")
    parser.add_argument("--steps", type=int, default=0, help="at most (default: one epoch; 25 for full, 15 for 7b)")
    parser.add_argument("--rows", type=int, default=400, help="of `full` and `7b`")
    parser.add_argument("--length", type=int, default=1024, help="of `full` and `7b`")
    parser.add_argument("--only", choices=("ours", "trl"), default="")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # one GPU: TRL would split each batch among all that it sees
    compare(parser.parse_args())


def compare(options: argparse.Namespace) -> None:
    """Run both trainers and print what they did."""
    device = torch.device(options.device)
    recipe = recipe_of(options)
    found = base.find(recipe.base) if options.mode != "7b" else None
    shape = shapes.SHAPES["Qwen2.5-7B-Instruct"] if found is None else shapes.find(found.source)
    rows, held_out = examples(options, recipe, found, shape)
    lengths = [len(example.tokens) for example in rows]
    print(f"{options.mode}: {len(rows)} rows of {min(lengths)} to {max(lengths)} tokens, {sum(lengths):,} in all")
    done = []
    for name, run in (("ours", ours), ("trl", trl)):
        if options.only in ("", name):
            timed = run(build(options, recipe, found, device), rows, recipe, options)
            timed.held_out = held_out_loss(timed.model, held_out, device)
            print(told(timed, shape, recipe, sum(lengths) / len(lengths), device), flush=True)
            timed.model = None
            done.append(timed)
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
    if len(done) == 2:
        print(f"ratio {done[0].speed / done[1].speed:.2f}; held-out loss {done[0].held_out - done[1].held_out:+.4f}")


def recipe_of(options: argparse.Namespace) -> Recipe:
    """What both do: `annotator` for the embedded base, `annotator-7b` for the large shape, without dropout."""
    large = options.mode == "7b"
    micro = options.micro or (4 if large else 16)
    longest = options.length if options.mode != "true" else 1024
    return Recipe(
        base=options.base,
        dataset=options.dataset,
        precision=options.precision or ("nf4" if large else "bf16"),
        lora=Lora(r=16, alpha=32, targets=("q_proj", "v_proj") if large else "all-linear"),
        optim=Optim(lr=2e-4 if large else 1e-3, schedule="constant", warmup=0.0),
        epochs=1,
        batch=options.batch,
        micro_tokens=micro * longest,
        max_length=4096,
        checkpointing=large,
        eval_rows=0,
    )


def examples(
    options: argparse.Namespace, recipe: Recipe, found: base.Base | None, shape: Shape
) -> tuple[list[Example], list[Example]]:
    """The rows to train on, in their order, and those to measure."""
    if options.mode == "true":
        assert found is not None
        loaded = data.load(recipe, base.load_tokenizer(found.source))
        return [example for batch in loaded.epoch(0, recipe) for example in batch], loaded.validation
    draw = random.Random(0)
    trained = round(0.35 * options.length)
    mask = [False] * (options.length - trained) + [True] * trained
    rows = [
        Example(str(number), [draw.randrange(shape.vocabulary) for _ in mask], mask) for number in range(options.rows)
    ]
    return rows, rows[:4]


def build(options: argparse.Namespace, recipe: Recipe, found: base.Base | None, device: torch.device) -> Any:
    """The base without an adapter, loaded the same way for both."""
    if found is None:
        return train_memory.random_model(train_memory.CASES[0], device)
    return model.load_base(recipe, found, device)


def ours(loaded: Any, rows: Sequence[Example], recipe: Recipe, options: argparse.Namespace) -> Timed:
    """Our step over these rows: what `training.sft` does, without its files."""
    adapted = model.prepare(loaded, recipe)
    timed = Timed("ours", adapted)
    weights = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = optim.make_optimizer(recipe, weights)
    device = next(adapted.parameters()).device
    batches = [rows[start : start + recipe.batch] for start in range(0, len(rows), recipe.batch)]
    with score.attending(adapted, packing.NAME):
        for number, batch in enumerate(batches[: options.steps or default_steps(options)]):
            began = time.perf_counter()
            targets = sum(example.targets for example in batch)
            total = torch.zeros((), device=device)
            for piece in packing.micro_batches(batch, recipe.micro_tokens):
                loss, plain = score.summed_loss(adapted, packing.pack(piece, device))
                (loss / targets).backward()  # type: ignore[no-untyped-call]
                total += plain / targets
            norm = torch.nn.utils.clip_grad_norm_(weights, recipe.optim.clip)
            torch.stack([total, norm]).tolist()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            note(timed, number, batch, time.perf_counter() - began)
    return timed


def trl(loaded: Any, rows: Sequence[Example], recipe: Recipe, options: argparse.Namespace) -> Timed:
    """A plain SFTTrainer over the same rows in the same order."""
    from datasets import Dataset
    from peft import LoraConfig

    library: Any = importlib.import_module("trl")  # only this comparison needs it
    timed = Timed("trl", loaded)
    batches = [rows[start : start + recipe.batch] for start in range(0, len(rows), recipe.batch)]
    targets, alpha = recipe.lora.targets, int(recipe.lora.alpha)
    lora = LoraConfig(
        r=recipe.lora.r,
        lora_alpha=alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
        task_type="CAUSAL_LM",
    )
    columns = {
        "input_ids": [example.tokens for example in rows],
        "completion_mask": [[int(counts) for counts in example.trained] for example in rows],
    }

    class InOrder(library.SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, *_: Any, **__: Any) -> Any:
            rows: Any = self.train_dataset
            return torch.utils.data.SequentialSampler(rows)

    with tempfile.TemporaryDirectory() as folder:
        config = library.SFTConfig(output_dir=folder, **trl_settings(recipe, options, len(batches)))
        torch.manual_seed(recipe.seed)
        made = InOrder(
            model=loaded,
            args=config,
            train_dataset=Dataset.from_dict(columns),
            peft_config=lora,
            callbacks=[clock(timed, batches, options.device == "cuda")],
            processing_class=stand_in(rows),
        )
        made.train()
    timed.model = made.model
    return timed


def trl_settings(recipe: Recipe, options: argparse.Namespace, batches: int) -> dict[str, Any]:
    """The recipe in the words of SFTConfig."""
    micro = options.micro or (4 if options.mode == "7b" else 16)
    return {
        "per_device_train_batch_size": min(micro, recipe.batch),
        "gradient_accumulation_steps": max(1, recipe.batch // micro),
        "learning_rate": recipe.optim.lr,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": recipe.optim.clip,
        "num_train_epochs": 1,
        "max_steps": min(batches, options.steps or default_steps(options) or batches),
        "bf16": recipe.precision != "f32",
        "gradient_checkpointing": recipe.checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False} if recipe.checkpointing else None,
        "completion_only_loss": True,
        "max_length": recipe.max_length,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": options.device == "cpu",
        "optim": "adamw_torch_fused",
        "seed": 0,
        "disable_tqdm": True,
        "dataloader_pin_memory": options.device == "cuda",
    }


def clock(timed: Timed, batches: Sequence[Sequence[Example]], gpu: bool) -> Any:
    """A callback that times every step of a trainer."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        began = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **__: Any) -> None:
            if gpu:
                torch.cuda.synchronize()
            number = state.global_step - 1
            note(timed, number, batches[number], time.perf_counter() - self.began)

    return Clock()


def stand_in(rows: Sequence[Example]) -> Any:
    """A tokenizer, since SFTTrainer wants one; the rows are tokens already and only its padding is used."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {"<end>": 0, "<pad>": 1}
    tokens = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    made = PreTrainedTokenizerFast(tokenizer_object=tokens)  # type: ignore[no-untyped-call]
    made.pad_token, made.eos_token = "<pad>", "<end>"
    return made


def default_steps(options: argparse.Namespace) -> int | None:
    return {"full": 25, "7b": 15}.get(options.mode)


def note(timed: Timed, number: int, batch: Sequence[Example], seconds: float) -> None:
    """Count a step, unless it is one of the first."""
    if number >= min(WARM, 1 if len(batch) < 8 else WARM):
        timed.tokens += sum(len(example.tokens) for example in batch)
        timed.seconds += seconds
        timed.steps += 1


@torch.no_grad()
def held_out_loss(adapted: Any, rows: Sequence[Example], device: torch.device) -> float:
    """Nats a target by the model's own forward, one example at a time."""
    adapted.eval()
    total = count = 0.0
    for example in rows:
        labels = torch.tensor([t if c else -100 for t, c in zip(example.tokens, example.trained, strict=True)])
        tokens = torch.tensor([example.tokens], device=device)
        logits = adapted(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits[0, :-1].float()
        total += torch.nn.functional.cross_entropy(logits, labels[1:].to(device), reduction="sum").item()
        count += example.targets
    return total / count if count else float("nan")


def told(timed: Timed, shape: Shape, recipe: Recipe, length: float, device: torch.device) -> str:
    plain = recipe.model_copy(update={"checkpointing": False})
    share = timed.speed * plan.flops_per_token(shape, plain, length / 2) / PEAK
    memory = torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0.0
    return (
        f"{timed.name:<6}{timed.speed:>12,.0f} tokens/s over {timed.steps} steps, {share:.1%} of the bf16 peak, "
        f"{memory:.2f} GiB, held-out loss {timed.held_out:.4f}"
    )


if __name__ == "__main__":
    main()

"""A base of two layers with a tokenizer of its own, and datasets for it: all that a training run needs, small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from skills.annotate import attempt, framework
from training.recipe import Recipe, checked
from training.rows import Row, as_jsonl, document_key

ROOT = Path(__file__).resolve().parents[2]
ABSTRACTS = [json.loads(line) for line in (ROOT / "tests/data/abstracts.jsonl").read_text("utf-8").splitlines()]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
KEYS = ("claim", "evidence", "method")


@cache
def _tokenizer_json() -> str:
    """A byte-level BPE of 700 tokens, learnt from the tests' abstracts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([row["abstract"] for row in ABSTRACTS], trainer)
    return str(tokenizer.to_str())


def tokenizer(template: str = CHATML) -> Any:
    """The tiny tokenizer with a chat template."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json()),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    made.chat_template = template
    return made


def write_base(folder: Path, *, hidden: int = 64, layers: int = 2, seed: int = 0) -> Path:
    """A Llama of two layers with random weights, as a folder of safetensors and tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, utils

    torch.manual_seed(seed)
    utils.logging.disable_progress_bar()
    ours = tokenizer()
    config = LlamaConfig(
        vocab_size=len(ours),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    ours.save_pretrained(folder)
    return folder


def annotated(number: int, *, source: str = "gold", abstract: str = "") -> Row:
    """A row of the skill annotate about the so-manyeth abstract: three moves, taken from its own sentences."""
    text = abstract or ABSTRACTS[number % len(ABSTRACTS)]["abstract"][:160]
    sentences = [part.strip() + "." for part in text.split(".") if part.strip()]
    moves = {key: sentences[place] if place < len(sentences) else "Not stated." for place, key in enumerate(KEYS)}
    asked = [{"role": "system", "content": "Annotate."}, {"role": "user", "content": text}]
    said = {"role": "assistant", "content": json.dumps(moves, ensure_ascii=False)}
    return Row(
        id=f"row-{number}",
        document=document_key(text),
        skill="annotate",
        messages=(*asked, said),
        source=source,  # type: ignore[arg-type]
        provenance={"test": number},
    )


def rehearsed(number: int) -> Row:
    """What a base says to a general prompt, as a row."""
    question = f"What comes after {number}?"
    return Row(
        id=f"rehearsal-{number}",
        document=document_key(question),
        skill="rehearsal",
        messages=({"role": "user", "content": question}, {"role": "assistant", "content": f"It is {number + 1}."}),
        source="rehearsal",
        provenance={"test": number},
    )


def full_annotation(abstract: str, annotation: dict[str, str]) -> Row:
    """A row exactly as the product asks and answers: the eight moves and their prompt."""
    moves = framework.load("eight-moves")
    asked = [{"role": message.role, "content": message.content} for message in attempt.prompt(moves, abstract)]
    said = {"role": "assistant", "content": json.dumps({k: annotation[k] for k in moves.keys}, ensure_ascii=False)}
    messages = (*asked, said)
    return Row(id="full", document="d", skill="annotate", messages=messages, source="gold", provenance={})


def write_dataset(folder: Path, train: Sequence[Row], validation: Sequence[Row] = ()) -> Path:
    """A dataset's folder without a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = {"train": train, "validation": validation, "gate": (), "negatives": ()}
    for name, rows in splits.items():
        (folder / f"{name}.jsonl").write_text(as_jsonl(rows), "utf-8")
    return folder


def recipe(base: Path, dataset: Path, **changes: Any) -> Recipe:
    """A recipe for the tiny base: f32, on the CPU, two epochs of small batches."""
    keys: dict[str, Any] = {
        "name": "tiny",
        "base": str(base),
        "dataset": str(dataset),
        "precision": "f32",
        "device": "cpu",
        "epochs": 2,
        "batch": 4,
        "micro_tokens": 512,
        "max_length": 512,
        "eval_rows": 2,
        "eval_tokens": 8,
        "save_steps": 2,
        "lora": {"r": 4, "alpha": 8.0},
        "optim": {"lr": 0.01},
    }
    return checked({**keys, **changes}, "the test's recipe")

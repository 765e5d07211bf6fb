"""Decode rate: our engine beside a bare llama.cpp loop, same model, prompt and token count.

    python -m evals.bench.decode [--rounds 15] [--threads 1]

Three ways take turns, so that whatever else the machine does hits all of them: `bare` is llama_decode and argmax with
llama.cpp's own defaults and no grammar; `ours` is LlamaCpp.chat without one; `template` is LlamaCpp.chat filling eight
strings under a grammar that allows only the numbers of the abstract. Printed are medians in tokens a second, and the
ratios to `bare`; `sampled` counts the template's tokens that were not forced; `sampled/bare` counts these alone.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from agent.messages import Message
from agent.models.base import Fixed, Hole, Reply, Template
from agent.models.embedded import find
from agent.models.llamacpp import LlamaCpp
from agent.settings import Models, Settings

ABSTRACT = (
    "We study how urban foxes learn to cross roads. Over 3 winters we followed 42 tagged animals in two cities and "
    "recorded 1,870 crossings with collars that note position every 15 seconds. Animals that had been near a "
    "collision waited 2.4 times longer before a crossing than others, and the effect lasted for about 9 weeks. A "
    "simple model of fear that decays with time explains 71% of the variance between animals, against 38% for a "
    "model of traffic alone. We found no difference between the sexes. Our sample has few juveniles, so the results "
    "may not hold for animals in their first year. They suggest that warning signs for drivers matter most in the "
    "weeks after a collision."
)
MOVES = ("claim", "evidence", "method", "scope", "limitation", "comparison", "implication", "novelty")
NUMBERS = ("3", "42", "1,870", "15", "2.4", "9", "71", "38")
MOVE_TOKENS = 24


def messages() -> list[Message]:
    """The prompt of every round."""
    return [Message("user", f"Annotate this abstract in eight moves, as JSON.\n\n{ABSTRACT}")]


def eight_moves() -> Template:
    """Eight JSON strings; a number in them is one of the abstract's, as a whole."""
    pieces: list[Fixed | Hole] = []
    for place, move in enumerate(MOVES):
        close = '",' if place < len(MOVES) - 1 else '"}'
        literals = " | ".join(f'"{number}"' for number in NUMBERS)
        gbnf = (
            f'root ::= plain rest\nrest ::= plain rest | "." {json.dumps(close)} | number after\n'
            f"number ::= {literals}\n"
            f'after ::= plain rest | "." {json.dumps(close)}\nplain ::= [^0-9"\\\\.\\x00-\\x1F]\n'
        )
        pieces += [Fixed(f'{"{" if place == 0 else " "}"{move}": "'), Hole(gbnf, close, MOVE_TOKENS)]
    return pieces


class Bare:
    """llama.cpp as it comes, with its own defaults: one token after the other, the likeliest each time."""

    def __init__(self, path: Path, threads: int) -> None:
        import llama_cpp as llama

        self._model = llama.llama_model_load_from_file(os.fsencode(path), llama.llama_model_default_params())
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_threads, params.n_threads_batch = 2048, threads, threads
        self._context = llama.llama_init_from_model(self._model, params)
        self._size = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self._model))

    def tokens_per_second(self, prompt: Sequence[int], count: int) -> float:
        """The rate of `count` tokens after the prompt; the prompt's own time is left out."""
        import llama_cpp as llama
        import numpy as np

        llama.llama_memory_clear(llama.llama_get_memory(self._context), False)
        array = (llama.llama_token * len(prompt))(*prompt)
        llama.llama_decode(self._context, llama.llama_batch_get_one(array, len(prompt)))
        llama.llama_synchronize(self._context)
        started = time.perf_counter()
        for _ in range(count):
            pointer = llama.llama_get_logits_ith(self._context, -1)
            array[0] = int(np.ctypeslib.as_array(pointer, shape=(self._size,)).argmax())
            llama.llama_decode(self._context, llama.llama_batch_get_one(array, 1))
        return count / (time.perf_counter() - started)


def prompt_of(path: Path) -> list[int]:
    """The tokens of the prompt."""
    from agent.models.chat_prompt import prompt_tokens
    from agent.models.llama_context import Context

    context = Context(path, 512, ctypes.create_string_buffer(2))
    tokens = prompt_tokens(context, messages())
    context.close()
    return tokens


async def reply_of(model: LlamaCpp, template: Template | None, max_tokens: int | None) -> tuple[Reply, float]:
    """One reply whose prompt is already in the cache, and its rate in tokens a second, forced ones included."""
    started = time.perf_counter()
    async for piece in model.chat(messages(), template=template, max_tokens=max_tokens):
        if isinstance(piece, Reply):
            return piece, len(piece.token_ids) / (time.perf_counter() - started)
    raise AssertionError("no reply")


async def measure(rounds: int, threads: int) -> dict[str, float]:
    """Medians over interleaved rounds: rates in tokens a second, ratios, and tokens a reply."""
    settings = Settings(models=Models(threads=threads))
    path = find(settings)
    prompt = prompt_of(path)
    model, bare = LlamaCpp(path, settings), Bare(path, threads)
    template = eight_moves()
    warm, _ = await reply_of(model, template, None)
    count = len(warm.token_ids)
    rates: dict[str, list[float]] = {"bare": [], "ours": [], "template": []}
    for _ in range(rounds):
        rates["bare"].append(bare.tokens_per_second(prompt, count))
        rates["ours"].append((await reply_of(model, None, count))[1])
        rates["template"].append((await reply_of(model, template, None))[1])
    await model.close()
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {
        f"{name}/bare": statistics.median(a / b for a, b in zip(rates[name], rates["bare"], strict=True))
        for name in ("ours", "template")
    }
    sampled = sum(logprob != 0.0 for logprob in warm.logprobs)
    ratios["sampled/bare"] = ratios["template/bare"] * sampled / count
    return {**medians, **ratios, "tokens": count, "sampled": sampled, "prompt_tokens": len(prompt)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Decode rate of our engine beside bare llama.cpp.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    for name, value in asyncio.run(measure(chosen.rounds, chosen.threads)).items():
        print(f"{name:15} {value:8.2f}")


if __name__ == "__main__":
    main()

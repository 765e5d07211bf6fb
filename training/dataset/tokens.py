"""How long rows are, in tokens of the embedded model, counted by llama.cpp."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.messages import Json, Message
from agent.models import embedded, engine
from agent.settings import Settings
from training.rows import Row

if TYPE_CHECKING:
    from agent.models.llama_context import Context

BIN = 64
"""Tokens of one bar of the histogram."""
CONTEXT = 256
"""Tokens of context that the tokenizer's model is loaded with: nothing is evaluated."""


async def histogram(rows: Sequence[Row], settings: Settings) -> Json:
    """The lengths of rows: of what the model is given, and of what it says.

    Args:
        rows: at least one.
        settings: say which model is embedded.

    Returns:
        `tokenizer`, the file's name; `prompt` and `completion`, each with `total`, `median`, `p90`, `max` and `bins`:
        the number of rows by the first length of each bar of 64 tokens.

    Raises:
        ModelUnavailable: the embedded model is not on this machine.
    """
    path = embedded.find(settings)
    held = engine.acquire(path, CONTEXT)
    try:
        counted = [found async for found in held.run(lambda context, _: [lengths(context, row) for row in rows])][-1]
    finally:
        await engine.release(held)
    prompts, completions = zip(*counted, strict=True)
    return {"tokenizer": path.name, "prompt": summary(prompts), "completion": summary(completions)}


def lengths(context: Context, row: Row) -> tuple[int, int]:
    """The tokens of a row: what the model is given, and what it says with the marker that ends each turn."""
    from agent.models.chat_prompt import prompt_tokens

    given = [Message(entry["role"], str(entry.get("content", ""))) for entry in row.messages if not _own(entry)]
    said = [context.tokenize(spoken(entry)) for entry in row.messages if _own(entry)]
    return len(prompt_tokens(context, given)), sum(map(len, said)) + len(said)


def spoken(message: Mapping[str, Any]) -> str:
    """All that the model says in one turn: thought, calls, answer."""
    calls = [json.dumps(call, ensure_ascii=False) for call in message.get("tool_calls", ())]
    return "\n".join(filter(None, [message.get("thought", ""), *calls, message.get("content", "")]))


def summary(counts: Sequence[int]) -> Json:
    """Total, median, 90th percentile, maximum, and the bars of a histogram."""
    ordered = sorted(counts)
    bins = Counter(count // BIN * BIN for count in ordered)
    return {
        "total": sum(ordered),
        "median": ordered[len(ordered) // 2],
        "p90": ordered[int(len(ordered) * 0.9)],
        "max": ordered[-1],
        "bins": {str(start): bins[start] for start in sorted(bins)},
    }


def _own(message: Mapping[str, Any]) -> bool:
    return message["role"] == "assistant" and int(message.get("weight", 1)) != 0

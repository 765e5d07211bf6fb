"""A base model as GGUF would hold it: its metadata, and its weights one at a time.

Weights come as float32 whatever they are stored as, so that an adapter is merged in full precision. No more than one is
in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import gguf

from training.convert.layout import Floats, Layout


@dataclass(frozen=True)
class Weight:
    """One weight: its name in GGUF, its shape (rows, columns) or (length,), and how to read it."""

    name: str
    shape: tuple[int, ...]
    read: Callable[[], Floats]


@dataclass(frozen=True)
class Base:
    """A model that can be written as GGUF.

    Args:
        name: how errors call it.
        layout: its names and rows.
        describe: adds its metadata, tokenizer and chat template to a writer.
        weights: in the order of the file.
    """

    name: str
    layout: Layout
    describe: Callable[[gguf.GGUFWriter], None]
    weights: list[Weight]

"""A base model as GGUF would hold it: its metadata, and its weights one at a time, from a GGUF file or a folder.

Weights come as float32 whatever they are stored as, so that an adapter is merged in full precision. No more than one is
in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf

from agent.errors import InputError
from training.convert.layout import Floats, Layout

WRITTEN_ANEW = ("general.architecture", "general.file_type", "general.quantization_version")
"""Keys that the writer sets itself, or that say how the weights were stored before."""


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


def read_base(path: Path) -> Base:
    """A base from a GGUF file, or from a folder in the format of Hugging Face's hub.

    Raises:
        InputError: it is neither, it is damaged, or its architecture is not known.
    """
    if path.is_dir():
        from training.convert.folder import read_folder

        return read_folder(path)
    return _read_gguf(path)


def fields_of(reader: gguf.GGUFReader) -> dict[str, Any]:
    """The metadata of a GGUF file, key to value, without its arrays: they hold the vocabulary."""
    array = gguf.GGUFValueType.ARRAY
    return {key: field.contents() for key, field in reader.fields.items() if field.types[0] != array}


def open_gguf(path: Path) -> gguf.GGUFReader:
    """The file's reader. Raises InputError if it is no GGUF file."""
    try:
        return gguf.GGUFReader(path)
    except (OSError, ValueError, IndexError) as error:
        raise InputError(f"{path} cannot be read as GGUF: {error}", "Give a GGUF file, or a model's folder.") from None


def _read_gguf(path: Path) -> Base:
    reader = open_gguf(path)
    layout = Layout.of_gguf(fields_of(reader), path.name)
    weights = [
        Weight(tensor.name, tuple(int(size) for size in reversed(tensor.shape)), _reading(tensor))
        for tensor in reader.tensors
    ]
    return Base(path.name, layout, lambda writer: _copy_metadata(reader, writer), weights)


def _reading(tensor: Any) -> Callable[[], Floats]:
    def read() -> Floats:
        values: Floats = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        return values

    return read


def _copy_metadata(reader: gguf.GGUFReader, writer: gguf.GGUFWriter) -> None:
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in WRITTEN_ANEW:
            continue
        kind, value = field.types[0], field.contents()
        if kind != gguf.GGUFValueType.ARRAY:
            writer.add_key_value(key, value, kind)
        elif len(field.data):
            writer.add_key_value(key, value, kind, sub_type=field.types[-1])

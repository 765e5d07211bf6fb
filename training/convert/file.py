"""A base, read from a GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf

from agent.errors import InputError
from training.convert.base import Base, Weight
from training.convert.layout import Floats, Layout

WRITTEN_ANEW = ("general.architecture", "general.file_type", "general.quantization_version")
"""Keys that the writer sets itself, or that say how the weights were stored before."""


def read_file(path: Path) -> Base:
    """Read a GGUF file.

    Raises:
        InputError: it is none, it is damaged, or its architecture is not known.
    """
    reader = open_gguf(path)
    layout = Layout.of_gguf(fields_of(reader), path.name)
    weights = [
        Weight(tensor.name, tuple(int(size) for size in reversed(tensor.shape)), _reading(tensor))
        for tensor in reader.tensors
    ]
    return Base(path.name, layout, lambda writer: _copy_metadata(reader, writer), weights)


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

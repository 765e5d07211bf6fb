"""From a training run to what llama.cpp serves: an adapter as GGUF, or base and adapter merged into one GGUF file.

Merging works on the base in float32, whatever it is stored as, and never on 4-bit weights in memory; metadata,
tokenizer and chat template are the base's own. Quantising is llama.cpp's.
"""

from __future__ import annotations

import ctypes
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import gguf
import numpy as np

from agent.errors import InputError, OutputError
from agent.models.gguf_file import sha256
from training.convert.atomic import replacing, replacing_folder
from training.convert.base import Base
from training.convert.file import fields_of, open_gguf, read_file
from training.convert.folder import read_folder
from training.convert.layout import Layout
from training.convert.lora import Lora, encode, read_gguf, read_peft, write_gguf, write_peft

AdapterType = Literal["f32", "f16", "q8_0"]
Quantisation = Literal["F32", "F16", "Q8_0", "Q4_K_M"]
QUANTISATIONS: tuple[Quantisation, ...] = get_args(Quantisation)
FILE_TYPES = {"Q8_0": 7, "Q4_K_M": 15}
"""llama.cpp's numbers for a whole file's quantisation (`llama_ftype`)."""
BLOCKS = {"Q4_K_M": 256, "Q8_0": 32}
"""Values that a quantisation takes together: a matrix's rows must be a multiple."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """A merged model: its file, how it was quantised, and a sentence if that is not what was asked for."""

    path: Path
    quantisation: Quantisation
    note: str = ""


def adapter_gguf(adapter: Path, base_gguf: Path, out: Path, *, dtype: AdapterType = "f16") -> Path:
    """Write an adapter of peft's as llama.cpp reads it.

    Args:
        adapter: the folder with adapter_model.safetensors and adapter_config.json.
        base_gguf: the GGUF that it is served with; decides names and the order of rows.
        out: the file to write; one that exists is replaced.
        dtype: how the matrices are stored. q8_0 takes those whose rows are a multiple of 32, the others stay f16.

    Returns:
        `out`.

    Raises:
        InputError: the adapter holds what llama.cpp's form cannot, or does not fit the base.
        OutputError: the file cannot be written.
    """
    reader = open_gguf(base_gguf)
    layout = Layout.of_gguf(fields_of(reader), base_gguf.name)
    lora = read_peft(adapter, layout)
    _check_fit(lora, {tensor.name: tuple(map(int, reversed(tensor.shape))) for tensor in reader.tensors}, adapter)
    write_gguf(lora, out, dtype, sha256(base_gguf))
    return out


def peft_adapter(adapter: Path, base_gguf: Path, out: Path) -> Path:
    """Write an adapter's GGUF file as a folder that peft reads, to train on from there.

    Args:
        adapter: the GGUF file. A card.json beside it is copied: it says which documents the adapter has seen.
        base_gguf: the base that it was made for.
        out: the folder; one that exists is replaced.

    Returns:
        `out`.

    Raises:
        InputError: the adapter is of another base, or has a form that peft's has not.
        OutputError: the folder cannot be written.
    """
    reader = open_gguf(base_gguf)
    lora = read_gguf(adapter, Layout.of_gguf(fields_of(reader), base_gguf.name))
    _check_fit(lora, {tensor.name: tuple(map(int, reversed(tensor.shape))) for tensor in reader.tensors}, adapter)
    with replacing_folder(out) as partial:
        write_peft(lora, partial)
        if (card := adapter.with_name("card.json")).is_file():
            shutil.copyfile(card, partial / "card.json")
    return out


def model_gguf(
    base: Path,
    adapter: Path | None,
    out: Path,
    quantisation: Quantisation = "Q4_K_M",
    *,
    tell: Tell = lambda text: None,
) -> Exported:
    """Merge an adapter into its base and write one GGUF file.

    Args:
        base: a GGUF file, or a folder in the format of Hugging Face's hub (Llama, Qwen2, Qwen2.5, Qwen3).
        adapter: peft's folder or an adapter's GGUF file; None writes the base alone.
        out: the file to write; one that exists is replaced.
        quantisation: where its blocks do not divide the rows, the next finer one is taken and the note says so.
        tell: told what goes on.

    Raises:
        InputError: the base or the adapter cannot be read, or they do not fit.
        OutputError: the file cannot be written.
    """
    source = read_base(base)
    chosen = fitting(quantisation, [weight.shape for weight in source.weights])
    note = "" if chosen == quantisation else f"{quantisation} does not divide the rows of {source.name}; it is {chosen}"
    lora = _read_adapter(adapter, source) if adapter else None
    merged = f"{source.name} with {adapter}" if adapter else source.name
    if chosen in ("F32", "F16"):
        tell(f"writing {merged} as {chosen}")
        with replacing(out) as partial:
            _write(source, lora, partial, chosen)
        return Exported(out, chosen, note)
    with replacing(out) as partial:
        full = partial.with_suffix(".f16")
        try:
            tell(f"writing {merged} as F16")
            _write(source, lora, full, "F16")
            tell(f"quantising to {chosen}")
            _quantise(full, partial, chosen)
        finally:
            full.unlink(missing_ok=True)
    return Exported(out, chosen, note)


def read_base(path: Path) -> Base:
    """A base from a GGUF file, or from a folder in the hub's format. Raises InputError if it is neither."""
    return read_folder(path) if path.is_dir() else read_file(path)


def fitting(quantisation: Quantisation, shapes: list[tuple[int, ...]]) -> Quantisation:
    """The quantisation asked for, or the next finer one whose blocks divide the rows of every matrix."""
    columns = [shape[-1] for shape in shapes if len(shape) > 1]
    order: tuple[Quantisation, ...] = ("Q4_K_M", "Q8_0", "F16")
    if quantisation not in order:
        return quantisation
    wanted = order[order.index(quantisation) :]
    return next(one for one in wanted if all(count % BLOCKS.get(one, 1) == 0 for count in columns))


def _read_adapter(adapter: Path, base: Base) -> Lora:
    lora = read_peft(adapter, base.layout) if adapter.is_dir() else read_gguf(adapter, base.layout)
    _check_fit(lora, {weight.name: weight.shape for weight in base.weights}, adapter)
    return lora


def _check_fit(lora: Lora, shapes: dict[str, tuple[int, ...]], adapter: Path) -> None:
    for name, (a, b) in lora.pairs.items():
        if shapes.get(name) != (len(b), a.shape[1]):
            there = " x ".join(map(str, shapes[name])) if name in shapes else "nothing"
            raise InputError(
                f"the adapter {adapter} is of another base: {name} is {len(b)} x {a.shape[1]} for it, and {there} here",
                "Give the base that it was trained on.",
            )


def _write(base: Base, lora: Lora | None, path: Path, kind: Quantisation) -> None:
    """Write every weight, one in memory at a time. Vectors stay float32, as llama.cpp wants them."""
    half, whole = gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.F32
    matrices = half if kind == "F16" else whole
    writer = gguf.GGUFWriter(path, base.layout.architecture)
    try:
        base.describe(writer)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16 if matrices == half else gguf.LlamaFileType.ALL_F32)
        kinds = [matrices if len(weight.shape) > 1 else whole for weight in base.weights]
        for weight, stored in zip(base.weights, kinds, strict=True):
            width = 2 if stored == half else 4
            dtype = np.dtype(f"float{8 * width}")
            writer.add_tensor_info(weight.name, weight.shape, dtype, width * math.prod(weight.shape))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for weight, stored in zip(base.weights, kinds, strict=True):
            values = weight.read()
            delta = lora.delta(weight.name) if lora else None
            writer.write_tensor_data(encode(values if delta is None else values + delta, stored, weight.name))
    finally:
        writer.close()


def _quantise(source: Path, target: Path, kind: Quantisation) -> None:
    import llama_cpp as llama

    from agent.models.llama_context import silence

    silence()
    params = llama.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[kind]
    if llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(params)):
        raise OutputError(f"llama.cpp did not quantise {source.name} to {kind}", "Is there room on the disk?")

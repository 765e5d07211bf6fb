"""What a GGUF file says about itself, read without llama.cpp: its header, and its identity by content."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from agent.config import cache_dir
from agent.errors import ModelUnavailable

MAGIC = b"GGUF"
# GGUF's scalar types by number, as struct formats: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def context_length(path: Path) -> int:
    """How many tokens of context the model in this file was trained for.

    Raises:
        ModelUnavailable: there is no such file, it is not GGUF, or its header is damaged.
    """
    try:
        with path.open("rb") as file:
            return _context_length(file, path)
    except OSError as error:
        raise ModelUnavailable(
            f"the model file {path} cannot be read: {error.strerror}", "Check the path, or `apprentice doctor`."
        ) from None
    except (struct.error, KeyError, ValueError, OverflowError, MemoryError):
        raise ModelUnavailable(f"the model file {path} is damaged", "Remove it and fetch it again.") from None


def identity(path: Path) -> str:
    """A file's name and the start of its SHA-256, e.g. `SmolLM2 (sha256:abcdef123456)`.

    A specialist's `NAME/VERSION/adapter.gguf` is named by its folders.
    """
    name = "/".join(path.resolve().parts[-3:-1]) if path.stem == "adapter" else path.stem
    return f"{name} (sha256:{sha256(path)[:12]})"


def sha256(path: Path) -> str:
    """The file's SHA-256 in hex, remembered by path, size and time of change: hashing 98 MB takes a while."""
    key, stat = str(path.resolve()), path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns]
    remembered = _remembered()
    entry = remembered.get(key)
    if isinstance(entry, list) and entry[:2] == stamp:
        return str(entry[2])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(_remembered() | {key: [*stamp, digest]})
    return digest


def _context_length(file: BinaryIO, path: Path) -> int:
    if file.read(4) != MAGIC:
        raise ModelUnavailable(f"{path} is not a GGUF file", "Give a model in GGUF form.")
    _version, _tensors, entries = struct.unpack("<IQQ", file.read(20))
    found: dict[str, Any] = {}
    for _ in range(entries):
        key = _string(file)
        (kind,) = struct.unpack("<I", file.read(4))
        found[key] = _value(file, kind)
        length = found.get(f"{found.get('general.architecture')}.context_length")
        if length is not None:
            return int(length)
    raise ModelUnavailable(f"{path} names no context length, so it is no language model")


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", file.read(8))
    data = file.read(length) if length < 1 << 24 else b""
    if len(data) != length:
        raise struct.error("cut in a string")
    return data.decode("utf-8")


def _value(file: BinaryIO, kind: int) -> Any:
    """One value; arrays, which hold the vocabulary, are passed over."""
    if kind == STRING:
        return _string(file)
    if kind != ARRAY:
        form = "<" + SCALARS[kind]
        return struct.unpack(form, file.read(struct.calcsize(form)))[0]
    inner, count = struct.unpack("<IQ", file.read(12))
    if inner in SCALARS:
        file.seek(count * struct.calcsize("<" + SCALARS[inner]), os.SEEK_CUR)
        return None
    for _ in range(count):
        (length,) = struct.unpack("<Q", file.read(8))
        file.seek(length, os.SEEK_CUR)
    return None


def _remembered() -> dict[str, Any]:
    try:
        found = json.loads((cache_dir() / "hashes.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remember(hashes: dict[str, Any]) -> None:
    """Write the cache; a cache that cannot be written costs time, never the reply."""
    folder = cache_dir()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, prefix="hashes-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(hashes, file)
            os.replace(name, folder / "hashes.json")
        except BaseException:
            os.unlink(name)
            raise

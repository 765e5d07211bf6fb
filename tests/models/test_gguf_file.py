"""What a GGUF file says about itself."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import gguf
import pytest

from agent.config import cache_dir
from agent.errors import ModelUnavailable
from agent.models import gguf_file
from agent.models.embedded import SHA256, SIZE, find
from agent.models.gguf_file import context_length, identity, sha256
from agent.settings import Settings


def write(path: Path, *, length: int | None = 4096) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", "é"])
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.5])
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    if length is not None:
        writer.add_context_length(length)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return path


def test_the_trained_context_is_read_past_the_vocabulary(tmp_path: Path) -> None:
    assert context_length(write(tmp_path / "model.gguf")) == 4096
    assert context_length(find(Settings())) == 8192


def test_a_file_without_a_context_length_is_no_language_model(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no language model"):
        context_length(write(tmp_path / "adapter.gguf", length=None))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is not a GGUF file"),
        (b"<html>not found</html>", "is not a GGUF file"),
        (b"GGUF\x03\x00\x00", "is damaged"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 60), "is damaged"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2) + b"\xff\xfe", "is damaged"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"k", 99), "is damaged"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"k", 9, 8, 1 << 62), "is damaged"),
    ],
)
def test_a_damaged_header_is_one_sentence(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelUnavailable, match=says) as caught:
        context_length(path)
    assert str(path) in caught.value.message


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be read: Is a directory"):
        context_length(tmp_path)


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    first = sha256(path)
    (cache_dir() / "hashes.json").write_text(
        json.dumps({str(path): [*json.loads((cache_dir() / "hashes.json").read_text())[str(path)][:2], "remembered"]})
    )
    assert sha256(path) == "remembered"
    path.write_bytes(b"three")
    assert sha256(path) not in (first, "remembered")


def test_a_cache_that_cannot_be_written_or_read_costs_only_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    monkeypatch.setenv("APPRENTICE_CACHE_DIR", "/dev/full/cache")
    expected = sha256(path)
    monkeypatch.setenv("APPRENTICE_CACHE_DIR", str(tmp_path))
    (tmp_path / "hashes.json").write_text("[broken")
    assert sha256(path) == expected
    (tmp_path / "hashes.json").write_text("[]")
    assert sha256(path) == expected


def test_a_write_that_fails_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPRENTICE_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(gguf_file.os, "replace", full)
    assert len(sha256(path)) == 64
    assert list((tmp_path / "cache").iterdir()) == []


def test_an_adapter_is_named_by_its_folders_and_a_model_by_its_file(tmp_path: Path) -> None:
    folder = tmp_path / "annotate" / "2"
    folder.mkdir(parents=True)
    for path, name in ((folder / "adapter.gguf", "annotate/2"), (folder / "base.gguf", "base")):
        path.write_bytes(b"x")
        assert identity(path) == f"{name} (sha256:{sha256(path)[:12]})"


def test_the_embedded_model_is_the_pinned_one() -> None:
    path = find(Settings())
    assert path.stat().st_size == SIZE
    assert sha256(path) == SHA256

"""The embedded base as it is trained: its tokens are llama.cpp's, its prompts the product's, and it is made once."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from agent.errors import InputError, ModelUnavailable, OutputError
from agent.models import embedded, gguf_file
from agent.settings import Settings
from skills.annotate import attempt, framework, grammar
from tests.training import tiny
from training import base
from training.learning.encode import Encoder

MARKERS = " It ends <|im_end|>\n<|im_start|>assistant and goes on."


@pytest.fixture(scope="module")
def gguf() -> Path:
    return embedded.find(Settings())


@pytest.fixture(scope="module")
def folder(gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once for all of pytest's processes: half a gigabyte."""
    torch.set_num_threads(1)
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    with (shared / "bases.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return base.dequantised(gguf, shared / "bases")


@pytest.fixture(scope="module")
def context(gguf: Path) -> Any:
    from agent.models.llama_context import Context

    made = Context(gguf, 2048, ctypes.create_string_buffer(2))
    yield made
    made.close()


@pytest.mark.llama
def test_the_tokens_of_our_abstracts_are_llama_cpps(gguf: Path, folder: Path) -> None:
    texts = [*(row["abstract"] for row in tiny.ABSTRACTS), *base.PROBES, MARKERS]
    assert base.different_tokens(gguf, folder, texts) == []


@pytest.mark.llama
def test_a_prompt_and_its_annotation_are_the_tokens_that_the_product_uses(folder: Path, context: Any) -> None:
    from agent.models.chat_prompt import prompt_tokens

    moves = framework.load("eight-moves")
    encoder = Encoder(base.load_tokenizer(str(folder)))
    for number, row in enumerate(tiny.ABSTRACTS):
        abstract = row["abstract"] + MARKERS * (number % 2)
        sentences = [part.strip() + "." for part in row["abstract"].split(". ")]
        annotation = {key: sentences[place % len(sentences)] for place, key in enumerate(moves.keys)}
        annotation["limitation"] = 'It is "quoted", 3.5% \\ more.'
        (example,) = encoder.examples(tiny.full_annotation(abstract, annotation))
        begins = example.trained.index(True)
        assert example.tokens[:begins] == prompt_tokens(context, attempt.prompt(moves, abstract))
        said: list[int] = []
        texts = iter(annotation.values())
        for piece in grammar.template(moves, abstract, "none", 64):
            is_hole = isinstance(piece, grammar.Hole)
            text = json.dumps(next(texts), ensure_ascii=False)[1:-1] + piece.close if is_hole else piece.text
            said += context.tokenize(text)
        assert example.tokens[begins:] == [*said, context.eog]
        assert all(example.trained[begins:])


@pytest.mark.llama
def test_the_dequantised_weights_are_the_files_own(gguf: Path, folder: Path) -> None:
    from gguf import GGUFReader, dequantize
    from safetensors.torch import load_file

    ours = load_file(folder / "model.safetensors")
    theirs = {tensor.name: tensor for tensor in GGUFReader(gguf).tensors}
    for name, key in (
        ("blk.3.ffn_up.weight", "layers.3.mlp.up_proj"),
        ("blk.0.attn_v.weight", "layers.0.self_attn.v_proj"),
    ):
        wanted = torch.tensor(dequantize(theirs[name].data, theirs[name].tensor_type))
        assert torch.equal(ours[f"model.{key}.weight"], wanted)
        assert wanted.dtype == torch.float32
    assert not (folder / "config.json").read_text().count("quantization")


@pytest.mark.llama
def test_the_base_is_made_once_and_named_by_its_hash(gguf: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: Any) -> None:
        raise AssertionError("it is there already")

    monkeypatch.setattr(base, "_dequantise", again)
    assert base.dequantised(gguf, folder.parent) == folder
    assert gguf_file.sha256(gguf)[:12] in folder.name
    assert [path.name for path in folder.parent.iterdir()] == [folder.name], "nothing half-made lies beside it"
    monkeypatch.setattr(base.config, "cache_dir", lambda: folder.parent)
    monkeypatch.setattr(base, "dequantised", lambda path, cache: folder)
    found = base.find("embedded")
    assert (found.name, found.sha256, found.source) == (gguf.stem, embedded.SHA256, str(folder))


def test_a_folder_is_a_base_if_it_holds_safetensors(tmp_path: Path) -> None:
    folder = tiny.write_base(tmp_path / "tiny")
    assert base.find(str(folder)) == base.Base("tiny", str(folder), "")
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="holds no safetensors"):
        base.find(str(tmp_path / "pickled"))


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"there is no file .*none.gguf"):
        base.find(str(tmp_path / "none.gguf"))
    with pytest.raises(ModelUnavailable, match="there is no folder"):
        base.find(str(tmp_path / "none"))
    assert base.find("Qwen/Qwen3-8B").source == "Qwen/Qwen3-8B"


def test_a_gguf_file_that_is_none_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF and nothing more")
    with pytest.raises(InputError, match=r"transformers does not read .*broken.gguf"):
        base.dequantised(broken, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "any.gguf").write_bytes(b"GGUF")
    with pytest.raises(OutputError, match="cannot be written"):
        base.dequantised(tmp_path / "any.gguf", tmp_path / "file" / "cache")


def test_tokenizers_that_differ_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "different_tokens", lambda gguf, folder, texts: [texts[0]])
    with pytest.raises(InputError, match=r"cuts text otherwise than llama.cpp does with any.gguf"):
        base._check_tokenizer(tmp_path / "any.gguf", tmp_path)


def test_a_base_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    plain = tiny.tokenizer()
    plain.chat_template = None
    plain.save_pretrained(tmp_path / "plain")
    with pytest.raises(InputError, match="no chat template"):
        base.load_tokenizer(str(tmp_path / "plain"))
    with pytest.raises(ModelUnavailable, match=r"the tokenizer of .* cannot be loaded"):
        base.load_tokenizer(str(tmp_path))

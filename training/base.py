"""The base that is trained against: for a GGUF file, its own weights, dequantised once, so that an adapter fits what is
served; else a model in the form of transformers.

Weights are read only from safetensors or GGUF, and a model never brings code along that would be run.
"""

from __future__ import annotations

import io
import os
import shutil
import struct
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent import config
from agent.errors import InputError, ModelUnavailable, OutputError
from agent.models import embedded, gguf_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBES = (
    "At 13.13% of 1,250 cases, α-tuned models (p < 0.05) weren't 2.7× faster.",  # noqa: RUF001 (the point of it)
    "  Two  spaces,\ttabs\n\n\nand lines; naïve café, 日本語, 10², ﬁne… 😀",
    '{"claim": "It\'s said: \\"no\\".", "evidence": "Not stated."}',
)
"""Texts that tokenizers cut differently if they differ at all."""
WITHOUT_PACKAGES = "Run `scripts/setup train`."


@dataclass(frozen=True, slots=True)
class Base:
    """A base that can be loaded.

    Args:
        name: for people and cards.
        source: what transformers loads: a folder, or a name on the hub.
        sha256: of the GGUF file that is served; empty where there is none.
    """

    name: str
    source: str
    sha256: str


def find(given: str) -> Base:
    """The base that a recipe names; a GGUF file is dequantised at first use.

    Args:
        given: `embedded`, a GGUF file, a folder, or a name on the hub.

    Raises:
        ModelUnavailable: the embedded model or the file is not there.
        InputError: a folder without safetensors, or a GGUF file that transformers does not read.
    """
    path = Path(given).expanduser()
    if given == "embedded":
        settings, _ = config.load(Path(os.devnull), trusted=False)
        path = embedded.find(settings)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelUnavailable(f"there is no file {path}", "Correct the recipe's `base`.")
        folder = dequantised(path, config.cache_dir() / "bases")
        return Base(path.stem, str(folder), gguf_file.sha256(path))
    if path.is_dir():
        if not list(path.glob("*.safetensors")):
            raise InputError(f"{path} holds no safetensors", "Weights are read only from safetensors or GGUF.")
        return Base(path.name, str(path), "")
    if len(path.parts) > 2 or path.is_absolute():
        raise ModelUnavailable(f"there is no folder {path}", "Correct the recipe's `base`.")
    return Base(given, given, "")


def dequantised(gguf: Path, cache: Path) -> Path:
    """The weights of a GGUF file as f32 safetensors, with its tokenizer and chat template; made once.

    Args:
        gguf: the file that is served.
        cache: where the folder is kept, named by the file's name and hash.

    Returns:
        A folder that `from_pretrained` reads.

    Raises:
        InputError: transformers does not read this file, or cuts text otherwise than llama.cpp does.
        OutputError: the cache cannot be written.
    """
    folder = cache / f"{gguf.stem}-{gguf_file.sha256(gguf)[:12]}"
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache, prefix=".making-"))
    except OSError as error:
        raise OutputError(f"{cache} cannot be written: {error.strerror}") from None
    try:
        _dequantise(gguf, made)
        _check_tokenizer(gguf, made)
        os.rename(made, folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster
            raise OutputError(
                f"the dequantised {gguf.name} cannot be written to {cache}: {error.strerror or error}",
                "It needs about 4 bytes a parameter there.",
            ) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def load_tokenizer(source: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a base. Raises ModelUnavailable if it is not there, or the packages are not."""
    auto = _transformers().AutoTokenizer
    try:
        tokenizer: PreTrainedTokenizerBase = auto.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"the tokenizer of {source} cannot be loaded: {_first_line(error)}") from None
    if not tokenizer.chat_template:
        raise InputError(f"{source} has no chat template, so it is no chat model", "Take its instruct variant.")
    return tokenizer


def different_tokens(gguf: Path, folder: Path, texts: Sequence[str]) -> list[str]:
    """The texts that llama.cpp, reading the GGUF file, cuts otherwise than the folder's tokenizer does."""
    import ctypes

    from agent.models.llama_context import Context

    tokenizer = load_tokenizer(str(folder))
    context = Context(gguf, 256, ctypes.create_string_buffer(2))
    try:
        ours = [tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts]
        return [text for text, tokens in zip(texts, ours, strict=True) if context.tokenize(text) != tokens]
    finally:
        context.close()


def _dequantise(gguf: Path, folder: Path) -> None:
    """Write the safetensors and the tokenizer of a GGUF file into a folder."""
    import torch

    auto: Any = _transformers()
    try:
        with redirect_stderr(io.StringIO()):  # a progress bar that cannot be turned off
            tokenizer = auto.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            model = auto.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    except (ValueError, KeyError, IndexError, ImportError, NotImplementedError, struct.error) as error:
        raise InputError(
            f"transformers does not read {gguf}: {_first_line(error)}", "Give the model as a folder of safetensors."
        ) from None
    model.hf_quantizer = None  # without these three the weights are saved as if they were still quantised
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(model.config.eos_token_id)  # GGUF gives another one here
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _check_tokenizer(gguf: Path, folder: Path) -> None:
    """Raise InputError unless both tokenizers agree; a machine that only trains may lack llama.cpp."""
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        return
    if different := different_tokens(gguf, folder, PROBES):
        raise InputError(
            f"transformers cuts text otherwise than llama.cpp does with {gguf.name}, e.g. {different[0]!r}",
            "Train on the model's own folder instead of its GGUF file.",
        )


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise ModelUnavailable("training needs packages that are not installed", WITHOUT_PACKAGES) from None
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return transformers


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__

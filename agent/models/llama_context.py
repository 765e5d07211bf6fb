"""One GGUF model loaded by llama.cpp, through its C API: tokens, KV cache, logits, adapters.

Importing this file imports llama_cpp and numpy (0.1 s), so only the engine's thread does (agent/models/engine.py).
That thread alone may use a Context; the one thing that others touch is the abort flag.
"""

from __future__ import annotations

import ctypes
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import llama_cpp as llama
import numpy as np
import numpy.typing as npt
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from agent.errors import ModelError, ModelUnavailable

Logits = npt.NDArray[np.float32]

BATCH = 256
"""Tokens that one call of llama_decode takes. 512 is no faster here (5.4 to 6.7 ms a token) and takes 30 MB more."""
FIRST_CONTEXT = 2048
"""Tokens of the first KV cache. It grows when a request needs more: 8192 at once cost 60 ms and 140 MB."""
ABORTED = 2
NO_FLASH_ATTENTION = 0
"""On a CPU it decodes slower (45 ms a token against 25 behind 3,500 tokens), and what it computes depends on how the
tokens were cut into batches; without it any batch of two or more gives the same bits."""
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _c_function(name: str) -> int:
    """The address of a function of the C library."""
    return ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0


# llama.cpp calls the abort callback after every node of the graph (about 900 a token). A Python function would take the
# interpreter's lock each time; strlen of the flag's two bytes answers the same question in C: 0, or 1 once it is set.
_ABORT = llama.ggml_abort_callback(_c_function("strlen"))
# The same for the log: abs(level) does nothing, and cannot fail while the interpreter shuts down.
_SILENT = llama.llama_log_callback(_c_function("abs"))


def silence() -> None:
    """Keep llama.cpp from writing its log to standard error."""
    llama.llama_log_set(_SILENT, ctypes.c_void_p(0))


class Stopped(Exception):
    """The request was cancelled while it ran."""


class Context:
    """A loaded model and what its KV cache holds.

    Args:
        path: the GGUF file.
        limit: the most tokens of context, prompt and reply together.
        abort: two bytes; while the first is not 0, evaluation stops at the next node.

    Raises:
        ModelUnavailable: llama.cpp does not load the file.
    """

    def __init__(self, path: Path, limit: int, abort: ctypes.Array[ctypes.c_char]) -> None:
        silence()
        llama.llama_backend_init()
        self.path = path
        self._abort = abort
        self._model = llama.llama_model_load_from_file(os.fsencode(path), llama.llama_model_default_params())
        if not self._model:
            raise ModelUnavailable(
                f"llama.cpp cannot load {path}: it is damaged or of a kind that it does not know",
                "Fetch the file again, or give another GGUF.",
            )
        self.vocab = llama.llama_model_get_vocab(self._model)
        self.vocab_size: int = llama.llama_vocab_n_tokens(self.vocab)
        self.eog: int = max(llama.llama_vocab_eos(self.vocab), llama.llama_vocab_eot(self.vocab))
        """A token that ends a reply."""
        if self.eog < 0:
            raise ModelUnavailable(f"{path} has no token that ends a reply, so it is no chat model")
        self.limit = min(limit, llama.llama_model_n_ctx_train(self._model))
        self.tokens: list[int] = []
        """What the KV cache holds, oldest first."""
        self._batched = 0
        self.evaluated = 0
        """Tokens evaluated since the model was loaded."""
        self._threads = 1
        self._adapter: Path | None = None
        self._adapters: dict[tuple[Path, int], Any] = {}
        self._pieces: dict[int, bytes] = {}
        self._row = ctypes.c_float * self.vocab_size
        self._size = 0
        self._sequences = 1
        self._context: Any = None
        self.reserve(min(FIRST_CONTEXT, self.limit))

    # Text and tokens

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """The text as tokens, with nothing added; `special` reads control tokens' names as control tokens."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        tokens = (llama.llama_token * room)()
        count = llama.llama_tokenize(self.vocab, data, len(data), tokens, room, False, special)
        if count < 0:
            raise ModelError(f"llama.cpp did not tokenise a text of {len(data)} bytes")
        return tokens[:count]

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes that a token stands for; a control token's are its name if `special`, else none."""
        key = ~token if special else token
        known = self._pieces.get(key)
        if known is None:
            buffer = ctypes.create_string_buffer(1024)
            length = llama.llama_token_to_piece(self.vocab, token, buffer, len(buffer), 0, special)
            known = self._pieces[key] = buffer.raw[: max(length, 0)]
        return known

    def is_eog(self, token: int) -> bool:
        """Whether this token ends a reply."""
        return bool(llama.llama_vocab_is_eog(self.vocab, token))

    def is_control(self, token: int) -> bool:
        """Whether this token is a marker and not text."""
        return bool(llama.llama_vocab_is_control(self.vocab, token))

    @property
    def bos(self) -> int | None:
        """The token that every prompt begins with, for models that want one."""
        return int(llama.llama_vocab_bos(self.vocab)) if llama.llama_vocab_get_add_bos(self.vocab) else None

    @cached_property
    def chat_format(self) -> Jinja2ChatFormatter:
        """The chat template of the GGUF, or ChatML if it has none."""
        template = llama.llama_model_chat_template(self._model, None)
        text = [
            self.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""
            for token in (llama.llama_vocab_eos(self.vocab), llama.llama_vocab_bos(self.vocab))
        ]
        return Jinja2ChatFormatter(
            template.decode("utf-8") if template else CHATML, eos_token=text[0], bos_token=text[1]
        )

    # Evaluation

    def reserve(self, size: int, sequences: int = 1) -> None:
        """Make room for so many tokens (at most `limit` a sequence). A KV cache that has to grow loses what it held.

        Args:
            size: tokens of all sequences together.
            sequences: how many are evaluated at once (`agent.models.branches`).
        """
        most = self.limit * sequences
        size = min(size, most)
        if size <= self._size and sequences <= self._sequences:
            return
        self._size = max(self._size, min(max(FIRST_CONTEXT, 1 << (size - 1).bit_length()), most))
        self._sequences = max(self._sequences, sequences)
        if self._context:
            llama.llama_free(self._context)
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = self._size, BATCH, BATCH
        params.n_outputs_max = params.n_seq_max = self._sequences
        params.kv_unified = True  # sequences share the prompt's cells
        params.flash_attn_type = NO_FLASH_ATTENTION
        params.n_threads = params.n_threads_batch = self._threads
        params.no_perf = True
        params.abort_callback = _ABORT
        params.abort_callback_data = ctypes.addressof(self._abort)
        self._context = llama.llama_init_from_model(self._model, params)
        if not self._context:
            self._size, self._sequences = 0, 1
            raise ModelError(f"llama.cpp made no context of {size} tokens", "Set models.context lower.")
        self.memory = llama.llama_get_memory(self._context)
        self.tokens = []
        self._batched = 0
        adapter, self._adapter = self._adapter, None
        self.use_adapter(adapter)

    def set_threads(self, count: int) -> None:
        """How many threads evaluate from now on."""
        if count != self._threads:
            self._threads = count
            llama.llama_set_n_threads(self._context, count, count)

    def begin(self, prompt: list[int]) -> None:
        """Keep of the KV cache what a new prompt shares with it, so that this is not evaluated again.

        A token evaluated alone comes out slightly different from one in a batch (other kernels), so only what was
        evaluated in batches is kept and at least two tokens are left: a reply is then the same, to the bit, whatever
        was asked before.
        """
        self._rewind(max(0, min(shared_prefix(self.tokens, prompt), self._batched, len(prompt) - 2)))

    def advance(self, sequence: list[int]) -> None:
        """Make the KV cache hold exactly these tokens, of which it may hold a part, and the last one's logits ready.

        Raises:
            Stopped: the abort flag was set.
            ModelError: llama.cpp failed.
        """
        self._rewind(min(shared_prefix(self.tokens, sequence), len(sequence) - 1))
        while left := len(sequence) - len(self.tokens):
            count = BATCH - 1 if left == BATCH + 1 else min(left, BATCH)
            self._evaluate(sequence[len(self.tokens) : len(self.tokens) + count])

    def logits(self) -> Logits:
        """The raw logits after the last token, one a vocabulary entry: a view that the next `advance` overwrites."""
        return self.logits_at(-1)

    def logits_at(self, place: int) -> Logits:
        """The raw logits after one token of the last batch, by its place in it: a view, as from `logits`."""
        pointer = llama.llama_get_logits_ith(self._context, place)
        row = self._row.from_address(ctypes.addressof(pointer.contents))
        return np.frombuffer(row, dtype=np.float32)

    def decode(self, batch: llama.llama_batch) -> None:
        """Evaluate one batch. The caller keeps account of what the KV cache then holds, also after an error.

        Raises:
            Stopped: the abort flag was set.
            ModelError: llama.cpp failed.
        """
        code = llama.llama_decode(self._context, batch)
        if code == ABORTED:
            raise Stopped
        if code:
            raise ModelError(f"llama.cpp stopped with code {code} after {len(self.tokens)} tokens")
        self.evaluated += batch.n_tokens

    def use_adapter(self, path: Path | None) -> None:
        """Switch to this LoRA adapter, or to the bare model, and forget what the KV cache held: it was another model's.

        Raises:
            ModelUnavailable: the adapter does not load, or belongs to another base.
        """
        if path == self._adapter:
            return
        adapters = [] if path is None else [self._load_adapter(path)]
        count = len(adapters)
        pointers = (llama.llama_adapter_lora_p_ctypes * count)(*adapters)
        if llama.llama_set_adapters_lora(self._context, pointers, count, (ctypes.c_float * count)(*[1.0] * count)):
            raise ModelUnavailable(f"llama.cpp refuses the adapter {path}")
        self._adapter = path
        self.forget()

    def forget(self) -> None:
        """Empty the KV cache."""
        llama.llama_memory_clear(self.memory, True)
        self.tokens = []
        self._batched = 0

    def close(self) -> None:
        """Give the memory back. The model's adapters go with it."""
        llama.llama_free(self._context)
        llama.llama_model_free(self._model)

    def _load_adapter(self, path: Path) -> Any:
        try:
            key = (path, path.stat().st_mtime_ns)
        except OSError as error:
            raise ModelUnavailable(f"the adapter {path} cannot be read: {error.strerror}") from None
        if key not in self._adapters:
            pointer = llama.llama_adapter_lora_init(self._model, os.fsencode(path))
            if not pointer:
                raise ModelUnavailable(
                    f"the adapter {path} does not fit {self.path.name}: it is damaged or of another base",
                    "Use the base that the adapter's card names, or train it again.",
                )
            self._adapters[key] = pointer
        return self._adapters[key]

    def _rewind(self, keep: int) -> None:
        """Forget all but the first tokens."""
        if keep == len(self.tokens):
            return
        if llama.llama_memory_seq_rm(self.memory, 0, keep, -1):
            del self.tokens[keep:]
            self._batched = min(self._batched, keep)
        else:  # recurrent models cannot take back a part
            self.forget()

    def _evaluate(self, tokens: list[int]) -> None:
        array = (llama.llama_token * len(tokens))(*tokens)
        try:
            self.decode(llama.llama_batch_get_one(array, len(tokens)))
        except (Stopped, ModelError):
            if not llama.llama_memory_seq_rm(self.memory, 0, len(self.tokens), -1):
                self.forget()
            raise
        if len(tokens) > 1 and self._batched == len(self.tokens):
            self._batched += len(tokens)
        self.tokens += tokens


def shared_prefix(one: list[int], other: list[int]) -> int:
    """How many tokens both lists begin with."""
    if other[: len(one)] == one:  # the usual case, at the speed of C
        return len(one)
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

"""transformers and peft in this process: `hf:ID_OR_PATH[+ADAPTER]`, to evaluate what was just trained.

It needs the packages for training (`scripts/setup train`), which nothing else of the runtime imports. Prompts are the
training's own, token for token. Weights are read from safetensors or GGUF only, and only from this machine.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agent.errors import ApprenticeError, ContextOverflow, ModelError, ModelUnavailable
from agent.messages import Json, Message, Usage
from agent.models.base import Capabilities, Delta, Reply, Template
from agent.settings import Settings

CHUNK = 256
"""Tokens of a prompt that are read before anybody can stop it again."""
LEAST_REPLY = 16


@dataclass(slots=True)
class Written:
    """A reply while it is written."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] = "length"


class Transformers:
    """A model of transformers, bare or with an adapter as peft writes it. Loaded at its first use.

    Args:
        base: a folder, a GGUF file, or the name of a model of the hub that is already on this machine.
        settings: max_tokens and context are read.
        adapter: a folder with adapter_model.safetensors and adapter_config.json.
        address: how the model is called.
    """

    def __init__(self, base: str, settings: Settings, adapter: Path | None = None, address: str = "") -> None:
        if adapter is not None and not (adapter / "adapter_model.safetensors").is_file():
            raise ModelUnavailable(f"{adapter} holds no adapter_model.safetensors", "Give a run's folder `adapter`.")
        self.address = address or f"hf:{base}"
        self.capabilities = Capabilities(logprobs=True, adapters=True, context_length=settings.models.context)
        self._base, self._adapter = base, adapter
        self._settings = settings.models
        self._turn = threading.Lock()
        self._loaded: tuple[Any, Any, Any] | None = None

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Json] = (),
        schema: Json | None = None,
        template: Template | None = None,
        stop: Sequence[str] = (),
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
    ) -> AsyncIterator[Delta | Reply]:
        """Generate one reply; see `Model.chat`.

        Raises:
            ContextOverflow: prompt and a short reply do not fit.
            ModelUnavailable: the model, the adapter or the packages are not there.
            ModelError: it was asked for tool calls, a schema or a template, or torch failed.
        """
        if tools or schema is not None or template is not None:
            raise ModelError(f"{self.address} writes free text only", "Set models.protocol = text.")
        most = max_tokens or self._settings.max_tokens

        def work(emit: Callable[[Delta], None], stopped: threading.Event) -> Reply:
            return self._answer(messages, tuple(stop), most, temperature, seed, emit, stopped)

        async for piece in _in_thread(work):
            yield piece

    async def count_tokens(self, messages: Sequence[Message], tools: Sequence[Json] = ()) -> int:
        """How many tokens the prompt takes, exactly."""
        return await asyncio.to_thread(lambda: len(self._prompt(messages)))

    async def close(self) -> None:
        """Forget the loaded model; its memory is freed when the last reply is done."""
        self._loaded = None

    def _answer(
        self,
        messages: Sequence[Message],
        stop: Sequence[str],
        most: int,
        temperature: float,
        seed: int | None,
        emit: Callable[[Delta], None],
        stopped: threading.Event,
    ) -> Reply:
        started = time.perf_counter()
        with self._turn:
            prompt = self._prompt(messages)
            limit = self._limit()
            if len(prompt) + LEAST_REPLY > limit:
                raise ContextOverflow(len(prompt) + LEAST_REPLY, limit, "Shorten the text, or raise models.context.")
            written = Written()
            tokens = self._tokens(prompt, min(most, limit - len(prompt)), temperature, seed, stopped)
            for piece in self._pieces(tokens, stop, written):
                emit(Delta(piece))
        usage = Usage(len(prompt), len(written.tokens), time.perf_counter() - started)
        mean = sum(written.logprobs) / len(written.logprobs) if written.logprobs else None
        return Reply(
            Message("assistant", written.text),
            usage,
            written.finish_reason,
            model=Path(self._base).name,
            adapter=str(self._adapter) if self._adapter else "",
            mean_logprob=mean,
            token_ids=tuple(written.tokens),
            logprobs=tuple(written.logprobs),
        )

    def _tokens(
        self, prompt: list[int], most: int, temperature: float, seed: int | None, stopped: threading.Event
    ) -> Iterator[tuple[int, float]]:
        """The reply's tokens as they come, each with its log-probability; the closing one included."""
        import torch

        model, _, _ = self._load()
        dice = torch.Generator(device=model.device)
        dice.manual_seed(seed) if seed is not None else dice.seed()
        cache, given = None, [prompt[start : start + CHUNK] for start in range(0, len(prompt), CHUNK)]
        for _ in range(most):
            for part in given:
                if stopped.is_set():
                    return
                with torch.no_grad():
                    ids = torch.tensor([part], device=model.device)
                    out = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
                cache = out.past_key_values
            scores = out.logits[0, -1].float().log_softmax(-1)
            if temperature:
                token = int(torch.multinomial((scores / temperature).softmax(-1), 1, generator=dice))
            else:
                token = int(scores.argmax())
            yield token, float(scores[token])
            given = [[token]]

    def _pieces(self, tokens: Iterator[tuple[int, float]], stop: Sequence[str], written: Written) -> Iterator[str]:
        """The reply's text as it can be shown: no half characters, nothing that may be the start of a stop text."""
        from tokenizers.decoders import DecodeStream

        _, tokenizer, _ = self._load()
        stream, ends, shown = DecodeStream(skip_special_tokens=True), self._ends(), 0
        held = max(map(len, stop), default=1) - 1
        for token, logprob in tokens:
            written.tokens.append(token)
            written.logprobs.append(logprob)
            if token in ends:
                written.finish_reason = "stop"
                break
            written.text += stream.step(tokenizer._tokenizer, token) or ""
            found = [place for place in (written.text.find(text) for text in stop) if place >= 0]
            if found:
                written.text, written.finish_reason = written.text[: min(found)], "stop"
                break
            if len(written.text) - held > shown:
                yield written.text[shown : len(written.text) - held]
                shown = len(written.text) - held
        if written.text[shown:]:
            yield written.text[shown:]

    def _ends(self) -> set[int]:
        model, tokenizer, _ = self._load()
        given = model.generation_config.eos_token_id
        listed = given if isinstance(given, list) else [given]
        return {token for token in (*listed, tokenizer.eos_token_id) if token is not None}

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        _, _, encoder = self._load()
        found: list[int] = encoder.prompt([{"role": one.role, "content": one.content} for one in messages])
        return found

    def _limit(self) -> int:
        model, _, _ = self._load()
        return min(self._settings.context, getattr(model.config, "max_position_embeddings", self._settings.context))

    def _load(self) -> tuple[Any, Any, Any]:
        """The model, its tokenizer and what makes its prompts."""
        if self._loaded is None:
            from training import base as bases
            from training.learning.encode import Encoder

            source = _here(bases.find(self._base).source)
            tokenizer = bases.load_tokenizer(source)
            self._loaded = _read(source, self._adapter), tokenizer, Encoder(tokenizer)
        return self._loaded


def _here(source: str) -> str:
    """The folder of a model; one of the hub has to be on this machine already, for nothing is fetched unasked."""
    if Path(source).is_dir():
        return source
    from huggingface_hub import snapshot_download

    try:
        return str(snapshot_download(source, local_files_only=True))
    except (OSError, ValueError):
        raise ModelUnavailable(
            f"{source} is neither a folder nor a model of the hub that is on this machine",
            f"Fetch it first: `hf download {source}`.",
        ) from None


def _read(source: str, adapter: Path | None) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, utils

    utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    options: dict[str, Any] = {"dtype": torch.bfloat16 if device == "cuda" else torch.float32}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            source, use_safetensors=True, trust_remote_code=False, local_files_only=True, **options
        )
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter))
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ModelUnavailable(f"{source} cannot be loaded: {reason}", "Give a folder with its safetensors.") from None
    return model.to(device).eval()


async def _in_thread(work: Callable[[Callable[[Delta], None], threading.Event], Reply]) -> AsyncIterator[Delta | Reply]:
    """What `work` emits in a thread of its own, then what it returns. Leaving the iteration early stops it."""
    loop, items, stopped = asyncio.get_running_loop(), asyncio.Queue[Any](), threading.Event()

    def put(item: Any) -> None:
        with suppress(RuntimeError):  # the event loop is gone: nobody waits any more
            loop.call_soon_threadsafe(items.put_nowait, item)

    def run() -> None:
        try:
            put(work(put, stopped))
        except ApprenticeError as error:
            put(error)
        except Exception as error:  # torch raises anything
            put(ModelError(f"the model failed: {type(error).__name__}: {error}"))

    threading.Thread(target=run, name="transformers", daemon=True).start()
    try:
        while True:
            item = await items.get()
            if isinstance(item, Exception):
                raise item
            yield item
            if isinstance(item, Reply):
                return
    finally:
        stopped.set()

"""llama.cpp in this process: `local`, `gguf:PATH[+ADAPTER]` and specialists as LoRA adapters over one loaded base."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import ContextOverflow, ModelError, ModelUnavailable
from agent.messages import Json, Message, Usage
from agent.models import engine
from agent.models.base import Capabilities, Delta, Draw, Reply, Template
from agent.models.gguf_file import context_length, identity
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.models.decoding import Completion
    from agent.models.llama_context import Context

LEAST_REPLY = 16
"""Tokens of the context that must be left for a reply."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one call of `chat` asked for."""

    messages: Sequence[Message]
    gbnf: str
    template: Template | None
    stop: Sequence[str]
    max_tokens: int | None
    temperature: float
    seed: int | None
    others: Sequence[Draw] = ()


class LlamaCpp:
    """A GGUF model, with an adapter or bare. Models of one file share one loaded base, and take turns.

    Args:
        path: the base, a GGUF file.
        settings: context, threads and max_tokens are read.
        adapter: a LoRA adapter, a GGUF file made for that base.
        address: how the model is called.

    Raises:
        ModelUnavailable: a file is missing or no GGUF. Whether llama.cpp can load it shows at the first use.
    """

    def __init__(self, path: Path, settings: Settings, adapter: Path | None = None, address: str = "local") -> None:
        limit = min(settings.models.context, context_length(path))
        if adapter is not None and not adapter.is_file():
            raise ModelUnavailable(f"there is no adapter {adapter}", "`apprentice models` lists the specialists.")
        self.address = address
        self.capabilities = Capabilities(
            json_schema=True, grammar=True, logprobs=True, adapters=True, draws=True, context_length=limit
        )
        self._path = path
        self._limit = limit
        self._adapter = adapter
        self._settings = settings.models
        self._engine: engine.Engine | None = None

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
        others: Sequence[Draw] = (),
    ) -> AsyncIterator[Delta | Reply]:
        """Generate one reply; see `Model.chat`.

        With a template `finish_reason` is `length` if a hole had to be closed by force, and tokens that were forced
        have the log-probability 0 (they count as completion tokens; `mean_logprob` leaves them out).

        Args:
            others: further replies by the same template, drawn in the same batches; only the first one streams.

        Raises:
            ContextOverflow: prompt and a short reply, or the whole template, do not fit; nothing was evaluated.
            ModelUnavailable: the base or the adapter does not load.
            ModelError: the schema or a grammar cannot be used, or llama.cpp failed.
        """
        if tools:
            raise ModelError(f"{self.address} has no tool calls of its own", "Set models.protocol = json or text.")
        from agent.models.json_grammar import json_grammar

        if others and template is None:
            raise ModelError(f"{self.address} draws several replies by a template only")
        gbnf = json_grammar(schema) if schema is not None and template is None else ""
        request = Request(tuple(messages), gbnf, template, tuple(stop), max_tokens, temperature, seed, others)
        async with aclosing(
            self._own_engine().run(lambda context, emit: self._answer(context, emit, request))
        ) as pieces:
            async for piece in pieces:
                yield piece

    async def count_tokens(self, messages: Sequence[Message], tools: Sequence[Json] = ()) -> int:
        """How many tokens the prompt takes, exactly."""
        from agent.models.chat_prompt import prompt_tokens

        counts = [
            count async for count in self._own_engine().run(lambda context, _: len(prompt_tokens(context, messages)))
        ]
        return int(counts[0])

    async def close(self) -> None:
        """Give the loaded base back; it is freed when no model uses it any more."""
        held, self._engine = self._engine, None
        if held is not None:
            await engine.release(held)

    def _own_engine(self) -> engine.Engine:
        if self._engine is None or self._engine.failure is not None:
            self._engine = engine.acquire(self._path, self._limit)
        return self._engine

    def _answer(self, context: Context, emit: engine.Emit, request: Request) -> Reply:
        """One reply, in the engine's thread."""
        from agent.models.chat_prompt import prompt_tokens

        started = time.perf_counter()
        prompt = prompt_tokens(context, request.messages)
        if len(prompt) + LEAST_REPLY > context.limit:
            raise ContextOverflow(
                len(prompt) + LEAST_REPLY, context.limit, "Shorten the text, or raise models.context."
            )
        context.set_threads(engine.thread_count(self._settings.threads))
        context.use_adapter(self._adapter)
        completions = self._decode(context, emit, request, prompt)
        seconds = (time.perf_counter() - started) / len(completions)
        first, *others = [self._reply(completion, seconds) for completion in completions]
        usage = Usage(len(prompt), first.usage.completion_tokens, seconds)
        return replace(first, usage=usage, others=tuple(others))

    def _reply(self, completion: Completion, seconds: float) -> Reply:
        return Reply(
            Message("assistant", completion.text),
            Usage(0, len(completion.token_ids), seconds),
            completion.finish_reason,
            model=identity(self._path),
            adapter=identity(self._adapter) if self._adapter else "",
            mean_logprob=completion.mean_logprob,
            token_ids=tuple(completion.token_ids),
            logprobs=tuple(completion.logprobs),
        )

    def _decode(self, context: Context, emit: engine.Emit, request: Request, prompt: list[int]) -> list[Completion]:
        from agent.models.decoding import Picker, generate
        from agent.models.filling import fill, most_tokens

        picker, template = Picker(request.temperature, request.seed), request.template
        if template is not None and request.others:
            from agent.models.branches import fill_all

            pickers = [picker, *[Picker(draw.temperature, draw.seed) for draw in request.others]]
            context.reserve(len(prompt) + len(pickers) * most_tokens(context, template), len(pickers))
            return fill_all(context, prompt, template, pickers, emit, max_tokens=request.max_tokens)
        if template is not None:
            context.reserve(len(prompt) + most_tokens(context, template))
            return [fill(context, prompt, template, picker, emit, max_tokens=request.max_tokens)]
        most = min(request.max_tokens or self._settings.max_tokens, context.limit - len(prompt))
        context.reserve(len(prompt) + most)
        return [generate(context, prompt, picker, emit, max_tokens=most, stop=request.stop, gbnf=request.gbnf)]

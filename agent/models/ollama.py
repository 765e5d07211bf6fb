"""A model that an Ollama server runs, through Ollama's official client."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from agent.errors import ModelRefused
from agent.messages import Json, Message
from agent.models.base import Capabilities, Delta, Reply, Template
from agent.models.http import Failure, Server, import_httpx, key_from
from agent.models.wire import Draft, Renderings, arguments_of, dumps
from agent.settings import Settings

if TYPE_CHECKING:
    import ollama


class Ollama:
    """A model on an Ollama server.

    The window is set to `models.context` with every request, because Ollama's default cuts long prompts silently.
    Under `local-only` the server is asked first whether the model is one that it passes on to another server: such a
    model may bear any name.

    Args:
        name: the model's name, with its tag.
        settings: time-outs, retries, `models.context` and `models.ollama_url`.
    """

    def __init__(self, name: str, settings: Settings) -> None:
        self.address = f"ollama:{name}"
        self.capabilities = Capabilities(
            native_tools=True, json_schema=True, logprobs=True, context_length=settings.models.context
        )
        self._name = name
        self._context = settings.models.context
        self._must_stay = settings.privacy == "local-only"
        self._server = Server(
            self.address,
            settings.models.ollama_url,
            settings,
            key=key_from("OLLAMA_API_KEY"),
            key_name="OLLAMA_API_KEY",
            missing=f"Run `ollama pull {name}` first.",
        )
        self._counts = Renderings(lambda message: b"")
        self._client: ollama.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"Ollama({self.address!r})"

    def chat(
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
    ) -> AsyncGenerator[Delta | Reply, None]:
        """Generate one reply: see `Model.chat`.

        `template` is not supported and ignored. So is `schema` where there are tools: with both, Ollama loses calls.
        """
        options: Json = {"num_ctx": self._context, "temperature": temperature}
        for key, entry in (("seed", seed), ("num_predict", max_tokens), ("stop", list(stop) or None)):
            if entry is not None:
                options[key] = entry
        request: Json = {"options": options, "tools": list(tools) or None, "format": None if tools else schema}

        def attempt() -> AsyncGenerator[Delta | Reply, None]:
            return self._attempt(messages, tools, request)

        return self._server.attempts(attempt)

    async def count_tokens(self, messages: Sequence[Message], tools: Sequence[Json] = ()) -> int:
        """An estimate that errs high: Ollama's tokenizer cannot be asked."""
        return self._counts.tokens(messages, tools)

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()
        client, self._client = self._client, None
        if client is not None:
            await client.close()  # type: ignore[no-untyped-call]

    async def _attempt(
        self, messages: Sequence[Message], tools: Sequence[Json], request: Json
    ) -> AsyncGenerator[Delta | Reply, None]:
        await self._check_stays_here()
        started = time.perf_counter()
        draft = Draft()
        last: ollama.ChatResponse | None = None
        async with aclosing(self._parts(messages, request)) as parts:
            async for part in parts:
                if part.message.thinking:
                    yield draft.add_thought(part.message.thinking)
                if part.message.content:
                    yield draft.add_text(part.message.content)
                for call in part.message.tool_calls or ():
                    arguments = json.dumps(dict(call.function.arguments))
                    draft.add_call(len(draft.calls), name=call.function.name, arguments=arguments)
                draft.logprobs += [token.logprob for token in part.logprobs or ()]
                last = part
        if last is None or not last.done:
            raise self._server.cut("cut the reply off before its end")
        draft.prompt_tokens, draft.completion_tokens = last.prompt_eval_count, last.eval_count
        yield draft.reply(
            model=f"ollama:{last.model or self._name}",
            finish_reason="length" if last.done_reason == "length" else "stop",
            prompt_estimate=self._counts.tokens(messages, tools),
            seconds=time.perf_counter() - started,
        )

    async def _check_stays_here(self) -> None:
        if self._must_stay:
            shown = await self._server.answer("/api/show", dumps({"model": self._name}))
            if host := shown.get("remote_host"):
                message = f"{self.address} runs at {host}, and privacy is local-only"
                raise Failure(ModelRefused(message, "Give --model with a local one, or change `privacy`."))
            self._must_stay = False

    async def _parts(self, messages: Sequence[Message], request: Json) -> AsyncGenerator[ollama.ChatResponse, None]:
        """What the server sends, with every failure as http.Failure."""
        import_httpx()
        with self._server.failures():
            import ollama

            rendered = [_render(message) for message in messages]
            try:
                parts = await self._open().chat(self._name, rendered, stream=True, logprobs=True, **request)
                async with aclosing(parts):  # type: ignore[type-var]
                    async for part in parts:
                        yield part
            except ollama.ResponseError as problem:  # only from inside a stream: _open checks the status itself
                raise self._server.said_in_stream(json.dumps({"error": problem.error})) from None

    def _open(self) -> ollama.AsyncClient:
        if self._client is None:
            import ollama

            hooks = {"response": [self._server.check]}
            headers = self._server.key_headers()
            options = self._server.client_options()
            self._client = ollama.AsyncClient(self._server.url, headers=headers, event_hooks=hooks, **options)
        return self._client


def _render(message: Message) -> dict[str, Any]:
    rendered: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        rendered["tool_calls"] = [
            {"function": {"name": call.name, "arguments": arguments_of(call)}} for call in message.tool_calls
        ]
    if message.role == "tool":
        rendered["tool_name"] = message.name
    return rendered

"""Any server that speaks OpenAI's chat completions: OpenAI itself, vLLM, llama-server, LM Studio and others.

Servers differ in what else they accept. The request starts with everything that is useful, and what a server refuses
by name is left out from then on.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from agent.errors import ModelRefused
from agent.messages import Json, Message
from agent.models.base import Capabilities, Delta, Reply, Template
from agent.models.http import Failure, Server, key_from, without_user
from agent.models.wire import Draft, FinishReason, Renderings, arguments_of, dumps, safe_id
from agent.settings import Settings

KEY = "OPENAI_API_KEY"
SERVER_KEY = "APPRENTICE_SERVER_KEY"
"""The key of a server of your own: OpenAI's must not go to whatever address a task names."""
OPTIONAL = ("logprobs", "stream_options", "seed", "temperature")
"""What a reply can do without. Reasoning models refuse log-probabilities and temperatures."""
FINISHED: dict[str, FinishReason] = {"length": "length", "tool_calls": "tool_calls", "function_call": "tool_calls"}


class OpenAI:
    """A model behind OpenAI's chat completions protocol.

    Its context is `models.context` for a server of your own; for `openai:NAME` it is unknown, and nothing is checked,
    unless `models.context` is set: the protocol has no way to ask. The cost of a reply is unknown.

    Args:
        name: the model's name on the server.
        settings: time-outs, retries, context and the address of OpenAI's own API.
        url: another server, up to and with `/v1`. It is sent APPRENTICE_SERVER_KEY if that is set, never OpenAI's key.
    """

    def __init__(self, name: str, settings: Settings, url: str | None = None) -> None:
        self.address = f"openai:{name}" if url is None else f"openai@{without_user(url)}:{name}"
        known = url is not None or "context" in settings.models.model_fields_set
        self.capabilities = Capabilities(
            native_tools=True,
            json_schema=True,
            logprobs=True,
            context_length=settings.models.context if known else None,
        )
        self._name = name
        key_name = KEY if url is None else SERVER_KEY
        self._key = key_from(key_name)
        self._needs_key = url is None and settings.models.openai_url.startswith("https://api.openai.com")
        self._server = Server(
            self.address,
            url or settings.models.openai_url,
            settings,
            key=self._key,
            key_name=key_name,
            missing="Check the model's name, and that the URL ends as the server wants it (mostly in /v1).",
        )
        self._renderings = Renderings(_render)
        self._left_out: set[str] = set()
        self._limit = "max_completion_tokens" if url is None else "max_tokens"
        self._schema_form = "json_schema"

    def __repr__(self) -> str:
        return f"OpenAI({self.address!r})"

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
        """Generate one reply: see `Model.chat`. `template` is not supported and ignored."""
        wanted: Json = {"model": self._name, "stream": True, "temperature": temperature, "logprobs": True}
        wanted["stream_options"] = {"include_usage": True}
        for key, entry in (("stop", list(stop)), ("tools", list(tools)), ("max_tokens", max_tokens), ("seed", seed)):
            if entry is not None and entry != []:
                wanted[key] = entry
        if schema is not None:
            wanted["response_format"] = schema

        def attempt() -> AsyncGenerator[Delta | Reply, None]:
            return self._attempt(messages, tools, self._body(messages, wanted))

        return self._server.attempts(attempt, lambda said: self._ask_for_less(said, wanted))

    async def count_tokens(self, messages: Sequence[Message], tools: Sequence[Json] = ()) -> int:
        """An estimate that errs high: the protocol cannot be asked."""
        return self._renderings.tokens(messages, tools)

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    def _body(self, messages: Sequence[Message], wanted: Json) -> bytes:
        """The request as bytes: the parameters, then the messages as they were rendered the first time."""
        request = {key: entry for key, entry in wanted.items() if key not in self._left_out}
        if "max_tokens" in request:
            request[self._limit] = request.pop("max_tokens")
        if "response_format" in request:
            request["response_format"] = _response_format(request["response_format"], self._schema_form)
        joined = b",".join(self._renderings.rendered(messages))
        return dumps(request)[:-1] + b',"messages":[' + joined + b"]}"

    async def _attempt(
        self, messages: Sequence[Message], tools: Sequence[Json], body: bytes
    ) -> AsyncGenerator[Delta | Reply, None]:
        if self._needs_key and not self._key:
            raise Failure(ModelRefused(f"{self.address} needs a key", f"Set {KEY} to your key."))
        started = time.perf_counter()
        draft = Draft()
        finished, model = "", self._name
        with self._server.failures():
            async with aclosing(self._server.events("/chat/completions", body)) as events:
                async for event in events:
                    model = event.get("model") or model
                    if usage := event.get("usage"):
                        draft.prompt_tokens = usage.get("prompt_tokens")
                        draft.completion_tokens = usage.get("completion_tokens")
                    for choice in event.get("choices") or ():
                        for piece in _read(choice, draft):
                            yield piece
                        finished = choice.get("finish_reason") or finished
        if not finished:
            raise self._server.cut("cut the reply off before its end")
        if finished == "content_filter":
            raise Failure(ModelRefused(f"{self.address} withheld its reply: content filter"))
        yield draft.reply(
            model=self.address.removesuffix(self._name) + model,
            finish_reason=FINISHED.get(finished, "stop"),
            prompt_estimate=self._renderings.tokens(messages, tools),
            seconds=time.perf_counter() - started,
        )

    def _ask_for_less(self, said: str, wanted: Json) -> bool:
        """Leave out, from now on, what the server refused by name. False if it refused nothing of that kind."""
        if self._limit in said and "max_tokens" in wanted and "_limit" not in self._left_out:
            self._limit = "max_tokens" if self._limit == "max_completion_tokens" else "max_completion_tokens"
            self._left_out.add("_limit")
            return True
        if "response_format" in said and "response_format" in wanted and self._schema_form == "json_schema":
            self._schema_form = "json_object"
            return True
        refused = {key for key in OPTIONAL if key in said and key in wanted} - self._left_out
        self._left_out |= refused
        return bool(refused)


def _read(choice: Json, draft: Draft) -> list[Delta]:
    """Add one choice of an event to the draft; the pieces of text in it."""
    delta = choice.get("delta") or {}
    pieces = []
    if thought := delta.get("reasoning_content") or delta.get("reasoning"):
        pieces.append(draft.add_thought(thought))
    if text := delta.get("content") or delta.get("refusal"):
        pieces.append(draft.add_text(text))
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        index = call.get("index")
        if index is None:  # some servers send each call whole, and none of them with an index
            index = len(draft.calls)
        draft.add_call(index, call.get("id") or "", function.get("name") or "", _text(function.get("arguments")))
    for token in (choice.get("logprobs") or {}).get("content") or ():
        draft.logprobs.append(token["logprob"])
    return pieces


def _text(arguments: Any) -> str:
    """Arguments come as text; some servers send the object itself."""
    return arguments if isinstance(arguments, str) else json.dumps(arguments) if arguments else ""


def _render(message: Message) -> bytes:
    rendered: Json = {"role": message.role, "content": message.content}
    if message.tool_calls:
        rendered["content"] = message.content or None
        rendered["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": safe_id(call.name), "arguments": json.dumps(arguments_of(call))},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        rendered["tool_call_id"] = message.tool_call_id
    return dumps(rendered)


def _response_format(schema: Json, form: str) -> Json:
    """A schema as OpenAI wants it, or in the older form of llama-cpp-python's server."""
    if form == "json_object":
        return {"type": "json_object", "schema": schema}
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": fits_strict(schema)}}


def fits_strict(schema: Any, *, root: bool = True) -> bool:
    """Whether OpenAI's strict mode takes a schema.

    Its root must be an object, every object must require all its properties and allow no others, and there are
    keywords that it refuses (https://platform.openai.com/docs/guides/structured-outputs).
    """
    if isinstance(schema, list):
        return all(fits_strict(entry, root=False) for entry in schema)
    if not isinstance(schema, dict):
        return True
    if root and schema.get("type") != "object":
        return False
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") is not False or set(schema.get("required", ())) != set(properties):
            return False
    if {"oneOf", "allOf", "not", "if", "patternProperties", "default", "minLength", "maxLength"} & set(schema):
        return False
    parts = [entry for key, entry in schema.items() if key not in ("properties", "$defs", "enum", "const")]
    parts += [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    return all(fits_strict(part, root=False) for part in parts)

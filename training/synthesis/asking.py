"""Asking a model for an object of a known form: how judges vote and teachers write."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from agent import registry
from agent.errors import ConsentDenied, ModelCut
from agent.messages import Message
from agent.models.base import Model, Reply
from agent.settings import Settings
from skills.annotate.validate import parse


class Form(BaseModel):
    """What a model is asked to fill in; its JSON schema constrains the reply where the backend can do that."""

    model_config = ConfigDict(extra="forbid", frozen=True)


F = TypeVar("F", bound=Form)


@dataclass(frozen=True, slots=True)
class Answer(Generic[F]):
    """A reply. `found` is None if it was not the form, and then `problem` says why; it was paid for all the same."""

    found: F | None
    problem: str
    tokens: int
    seconds: float


def open_model(address: str, settings: Settings) -> Model:
    """The model of an address, for texts that come from the person's data.

    Raises:
        ConsentDenied: it would leave this machine, and privacy is local-only.
        UsageError, ModelUnavailable: there is no such model.
    """
    if settings.privacy == "local-only" and not registry.is_local(address, settings):
        raise ConsentDenied(
            f"{address} would leave this machine, and privacy is local-only",
            "Give a local model (local, gguf:PATH, ollama:NAME), or change `privacy`.",
        )
    return registry.open_model(address, settings)


async def ask(
    model: Model,
    messages: Sequence[Message],
    form: type[F],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    seed: int | None = None,
) -> Answer[F]:
    """Ask for a form. A model that takes no schema is trusted to write JSON, and its reply is read leniently.

    Args:
        model: who is asked.
        messages: the prompt; it should describe the form in words, too.
        form: what the reply must be.
        max_tokens: of the reply.
        temperature: 0 takes the likeliest token.
        seed: for sampling that can be repeated.

    Raises:
        ModelError: the model failed; a reply that is not the form is no error.
    """
    schema = form.model_json_schema() if model.capabilities.json_schema else None
    reply = await last(model, messages, schema=schema, max_tokens=max_tokens, temperature=temperature, seed=seed)
    found, problems = parse(reply.message.content)
    tokens, seconds = reply.usage.tokens, reply.usage.seconds
    if reply.finish_reason == "length":
        return Answer(None, "the reply was cut by its token limit", tokens, seconds)
    if problems:
        return Answer(None, problems[0].message, tokens, seconds)
    try:
        return Answer(form.model_validate(found), "", tokens, seconds)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the reply"
        return Answer(None, f"{where}: {first['msg']}", tokens, seconds)


async def last(model: Model, messages: Sequence[Message], **request: object) -> Reply:
    """The whole reply. Raises ModelError; ModelCut if the stream ended without one."""
    started = time.perf_counter()
    async for piece in model.chat(messages, **request):  # type: ignore[arg-type]
        if isinstance(piece, Reply):
            return piece
    raise ModelCut(f"{model.address} ended its reply after {time.perf_counter() - started:.1f} s without saying so")

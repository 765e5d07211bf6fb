"""The contract of a model backend: one protocol, async and streaming. Backends need not inherit; no I/O here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.messages import Json, Message, Usage


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do. `context_length` is in tokens; None is unknown (then nothing is checked).

    With `draws` its `chat` also takes `others`: a sequence of Draw, for each of which a further reply to the same
    prompt and template is generated beside the first; they come as the Reply's `others`.
    """

    native_tools: bool = False
    json_schema: bool = False
    grammar: bool = False
    logprobs: bool = False
    adapters: bool = False
    draws: bool = False
    context_length: int | None = None


@dataclass(frozen=True, slots=True)
class Fixed:
    """A piece of a template that is given, not generated."""

    text: str


@dataclass(frozen=True, slots=True)
class Hole:
    """A piece of a template that the model fills.

    Args:
        gbnf: a llama.cpp grammar; its `root` matches the piece with its closing text.
        close: the text that ends the piece, e.g. `",`: forced when the model has not written it by itself.
        max_tokens: after so many tokens the piece is closed.
    """

    gbnf: str
    close: str
    max_tokens: int


Template = Sequence[Fixed | Hole]
"""A reply whose fixed parts are forced and whose holes are each generated under a grammar of their own."""


@dataclass(frozen=True, slots=True)
class Draw:
    """How one of several replies to the same prompt is sampled; `temperature` and `seed` as for `Model.chat`."""

    temperature: float
    seed: int


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the reply as it streams."""

    text: str
    kind: Literal["text", "thought"] = "text"


@dataclass(frozen=True, slots=True)
class Reply:
    """The end of a stream. `mean_logprob` is in nats a token; `model` names the exact model and version served.

    `others` are further replies that were asked for with it; the prompt and the time that they shared count once.
    """

    message: Message
    usage: Usage
    finish_reason: Literal["stop", "length", "tool_calls"]
    model: str
    adapter: str = ""
    mean_logprob: float | None = None
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    others: tuple[Reply, ...] = ()


class Model(Protocol):
    """A model that answers messages.

    `chat` yields any number of Delta and ends with exactly one Reply. It raises only ModelError (agent.errors).
    Closing the iterator early, or cancelling the task that reads it, stops the generation within half a second.
    """

    address: str
    capabilities: Capabilities

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
    ) -> AsyncIterator[Delta | Reply]:
        """Generate one reply.

        Args:
            messages: the conversation, oldest first.
            tools: OpenAI-style function schemas; only for backends with `native_tools`.
            schema: a JSON schema that the reply's text must satisfy; only for backends with `json_schema`.
            template: the reply as literals and holes; only for backends with `grammar`; beats `schema`.
            stop: texts that end the reply; they are not part of it.
            max_tokens: the most tokens to generate; None leaves it to the backend.
            temperature: 0 is greedy.
            seed: for sampling that can be repeated, where the backend supports it.
        """
        ...

    async def count_tokens(self, messages: Sequence[Message], tools: Sequence[Json] = ()) -> int:
        """How many tokens the prompt takes: exact for local models, an estimate that errs high elsewhere."""
        ...

    async def close(self) -> None:
        """Give back what the model holds (threads, sockets, memory)."""
        ...

"""Message, ToolCall, Usage, Trajectory, Event: the one vocabulary that everything speaks.

A trajectory is a list of OpenAI-style messages, because every chat template, dataset library and trainer reads
that. Protocol text (ReAct lines, JSON actions) is only a rendering of it. This file imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Outcome = Literal["success", "failure", "unknown"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that a model asked for.

    `malformed` holds the model's own text when it did not parse as an object of arguments; such a call is never
    run with invented arguments, its error goes back to the model.
    """

    id: str
    name: str
    arguments: Json
    malformed: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Immutable, so that whoever renders it may remember the rendering by identity."""

    role: Role
    content: str = ""
    thought: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    name: str = ""
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply, or a run as the sum of its replies, used. `cost` is in US dollars; None is unknown."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    cost: float | None = None

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        costs = [cost for cost in (self.cost, other.cost) if cost is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.seconds + other.seconds,
            sum(costs) if costs else None,
        )


@dataclass(frozen=True, slots=True)
class Route:
    """A routing decision: the model's address, the rule that chose it, and the reason as a person reads it."""

    model: str
    rule: str
    reason: str
    escalation: str = ""
    """The address that takes over when the answer fails its validators, or there is none; empty: not configured."""


@dataclass(frozen=True, slots=True)
class Detail:
    """What the record keeps beside a message: how it came to be.

    `sampling` holds the parameters that were sent (temperature, seed, max_tokens, stop, protocol, schema's hash);
    `token_ids` and `logprobs` have one entry a generated token, where the backend gives them; `preference` says
    which of two attempts at the same answer this was; a `sample` is one of several replies that an answer was composed
    of, which follows them without token ids of its own.
    """

    model: str = ""
    adapter: str = ""
    sampling: Json = field(default_factory=dict)
    usage: Usage = Usage()
    finish_reason: str = ""
    seconds: float = 0.0
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    preference: Literal["", "rejected", "chosen", "sample"] = ""
    error: str = ""


@dataclass(slots=True)
class Trajectory:
    """A run as it stands on record. Times are seconds since the epoch, UTC."""

    id: str
    task: str
    parent_id: str = ""
    skills: list[str] = field(default_factory=list)
    model: str = ""
    tools: list[Json] = field(default_factory=list)
    route: Route | None = None
    outcome: Outcome = "unknown"
    reason: str = ""
    """Why the run ended: answer, step budget, cancelled, an error's sentence."""
    score: float | None = None
    labels: Json = field(default_factory=dict)
    usage: Usage = Usage()
    started: float = 0.0
    ended: float = 0.0
    workspace: str = ""
    messages: list[Message] = field(default_factory=list)
    details: list[Detail] = field(default_factory=list)
    """One for each message, in the same order."""
    correction: str = ""
    """What a person says that the answer should have been: the newest correction; empty if there is none."""


EventKind = Literal[
    "run", "skill", "thought", "text", "action", "progress", "observation", "step", "notice", "answer", "end"
]


@dataclass(frozen=True, slots=True)
class Event:
    """What a person, or a program behind `--json`, is told while a run goes on. `data` is plain JSON.

    run {task, model, rule, reason, skills, parent} · skill {name, reason} · thought, text {text}: a piece of the
    stream · action {id, name, arguments} · progress {name, progress, total, message}: a tool says how far it is ·
    observation {id, name, content, is_error, seconds} · step {number, seconds,
    prompt_tokens, completion_tokens}: sent after the step is committed · notice {text} · answer {text} ·
    end {outcome, reason, seconds, prompt_tokens, completion_tokens, cost, raised}: `raised` if an error ended the run,
    which is told after it; tokens and cost are with those of the phases and sub-agents that are a part of the run.
    """

    kind: EventKind
    run_id: str
    data: Json


def texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value, at any depth, but for keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from texts(entry)


def with_texts(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON value with every text in it changed, at any depth; keys stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: with_texts(entry, change) for key, entry in value.items()}
    return [with_texts(entry, change) for entry in value] if isinstance(value, list) else value

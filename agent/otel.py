"""Runs as OpenTelemetry spans, by the GenAI semantic conventions (status: development; read in their 2026 form).

Each run is one line of OTLP/JSON (an ExportTraceServiceRequest, as the collector's file receiver reads it): a root span
`invoke_agent`, under it a `chat` span for each model turn and an `execute_tool` span for each call. Sub-runs hang under
their parent's root span, in the same trace. Ids are hashes of run ids, so exporting twice gives the same spans.

The record has durations, not the clock at each message: spans are laid end to end from the run's start, calls of one
turn side by side. Prompts are not repeated on each chat span: a turn's input is what the spans before it hold.
https://github.com/open-telemetry/semantic-conventions-genai
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

from agent import __version__
from agent.messages import Detail, Json, Message, ToolCall, Trajectory
from agent.trace_schema import dump

INTERNAL, CLIENT = 1, 3
UNSET, OK, ERROR = 0, 1, 2
PROVIDERS = {"openai": "openai", "anthropic": "anthropic", "ollama": "ollama"}
"""Of the addresses' first words; every other is llama.cpp in this process."""


def request_lines(trajectories: Iterable[Trajectory]) -> Iterator[Json]:
    """Each run as an ExportTraceServiceRequest. A run's trace is its parent's, if that came before it."""
    traces: dict[str, str] = {}
    for run in trajectories:
        traces[run.id] = traces.get(run.parent_id) or _hash(run.parent_id or run.id, 32)
        scope = {"name": "apprentice", "version": __version__}
        resource = {"attributes": attributes({"service.name": "apprentice", "service.version": __version__})}
        yield {
            "resourceSpans": [
                {"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans(run, traces[run.id])}]}
            ]
        }


def spans(run: Trajectory, trace: str) -> list[Json]:
    """The spans of one run: its root first, then its steps in order."""
    root = _hash(run.id, 16)
    steps, end = _steps(run, trace, root)
    top = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": _provider(run.model),
        "gen_ai.agent.name": run.skills[0] if run.skills else "apprentice",
        "gen_ai.agent.version": __version__,
        "gen_ai.conversation.id": run.id,
        "gen_ai.request.model": run.model,
        "gen_ai.usage.input_tokens": run.usage.prompt_tokens,
        "gen_ai.usage.output_tokens": run.usage.completion_tokens,
        "gen_ai.system_instructions": _json([_text(m.content) for m in run.messages if m.role == "system"]),
        "gen_ai.input.messages": _json([_spoken(m) for m in run.messages if m.role == "user"]),
        "gen_ai.tool.definitions": _json([{"type": "function"} | tool.get("function", tool) for tool in run.tools]),
        "error.type": "failure" if run.outcome == "failure" else None,
        "apprentice.outcome": run.outcome,
        "apprentice.reason": run.reason,
        "apprentice.score": run.score,
        "apprentice.labels": _json(run.labels),
        "apprentice.correction": run.correction,
        "apprentice.task": run.task,
        "apprentice.skills": run.skills,
        "apprentice.interrupted": not run.ended,
    }
    code = {"success": OK, "failure": ERROR}.get(run.outcome, UNSET)
    status = {"code": code, "message": run.reason} if code == ERROR else {"code": code}
    parent = _hash(run.parent_id, 16) if run.parent_id else ""
    times = (run.started, max(run.ended, end))
    name = f"invoke_agent {top['gen_ai.agent.name']}"
    return [_span(trace, root, parent, name, INTERNAL, times, top, status), *steps]


def attributes(values: Json) -> list[Json]:
    """OTLP's attributes: a list of key and typed value; None and empty texts are left out."""
    return [{"key": key, "value": _value(value)} for key, value in values.items() if value not in (None, "", [])]


def _steps(run: Trajectory, trace: str, root: str) -> tuple[list[Json], float]:
    """The chat and tool spans, and when the last one ends."""
    found, clock, turn_start = [], run.started, run.started
    calls: dict[str, ToolCall] = {}
    for index, (message, detail) in enumerate(zip(run.messages, run.details, strict=True)):
        own = _hash(f"{run.id}/{index}", 16)
        if message.role == "assistant":
            calls = {call.id: call for call in message.tool_calls}
            times = (clock, clock + detail.seconds)
            turn_start = clock = times[1]
            model = detail.model or run.model
            found.append(
                _span(
                    trace, own, root, f"chat {model}", CLIENT, times, _chat(run, message, detail), _status(detail.error)
                )
            )
        elif message.role == "tool":
            times = (turn_start, turn_start + detail.seconds)
            clock = max(clock, times[1])
            error = detail.error or (message.content if message.is_error else "")
            values = _tool(message, calls.get(message.tool_call_id), error)
            found.append(
                _span(trace, own, root, f"execute_tool {message.name}", INTERNAL, times, values, _status(error))
            )
    return found, clock


def _chat(run: Trajectory, message: Message, detail: Detail) -> Json:
    sampling, usage = detail.sampling, detail.usage
    reason = {"tool_calls": "tool_call"}.get(detail.finish_reason, detail.finish_reason)
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _provider(run.model),
        "gen_ai.conversation.id": run.id,
        "gen_ai.request.model": run.model,
        "gen_ai.request.temperature": sampling.get("temperature"),
        "gen_ai.request.max_tokens": sampling.get("max_tokens"),
        "gen_ai.request.seed": sampling.get("seed"),
        "gen_ai.request.stop_sequences": sampling.get("stop"),
        "gen_ai.response.model": detail.model,
        "gen_ai.response.finish_reasons": [reason] if reason else None,
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
        "gen_ai.output.messages": _json([_spoken(message) | {"finish_reason": reason}]),
        "error.type": "model_error" if detail.error else None,
        "apprentice.adapter": detail.adapter,
        "apprentice.preference": detail.preference,
        "apprentice.cost": usage.cost,
    }


def _tool(message: Message, call: ToolCall | None, error: str) -> Json:
    return {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": message.name,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": message.tool_call_id,
        "gen_ai.tool.call.arguments": (call.malformed or dump(call.arguments)) if call else None,
        "gen_ai.tool.call.result": message.content,
        "error.type": "tool_error" if error else None,
    }


def _spoken(message: Message) -> Json:
    """A message as the conventions' ChatMessage: a role and parts."""
    parts: list[Json] = [{"type": "reasoning", "content": message.thought}] if message.thought else []
    parts += [_text(message.content)] if message.content else []
    parts += [
        {"type": "tool_call", "id": call.id, "name": call.name, "arguments": call.malformed or call.arguments}
        for call in message.tool_calls
    ]
    return {"role": message.role, "parts": parts}


def _text(content: str) -> Json:
    return {"type": "text", "content": content}


def _span(
    trace: str, own: str, parent: str, name: str, kind: int, times: tuple[float, float], values: Json, status: Json
) -> Json:
    return {
        "traceId": trace,
        "spanId": own,
        **({"parentSpanId": parent} if parent else {}),
        "name": name.strip(),
        "kind": kind,
        "startTimeUnixNano": _nanoseconds(times[0]),
        "endTimeUnixNano": _nanoseconds(times[1]),
        "attributes": attributes(values),
        "status": status,
    }


def _status(error: str) -> Json:
    return {"code": ERROR, "message": error} if error else {"code": UNSET}


def _value(value: Any) -> Json:
    """OTLP's AnyValue. 64-bit integers are strings in its JSON."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(entry) for entry in value]}}
    return {"stringValue": str(value)}


def _json(value: Any) -> str:
    """Structured attributes as JSON text, the form for exporters without structured span attributes."""
    return dump(value) if value else ""


def _provider(address: str) -> str:
    return PROVIDERS.get(address.partition(":")[0].partition("@")[0], "llama.cpp")


def _nanoseconds(seconds: float) -> str:
    return str(round(seconds * 1_000_000) * 1000)


def _hash(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]

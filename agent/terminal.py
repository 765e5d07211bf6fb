"""What a person sees while it runs: rich on a terminal, plain lines elsewhere, JSON lines for programs.

A step's line is printed only after the step is committed. Progress goes to standard error and the answer to standard
output, so that a pipe carries the answer alone. Run `python -m agent.terminal` to see every kind of event.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, TextIO

from agent.messages import Event, Json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.markdown import Markdown

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """Text from a model or a tool, without what could steer the terminal (escape codes, direction marks)."""
    return CONTROL.sub("", text)


def choose(
    *, as_json: bool, quiet: bool, prose: bool = True, out: TextIO = sys.stdout, err: TextIO = sys.stderr
) -> Callable[[Event], None]:
    """The sink for events that fits where the output goes.

    Args:
        as_json: events as JSON lines.
        quiet: only the answer.
        prose: whether the answer is Markdown; JSON and CSV are shown as they are.
        out: where answers go.
        err: where progress goes.
    """
    if as_json:
        return JsonLines(out)
    if err.isatty() and not quiet:
        return Rich(out, err, prose)
    return Plain(out, err, quiet)


class JsonLines:
    """One JSON object an event, on standard output."""

    def __init__(self, out: TextIO) -> None:
        self.out = out

    def __call__(self, event: Event) -> None:
        line = {"event": event.kind, "run": event.run_id, **event.data}
        self.out.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.out.flush()


class Plain:
    """A line a step on standard error; the answer on standard output."""

    def __init__(self, out: TextIO, err: TextIO, quiet: bool = False) -> None:
        self.out, self.err, self.quiet = out, err, quiet
        self.parts = Parts()

    def __call__(self, event: Event) -> None:
        if event.kind == "answer":
            self.out.write(clean(event.data["text"]).rstrip("\n") + "\n")
            self.out.flush()
        elif not self.quiet and (line := self.parts.line(event)):
            self.err.write(line + "\n")
            self.err.flush()


class Rich:
    """Colours, and the thought and the answer as they stream; the answer again on standard output if that is a pipe."""

    def __init__(self, out: TextIO, err: TextIO, prose: bool = True) -> None:
        from rich.console import Console

        self.console: Console = Console(file=err, highlight=False)
        self.out, self.piped, self.prose = out, not out.isatty(), prose
        self.parts = Parts()
        self.streaming = ""
        self.streamed: list[str] = []
        self.column, self.fenced = 0, False
        self.held = ""
        """The last word of the stream while it may still grow: a line is broken between words."""

    def __call__(self, event: Event) -> None:
        if event.kind in ("text", "thought"):
            if event.run_id not in self.parts.aside:
                self._stream(event.kind, event.data["text"])
            return
        self._end_stream()
        if event.kind == "answer":
            self._answer(event.data["text"])
        elif line := self.parts.line(event):
            style = STYLES.get(event.kind, "")
            self.console.print(line, style="red" if event.data.get("is_error") else style, markup=False)

    def _stream(self, kind: str, text: str) -> None:
        if kind != self.streaming:
            self._end_stream()
            self.streaming = kind
        if kind == "text":
            self.streamed.append(text)
        *whole, self.held = re.split(r"(?<=\s)", self.held + clean(text))
        self._write(whole)

    def _write(self, words: Iterable[str]) -> None:
        """Print words of the stream, each with the blank after it."""
        from rich.cells import cell_len

        written = ""
        for word in words:
            if word.startswith("```") and not self.column:
                self.fenced = not self.fenced  # code is copied from the screen: its lines stay whole
            if self.column and self.column + cell_len(word.rstrip()) > self.console.width and not self.fenced:
                written, self.column = written + "\n", 0
            fits = self.fenced or word.endswith("\n") or self.column + cell_len(word) < self.console.width
            written += word if fits else word.rstrip()
            self.column = 0 if word.endswith("\n") else self.column + cell_len(word)
        style = "dim italic" if self.streaming == "thought" else ""
        self.console.print(written, end="", style=style, markup=False, soft_wrap=True)

    def _end_stream(self) -> None:
        if self.streaming:
            self._write([self.held + "\n"])
        self.streaming = self.held = ""
        self.column, self.fenced = 0, False

    def _answer(self, text: str) -> None:
        streamed, self.streamed = "".join(self.streamed), []
        if self.piped:
            self.out.write(clean(text).rstrip("\n") + "\n")
            self.out.flush()
        elif not self.prose:
            self.console.print(clean(text), markup=False, soft_wrap=True)
        elif text.strip() and not streamed.rstrip().endswith(text.strip()):
            self.console.print("", _rendered(clean(text)))


def _rendered(text: str) -> Markdown:
    """Markdown for the screen, where all lines begin at the left, titles too."""
    from rich.markdown import Heading, Markdown

    class Title(Heading):
        LEVEL_ALIGN: ClassVar = {}

    class Page(Markdown):
        elements: ClassVar = {**Markdown.elements, "heading_open": Title}

    return Page(text)


class Parts:
    """Shortens what is told of a run that is a part of another: its title stood in the other's line before it.

    A phase of a job is told in full. Of a sub-agent, which may work beside others, a line when it begins and when it
    ends, with its run.
    """

    def __init__(self) -> None:
        self.runs: set[str] = set()
        self.aside: set[str] = set()
        """Sub-agents."""

    def line(self, event: Event) -> str:
        """The event's line; empty if it has none."""
        rule = event.data.get("rule") if event.kind == "run" else ""
        if rule == "delegated":
            self.aside.add(event.run_id)
        elif event.kind == "run" and event.data.get("parent") and rule != "phase":
            self.runs.add(event.run_id)
        if event.run_id in self.aside:
            run = f" · run {event.run_id}" if event.kind == "end" else ""
            return f"  {summary(event)}{run}" if event.kind in ("run", "notice", "end") else ""
        if event.run_id not in self.runs:
            return summary(event)
        return "  " + summary(event) if event.kind in ("notice", "end") else ""


STYLES = {
    "run": "bold",
    "skill": "magenta",
    "action": "cyan",
    "progress": "dim",
    "observation": "green",
    "step": "dim",
    "notice": "yellow",
    "end": "dim",
}


def summary(event: Event) -> str:
    """An event as one plain line; empty for those that have none."""
    return clean(_line(event))


def _line(event: Event) -> str:
    data = event.data
    match event.kind:
        case "run":
            return f"● {_short(data['task'])} · {data['model']} ({data['reason']}) · run {event.run_id}"
        case "skill":
            return f"◆ skill {data['name']}: {data['reason']}"
        case "action":
            return f"→ {_short(data['name'] or '?')} {_arguments(data['arguments'])}"
        case "progress":
            of = f" of {data['total']:g}" if data["total"] is not None else ""
            return f"  {_short(data['name'])}: {data['progress']:g}{of} {_short(data['message'])}".rstrip()
        case "observation":
            mark = "✗" if data["is_error"] else "←"
            return f"{mark} {_short(data['name'] or '?')}: {_short(data['content'], 300)} · {data['seconds']:.2f} s"
        case "step":
            tokens = f"{data['prompt_tokens']}+{data['completion_tokens']} tokens"
            return f"  step {data['number']} · {data['seconds']:.2f} s · {tokens}"
        case "notice":
            return f"! {data['text']}"
        case "end":
            cost = f" · ${data['cost']:.4f}" if data.get("cost") is not None else ""
            count = data["prompt_tokens"] + data["completion_tokens"]
            tokens = f" · {count} tokens" if count else ""
            return f"■ {_ending(data)} · {data['seconds']:.1f} s{tokens}{cost}"
    return ""


def _ending(data: Json) -> str:
    """How a run ended, without what stands on the screen anyway: the answer, or the error that ended it."""
    outcome, reason = data["outcome"], data["reason"]
    if reason == "cancelled":
        return "interrupted"
    if outcome == "success":
        reason = reason.removeprefix("answer").removeprefix("; ").partition(": ")[0]
    return outcome if not reason or data.get("raised") else f"{outcome}: {_short(reason)}"


def _arguments(arguments: Json | str) -> str:
    return _short(arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False), 200)


def _short(text: str, limit: int = 120) -> str:
    line = " ".join(clean(text.replace("\n", " ")).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def demonstrate() -> None:
    """Show one event of every kind, as the screen that this is would show it."""
    sink = choose(as_json="--json" in sys.argv, quiet=False)
    for kind, data in (
        ("run", {"task": "count the lines of notes.txt", "model": "local", "reason": "you gave --model", "skills": []}),
        ("skill", {"name": "summarize", "reason": "the task says 'summarize'"}),
        ("thought", {"text": "I read the file first."}),
        ("step", {"number": 1, "seconds": 0.42, "prompt_tokens": 210, "completion_tokens": 34}),
        ("action", {"id": "call_1", "name": "read_file", "arguments": {"path": "notes.txt"}}),
        ("progress", {"name": "read_file", "progress": 1, "total": 2, "message": "half of it"}),
        ("observation", {"id": "call_1", "name": "read_file", "content": "a\nb", "is_error": False, "seconds": 0.01}),
        ("notice", {"text": "1 old observation was shortened to fit the context"}),
        ("answer", {"text": "notes.txt has **2** lines."}),
        (
            "end",
            {"outcome": "success", "reason": "answer", "seconds": 0.9, "prompt_tokens": 420, "completion_tokens": 50},
        ),
    ):
        sink(Event(kind, "0123456789ab", data))  # type: ignore[arg-type]


if __name__ == "__main__":
    demonstrate()

"""Secrets are taken out of text before anything is written: known values, token shapes, assignments, private keys.

    redactor = Redactor()
    redactor.redact("export GH=ghp_...")      # 'export GH=[redacted:github-token]'; unchanged text: nothing fired

No secret is looked for across a line break, but for private key blocks. That is what makes a stream exact: complete
lines are redacted as they come, so the output is the same however a text is cut into chunks. A line without an end
is held back up to WINDOW characters and then cut where no secret was found.
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Iterator, Mapping
from typing import Any

from agent.secret_shapes import Span, assigned, looks_secret, shapes_for

WINDOW = 32_768
"""Characters of an unfinished line that a stream holds back at most."""
SHORTEST = 8
"""Values of variables shorter than this are not redacted: they would hit ordinary words."""

SHORT = 64
"""Characters of a text that is remembered as clean: keys, models and tools' names come back in every message."""

KEY_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----")
KEY_HEADER = re.compile(r"\W{0,4}[A-Z][\w-]{2,20}: ")
KEY_BODY = re.compile(r"[A-Za-z0-9+/=]{24}")
KEY_MARK = "[redacted:private-key]"
LINE = re.compile(r"[^\n]*\n|[^\n]+")
BREAK = re.compile(r"[\s,;]")


class Redactor:
    """Replaces secrets by `[redacted:KIND]`.

    Args:
        environment: the variables; values (8 characters or more) of those whose names look secret are secrets
            wherever they occur.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._values = known_values(environment)
        self._clean: set[str] = set()

    def redact(self, text: str) -> str:
        """The text without its secrets; the same object if there was none, so `after != before` says it fired."""
        if text in self._clean:
            return text
        if "PRIVATE KEY" not in text and not shapes_for(text) and not any(value in text for value in self._values):
            if len(text) <= SHORT and len(self._clean) < 4096:
                self._clean.add(text)
            return text
        stream = self.stream()
        return stream.feed(text) + stream.close()

    def redact_json(self, value: Any) -> Any:
        """The same for every string in a JSON value, keys too. A string under a secret-looking key goes as a whole."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, Mapping):
            return {self._key(key): self._entry(key, entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self.redact_json(entry) for entry in value]
        return value

    def stream(self) -> StreamRedactor:
        """A redactor for one text that comes in chunks."""
        return StreamRedactor(self)

    def spans(self, text: str) -> list[Span]:
        """The secrets in complete lines (private key blocks aside): in order, none overlapping."""
        found = [
            Span(match.start(), match.end(), "environment-value", match.start())
            for value in self._values
            if value in text
            for match in re.finditer(re.escape(value), text)
        ]
        for shape in shapes_for(text):
            found += shape.spans(text)
        return _merged(found)

    def _key(self, key: Any) -> Any:
        return self.redact(key) if isinstance(key, str) else key

    def _entry(self, key: Any, value: Any) -> Any:
        kind = assigned(key, value, quoted=True) if isinstance(key, str) and isinstance(value, str) else ""
        return f"[redacted:{kind}]" if kind else self.redact_json(value)


class StreamRedactor:
    """Redacts one text that comes in chunks; what it gives back adds up to `Redactor.redact` of the whole."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._held = ""
        self._in_key = False

    def feed(self, chunk: str) -> str:
        """Take a chunk; return what is safe to write: everything up to the last complete line."""
        self._held += chunk
        if "\n" not in chunk and len(self._held) < WINDOW:
            return ""
        return "".join(self._redact(segment) for segment in self._segments())

    def close(self) -> str:
        """Return the rest. The stream is empty afterwards and may be used again."""
        rest = self._redact(self._held)
        self._held, self._in_key = "", False
        return rest

    def _segments(self) -> Iterator[str]:
        """Cut off complete lines, many at once; of a line longer than the window, a piece that ends at no secret."""
        text, start = self._held, 0
        while True:
            end = text.rfind("\n", start, start + WINDOW) + 1
            if not end and len(text) - start >= WINDOW:
                end = start + self._cut(text[start : start + WINDOW])
            if not end:
                break
            yield text[start:end]
            start = end
        self._held = text[start:]

    def _cut(self, window: str) -> int:
        """Where to cut an endless line: after the first break in the window's second half that is inside no secret."""
        spans = self._redactor.spans(window)
        inside = [(span.context, span.end) for span in spans]
        inside += [match.span() for match in re.finditer(r"-----[A-Z0-9 ]{0,60}-----", window)]
        inside.sort(reverse=True)
        furthest = 0
        for match in BREAK.finditer(window, WINDOW // 2):
            while inside and inside[-1][0] < match.end():
                furthest = max(furthest, inside.pop()[1])
            if furthest <= match.end():
                return match.end()
        return max([span.end for span in spans if span.context < WINDOW // 2 < span.end], default=WINDOW // 2)

    def _redact(self, segment: str) -> str:
        text = self._without_keys(segment)
        pieces, done = [], 0
        for span in self._redactor.spans(text):
            pieces += [text[done : span.start], f"[redacted:{span.kind}]"]
            done = span.end
        return "".join(pieces) + text[done:] if pieces else text

    def _without_keys(self, segment: str) -> str:
        if not self._in_key and "PRIVATE KEY" not in segment:
            return segment
        return "".join(self._key_line(line) for line in LINE.findall(segment))

    def _key_line(self, line: str) -> str:
        """One line outside or inside a private key block. A block that breaks off ends at the first line of prose."""
        shown = []
        for number, piece in enumerate(KEY_BEGIN.split(line)):
            if number:
                shown.append(KEY_MARK)
                self._in_key = True
            end = KEY_END.search(piece) if self._in_key else None
            if self._in_key and end is None and _key_material(piece):
                continue
            broken_off = self._in_key and end is None and number == 0
            self._in_key = False
            shown.append(("\n" if broken_off else "") + piece[end.end() if end else 0 :])
        return "".join(shown)


def known_values(environment: Mapping[str, str]) -> list[str]:
    """The secret values of an environment, longest first, also as JSON and URLs spell them; a long value's lines each.

    The path of an existing file is no secret: the variable names where one is kept.
    """
    found: set[str] = set()
    for name, value in environment.items():
        if len(value.strip()) < SHORTEST or not looks_secret(name) or os.path.exists(value):
            continue
        for line in value.splitlines():
            found.update((line.strip(), json.dumps(line.strip())[1:-1], urllib.parse.quote(line.strip(), safe="")))
    found = {value for value in found if len(value) >= SHORTEST and not KEY_BEGIN.search(value)}
    return sorted(found, key=lambda value: (-len(value), value))


def _key_material(line: str) -> bool:
    return len(line.split()) <= 3 or bool(KEY_HEADER.match(line) or KEY_BODY.search(line))


def _merged(found: list[Span]) -> list[Span]:
    """Spans in order, those that overlap made one; it takes the name of the one found first."""
    order = {id(span): rank for rank, span in enumerate(found)}
    merged: list[Span] = []
    for span in sorted(found, key=lambda span: (span.start, order[id(span)])):
        last = merged[-1] if merged else None
        if last is None or span.start >= last.end:
            merged.append(span)
        elif span.end > last.end:
            merged[-1] = Span(last.start, span.end, last.kind, min(last.context, span.context))
    return merged

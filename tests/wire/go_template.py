"""The part of Go's text/template that our Ollama template uses: text, `{{ .Name }}`, `range` and `end`.

https://pkg.go.dev/text/template: `{{-` and `-}}` take the white space beside them away. Anything else is an error, so
that a template which grows beyond this part is not rendered wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

ACTION = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)


def render(template: str, data: Mapping[str, Any]) -> str:
    """The text that a template makes of data. Raises ValueError for what is not known here."""
    text, rest = _block(_parts(template), data)
    if rest:
        raise ValueError("an `end` too many")
    return text


def _parts(template: str) -> list[tuple[str, str]]:
    """Text and actions in order, white space trimmed where an action says so."""
    parts: list[tuple[str, str]] = []
    place = 0
    for found in ACTION.finditer(template):
        trim_left, action, trim_right = found.groups()
        before = template[place : found.start()]
        parts += [("text", before.rstrip() if trim_left else before), ("action", action)]
        place = found.end()
        if trim_right:
            place = len(template) - len(template[place:].lstrip())
    return [*parts, ("text", template[place:])]


def _block(parts: Sequence[tuple[str, str]], data: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """What the parts up to their `end` make, and the parts after it."""
    made, left = "", list(parts)
    while left:
        kind, content = left.pop(0)
        if kind == "text":
            made += content
        elif content == "end":
            return made, left or [("text", "")]
        elif found := re.fullmatch(r"range \.(\w+)", content):
            texts = [_block(left, entry) for entry in data[found[1]]]
            made += "".join(text for text, _ in texts)
            left = texts[0][1] if texts else _block(left, {})[1]
        elif found := re.fullmatch(r"\.(\w+)", content):
            made += str(data[found[1]])
        else:
            raise ValueError(f"{content!r} is not known here")
    return made, []

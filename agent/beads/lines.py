"""A line of JSON with some members changed, and every other byte of it as it was.

What others keep in a bead (fields that we do not know, numbers of any length, their spaces and escapes) is theirs:
parsing and writing a line anew would change it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def changed(line: bytes, changes: Mapping[str, Any]) -> bytes:
    """The line with these members set; what it had not comes at its end.

    Args:
        line: a JSON object in UTF-8, with its line end if it has one.
        changes: names and their new values.

    Raises:
        ValueError: the line is no JSON object.
    """
    text = line.decode("utf-8")
    pieces, at, missing, last = [], 0, dict(changes), 0
    for name, start, end in _members(text):
        last = end
        if name in changes:
            pieces += [text[at:start], dump(changes[name])]
            at = end
            missing.pop(name, None)
    more = ",".join(f"{dump(name)}:{dump(value)}" for name, value in missing.items())
    if more:
        pieces += [text[at : last or text.index("{") + 1], "," if last else "", more]
        at = last or text.index("{") + 1
    return "".join([*pieces, text[at:]]).encode("utf-8")


def appended(line: bytes, name: str, item: Any) -> bytes:
    """The line with one more entry at the end of a member that is a list; another kind of member becomes one.

    Raises:
        ValueError: the line is no JSON object.
    """
    text = line.decode("utf-8")
    for key, start, end in _members(text):
        if key == name and text[start] == "[":
            comma = "," if text[start + 1 : end - 1].strip() else ""
            return f"{text[: end - 1]}{comma}{dump(item)}{text[end - 1 :]}".encode()
    return changed(line, {name: [item]})


def dump(value: Any) -> str:
    """A value as JSON on one line. A lone surrogate, which UTF-8 cannot hold, stays an escape."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if text.isascii() or _encodable(text) else json.dumps(value, separators=(",", ":"))


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _members(text: str) -> Iterator[tuple[str, int, int]]:
    """The name of each member of an object, and where its value begins and ends."""
    at = _after_space(text, 1 if text.startswith("\ufeff") else 0)
    if text[at : at + 1] != "{":
        raise ValueError("not a JSON object")
    at = _after_space(text, at + 1)
    while text[at : at + 1] != "}":
        name, at = _DECODER.raw_decode(text, at)
        start = _after_space(text, _after_space(text, at) + 1)  # after the colon
        _, at = _DECODER.raw_decode(text, start)
        yield name, start, at
        at = _after_space(text, at)
        if text[at : at + 1] == ",":
            at = _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()

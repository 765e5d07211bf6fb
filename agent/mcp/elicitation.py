"""When a server asks the person something while its tool runs: a form of a few fields, or an address to open.

Nobody at the terminal means no: the request is declined. What a server says goes onto the terminal cleaned, under its
name, and nothing is filled in behind the person's back: Enter takes a default that stands on the screen.
"""

from __future__ import annotations

import asyncio
import webbrowser
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from agent.messages import Json

if TYPE_CHECKING:
    from mcp_types import ElicitRequestParams, ElicitResult

Ask = Callable[[str], Awaitable[bool]]
ReadLine = Callable[[str], Awaitable[str]]
TRIES = 3
"""Answers to one field that do not fit, before the whole request is declined."""
YES_OR_NO = {"y": True, "yes": True, "true": True, "n": False, "no": False, "false": False}
Value = str | int | float | bool | list[str]


@dataclass(slots=True)
class Person:
    """Who answers for the person's side.

    Args:
        ask: shows a question and returns yes or no; None where there is nobody.
        read: shows a question and returns the line that was typed; None where there is nobody.
        turn: held while a question is on the screen: they come one at a time.
    """

    ask: Ask | None = None
    read: ReadLine | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def opens(self, server: str, reason: str, url: str) -> bool:
        """Ask whether to open an address in the person's browser, and open it. False if it was not opened."""
        if self.ask is None or urlsplit(url).scheme not in ("http", "https"):
            return False
        async with self.turn:
            if not await self.ask(f"The MCP server {server} {reason}: {url}\nOpen it in your browser?"):
                return False
        await asyncio.to_thread(webbrowser.open, url)  # it may start a program and wait for it
        return True


async def answer(server: str, params: ElicitRequestParams, person: Person) -> ElicitResult:
    """Put a server's request to the person.

    Args:
        server: its name.
        params: a form's message and schema, or a message and an address.
        person: who is asked.

    Returns:
        accept with the form's content, or decline.
    """
    from mcp_types import ElicitRequestURLParams, ElicitResult

    message = _in_one_line(params.message)
    if isinstance(params, ElicitRequestURLParams):
        opened = await person.opens(server, f"asks you to go to an address ({message})", params.url)
        return ElicitResult(action="accept" if opened else "decline")
    if person.ask is None or person.read is None:
        return ElicitResult(action="decline")
    async with person.turn:
        if not await person.ask(f"The MCP server {server} asks: {message}\nAnswer it?"):
            return ElicitResult(action="decline")
        content = await _form(params.requested_schema, person.read)
    return ElicitResult(action="decline") if content is None else ElicitResult(action="accept", content=content)


async def _form(schema: Json, read: ReadLine) -> dict[str, Value | None] | None:
    """The person's answers by field; None if a field that is needed got none that fits."""
    content: dict[str, Value | None] = {}
    needed = schema.get("required", [])
    for name, entry in schema.get("properties", {}).items():
        for _ in range(TRIES):
            line = (await read(_question(name, entry, name in needed))).strip()
            if not line and "default" in entry:
                content[name] = entry["default"]
            elif line:
                try:
                    content[name] = parse(line, entry)
                except ValueError:
                    continue
            elif name in needed:
                continue
            break
        else:
            return None
    return content


def parse(line: str, entry: Json) -> Value:
    """What a person typed, as a field's type. Raises ValueError if it does not fit."""
    kind, allowed = entry.get("type", "string"), choices(entry)
    if kind == "array":
        parts = [part.strip() for part in line.split(",") if part.strip()]
        return parts if not allowed or set(parts) <= set(allowed) else _refuse(line)
    if kind == "boolean":
        return YES_OR_NO[line.lower()] if line.lower() in YES_OR_NO else _refuse(line)
    if kind in ("integer", "number"):
        number = int(line) if kind == "integer" else float(line)
        low, high = entry.get("minimum", number), entry.get("maximum", number)
        return number if low <= number <= high else _refuse(line)
    fits = entry.get("minLength", 0) <= len(line) <= entry.get("maxLength", len(line))
    return line if fits and (not allowed or line in allowed) else _refuse(line)


def choices(entry: Json) -> list[str]:
    """The values that a field allows, in any of the forms that the protocol has; empty if it allows any."""
    source = entry.get("items", {}) if entry.get("type") == "array" else entry
    listed = source.get("enum") or [one.get("const") for one in source.get("oneOf") or source.get("anyOf") or []]
    return [str(one) for one in listed]


def _question(name: str, entry: Json, needed: bool) -> str:
    about = _in_one_line(str(entry.get("description") or entry.get("title") or ""))
    kind = ", ".join(choices(entry)) or str(entry.get("type", "string"))
    default = f" [{_in_one_line(str(entry['default']))}]" if "default" in entry else "" if needed else " [leave out]"
    return f"  {_in_one_line(name)} ({kind}{'; ' + about if about else ''}){default}:"


def _in_one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _refuse(line: str) -> NoReturn:
    raise ValueError(line)

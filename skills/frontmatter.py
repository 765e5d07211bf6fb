"""SKILL.md as the Agent Skills format defines it: YAML of six keys between two lines of ---, then the body.

The format: https://agentskills.io/specification. The YAML is read by libyaml's safe loader, which makes only data.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import InputError

KEYS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
LARGEST = 16_384
"""Bytes of one frontmatter. Libyaml recurses on the C stack, so that deep nesting must be cut off by size."""


@dataclass(frozen=True, slots=True)
class Frontmatter:
    """What stands between the two lines of ---."""

    name: str
    description: str
    allowed_tools: tuple[str, ...]
    metadata: dict[str, str]


def read(path: Path) -> Frontmatter:
    """Read and check a SKILL.md's frontmatter; its body is left alone.

    Raises:
        InputError: the file cannot be read, or breaks the format; the message names the file and the reason.
    """
    values = _parse(_head(path), path)
    for key in values:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The keys are {', '.join(KEYS)}."
            raise InputError(f"{path}: there is no key {key!r} in a skill's frontmatter", hint)
    name = _text(values, "name", 64, path, required=True)
    if not NAME.fullmatch(name):
        raise InputError(f"{path}: the name {name!r} must be made of a-z, 0-9 and single hyphens between them")
    if name != path.parent.name:
        raise InputError(f"{path}: the name {name!r} differs from the folder's", f"Name the folder {name}.")
    description = _text(values, "description", 1024, path, required=True)
    _text(values, "license", 1024, path)
    _text(values, "compatibility", 500, path)
    return Frontmatter(name, " ".join(description.split()), _allowed_tools(values, path), _metadata(values, path))


def body(path: Path) -> str:
    """What follows the frontmatter. Raises InputError if the file cannot be read."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {_why(error)}") from None
    lines = text.splitlines()
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), len(lines))
    return "\n".join(lines[end + 1 :]).strip()


def _head(path: Path) -> str:
    """The text between the two lines of ---, without reading further."""
    lines: list[bytes] = []
    try:
        with path.open("rb") as file:
            if file.readline(64).removeprefix(b"\xef\xbb\xbf").rstrip() != b"---":
                raise InputError(f"{path} does not begin with a line of ---", "A skill begins with its frontmatter.")
            size = 0
            while (line := file.readline(LARGEST + 1)).rstrip() != b"---":
                size += len(line)
                if not line:
                    raise InputError(f"{path}: the frontmatter has no closing line of ---")
                if size > LARGEST:
                    raise InputError(f"{path}: the frontmatter is longer than {LARGEST} bytes")
                lines.append(line)
        return b"".join(lines).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {_why(error)}") from None


def _parse(text: str, path: Path) -> dict[Any, Any]:
    import yaml

    try:
        values = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 2}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise InputError(f"{path}{where}: the frontmatter is not valid YAML: {problem}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: the frontmatter must be lines of `key: value`")
    return values


def _text(values: dict[Any, Any], key: str, longest: int, path: Path, required: bool = False) -> str:
    entry = values.get(key)
    if entry is None and not required:
        return ""
    if not isinstance(entry, str) or not entry.strip():
        raise InputError(f"{path}: {key!r} must be a text", f'Write it in quotes: {key}: "..."')
    if len(entry) > longest:
        raise InputError(f"{path}: {key!r} has {len(entry)} characters; at most {longest} are allowed")
    return entry


def _metadata(values: dict[Any, Any], path: Path) -> dict[str, str]:
    metadata = values.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InputError(f"{path}: 'metadata' must be lines of `key: text`")
    for key, entry in metadata.items():
        if not isinstance(key, str) or not isinstance(entry, str):
            raise InputError(f"{path}: metadata {key!r} must map a text to a text", f'Write it in quotes: {key}: "..."')
    return metadata


def _allowed_tools(values: dict[Any, Any], path: Path) -> tuple[str, ...]:
    entry = values.get("allowed-tools") or ()
    if isinstance(entry, str):  # spaces or commas outside brackets: "Read Bash(git add:*)"
        entry = re.findall(r"[^\s,(]+(?:\([^)]*\))?", entry)
    if not isinstance(entry, list | tuple) or not all(isinstance(name, str) for name in entry):
        raise InputError(f"{path}: 'allowed-tools' must be a text or a list of texts")
    return tuple(entry)


def _why(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else "it is not UTF-8"

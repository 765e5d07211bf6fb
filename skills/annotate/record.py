"""Annotations on record: which moves a run was asked for, what was answered, and what a person says instead."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.errors import ConfigError, InputError
from agent.messages import Detail, Message, Trajectory
from skills.annotate import framework as frameworks
from skills.annotate.attempt import prompt
from skills.annotate.framework import Framework
from skills.annotate.validate import Finding, check, parse, told

_ASKED = re.compile(
    r'(?s)(.+) Where it says nothing, write "(.+?)" Reply with one JSON object with these keys:\n(.+)', re.ASCII
)
"""A system message as `attempt.prompt` writes it: the instructions, the absent text, the moves' lines."""
_OUR_MOVE = re.compile(r"(?m)^\*\*(.+?)\.\*\* (.+)$")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One reply of a run: the moves that it holds, what the validators say, and the message with its detail."""

    found: Mapping[str, Any]
    findings: Sequence[Finding]
    message: Message
    detail: Detail

    @property
    def valid(self) -> bool:
        return all(finding.doubt for finding in self.findings)


def framework_of(run: Trajectory) -> Framework | None:
    """The moves that a run was asked for; None if it annotates no paper.

    That is the framework of today which asks the same, or has the same moves; else the one that the record spells out.
    """
    if [message.role for message in run.messages[:2]] != ["system", "user"]:
        return None
    asked = run.messages[0].content
    match = _ASKED.fullmatch(asked)
    if match is None:
        return None
    moves = [dict(zip(("key", "question"), line.split(": ", 1), strict=False)) for line in match[3].splitlines()]
    known = available()
    same = next((one for one in known if prompt(one, "")[0].content == asked), None)
    same = same or next((one for one in known if one.keys == [move["key"] for move in moves]), None)
    if same is not None:
        return same
    spelt = {"name": "recorded", "instructions": match[1], "absent": match[2], "moves": moves}
    try:
        return Framework.model_validate(spelt)
    except ValidationError:
        return None


def available() -> list[Framework]:
    """Every framework that can be read, those with more moves first; a broken file of the person's own is left out."""
    paths = frameworks.available().values()
    return list(_read(tuple((path, path.stat().st_mtime_ns) for path in paths if path.is_file())))


@lru_cache(maxsize=4)
def _read(files: tuple[tuple[Path, int], ...]) -> tuple[Framework, ...]:
    """The frameworks in files as of their times: a thousand runs read them once."""
    found = []
    for path, _ in files:
        try:
            found.append(frameworks.read(path))
        except ConfigError:
            continue
    return tuple(sorted(found, key=lambda one: -len(one.moves)))


def attempts(run: Trajectory, framework: Framework) -> list[Attempt]:
    """Every whole answer of a run, checked anew against its abstract.

    A sample is none: the answer that was composed of it is.
    """
    abstract = run.messages[1].content
    found = []
    for message, detail in zip(run.messages, run.details, strict=True):
        if message.role != "assistant" or detail.finish_reason == "error" or detail.preference == "sample":
            continue
        annotation, findings = parse(message.content)
        findings = findings or check(annotation, abstract, framework)
        if detail.finish_reason == "length":
            findings = [Finding("cut", "", "the reply was cut by its token limit"), *findings]
        found.append(Attempt(annotation, findings, message, detail))
    return found


def best(tried: Sequence[Attempt]) -> Attempt | None:
    """The attempt that the person was given: the one with the least against it, the first of equals."""
    return min(tried, key=lambda attempt: (not attempt.valid, len(attempt.findings)), default=None)


def completion(annotation: Mapping[str, str], framework: Framework) -> str:
    """An annotation as a model is to write it: one JSON object, the moves in order."""
    return json.dumps({key: annotation[key] for key in framework.keys}, ensure_ascii=False)


def checked(annotation: Mapping[str, Any], framework: Framework) -> dict[str, str]:
    """A person's annotation in the framework's order, with its absent text spelled as the framework spells it.

    Raises:
        InputError: a move is unknown, missing, or holds no text; the sentence names it.
    """
    keys = framework.keys
    for key in annotation:
        if key not in keys:
            near = difflib.get_close_matches(str(key), keys, n=1)
            meant = f"Did you mean {near[0]!r}? " if near else ""
            raise InputError(f"there is no move {key!r}", f"{meant}Moves: {', '.join(keys)}.")
    for key in keys:
        if key not in annotation:
            raise InputError(f"the move {key!r} is missing", f'Where nothing is stated, write "{framework.absent}"')
        if not isinstance(annotation[key], str) or not annotation[key].strip():
            raise InputError(f"the move {key!r} holds no text", f'Where nothing is stated, write "{framework.absent}"')
    bare = framework.absent.rstrip(".").lower()
    texts = {key: annotation[key].strip() for key in keys}
    return {key: framework.absent if text.rstrip(".").lower() == bare else text for key, text in texts.items()}


def doubts(annotation: Mapping[str, str], abstract: str, framework: Framework) -> list[str]:
    """What the validators say to a person's annotation, as sentences: told, never refused."""
    return told(check(annotation, abstract, framework))


def read(text: str) -> dict[str, Any]:
    """The one annotation in a text: a JSON object of moves, or a result as we write it (JSON, JSONL, Markdown).

    Raises:
        InputError: it holds none, or several.
    """
    moves = _OUR_MOVE.findall(text)
    if moves and not text.lstrip().startswith(("{", "[")):
        keys = [name.lower().replace(" ", "_") for name, _ in moves]
        if len(set(keys)) < len(keys):
            raise InputError("the text holds several annotations", "Give one, or a file of many with --batch.")
        return dict(zip(keys, [said.strip() for _, said in moves], strict=True))
    return _only(_objects(text))


def _objects(text: str) -> list[Any]:
    """The JSON values of a text: one document, or one a line."""
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else [whole]
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            found = [json.loads(line) for line in lines]
        except ValueError:
            found = []
        if len(found) > 1:
            return found
        raise InputError(f"the annotation is neither JSON nor our Markdown: {error}", "Correct it there.") from None


def _only(found: Sequence[Any]) -> dict[str, Any]:
    if len(found) != 1:
        what = "several annotations" if found else "no annotation"
        raise InputError(f"the text holds {what}", "Give one, or a file of many with --batch.")
    one = found[0]
    if isinstance(one, dict) and isinstance(one.get("annotation"), dict):
        one = one["annotation"]
    if not isinstance(one, dict):
        raise InputError("an annotation is a JSON object of moves and their texts")
    return one

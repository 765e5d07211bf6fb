"""The suite `rehearsal`: short general prompts whose answer a program checks; fine-tuning must not break them.

A specialist answers through the same address as in its own work, adapter included. No judge takes part: a check looks
for texts, a pattern, a number, a JSON object or a length. What is measured is whether a model still does what its base
did, so the prompts are ones that a model of 135M parameters can mostly answer.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import ContextOverflow, InputError, ModelCut
from agent.messages import Event, Json, Message, Route
from agent.run import Run, detail_of
from agent.session import Session
from agent.settings import Settings
from evals import record
from evals.metrics import Share
from evals.subject import subject
from skills.annotate.validate import numbers, parse
from training.rows import document_key

CASES = Path(__file__).parent / "cases" / "rehearsal.jsonl"
"""The shipped suite."""
MOST_TOKENS = 128
"""Of one reply."""
Kind = Literal["fact", "instruction", "format", "arithmetic", "rewrite", "extract"]
TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "list": list,
    "boolean": bool,
}


class Check(BaseModel):
    """What a reply must be like; all that is given must hold. Texts are compared without regard to case.

    Args:
        contains: texts that all stand in it.
        any: texts of which one stands in it.
        excludes: texts that do not stand in it.
        regex: a pattern that is found in it (over several lines, in either case).
        number: a number that is one of its numbers.
        object: keys that its JSON object has, with the type of each.
        words: the fewest and the most words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    contains: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    regex: str = ""
    number: float | None = None
    object: dict[str, Literal["string", "number", "list", "boolean"]] = {}
    words: tuple[int, int] | None = None

    def passes(self, reply: str) -> bool:
        """Whether a reply holds to all of it; an empty one never does."""
        text = reply.strip().lower()
        length = len(text.split())
        return bool(
            text
            and all(part.lower() in text for part in self.contains)
            and (not self.any or any(part.lower() in text for part in self.any))
            and not any(part.lower() in text for part in self.excludes)
            and (not self.regex or re.search(self.regex, reply.strip(), re.IGNORECASE | re.MULTILINE))
            and (self.number is None or self.number in {float(found) for found in _plain_numbers(text)})
            and (not self.object or _has_keys(reply, self.object))
            and (self.words is None or self.words[0] <= length <= self.words[1])
        )


class Prompt(BaseModel):
    """One prompt and its check."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    kind: Kind
    prompt: str = Field(min_length=1)
    check: Check

    @property
    def document(self) -> str:
        return document_key(self.prompt)


class Answer(BaseModel):
    """How a prompt was answered; `field` is its kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    document: str
    field: str
    passed: bool
    reply: str
    tokens: int = 0
    seconds: float = 0.0
    run: str = ""
    error: str = ""


METRICS: dict[str, Callable[[Answer], Share]] = {
    "passed": lambda row: (row.passed, 1),
    "tokens": lambda row: (row.tokens, 1),
    "seconds": lambda row: (row.seconds, 1),
}


def load_prompts(path: Path = CASES) -> list[Prompt]:
    """Read a file of prompts: JSONL with `id`, `kind`, `prompt` and `check`.

    Raises:
        InputError: it cannot be read, holds nothing, or a line is no prompt; the sentence names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the prompt file {path} cannot be read: {error}", "Give a JSONL file.") from None
    prompts = []
    for number, line in enumerate(lines, 1):
        try:
            prompts += [Prompt.model_validate_json(line)] if line.strip() else []
        except ValidationError as error:
            wrong = error.errors()[0]
            where = ".".join(map(str, wrong["loc"])) or "the line"
            raise InputError(f"line {number} of {path} is not a prompt: {where}: {wrong['msg']}") from None
    if not prompts:
        raise InputError(f"the prompt file {path} holds no prompt", "Give one with a prompt a line.")
    return prompts


async def run(
    prompts: Sequence[Prompt],
    address: str,
    settings: Settings,
    *,
    out: Path | None = None,
    tell: Callable[[int, int, Answer], None] | None = None,
) -> list[Answer]:
    """Ask a model every prompt, greedily, one after the other; answers that OUT/rows.jsonl holds are not asked again.

    Args:
        prompts: the suite, or a part of it.
        address: the model.
        settings: as a user has them.
        out: the folder of the rows and of the store; a temporary one if None.
        tell: told how many are done, how many there are, and the answer.

    Returns:
        An answer for each prompt, in their order. A reply that breaks off has not passed.

    Raises:
        ModelError: the model failed in a way that says nothing of one prompt; the finished answers are kept.
    """
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evals-")))
        record.make_folder(folder)
        finished = stack.enter_context(record.FinishedRows(folder / "rows.jsonl"))
        who = subject(address, settings)
        session = record.open_session(settings, folder, _unheard)
        answers: list[Answer] = []
        try:
            for prompt in prompts:
                key = record.fingerprint(
                    "rehearsal", list(Answer.model_fields), MOST_TOKENS, who.address, who.hashes, prompt.model_dump()
                )
                kept = finished.get(key)
                answer = Answer.model_validate(kept) if kept else await _ask(session, who.address, prompt)
                if not kept:
                    finished.add(key, answer.model_dump())
                answers.append(answer)
                if tell:
                    tell(len(answers), len(prompts), answer)
        finally:
            await session.close()
    return answers


async def _ask(session: Session, address: str, prompt: Prompt) -> Answer:
    """One prompt, as a run on record."""
    messages = [Message("user", prompt.prompt)]
    request: Json = {"temperature": 0.0, "max_tokens": MOST_TOKENS}
    route = Route(address, "flag", "it is evaluated")
    started = time.perf_counter()
    known: Json = {"id": prompt.id, "document": prompt.document, "field": prompt.kind}
    async with Run(session, prompt.prompt, route, messages=messages) as run:
        try:
            reply = await run.ask(address, messages, **request)
        except (ContextOverflow, ModelCut) as error:
            run.finish("failure", error.message, 0.0)
            return Answer(**known, passed=False, reply="", run=run.id, error=error.message)
        seconds = time.perf_counter() - started
        await run.add(reply.message, detail_of(reply, request, seconds))
        text = reply.message.content
        passed = prompt.check.passes(text)
        run.finish("success" if passed else "failure", "answer" if passed else "the check failed", float(passed))
    return Answer(**known, passed=passed, reply=text, tokens=reply.usage.completion_tokens, seconds=seconds, run=run.id)


def _plain_numbers(text: str) -> list[str]:
    """The numbers of a text that have at most one point."""
    return [found for found in numbers(text) if found.count(".") <= 1]


def _has_keys(reply: str, wanted: dict[str, Literal["string", "number", "list", "boolean"]]) -> bool:
    found, _ = parse(reply)
    return all(key in found and isinstance(found[key], TYPES[kind]) for key, kind in wanted.items())


def _unheard(event: Event) -> None:
    """Nobody watches."""

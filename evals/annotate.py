"""The suite `annotate`: abstracts with gold annotations, answered through the product's own path.

Each case goes through `skills.annotate.attempt.annotate`: the prompt, the grammar, the validators and the retries that
a user gets. Only the hand-over to `models.strong` is left out, for it would measure another model. Every answer is a
run in a store of the evaluation's own, so that nothing of it can become training data.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agent.errors import InputError
from agent.messages import Event, Message, Route
from agent.session import Session
from agent.settings import Settings
from evals import record
from evals.few_shot import FewShot
from evals.measured import together
from evals.metrics import Timed, score
from evals.subject import Subject, subject
from skills.annotate import attempt
from skills.annotate import framework as frameworks
from skills.annotate.framework import Framework
from skills.annotate.papers import Paper
from skills.annotate.skill import OF_ONE_PAPER
from skills.annotate.validate import Finding
from skills.registry import Job
from training.rows import document_key

CASES = Path(__file__).parent / "cases" / "annotate.jsonl"
"""The shipped suite: abstracts of our own making, annotated by hand."""


class Case(BaseModel):
    """An abstract and its gold annotation. `document` is the key of the abstract."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    id: str
    field: str = ""
    title: str = ""
    abstract: str = Field(min_length=1)
    gold: dict[str, str] = Field(alias="annotation")

    @property
    def document(self) -> str:
        return document_key(self.abstract)


class RowResult(Timed):
    """One case's answer, scored.

    Args:
        id, document, field: the case's.
        attempts: how many replies it took.
        annotation: the moves as they were said; empty where the case failed.
        run: its run in the evaluation's store; empty for baselines that ask no model.
        error: why there is no answer (the prompt is too long, the reply broke off); else empty.
    """

    id: str
    document: str
    field: str
    attempts: int = 0
    annotation: dict[str, str] = Field(default_factory=dict)
    run: str = ""
    error: str = ""


Tell = Callable[[int, int, RowResult], None]
"""Told after each row: how many are done, how many there are, and the row."""


def load_cases(path: Path, framework: Framework | None = None) -> list[Case]:
    """Read a case file: JSONL with `id`, `abstract`, `annotation`, and perhaps `field` and `title`.

    Args:
        path: the file.
        framework: the moves that each gold annotation must have; the eight if None.

    Raises:
        InputError: it cannot be read, holds nothing, or a line is no case; the sentence names the line.
    """
    framework = framework or frameworks.load("eight-moves")
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the case file {path} cannot be read: {error}", "Give a JSONL file.") from None
    cases = [_case(line, f"line {number} of {path}", framework) for number, line in enumerate(lines, 1) if line.strip()]
    if not cases:
        raise InputError(f"the case file {path} holds no case", "Give one with a case a line.")
    twice = {case.id for case in cases if sum(case.id == other.id for other in cases) > 1}
    if twice:
        raise InputError(
            f"{path} has more than one case {min(twice)!r}", "Ids are how rows are compared: make them differ."
        )
    return cases


async def run(
    cases: Sequence[Case],
    address: str,
    settings: Settings,
    *,
    out: Path | None = None,
    tell: Tell | None = None,
    examples: Sequence[Case] = (),
    framework: str = "eight-moves",
    jobs: int = 1,
) -> list[RowResult]:
    """Evaluate a model on cases; rows that OUT/rows.jsonl already holds for it are not asked again.

    Args:
        cases: the suite, or a part of it.
        address: the model. (A specialist's overlap with the cases is the caller's to refuse: `evals.subject.unseen`.)
        settings: as a user has them.
        out: the folder of the rows and of the store; a temporary one if None.
        tell: told of each row as it is done.
        examples: answered before each case in the prompt, as a baseline is; they must not be of the suite.
        framework: the name of the moves that the cases are annotated with.
        jobs: how many cases are under way at once. More than one makes `seconds` longer on one machine.

    Returns:
        A row for each case, in their order. A case that is too long, or whose reply breaks off, is a row without an
        annotation.

    Raises:
        ModelError: the model failed in a way that says nothing of one case; the finished rows are kept.
        OutputError: a row could not be kept.
    """
    with ExitStack() as stack:
        folder = out or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evals-")))
        record.make_folder(folder)
        finished = stack.enter_context(record.FinishedRows(folder / "rows.jsonl"))
        who, moves = subject(address, settings), frameworks.load(framework)
        work = _Work(cases, who, settings, moves, tuple(examples), finished, tell or _silent)
        session = record.open_session(settings, folder, work.count)
        try:
            if examples:
                session.models[who.address] = FewShot(session.model(who.address), shots(examples, moves))
            await work.do(session, jobs)
        finally:
            await session.close()
    return [work.rows[number] for number in range(len(cases))]


@dataclass(slots=True)
class _Work:
    """One model's evaluation while it goes on."""

    cases: Sequence[Case]
    subject: Subject
    settings: Settings
    framework: Framework
    examples: tuple[Case, ...]
    finished: record.FinishedRows
    tell: Tell
    rows: dict[int, RowResult] = field(default_factory=dict)
    usage: dict[str, tuple[int, int]] = field(default_factory=dict)

    def count(self, event: Event) -> None:
        """Note what a run used when it ends."""
        if event.kind == "end":
            self.usage[event.run_id] = (event.data["completion_tokens"], event.data["prompt_tokens"])

    async def do(self, session: Session, jobs: int) -> None:
        """Do the rows that are missing, `jobs` at a time."""
        waiting = iter(self._missing())

        async def worker() -> None:
            for number, key in waiting:
                row = await self._row(session, self.cases[number])
                await asyncio.to_thread(self.finished.add, key, row.model_dump())
                self._done(number, row)

        await together(worker, jobs)

    def _missing(self) -> list[tuple[int, str]]:
        """The cases that are not done, by number and key; the others become rows at once."""
        missing = []
        chosen = self.settings.annotate.model_dump(), self.settings.models.temperature, self.settings.models.max_tokens
        parts = self.subject.address, self.subject.hashes, chosen, self.framework.version
        before = [case.model_dump() for case in self.examples]
        for number, case in enumerate(self.cases):
            key = record.fingerprint("annotate", list(RowResult.model_fields), *parts, before, case.model_dump())
            kept = self.finished.get(key)
            if kept is None:
                missing.append((number, key))
            else:
                self._done(number, RowResult.model_validate(kept))
        return missing

    def _done(self, number: int, row: RowResult) -> None:
        self.rows[number] = row
        self.tell(len(self.rows), len(self.cases), row)

    async def _row(self, session: Session, case: Case) -> RowResult:
        """Ask for one annotation and score it."""
        route = Route(self.subject.address, "flag", "it is evaluated")  # no escalation: it is another model
        job = Job(session, case.id, case.id, route, (session.skills["annotate"],))
        paper = Paper(case.id, case.title, case.abstract)
        grounding = self.settings.annotate.grounding
        started = time.perf_counter()
        try:
            found = await attempt.annotate(job, paper, self.framework, grounding=grounding, task=f"/annotate {case.id}")
        except OF_ONE_PAPER as error:
            findings = [Finding("parse", "", error.message)]
            seconds = time.perf_counter() - started
            return scored(case, {}, findings, self.framework, seconds=seconds, error=error.message)
        seconds = time.perf_counter() - started
        written, read = self.usage.pop(found.run_id)
        more = {"tokens": written, "prompt_tokens": read, "attempts": found.attempts, "run": found.run_id}
        return scored(case, found.annotation, found.findings, self.framework, seconds=seconds, **more)


def shots(examples: Sequence[Case], framework: Framework) -> list[Message]:
    """The examples as a conversation: each abstract, and its annotation as the model is to write it."""
    found = []
    for case in examples:
        reply = json.dumps({key: case.gold[key] for key in framework.keys}, ensure_ascii=False)
        found += [attempt.prompt(framework, case.abstract)[-1], Message("assistant", reply)]
    return found


def _silent(done: int, total: int, row: RowResult) -> None:
    """Nobody is told."""


def scored(
    case: Case, annotation: Mapping[str, str], findings: Sequence[Finding], framework: Framework, **more: Any
) -> RowResult:
    """The row of an annotation that somebody or something made of a case."""
    scores = score(annotation, findings, case.abstract, case.gold, framework)
    return RowResult(
        **scores.model_dump(),
        id=case.id,
        document=case.document,
        field=case.field,
        annotation=dict(annotation),
        **more,
    )


def _case(line: str, where: str, framework: Framework) -> Case:
    try:
        case = Case.model_validate(json.loads(line))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise InputError(f"{where} is not a case: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None
    except ValueError as error:
        raise InputError(f"{where} is not valid JSON: {error}", "Write one case a line, as a JSON object.") from None
    if missing := [key for key in framework.keys if not case.gold.get(key, "").strip()]:
        raise InputError(f"{where}: the annotation lacks {missing[0]!r}", f"It needs {', '.join(framework.keys)}.")
    return case

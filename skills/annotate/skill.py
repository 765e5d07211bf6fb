"""`/annotate`: read what the user named, annotate each paper, and show or save the result.

One paper is one run on record. Several are a run with a child for each, and what is saved goes through OUT.partial, so
the same command goes on where it stopped.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from agent.errors import ApprenticeError, ContextOverflow, InputError, ModelCut, ModelError, UsageError
from agent.messages import Event, Message
from agent.run import Run
from agent.settings import Grounding
from skills.annotate import framework as frameworks
from skills.annotate import papers, topic
from skills.annotate.attempt import annotate
from skills.annotate.output import Answer, Partial, key, render
from skills.annotate.papers import Paper, Reading
from skills.annotate.request import Request, Source, parse
from skills.annotate.validate import told

if TYPE_CHECKING:
    from skills.registry import Job

OF_ONE_PAPER = (ContextOverflow, ModelCut)
"""Failures that say nothing about the next paper. Any other one, such as a server that is down, ends the task."""


async def run(job: Job) -> str:
    """Do an annotate task.

    Returns:
        The result itself, or where it was saved.

    Raises:
        UsageError: the task's wording.
        InputError: a source that cannot be used.
        OutputError: the result could not be written; what was finished is kept in OUT.partial.
        ModelError: the model failed, on some papers or altogether; the finished ones are kept or shown.
    """
    request = parse(job)
    framework = frameworks.load(request.framework)
    grounding = _grounding(request.grounding)
    reading = await read(job, request)
    work = _Work(job, request, framework, grounding, reading)
    if request.save_to is None:
        return await work.do(None)
    with Partial(request.save_to, work.keys, request.overwrite) as partial:
        return await work.do(partial)


async def read(job: Job, request: Request) -> Reading:
    """The papers of all sources, in the order in which they were typed; the user is told what was left out.

    Raises:
        InputError: a source that cannot be used.
        ApprenticeError: what arXiv's tool raises.
    """
    reading = Reading()
    for source in request.sources:
        if source.kind == "arxiv":
            reading.papers.append(await _by_id(job, source.value))
        elif source.kind == "topic":
            reading.add(await _about(job, request, source.value))
        else:
            reading.add(await asyncio.to_thread(_read, job, request, source))
    for sentence in reading.skipped[:20]:
        _notice(job, f"left out: {sentence}")
    if len(reading.skipped) > 20:
        _notice(job, f"left out: {len(reading.skipped) - 20} more")
    return reading


def _read(job: Job, request: Request, source: Source) -> Reading:
    session = job.session
    if source.kind == "stdin":
        if session.stdin is None:
            raise InputError("nothing was piped in for `-`", "For example: cat paper.txt | apprentice '/annotate -'")
        return Reading([papers.from_text(session.stdin, "standard input")])
    if source.kind == "text":
        return Reading([papers.from_text(source.value, "typed text")])
    path = Path(source.value)
    name = str(path.relative_to(session.workspace.root)) if path.is_relative_to(session.workspace.root) else str(path)
    if source.kind == "folder":
        return papers.read_folder(path, request.column, name, _ours(request))
    return papers.read_file(path, request.column, name)


def _ours(request: Request) -> tuple[Path, ...]:
    return (request.save_to,) if request.save_to else ()


async def _by_id(job: Job, number: str) -> Paper:
    from tools.arxiv import by_id

    found = await by_id(job.session.tool_context, number)
    return Paper(f"arXiv:{found.id}", found.title, found.abstract, found.id)


async def _about(job: Job, request: Request, subject: str) -> Reading:
    session = job.session
    reading = await asyncio.to_thread(topic.local, subject, session.workspace.root, _ours(request))
    skipped = len(reading.skipped)
    unread = f" ({skipped} other file{'s hold' if skipped > 1 else ' holds'} no paper)" if skipped else ""
    if reading.papers:
        _notice(job, f"{_papers(len(reading.papers))} of the workspace fit {subject!r}{unread}")
        return Reading(reading.papers)
    _notice(job, f"no paper of the workspace is about {subject!r}{unread}; next is arXiv")
    return Reading(await topic.from_arxiv(subject, session))


@dataclass(slots=True)
class _Work:
    """One task while it goes on."""

    job: Job
    request: Request
    framework: frameworks.Framework
    grounding: Grounding
    reading: Reading
    done: dict[str, Answer] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """What each paper's work is known by."""
        version = f"{self.framework.name} {self.framework.version} {self.grounding}"
        best = self.request.best
        version += f" best of {best.of} by {best.by}" if best.of > 1 else ""
        return [key(paper.abstract, version, self.job.route.model) for paper in self.reading.papers]

    async def do(self, partial: Partial | None) -> str:
        """Annotate what is missing and deliver; the answer is what the user reads."""
        if partial:
            self.done = partial.done
        missing = [number for number, done in enumerate(self.keys) if done not in self.done]
        if len(self.reading.papers) == 1 and missing:
            await self._one(self.reading.papers[0], self.keys[0], partial, "")
            return await self._deliver(partial)
        names = [skill.name for skill in self.job.skills]
        async with Run(self.job.session, self.job.typed, self.job.route, skills=names) as parent:
            await parent.add(Message("user", self.job.typed))
            if len(missing) < len(self.keys):
                parent.emit("notice", text=f"already done: {len(self.keys) - len(missing)} of {len(self.keys)} papers")
            try:
                await self._all(parent, partial)
            except (ApprenticeError, asyncio.CancelledError):
                self._rescue(parent, partial)
                raise
            answer = await self._deliver(partial)
            valid = all(self.done[done].valid for done in self.keys)
            parent.finish("success" if valid else "failure", f"answer; {self._checks()}" if valid else self._checks())
            return answer

    async def _all(self, parent: Run, partial: Partial | None) -> None:
        total = len(self.keys)
        for number, (paper, done) in enumerate(zip(self.reading.papers, self.keys, strict=True), start=1):
            if done in self.done:  # by an earlier run, or the same abstract before in this one
                continue
            parent.emit("notice", text=f"[{number}/{total}] {paper.title or paper.source}")
            try:
                await self._one(paper, done, partial, parent.id)
            except OF_ONE_PAPER as error:
                self.failed.append(f"{paper.source} ({error.message})")
                parent.emit("notice", text=f"{paper.source} was not annotated: {error.message}")

    def _rescue(self, parent: Run, partial: Partial | None) -> None:
        """The task ends early: show what is finished, or say where it is kept."""
        if self.done and partial:
            kept = f"finished papers ({len(self.done)}) are kept in {partial.path}"
            parent.emit("notice", text=f"{kept}; repeat the command to go on")
        elif self.done:
            self._show()

    def _rows(self) -> list[tuple[Paper, Answer]]:
        pairs = zip(self.reading.papers, self.keys, strict=True)
        return [(paper, self.done[done]) for paper, done in pairs if done in self.done]

    def _rendered(self) -> str:
        return render(self._rows(), self.request.format, self.framework, explained=self.request.explain)

    def _show(self) -> None:
        self.job.session.emit(Event("answer", "", {"text": self._rendered().rstrip("\n")}))

    async def _one(self, paper: Paper, done: str, partial: Partial | None, parent_id: str) -> None:
        task = f"/annotate {paper.source}" if parent_id else self.job.typed
        found = await annotate(
            self.job,
            paper,
            self.framework,
            grounding=self.grounding,
            best=self.request.best,
            parent_id=parent_id,
            task=task,
        )
        said = tuple(told(found.findings))
        answer = Answer(found.annotation, found.model, found.valid, said, found.run_id)
        if partial:
            await asyncio.to_thread(partial.add, done, answer)
        self.done[done] = answer

    async def _deliver(self, partial: Partial | None) -> str:
        """Write or return the result. Raises ModelError if papers failed, once the others are safe."""
        if partial and self.done:
            await asyncio.to_thread(partial.finish, self._rendered(), keep=bool(self.failed))
        if self.failed:
            if not partial and self.done:
                self._show()
            raise self._incomplete(len(self._rows()))
        return self._summary() if partial else self._rendered().rstrip("\n")

    def _summary(self) -> str:
        where = f", saved to {self.request.save_to}" if self.request.save_to else ""
        skipped = len(self.reading.skipped)
        left_out = f" {skipped} input{'s were' if skipped > 1 else ' was'} left out." if skipped else ""
        return f"{_papers(len(self.keys))} annotated{where}; {self._checks()}.{left_out}"

    def _checks(self) -> str:
        """How many annotations are valid, and of how many the validators doubt the content."""
        answers = [self.done[done] for done in self.keys]
        invalid = sum(not answer.valid for answer in answers)
        doubtful = sum(answer.valid and bool(answer.validators) for answer in answers)
        if len(answers) == 1:
            return "not valid" if invalid else "valid, with doubts" if doubtful else "valid"
        said = f"{invalid} not valid" if invalid else "all valid"
        return f"{said}, {doubtful} with doubts" if doubtful else said

    def _incomplete(self, finished: int) -> ModelError:
        named = "; ".join(self.failed[:5]) + (f"; and {len(self.failed) - 5} more" if len(self.failed) > 5 else "")
        saved = (
            f", the other {finished} are saved to {self.request.save_to}" if self.request.save_to and finished else ""
        )
        hint = "The same command tries only those again." if saved else ""
        return ModelError(f"{len(self.failed)} of {len(self.keys)} papers were not annotated{saved}: {named}", hint)


def _grounding(name: str) -> Grounding:
    allowed = ("none", "numbers", "words")
    if name not in allowed:
        raise UsageError(f"there is no grounding {name!r}", f"Allowed: {', '.join(allowed)}.")
    return cast(Grounding, name)


def _papers(count: int) -> str:
    return "1 paper" if count == 1 else f"{count} papers"


def _notice(job: Job, text: str) -> None:
    job.session.emit(Event("notice", "", {"text": text}))

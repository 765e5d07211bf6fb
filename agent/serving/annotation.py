"""The tool annotate: a text, a file or a folder of the workspace in; annotations out, as text and as data.

Nothing is written and nothing is fetched: unlike what a person types after /annotate, a call has no `save to`, no arXiv
and no paths outside of the workspace.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from mcp_types import CallToolResult
from pydantic import BaseModel, ConfigDict, Field

from agent import router
from agent.errors import ContextOverflow, ModelCut, UsageError
from agent.messages import Message
from agent.run import Run
from agent.serving.call import Call, result
from agent.session import Session
from skills.annotate import framework as frameworks
from skills.annotate import papers
from skills.annotate.attempt import annotate
from skills.annotate.framework import Framework
from skills.annotate.output import Answer, render
from skills.annotate.papers import Paper, Reading
from skills.annotate.validate import told
from skills.registry import Job

OF_ONE_PAPER = (ContextOverflow, ModelCut)
"""Failures that say nothing about the next paper."""


class Arguments(BaseModel):
    """What a client gives."""

    model_config = ConfigDict(extra="forbid")
    text: str = Field(default="", description="an abstract, or a paper's text that has one; or give a path")
    path: str = Field(default="", description="a file (.txt .md .tex .pdf .csv .jsonl) or folder of the workspace")
    framework: str = Field(default="", description="other moves than the configured ones, by their file's name")
    format: Literal["md", "json", "jsonl", "csv"] = Field(default="md", description="of the text that is returned")


class AnnotatedPaper(BaseModel):
    """One paper. A move that its abstract does not state says so; one that no attempt gave is empty."""

    source: str
    title: str
    annotation: dict[str, str] = Field(description="the text of each move, in order")
    model: str
    valid: bool = Field(description="whether its form and its numbers hold")
    validators: list[str] = Field(description="what the validators object to, or doubt")
    run: str = Field(description="the id of its run on record")


class Annotations(BaseModel):
    """What annotate returns as data."""

    papers: list[AnnotatedPaper]
    left_out: list[str] = Field(description="a sentence for each input that was not annotated")


async def serve(call: Call, arguments: Arguments) -> CallToolResult:
    """Annotate what the arguments name.

    Raises:
        UsageError: neither or both of a text and a path; no such framework.
        InputError, ToolError: a source that cannot be used, or lies outside of the workspace.
        ModelError: the model failed; papers that were finished are on record.
    """
    session = call.session
    if bool(arguments.text.strip()) == bool(arguments.path):
        raise UsageError("annotate needs a text or a path, one of the two")
    framework = frameworks.load(arguments.framework or session.settings.annotate.framework)
    reading = await asyncio.to_thread(_read, session, arguments)
    named = arguments.path or "a client's text"
    skill = session.skills["annotate"]
    route = router.route(session.settings, flag=call.model, skills=[skill])
    job = Job(session, named, f"/annotate {named}", route, (skill,))
    rows = await (_one(job, reading, framework) if len(reading.papers) == 1 else _all(job, reading, framework))
    shown = [_shown(paper, answer) for paper, answer in rows]
    text = render(rows, arguments.format, framework) if rows else "Nothing was annotated."
    return result(call, text, Annotations(papers=shown, left_out=reading.skipped), failed=not rows)


def _read(session: Session, arguments: Arguments) -> Reading:
    if not arguments.path:
        return Reading([papers.from_text(arguments.text, "the client's text")])
    place = session.workspace.resolve(arguments.path)
    name = session.workspace.relative(place)
    return papers.read_folder(place, name=name) if place.is_dir() else papers.read_file(place, name=name)


async def _one(job: Job, reading: Reading, framework: Framework) -> list[tuple[Paper, Answer]]:
    paper = reading.papers[0]
    return [(paper, await _answer(job, paper, framework, job.typed))]


async def _all(job: Job, reading: Reading, framework: Framework) -> list[tuple[Paper, Answer]]:
    """Paper after paper, each a part of one run; one that fails for itself is left out with its reason."""
    rows: list[tuple[Paper, Answer]] = []
    async with Run(job.session, job.typed, job.route, skills=["annotate"]) as parent:
        await parent.add(Message("user", job.typed))
        for number, paper in enumerate(reading.papers, 1):
            parent.emit("notice", text=f"[{number}/{len(reading.papers)}] {paper.title or paper.source}")
            try:
                rows.append((paper, await _answer(job, paper, framework, f"/annotate {paper.source}", parent.id)))
            except OF_ONE_PAPER as error:
                reading.skipped.append(f"{paper.source} was not annotated: {error.message}")
        valid = len(rows) == len(reading.papers) and all(answer.valid for _, answer in rows)
        said = f"{len(rows)} of {len(reading.papers)} papers annotated, {sum(answer.valid for _, answer in rows)} valid"
        parent.finish("success" if valid else "failure", f"answer; {said}" if valid else said)
    return rows


async def _answer(job: Job, paper: Paper, framework: Framework, task: str, parent_id: str = "") -> Answer:
    grounding = job.session.settings.annotate.grounding
    found = await annotate(job, paper, framework, grounding=grounding, parent_id=parent_id, task=task)
    return Answer(found.annotation, found.model, found.valid, tuple(told(found.findings)), found.run_id)


def _shown(paper: Paper, answer: Answer) -> AnnotatedPaper:
    return AnnotatedPaper(
        source=paper.source,
        title=paper.title,
        annotation=answer.annotation,
        model=answer.model,
        valid=answer.valid,
        validators=list(answer.validators),
        run=answer.run,
    )

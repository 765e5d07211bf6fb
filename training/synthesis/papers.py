"""New papers for the skill annotate: a teacher writes an abstract, and in another conversation annotates it.

The two are kept apart, so that the annotation is made from the text alone, as it will be asked for. What the validators
object to is rejected; nothing here verifies, so the rows are `synthetic`.
"""

from __future__ import annotations

import random
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from pydantic import Field

from agent.messages import Message
from agent.models.base import Model
from agent.settings import Settings
from skills.annotate.attempt import KEY_TOKENS, prompt
from skills.annotate.explain import split_sentences
from skills.annotate.framework import Framework
from skills.annotate.grammar import template
from skills.annotate.validate import check, parse, words
from training.dataset.sources import annotated
from training.rows import Row
from training.synthesis import evolve
from training.synthesis.asking import Answer, Form, ask, last
from training.synthesis.subjects import AREAS, FEATURES, KINDS, pick, two
from training.synthesis.work import Attempt, Make, Neighbours, Plan

SHORTEST, LONGEST = 60, 320
"""Words of an abstract."""
FEWEST_SENTENCES = 4
VARIETY = 0.35
"""The least share of different words among an abstract's content words; a text below it goes in circles."""
TEMPERATURE = 0.9
MOST_TOKENS = 700
SYSTEM = (
    "You write abstracts of research papers that do not exist, as if for a journal: plain prose, one paragraph, "
    'precise, no headings, no lists, no citations. Reply with one JSON object: {"title": "...", "abstract": "..."}'
)


class Paper(Form):
    """What the teacher writes."""

    title: str = Field(min_length=3, max_length=200)
    abstract: str = Field(min_length=200, max_length=2600)


@dataclass(frozen=True, slots=True)
class Papers:
    """Makes rows of the skill annotate.

    Args:
        teacher: the model that writes and annotates.
        plan: its seed and evolve steps are read.
        framework: the moves.
        settings: annotate's limits.
    """

    teacher: Model
    plan: Plan
    framework: Framework
    settings: Settings

    async def make(self, number: int, neighbours: Neighbours) -> AsyncGenerator[Attempt, None]:
        """One paper, and what each evolve step makes of it; see `work.Make`."""
        chance = random.Random(f"{self.plan.seed} {number}")
        seed = chance.randrange(2**31)
        features = " and ".join(two(FEATURES, chance))
        wish = f"Write about {pick(AREAS, chance)}. The paper is {pick(KINDS, chance)}. In the abstract, {features}."
        made = await self._write([Message("system", SYSTEM), Message("user", f"{wish} Use 120 to 220 words.")], seed)
        seeded = await self._attempt("seed", made, neighbours, "")
        yield seeded
        if seeded.row is None:  # nothing is made of what was rejected, least of all of an evaluation case
            return
        abstract = seeded.text
        for place, step in enumerate(self.plan.evolve, start=1):
            asked = [Message("system", SYSTEM), Message("user", f"{evolve.instruction(step)}\n\n{abstract}")]
            yield await self._attempt(step, await self._write(asked, seed + place), neighbours, abstract)

    async def _write(self, messages: Sequence[Message], seed: int) -> Answer[Paper]:
        return await ask(
            self.teacher, messages, Paper, max_tokens=MOST_TOKENS, temperature=TEMPERATURE, seed=seed % 2**31
        )

    async def _attempt(self, kind: str, made: Answer[Paper], neighbours: Neighbours, before: str) -> Attempt:
        """Check a paper, then have it annotated, and check that."""
        if made.found is None:
            return Attempt(kind, reason=f"no paper: {made.problem}", tokens=made.tokens, seconds=made.seconds)
        abstract = " ".join(made.found.abstract.split())
        said = faults(abstract) or (before and evolve.changed(before, abstract, kind)) or neighbours.objection(abstract)
        if said:
            return Attempt(kind, abstract, reason=said, tokens=made.tokens, seconds=made.seconds)
        row, said, tokens, seconds = await self._annotate(abstract, made.found.title, kind)
        return Attempt(kind, abstract, row, said, made.tokens + tokens, made.seconds + seconds)

    async def _annotate(self, abstract: str, title: str, kind: str) -> tuple[Row | None, str, int, float]:
        """The row, or why there is none; and what it cost in tokens and seconds."""
        most = self.settings.annotate.max_move_tokens
        request: dict[str, object] = {"temperature": 0.0}
        if self.teacher.capabilities.grammar:
            request["template"] = template(self.framework, abstract, self.settings.annotate.grounding, most)
        else:
            request["max_tokens"] = max(
                self.settings.models.max_tokens, len(self.framework.moves) * (most + KEY_TOKENS)
            )
            if self.teacher.capabilities.json_schema:
                request["schema"] = self.framework.reply_schema()
        reply = await last(self.teacher, prompt(self.framework, abstract), **request)
        cost = reply.usage.tokens, reply.usage.seconds
        found, findings = parse(reply.message.content)
        findings = findings or check(found, abstract, self.framework)
        if findings or reply.finish_reason == "length":
            return None, f"no valid annotation: {findings[0].message if findings else 'it was cut'}", *cost
        provenance = {"teacher": reply.model, "title": title, "step": kind, "framework": self.framework.name}
        made = annotated(abstract, found, self.framework, source="synthetic", provenance=provenance, where=title)
        return made.row, "", *cost


def faults(abstract: str) -> str:
    """Why a text is no abstract; empty if it may be one."""
    content = words(abstract)
    if not SHORTEST <= len(abstract.split()) <= LONGEST:
        return "no abstract: its length"
    if len(split_sentences(abstract)) < FEWEST_SENTENCES:
        return "no abstract: too few sentences"
    if len(set(content)) < VARIETY * len(content):
        return "no abstract: it goes in circles"
    sentences = [sentence.lower() for sentence in split_sentences(abstract)]
    if len(set(sentences)) < len(sentences):
        return "no abstract: it says a sentence twice"
    if re.search(r"[{}\[\]|#*]|\b(?:abstract|title)\s*:", abstract, re.I):
        return "no abstract: markup or headings"
    return ""


def papers(teacher: Model, plan: Plan, framework: Framework, settings: Settings) -> Make:
    """How items of the skill annotate are made."""
    return Papers(teacher, plan, framework, settings).make

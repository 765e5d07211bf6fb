"""Rehearsal: a base model's own answers to everyday prompts, so that training a specialist does not forget the rest.

The prompts are ours (rehearsal_prompts.txt); the first round is answered greedily, further rounds by chance.
Nobody says that the answers are right: they are what the base says, and that is what is to be kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import UsageError
from agent.messages import Message
from agent.models.base import Model
from training.rows import Row, document_key
from training.synthesis.asking import last
from training.synthesis.work import Attempt, Make, Neighbours, Plan

PROMPTS = Path(__file__).parent / "rehearsal_prompts.txt"
MOST_TOKENS = 320
TEMPERATURE = 0.7
"""Of every round after the first."""
PHRASE = 6
"""Words of a phrase that an answer may say twice, and no more."""


def prompts(path: Path = PROMPTS) -> list[str]:
    """The prompts of a file, one a line; lines that begin with # are notes."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Makes rows of answers. Evolve steps make no sense here: the prompts are the ones that are there."""

    teacher: Model
    plan: Plan
    asked: tuple[str, ...]

    async def make(self, number: int, neighbours: Neighbours) -> AsyncGenerator[Attempt, None]:
        """One answer; see `work.Make`. The same prompt comes again after all the others."""
        turn, place = divmod(number, len(self.asked))
        question = self.asked[place]
        if neighbours.near_case(question):
            yield Attempt("seed", question, reason="near an evaluation case")
            return
        sampling = {"temperature": TEMPERATURE, "seed": self.plan.seed + number} if turn else {"temperature": 0.0}
        reply = await last(self.teacher, [Message("user", question)], max_tokens=MOST_TOKENS, **sampling)
        answer = reply.message.content.strip()
        cost = reply.usage.tokens, reply.usage.seconds
        said = "the answer was cut" if reply.finish_reason == "length" else faults(answer)
        said = said or ("near another answer" if turn and neighbours.near_made(answer) else "")
        if said:
            yield Attempt("seed", answer, None, said, *cost)
            return
        row = Row(
            id=f"rehearsal-{number}",
            document=document_key(question),
            skill="rehearsal",
            messages=({"role": "user", "content": question}, {"role": "assistant", "content": answer}),
            source="rehearsal",
            provenance={"model": reply.model, "round": turn, **sampling},
        )
        yield Attempt("seed", answer, row, "", *cost)


def faults(answer: str) -> str:
    """Why an answer is not worth keeping; empty if it is."""
    words = answer.lower().split()
    if len(words) < 2:
        return "the answer is empty"
    phrases = Counter(tuple(words[at : at + PHRASE]) for at in range(len(words) - PHRASE + 1))
    return "the answer goes in circles" if phrases and phrases.most_common(1)[0][1] > 2 else ""


def rehearsal(teacher: Model, plan: Plan) -> Make:
    """How rehearsal rows are made. Raises UsageError if evolve steps were asked for."""
    if plan.evolve:
        raise UsageError("rehearsal has no evolve steps: its prompts are written by hand", "Leave --evolve out.")
    return Rehearsal(teacher, plan, tuple(prompts())).make

"""One paper, annotated: ask, check, try once more, hand over to a stronger model; every attempt is on record.

The record of a paper is one run: the system message, the abstract, and each attempt as an assistant message. An
attempt that broke a rule is marked `rejected`, the one that then kept them all `chosen`. Where the retry told the model
what was wrong, that message stands between them; otherwise every attempt answers the same two messages.

With best-of-N the first attempt is composed of several replies: each is on record as a `sample`, with its token ids and
log-probabilities, and what was composed of them follows as the attempt, which no model said, so it has none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from agent.errors import ContextOverflow, ModelError, UsageError
from agent.messages import Json, Message, Usage
from agent.models.base import Capabilities, Delta, Draw, Reply
from agent.run import Run, detail_of
from agent.settings import Grounding
from skills.annotate.best_of import TEMPERATURE, Best, candidate, compose
from skills.annotate.framework import Framework
from skills.annotate.grammar import template
from skills.annotate.papers import Paper
from skills.annotate.validate import Finding, check, parse, told
from skills.registry import Job

RETRY_TEMPERATURE = 0.7
KEY_TOKENS = 16
"""Room for a move's key and punctuation, in tokens, where no template counts them."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """A paper's annotation.

    Args:
        annotation: the framework's keys in order; a move that no attempt gave is empty.
        valid: whether its form and its numbers hold.
        findings: what the validators said: why it is not valid, or their doubts.
        model: the exact model that wrote it, with its adapter.
        run_id: its run on record.
        attempts: how many replies it took.
    """

    annotation: dict[str, str]
    valid: bool
    findings: tuple[Finding, ...]
    model: str
    run_id: str
    attempts: int


@dataclass(frozen=True, slots=True)
class _Attempt:
    found: dict[str, Any]
    findings: list[Finding]
    reply: Reply

    @property
    def valid(self) -> bool:
        return all(finding.doubt for finding in self.findings)

    @property
    def good(self) -> dict[str, str]:
        """The moves that broke no rule, unless the whole did."""
        broken = {finding.move for finding in self.findings}
        return {} if "" in broken else {key: text for key, text in self.found.items() if key not in broken}


def prompt(framework: Framework, abstract: str) -> list[Message]:
    """What the model is asked. All that is the same for every paper comes first, so that it is evaluated once.

    Args:
        framework: the moves.
        abstract: the text to annotate.

    Returns:
        A system and a user message.
    """
    questions = "\n".join(f"{move.key}: {move.question}" for move in framework.moves)
    rules = f'Where it says nothing, write "{framework.absent}" Reply with one JSON object with these keys:'
    return [Message("system", f"{framework.instructions} {rules}\n{questions}"), Message("user", abstract)]


async def annotate(
    job: Job,
    paper: Paper,
    framework: Framework,
    *,
    grounding: Grounding,
    best: Best | None = None,
    parent_id: str = "",
    task: str,
) -> Annotated:
    """Annotate one paper and record how it went.

    Args:
        job: the session and the route: who is asked first, and who takes over.
        paper: its abstract is all that the model sees.
        framework: the moves.
        grounding: the level, for models that take a grammar.
        best: how many replies the first attempt is composed of, and how; None is as the settings say.
        parent_id: the run that this one is a part of.
        task: what the record calls it.

    Returns:
        The annotation that kept all rules, or the best one with what is wrong with it.

    Raises:
        ContextOverflow: the abstract does not fit; the hint names the paper.
        ModelError: the first model failed. Where a later attempt fails so, the ones before it stand.
    """
    messages = prompt(framework, paper.abstract)
    names = [skill.name for skill in job.skills]
    async with Run(job.session, task, job.route, skills=names, parent_id=parent_id, messages=messages) as run:
        settings = job.session.settings.annotate
        best = best or Best(settings.best_of, settings.best_by)
        work = _Work(run, framework, paper, grounding, messages, best)
        given = await _try_all(work, job.route.model, job.route.escalation)
        broken = {finding.move for finding in given.findings}
        score = 0.0 if "" in broken else 1 - len(broken & set(framework.keys)) / len(framework.keys)
        said = "; ".join(told(given.findings))
        about = f"about {len(broken - {''})} of {len(framework.keys)} moves" if broken - {""} else "about the reply"
        doubts = f"; doubts {about}: {said}" if said else ""
        reason = f"answer{doubts}" if given.valid else said
        run.finish("success" if given.valid else "failure", reason, score)
        annotation = _in_order(given.found, framework)
        return Annotated(annotation, given.valid, tuple(given.findings), _served(given.reply), run.id, work.count)


async def _try_all(work: _Work, address: str, escalation: str) -> _Attempt:
    """The first attempt that nothing is said against, else the one with the least against it."""
    try:
        attempts = [await work.begin(address)]
    except ContextOverflow as error:
        hint = f"{work.paper.source} is too long for {address}: give its abstract alone, or raise models.context."
        raise ContextOverflow(error.needed, error.limit, hint) from None
    retries = work.run.session.settings.annotate.retries
    for next_address in (*[address] * retries, escalation):
        if not attempts[-1].findings or not next_address or work.spent:
            break
        said = f"{work.paper.source}: {'; '.join(told(attempts[-1].findings))}"
        work.run.emit("notice", text=f"{said}; {next_address} tries again")
        try:
            attempts.append(await work.ask(next_address, attempts[-1] if next_address == address else None))
        except ModelError as error:
            work.run.emit("notice", text=f"{work.paper.source}: {error.message}; what came before it stands")
    return min(attempts, key=lambda attempt: (not attempt.valid, len(attempt.findings)))


@dataclass(slots=True)
class _Work:
    """One paper's run while it goes on."""

    run: Run
    framework: Framework
    paper: Paper
    grounding: Grounding
    messages: Sequence[Message]
    best: Best
    count: int = 0
    """Replies so far."""

    @property
    def spent(self) -> bool:
        """Whether a budget leaves no further attempt."""
        budget = self.run.session.settings.budget
        tokens, seconds = self.run.trajectory.usage.tokens, self.run.seconds
        return self.count >= budget.steps or tokens >= budget.tokens or seconds >= budget.seconds

    async def begin(self, address: str) -> _Attempt:
        """The first attempt: one reply, or what is best of several."""
        count = min(self.best.of, self._affordable)
        if count < 2:
            return await self.ask(address)
        capabilities = self.run.session.model(address).capabilities
        if self.best.by == "likelihood" and not capabilities.logprobs:
            raise UsageError(f"{address} gives no log-probabilities to choose by", f"Try --best-of {count}:agreement.")
        drawn = self._together if capabilities.draws else self._in_turn
        draws = [Draw(TEMPERATURE, seed) for seed in range(1, count)]
        replies = await drawn(address, self._request(capabilities, None), draws)
        candidates = [candidate(reply, self.framework) for reply in replies]
        moves, cut = compose(candidates, self.paper.abstract, self.framework, self.best.by)
        composed = Reply(
            Message("assistant", json.dumps(moves, ensure_ascii=False)),
            Usage(),
            "length" if cut else "stop",
            model=replies[0].model,
            adapter=replies[0].adapter,
        )
        attempt = self._checked(composed)
        detail = detail_of(composed, {}, preference="rejected" if attempt.findings else "")
        made = {"composed_of": len(replies), "by": self.best.by}
        await self.run.add(composed.message, replace(detail, sampling=made))
        return attempt

    @property
    def _affordable(self) -> int:
        """How many replies the budgets of steps and tokens leave; at least one."""
        budget = self.run.session.settings.budget
        longest = len(self.framework.moves) * (self.run.session.settings.annotate.max_move_tokens + KEY_TOKENS)
        left = budget.tokens - self.run.trajectory.usage.tokens
        return max(1, min(budget.steps - self.count, left // longest))

    async def _together(self, address: str, request: Json, draws: Sequence[Draw]) -> list[Reply]:
        """One request for all replies; the first one streams."""
        progress = _Progress(self.framework.keys)
        first = await self.run.ask(address, self.messages, visible=progress, **request, others=draws)
        replies = [replace(first, others=()), *first.others]
        for reply, asked in zip(replies, [request, *[request | asdict(draw) for draw in draws]], strict=True):
            await self._add_sample(reply, asked)
        return replies

    async def _in_turn(self, address: str, request: Json, draws: Sequence[Draw]) -> list[Reply]:
        """A request for each reply, as long as the budgets last. A failure after the first one ends the drawing."""
        replies: list[Reply] = []
        for asked in [request, *[request | asdict(draw) for draw in draws]]:
            if replies and self.spent:
                break
            progress = None if replies else _Progress(self.framework.keys)
            try:
                reply = await self.run.ask(address, self.messages, stream=not replies, visible=progress, **asked)
            except ModelError as error:
                if not replies:
                    raise
                self.run.emit("notice", text=f"{self.paper.source}: {error.message}; {len(replies)} replies are there")
                break
            replies.append(reply)
            await self._add_sample(reply, asked)
        return replies

    async def _add_sample(self, reply: Reply, asked: Json) -> None:
        self.count += 1
        await self.run.add(reply.message, detail_of(reply, asked, preference="sample"))
        self._emit_step(reply, reply.usage.seconds)

    async def ask(self, address: str, failed: _Attempt | None = None) -> _Attempt:
        """Ask a model, check its reply, and put it on record.

        Args:
            address: the model.
            failed: its own attempt that broke rules. A model under a grammar writes only the broken moves anew, by
                chance; one without is told what was wrong.
        """
        capabilities = self.run.session.model(address).capabilities
        request = self._request(capabilities, failed)
        messages = list(self.messages)
        if failed and not capabilities.grammar:
            feedback = Message(
                "user",
                f"{'; '.join(f.message for f in failed.findings)}. Write the whole JSON object again, corrected.",
            )
            await self.run.add(feedback)
            messages += [failed.reply.message, feedback]
        started = self.run.seconds
        reply = await self.run.ask(address, messages, visible=_Progress(self.framework.keys), **request)
        seconds = self.run.seconds - started
        attempt = self._checked(reply)
        preference = "rejected" if attempt.findings else "chosen" if self.count else ""
        self.count += 1
        await self.run.add(reply.message, detail_of(reply, request, seconds, preference=preference))
        self._emit_step(reply, seconds)
        return attempt

    def _request(self, capabilities: Capabilities, failed: _Attempt | None) -> Json:
        settings = self.run.session.settings
        most = settings.annotate.max_move_tokens
        request: Json = {"temperature": settings.models.temperature}
        if capabilities.grammar:
            keep = failed.good if failed else None
            request["template"] = template(self.framework, self.paper.abstract, self.grounding, most, keep)
            return request | ({"temperature": RETRY_TEMPERATURE, "seed": self.count} if failed else {})
        if capabilities.json_schema:
            request["schema"] = self.framework.reply_schema()
        return request | {
            "max_tokens": max(settings.models.max_tokens, len(self.framework.moves) * (most + KEY_TOKENS))
        }

    def _checked(self, reply: Reply) -> _Attempt:
        found, findings = parse(reply.message.content)
        if not findings:
            findings = check(found, self.paper.abstract, self.framework)
        if reply.finish_reason == "length":
            findings = [Finding("cut", "", "the reply was cut by its token limit"), *findings]
        return _Attempt(found, findings, reply)

    def _emit_step(self, reply: Reply, seconds: float) -> None:
        usage = reply.usage
        self.run.emit(
            "step",
            number=self.count,
            seconds=round(seconds, 3),
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )


class _Progress:
    """What a person sees of a reply as it streams: the move that is being written, not the JSON around it."""

    def __init__(self, keys: Sequence[str]) -> None:
        self.left = list(keys)
        self.seen = ""

    def __call__(self, delta: Delta) -> Delta | None:
        if delta.kind == "thought":
            return delta
        self.seen += delta.text
        begun = [key for key in self.left if f'"{key}":' in self.seen]
        self.left = [key for key in self.left if key not in begun]
        return Delta(" ".join(begun) + " ", "thought") if begun else None


def _served(reply: Reply) -> str:
    return f"{reply.model} + {reply.adapter}" if reply.adapter else reply.model


def _in_order(found: Mapping[str, Any], framework: Framework) -> dict[str, str]:
    texts = {key: found.get(key, "") for key in framework.keys}
    return {key: text if isinstance(text, str) else "" for key, text in texts.items()}

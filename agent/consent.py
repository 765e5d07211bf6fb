"""Who said yes to an effect: a rule, a flag, or a person asked at the terminal. Nobody means no. The one gate.

The order: privacy; rules that deny; then whatever needs a person each time (a rule that asks, what leaves the machine
and carries what was read); then what was allowed beforehand. Once content from outside was read, `--allow` and earlier
answers no longer hold for shell, network and MCP: see agent/taint.py. A shell command that uses the network needs
`net:shell` beside `shell`, in one question.
"""

from __future__ import annotations

import asyncio
import copy
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent import shell_words
from agent.errors import ConsentDenied
from agent.leaks import Leak, Redactor
from agent.messages import Json, texts
from agent.policy import Request, Rules, Verdict
from agent.taint import Taint

Ask = Callable[[str], Awaitable[bool]]
"""Shows a question to the person at the terminal and returns the answer."""
REFUSALS = 3
"""After so many times no in a row to one kind of effect, nobody is asked again about it until the next task."""
GUARDED = ("shell", "net:", "mcp:")
"""The effects that content from outside may have been after."""


@dataclass(slots=True)
class Consent:
    """Decides about effects. An effect is `write`, `shell`, `net:HOST` or `mcp:SERVER`.

    Args:
        yes: --yes was given: writing and overwriting in the workspace, nothing else.
        allowed: from --allow and the user's settings: `shell`, `net:HOST`, `mcp:SERVER`.
        ask: None where there is no terminal.
        asker: who asks, if it is not the run that the person started; it stands in the question.
        how: what a person does with a flag to allow an effect, as hints say it; empty where no flag can.
        local_only: no network effect is possible, whoever allows it.
        after_outside: effects that stay allowed once content from outside was read.
        rules: the person's policy.
        redactor: knows the secrets that must not leave; None knows none.
    """

    yes: bool = False
    allowed: frozenset[str] = frozenset()
    ask: Ask | None = None
    local_only: bool = False
    asker: str = ""
    how: str = "give"
    answers: dict[str, bool] = field(default_factory=dict)
    """What the person said about each host or server; other effects are asked about every time."""
    after_outside: frozenset[str] = frozenset()
    rules: Rules = field(default_factory=Rules)
    redactor: Redactor | None = None
    taint: Taint = field(default_factory=Taint)
    _refused: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    """How often in a row the person said no, by kind of effect."""
    _since_outside: dict[str, bool] = field(default_factory=dict, init=False, repr=False)
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False, compare=False)
    _tool: str = field(default="", init=False)
    _arguments: Json = field(default_factory=dict, init=False)
    _confirmed: list[Verdict] = field(default_factory=list, init=False)

    def on_behalf_of(self, asker: str) -> Consent:
        """The same consent, with the same answers, and one question at a time, for somebody whom questions name."""
        other = copy.copy(self)
        other.asker = asker
        return other

    def for_another_task(self) -> Consent:
        """The same consent for a task whose model has seen nothing of this one's: see `Taint.afresh`. What a person
        allowed after content from outside was about that content, and is asked about again."""
        if self.taint.left:
            return self
        other = copy.copy(self)
        other.taint, other._since_outside = self.taint.afresh(), {}
        return other

    def begin(self, words: str) -> None:
        """A person gives a task: what they typed may leave the machine, and they are asked again."""
        self.taint.memory.said(words)
        self._refused.clear()

    async def for_call(self, tool: str, effect: str, arguments: Json) -> Consent:
        """This consent for one call, whose tool and arguments the rules then see. Asks if a rule says so.

        Raises:
            ConsentDenied: a rule denies this call, or asks and nobody said yes.
        """
        bound = copy.copy(self)  # answers, lock and taint stay shared
        bound._tool, bound._arguments, bound._confirmed = tool, arguments, []
        path = arguments.get("path", "." if effect == "read" else "")
        request = Request(effect, tool, path if isinstance(path, str) else "", "")
        verdict = self.rules.decide(request)
        if verdict.action not in ("ask", "deny"):
            return bound
        detail = f"call {tool} {json.dumps(arguments, ensure_ascii=False)[:400]}"
        if verdict.action == "deny":
            raise _denied(detail, verdict)
        async with self._asking:
            if not await self._asked([tool], detail, [verdict.reason]):
                raise ConsentDenied(f"not allowed: {detail}", f"A person must say yes: {verdict.reason}.")
        bound._confirmed.append(verdict)
        return bound

    async def require(
        self, effect: str, detail: str, *, path: str = "", command: str = "", sent: str = "", how: str = ""
    ) -> None:
        """Return if the effect is allowed.

        Args:
            effect: `write`, `shell`, `net:HOST` or `mcp:SERVER`.
            detail: what exactly would happen, as the person reads it: the path, the command, the address.
            path: the file that is written.
            command: the shell command.
            how: what in a program that the command runs uses the network, if anything.
            sent: what leaves the machine, e.g. the address; by default the arguments of the call.

        Raises:
            ConsentDenied: nobody allowed it; the hint names the flag that would.
        """
        how = how or (shell_words.uses_network(command) if command else "")
        if self.local_only and (effect.startswith("net:") or how):
            raise ConsentDenied(f"{detail} needs the network{f' ({how})' if how else ''}, and privacy is local-only")
        carried = self._carried(effect, sent or command, bool(how))
        async with self._asking:  # tools run at once, and a person answers one question at a time
            requests = [
                Request(effect, self._tool, path, command),
                *([Request("net:shell", self._tool)] if how else []),
            ]
            doubts = [doubt for request in requests if (doubt := self._doubt(request, detail, carried))]
            if doubts:
                await self._decide(doubts, detail, how)

    @property
    def turn(self) -> asyncio.Lock:
        """Held while a question is on the screen; whoever else asks the person something takes it too."""
        return self._asking

    def _carried(self, effect: str, sent: str, network: bool) -> Leak | None:
        """What of the person's would leave the machine; None if nothing is seen, or nothing leaves."""
        if effect.startswith("mcp:"):
            sent = sent or " ".join(texts(self._arguments))
        elif network and self.rules.root is not None:  # names of files are no contents: git add a.py && git push
            root = self.rules.root
            sent = " ".join(word for word in sent.split() if not _is_file(root, word))
        elif not (network or effect.startswith("net:")):
            return None
        leak = self.taint.memory.carried(sent, effect, self.redactor)
        own_server = effect.startswith("mcp:") and not self.taint.sources
        return None if leak and own_server and not leak.secret else leak  # a person's files to the person's servers

    def _doubt(self, request: Request, detail: str, carried: Leak | None) -> _Doubt | None:
        """What a person must still be asked about an effect; None if it is allowed. Raises ConsentDenied."""
        effect = request.effect
        verdict = self.rules.decide(request)
        if verdict.action == "deny":
            raise _denied(detail, verdict)
        exposed = bool(self.taint.sources) and effect.startswith(GUARDED)
        standing = effect in self.after_outside or (verdict.action == "allow" and _holds_after_outside(verdict))
        key = f"{effect} {self._tool}" if exposed and effect.startswith("mcp:") else effect
        if self.answers.get(effect) is False or self._since_outside.get(key) is False:
            raise ConsentDenied(f"not allowed: {detail}", _Doubt(effect, exposed=exposed).hint(self.how))
        if verdict.action == "ask" and verdict not in self._confirmed:
            return _Doubt(effect, verdict.reason, needs_person=True)
        if carried and (carried.secret or not (standing and effect.startswith("mcp:"))):
            return _Doubt(effect, f"it carries {carried.what}", needs_person=True, leaks=True)
        if standing or (self._since_outside if exposed else self.answers).get(key):
            return None
        if exposed:
            read = f"content from outside was read: {', '.join(self.taint.sources[:3])}"
            return _Doubt(effect, read, exposed=True, key=key)
        if effect in self.allowed or verdict.action in ("allow", "ask") or (effect == "write" and self.yes):
            return None
        return _Doubt(effect, key=key)

    async def _decide(self, doubts: list[_Doubt], detail: str, how: str) -> None:
        """Ask the person, once for all of it, and remember what was said of hosts. Raises ConsentDenied."""
        reasons = [*dict.fromkeys(doubt.reason for doubt in doubts if doubt.reason)]
        reasons += [f"it uses the network: {how}"] if how else []
        yes = await self._asked([doubt.effect for doubt in doubts], detail, reasons)
        for doubt in doubts:
            if self.ask is not None and doubt.lasts:
                (self._since_outside if doubt.exposed else self.answers)[doubt.key] = yes
        if not yes:
            self.taint.memory.doubted.update(doubt.effect for doubt in doubts if doubt.leaks)
            because = f" ({'; '.join(reasons)})" if reasons else ""
            hints = dict.fromkeys(doubt.hint(self.how) for doubt in doubts)
            raise ConsentDenied(f"not allowed: {detail}{because}", " ".join(hints))

    async def _asked(self, effects: list[str], detail: str, reasons: list[str]) -> bool:
        """The person's answer; no where there is nobody, or who said no often enough."""
        kind = effects[0].partition(":")[0]
        if self.ask is None:
            return False
        if self._refused.get(kind, 0) >= REFUSALS:
            raise ConsentDenied(
                f"not allowed: {detail}", f"The person said no {REFUSALS} times: do not ask for it again."
            )
        whose = f"{self.asker} asks. " if self.asker else ""
        yes = await self.ask(whose + _question(effects, detail, reasons))
        self._refused[kind] = 0 if yes else self._refused.get(kind, 0) + 1
        return yes


@dataclass(frozen=True, slots=True)
class _Doubt:
    """Why an effect is not allowed yet. `key` is what an answer is remembered under."""

    effect: str
    reason: str = ""
    needs_person: bool = False
    """No flag stands for the answer."""
    leaks: bool = False
    exposed: bool = False
    key: str = ""

    @property
    def lasts(self) -> bool:
        """Whether the answer holds for the session: for hosts and servers, not for what differs each time."""
        return self.effect.startswith(("net:", "mcp:")) and self.effect != "net:shell" and not self.needs_person

    def hint(self, how: str) -> str:
        """What to do next, where a flag is given in this way."""
        if self.needs_person or not how:
            return "Only a person at a terminal can allow this."
        if self.effect == "write":
            return f"To allow it, {how} --yes."
        return f"To allow it, {how} {'--allow-after-outside' if self.exposed else '--allow'} {self.effect}."


def _holds_after_outside(verdict: Verdict) -> bool:
    return verdict.rule is not None and verdict.rule.after_outside


def _denied(detail: str, verdict: Verdict) -> ConsentDenied:
    return ConsentDenied(f"not allowed: {detail}", f"A rule says no: {verdict.reason}.")


def _question(effects: list[str], detail: str, reasons: list[str]) -> str:
    because = f" ({'; '.join(reasons)})" if reasons else ""
    return f"Allow {' and '.join(effects)}: {_visible(detail)}{_visible(because)}?"


def _visible(text: str) -> str:
    """The text on one line, nothing hidden: a model's path must not look like a question of its own, nor a command
    stand behind a screen of blanks or run from right to left."""
    one_line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return re.sub(r" {8,}", lambda blanks: f" [{len(blanks[0])} blanks] ", one_line)


def _is_file(root: Path, word: str) -> bool:
    try:
        return (root / word).is_file()
    except (OSError, ValueError):
        return False

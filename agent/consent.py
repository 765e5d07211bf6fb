"""Who said yes to an effect: a flag, the user's settings, or a person asked at the terminal. Nobody means no."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent.errors import ConsentDenied

Ask = Callable[[str], Awaitable[bool]]
"""Shows a question to the person at the terminal and returns the answer."""


@dataclass(slots=True)
class Consent:
    """Decides about effects. An effect is `write`, `shell`, `net:HOST`, or `mcp:SERVER`.

    Args:
        yes: --yes was given: writing and overwriting in the workspace, nothing else.
        allowed: from --allow and the user's settings: `shell`, `net:HOST`, `mcp:SERVER`.
        ask: None where there is no terminal.
        local_only: no network effect is possible, whoever allows it.
    """

    yes: bool = False
    allowed: frozenset[str] = frozenset()
    ask: Ask | None = None
    local_only: bool = False
    answers: dict[str, bool] = field(default_factory=dict)
    """What the person said about each host and MCP server; other effects are asked about every time."""
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False, compare=False)

    async def require(self, effect: str, detail: str) -> None:
        """Return if the effect is allowed.

        Args:
            effect: `write`, `shell`, `net:HOST` or `mcp:SERVER`.
            detail: what exactly would happen, as the person reads it: the path, the command, the address.

        Raises:
            ConsentDenied: nobody allowed it; the hint names the flag that would.
        """
        if effect.startswith("net:") and self.local_only:
            raise ConsentDenied(f"{detail} needs the network, and privacy is local-only")
        if (effect == "write" and self.yes) or effect in self.allowed:
            return
        async with self._asking:  # tools run at once, and a person answers one question at a time
            allowed = self.answers[effect] if effect in self.answers else await self._answer(effect, detail)
        if not allowed:
            flag = "--yes" if effect == "write" else f"--allow {effect}"
            raise ConsentDenied(f"not allowed: {detail}", f"To allow it, give {flag}.")

    @property
    def turn(self) -> asyncio.Lock:
        """Held while a question is on the screen; whoever else asks the person something takes it too."""
        return self._asking

    async def _answer(self, effect: str, detail: str) -> bool:
        if self.ask is None:
            return False
        one_line = detail.replace("\n", "\\n")  # a model's path must not look like a question of its own
        answer = await self.ask(f"Allow {effect}: {one_line}?")
        if effect.startswith(("net:", "mcp:")):
            self.answers[effect] = answer
        return answer

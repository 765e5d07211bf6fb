"""A question to a Python process of our own, for work that cannot be interrupted and may never end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress

from agent.errors import ToolError


async def ask(arguments: Sequence[str], question: bytes, seconds: float) -> bytes:
    """What the process answers on its standard output.

    Args:
        arguments: for Python; `-P` is given first, so that a file of the workspace cannot pose as a module.
        question: for its standard input.
        seconds: after these it is ended, as it is when the caller is cancelled.

    Raises:
        TimeoutError: it took longer.
        ToolError: it broke down; what it had answered until then is nothing to go by.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(seconds):
            answer, _ = await child.communicate(question)
    finally:
        if child.returncode is None:
            with suppress(ProcessLookupError):
                child.kill()
            await child.wait()
    if child.returncode:
        raise ToolError("a process of the agent's own broke down", "Try another input.")
    return answer

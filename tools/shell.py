"""The tool run_shell: a command of the model's, which a person sees in full and allows.

What is done: the command runs in the workspace, without standard input, without the variables that look secret, and
in a session of its own whose process group is ended as a whole: when the command is over, when its time is up, when
its output passes OUTPUT_LIMIT, or when the run is cancelled (SIGTERM, and SIGKILL after GRACE seconds).

A command that uses the network, as far as it can be read (agent/shell_words.py), needs consent for that too.

What this does not cover: the command has all rights of the person who allowed it. It can read and write outside the
workspace, use the network, and read secrets from files. A child that starts a session of its own (setsid, a daemon)
leaves the process group and lives on.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import shutil
import signal
from contextlib import suppress
from pathlib import Path

from agent import shell_words
from agent.errors import ToolError
from agent.redact import Redactor
from agent.secret_shapes import looks_secret
from tools.output import Output
from tools.registry import ToolContext, tool

GRACE = 0.2
"""Seconds between SIGTERM and SIGKILL. Short, because a person who presses Ctrl-C waits for it."""
DRAIN = 0.1
"""Seconds in which what is left in the pipe is read after the command has ended."""
OUTPUT_LIMIT = 8_000_000
"""Bytes of output after which a command is ended; less than what read_file reads."""
CHUNK = 65_536
CODE_LIMIT = 200_000
"""Bytes of the largest file that is looked into before a command that may run it."""


@tool(effect="shell")
async def run_shell(context: ToolContext, command: str, timeout: float | None = None) -> str:  # noqa: ASYNC109 - the model's word for it
    """Run a shell command in the workspace. Answers with its exit code and its output, errors included.

    It gets no input, and whatever it starts in the background ends with it. Python runs here too: python3 -c "...".

    Args:
        command: the command, as for sh -c.
        timeout: seconds after which it is ended; at most what the person's settings allow.
    """
    most = context.settings.tools.shell_timeout
    seconds = timeout if timeout is not None and timeout <= most else most  # so that not-a-number is `most` too
    if not command.strip() or "\0" in command or seconds <= 0:
        raise ToolError("run_shell was given no command that can be run, or no time to run it")
    how = await asyncio.to_thread(own_network_code, context, command)
    await context.consent.require("shell", f"run {command!r} in {context.workspace.root}", command=command, how=how)
    output = Output(context, "run_shell")
    try:
        end = await _run(context, command, seconds, output)
        text = await asyncio.to_thread(output.close)
    finally:
        output.discard()
    return f"{end}\n{text}" if text else f"{end}, no output"


def own_network_code(context: ToolContext, command: str) -> str:
    """What uses the network in the files that a command may run and that this session made; empty if nothing is seen.

    Those are the files that the model wrote or edited, and those that the command names and that are younger than the
    session.
    """
    if not shell_words.runs_code(command):
        return ""
    taint, root = context.consent.taint, context.workspace.root
    named = [
        word for word in re.findall(r"[\w./-]+", shell_words.plain(command)) if _is_younger(root / word, taint.started)
    ]
    for name in sorted({*taint.written, *named}):
        with suppress(ToolError):
            if how := shell_words.code_uses_network(name, context.workspace.read_text(name, CODE_LIMIT)):
                return how
    return ""


def _is_younger(path: Path, moment: float) -> bool:
    try:
        return path.is_file() and path.stat().st_ctime >= moment
    except (OSError, ValueError):
        return False


def scrubbed(environment: dict[str, str], redactor: Redactor) -> dict[str, str]:
    """The variables that a command gets: none whose name or value looks secret.

    PYTHONSAFEPATH keeps a Python that the command starts from taking a file of the workspace for a module of its own.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not looks_secret(name) and redactor.redact(f"{name}={value}") == f"{name}={value}"
    }
    return {**kept, "PYTHONSAFEPATH": "1"}


async def _run(context: ToolContext, command: str, seconds: float, output: Output) -> str:
    """Run the command and feed its output. Returns how it ended, as one sentence."""
    # A pipe of our own: asyncio's wait() does not return while a background process holds one of its pipes.
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            shutil.which("bash") or "/bin/sh",
            "-c",
            command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            cwd=context.workspace.root,
            env=scrubbed(dict(os.environ), context.redactor),
            start_new_session=True,
        )
    except BaseException as error:
        os.close(reading)
        if isinstance(error, OSError | ValueError):
            raise ToolError(f"the command could not be started: {error}") from None
        raise
    finally:
        os.close(writing)
    reader = asyncio.create_task(_read(reading, output))
    try:
        return await _wait(process, reader, seconds)
    finally:
        try:
            await _end_group(process)
            await asyncio.wait([reader], timeout=DRAIN)
        finally:
            reader.cancel()
            await asyncio.wait([reader], timeout=DRAIN)


async def _wait(process: asyncio.subprocess.Process, reader: asyncio.Task[bool], seconds: float) -> str:
    """Until the command ends, its time is up, or it has written too much."""
    exited = asyncio.create_task(process.wait())
    waiting: set[asyncio.Task[int] | asyncio.Task[bool]] = {exited, reader}
    try:
        async with asyncio.timeout(seconds):
            while not exited.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if reader in done and not reader.result():
                    return f"ended after {OUTPUT_LIMIT:,} bytes of output, which is the most"
    except TimeoutError:
        return f"ended after {seconds:g} s, its time-out"
    finally:
        exited.cancel()
    code = process.returncode
    assert code is not None
    return f"exit code {code}" if code >= 0 else f"ended by the signal {signal.Signals(-code).name}"


async def _read(reading: int, output: Output) -> bool:
    """Feed what comes through the pipe. Returns whether it came to its end; False if there was too much of it."""
    stream = asyncio.StreamReader(limit=CHUNK)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", 0)
    )
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    room = OUTPUT_LIMIT
    try:
        while room > 0 and (data := await stream.read(CHUNK)):
            room -= len(data)
            output.add(decoder.decode(data))
        output.add(decoder.decode(b"", final=True))
    finally:
        transport.close()
    return room > 0


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """End the whole process group, with SIGTERM first. Even if this is cancelled itself, nothing is left running."""
    try:
        _signal(process.pid, signal.SIGTERM)
        for _ in range(int(GRACE / 0.01)):
            if not _signal(process.pid, 0):
                break
            await asyncio.sleep(0.01)
    finally:
        _signal(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):  # a process that the kernel holds (a dead network disk) does not hold the run
        await asyncio.wait_for(process.wait(), 1)


def _signal(group: int, number: int) -> bool:
    """Send a signal to a process group. False if nobody is there, or nobody that we may signal."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True

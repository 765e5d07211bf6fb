"""The program as a person meets it: `python agent.py ...` in a process of its own, without a terminal or at one."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import json
import os
import pty
import re
import secrets
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent.messages import Detail, Message, Trajectory
from agent.redact import Redactor
from agent.traces import TraceStore

ROOT = Path(__file__).resolve().parent.parent
AGENT = [sys.executable, str(ROOT / "agent.py")]
ABSTRACTS = [json.loads(line) for line in (ROOT / "tests/data/abstracts.jsonl").read_text("utf-8").splitlines()]
CONTROLS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|\x1b[()][A-Z0-9]|\x1b[=>78]")

Done = subprocess.CompletedProcess[str]


def run(
    *arguments: str,
    cwd: Path,
    stdin: bytes | None = None,
    before: Callable[[], None] | None = None,
    **environment: str,
) -> Done:
    """`python agent.py ARGUMENTS` in a folder, with no terminal.

    Args:
        arguments: of the command line.
        cwd: the folder.
        stdin: what is piped in; None for nothing.
        before: runs in the child before the program does, e.g. to set a limit.
        environment: variables beside those of the test.
    """
    done = subprocess.run(
        [*AGENT, *arguments],
        cwd=cwd,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        timeout=60,
        env=os.environ | environment,
        preexec_fn=before,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def refused(done: Done, code: int, *said: str) -> None:
    """Assert that a command ended with an exit code and one sentence that says these things, without a traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert [text for text in said if text not in done.stderr] == [], done.stderr


def script(folder: Path, replies: Iterable[dict[str, Any]], name: str = "replies.jsonl") -> str:
    """The address of a scripted model with these replies. Its file is hidden, so that it is taken for no paper."""
    path = folder / f".{name}"
    path.write_text("".join(json.dumps(reply) + "\n" for reply in replies))
    return f"scripted:{path}"


def calling(tool: str, **arguments: Any) -> dict[str, Any]:
    """A scripted reply that calls a tool."""
    return {"tool_calls": [{"name": tool, "arguments": arguments}]}


def annotation(number: int) -> str:
    """A valid annotation of the abstract of that number, as a model would write it."""
    moves = ("claim", "evidence", "method", "scope", "limitation", "comparison", "implication", "novelty")
    claim = max(re.split(r"(?<=\.) ", ABSTRACTS[number]["abstract"]), key=len)
    return json.dumps({move: claim if move == "claim" else "Not stated." for move in moves})


def record(which: str = "last") -> Trajectory:
    """A run as it stands on record: the newest, or the one whose id begins so."""
    store = TraceStore.open(data_folder() / "traces.db", Redactor({}))
    try:
        return store.get(store.runs(limit=1)[0].id if which == "last" else which)
    finally:
        store.close()


def put_on_record(task: str) -> str:
    """Put a finished run on record, as an earlier command would have; its id."""

    async def put() -> str:
        store = TraceStore.open(data_folder() / "traces.db", Redactor({}))
        run = Trajectory(id=secrets.token_hex(6), task=task, started=time.time())
        await store.open_run(run)
        await store.add_message(run.id, 0, Message("user", task), Detail())
        run.outcome, run.reason, run.ended = "success", "answer", time.time()
        store.close_run(run)
        store.close()
        return run.id

    return asyncio.run(put())


def data_folder() -> Path:
    """The data folder of the test."""
    return Path(os.environ["APPRENTICE_DATA_DIR"])


def obey_permissions() -> None:
    """Give up root's right to write where the permissions forbid it. For `before`: it holds in the child alone."""
    if os.geteuid() == 0:
        drop, dac_override, dac_read_search = 24, 1, 2  # PR_CAPBSET_DROP and two of <linux/capability.h>
        libc = ctypes.CDLL(None)
        assert libc.prctl(drop, dac_override, 0, 0, 0) == 0
        assert libc.prctl(drop, dac_read_search, 0, 0, 0) == 0


def _at_a_terminal() -> None:
    """In the child: the terminal is its own, and Ctrl-C reaches it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    hear_interrupts()


def hear_interrupts() -> None:
    """In the child: undo that a shell's background jobs ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Terminal:
    """A command at a terminal of its own: `with Terminal("chat", cwd=folder) as terminal:`."""

    def __init__(self, *arguments: str, cwd: Path, **environment: str) -> None:
        self.output = ""
        self._seen = 0
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        settings = {"TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            [*AGENT, *arguments],
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | settings | environment,
            start_new_session=True,
            preexec_fn=_at_a_terminal,
        )
        os.close(slave)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        """Press these keys: `\\r` is Enter, `\\x03` Ctrl-C, `\\x04` Ctrl-D."""
        os.write(self._master, text.encode())

    def expect(self, text: str, seconds: float = 20) -> str:
        """Wait until the screen shows a text after what was last expected; returns what came until then."""
        until = time.monotonic() + seconds
        while text not in self.output[self._seen :]:
            left = until - time.monotonic()
            assert left > 0, f"{text!r} did not come: {self.output[self._seen :]!r}"
            assert self._read(left), f"{text!r} did not come before the end: {self.output[self._seen :]!r}"
        end = self.output.index(text, self._seen) + len(text)
        shown, self._seen = self.output[self._seen : end], end
        return shown

    def wait(self, seconds: float = 20) -> int:
        """Read until the program ends; its exit code."""
        until = time.monotonic() + seconds
        while self._read(max(0.0, until - time.monotonic())):
            assert time.monotonic() < until, f"it did not end: {self.output!r}"
        return self.process.wait(max(0.1, until - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        """Take what has come. False once the program has left the terminal."""
        if not select.select([self._master], [], [], min(seconds, 0.5))[0]:
            return self.process.poll() is None
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux's way to say that nobody holds the other end
            return False
        self.output = CONTROLS.sub("", self.output + data.decode("utf-8", "replace"))
        return bool(data)

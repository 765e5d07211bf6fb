"""The person's own editor on a piece of text: $VISUAL, $EDITOR, or what this system has."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.errors import ConfigError, InputError

USUAL = ("nano", "vim", "vi")


def edit(text: str, suffix: str = ".md") -> str:
    """Let the person edit a text; blocks until the editor is closed.

    Args:
        text: what the file holds at first.
        suffix: of the file's name, so that the editor knows its kind.

    Returns:
        What the file holds afterwards.

    Raises:
        ConfigError: there is no editor, or it cannot be started.
        InputError: the editor failed, or left no UTF-8 text.
    """
    command = _command()
    handle, name = tempfile.mkstemp(prefix="apprentice-", suffix=suffix)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        with _interrupts_are_the_editors():
            code = subprocess.run([*command, name], check=False).returncode
        if code:
            raise InputError(f"the editor {command[0]} ended with exit code {code}", "Nothing was changed.")
        return Path(name).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the editor {command[0]} does not start: {error.strerror}", "Set EDITOR.") from None
    except UnicodeDecodeError:
        raise InputError("the edited text is not UTF-8", "Nothing was changed.") from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _command() -> list[str]:
    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR") or next(filter(shutil.which, USUAL), "")
    if not chosen:
        raise ConfigError("there is no editor", "Set EDITOR, e.g. EDITOR=nano.")
    try:
        return shlex.split(chosen)
    except ValueError as error:
        raise ConfigError(f"EDITOR is no command: {error}", "Set it to an editor's name.") from None


@contextmanager
def _interrupts_are_the_editors() -> Iterator[None]:
    """Ctrl-C is a key of many editors: while one is open, it must not end what the person is doing here."""
    with suppress(RuntimeError):
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

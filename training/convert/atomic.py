"""A file or a folder is written whole or not at all: beside its place first, then moved there."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from agent.errors import OutputError


def write_text(path: Path, text: str, hint: str = "") -> None:
    """Write a text file, and make its folder. Raises OutputError, with this hint for the person."""
    partial = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}", hint) from None
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside the target to write to; it takes the target's place at the end of the block.

    Args:
        target: the file to make or replace; its folder is made.

    Raises:
        OutputError: the file cannot be written. What stood there before is untouched, and nothing else is left.
    """
    partial = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError as error:
        raise _not_written(target, error) from None
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside the target to write into; it takes the target's place at the end of the block.

    Raises:
        OutputError: the folder cannot be written. What stood there before is untouched.
    """
    partial, old = _beside(target), _beside(target)
    try:
        partial.mkdir(parents=True)
        yield partial
        if target.exists():
            os.rename(target, old)
        os.rename(partial, target)
    except OSError as error:
        raise _not_written(target, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")


def _not_written(target: Path, error: OSError) -> OutputError:
    full = error.errno == errno.ENOSPC
    hint = "The disk is full: make room there." if full else "Check the folder, or give another."
    return OutputError(f"{target} cannot be written: {error.strerror or error}", hint)

"""A command as a person types it, done in this process: its exit code, and what it wrote."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from agent import cli
from tests.program import Done


def typed(capsys: pytest.CaptureFixture[str], *arguments: str, stdin: bytes = b"") -> Done:
    """`apprentice ARGUMENTS` in the current folder, with these bytes piped in.

    Args:
        capsys: pytest's own.
        arguments: of the command line.
        stdin: what is piped in.
    """
    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        try:
            code = cli.told(cli.parse(arguments))
        except cli.UsageError as error:
            sys.stderr.write(f"error: {error.message}\n  {error.hint}\n")
            code = error.exit_code
    said = capsys.readouterr()
    return subprocess.CompletedProcess(arguments, code, said.out, said.err)

"""The history of a git repository, read without running anything of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from agent.errors import InputError, UsageError

SAFE = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.pager=cat",
    "log.showSignature=false",
    "protocol.allow=never",
)
"""Settings that win over the repository's own, which may name programs to run."""
ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "LC_ALL": "C",
}
REGULAR = ("100644", "100755")


@dataclass(frozen=True, slots=True)
class Change:
    """A text file that a commit changed. `before` and `after` name blobs; `files` counts the commit's changed files."""

    commit: str
    message: str
    path: str
    before: str
    after: str
    files: int


class History:
    """A repository's history. Use it as `with History(folder) as history:`.

    Args:
        folder: the repository, with a working tree or bare.

    Raises:
        InputError: git does not read it; the sentence has git's own words.
        UsageError: git is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        roots = self._git("rev-list", "--max-parents=0", "HEAD").split()
        self.root = min(roots).decode()
        """The first commit: it names the repository, wherever it was cloned to."""

    def __enter__(self) -> History:
        self._blobs = subprocess.Popen(
            self._command("cat-file", "--batch"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blobs.communicate()

    def changes(self) -> Iterator[Change]:
        """The changed files of each commit that is no merge, newest first."""
        form = "%x01%H%x00%B%x00"
        command = self._command(
            "log",
            "--no-merges",
            "--raw",
            "-z",
            "--no-abbrev",
            "--no-renames",
            "--no-mailmap",
            f"--format=tformat:{form}",
        )
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()) as log:
            assert log.stdout
            try:
                for record in _records(log.stdout):
                    yield from _changes(record)
            finally:
                log.kill()

    def blob(self, name: str) -> bytes:
        """The content of a blob, as it is stored."""
        assert self._blobs.stdin
        assert self._blobs.stdout
        self._blobs.stdin.write(f"{name}\n".encode())
        self._blobs.stdin.flush()
        head = self._blobs.stdout.readline().split()
        if len(head) != 3:
            raise InputError(
                f"{self.folder} lacks the object {name}", "A partial clone has no whole history: fetch it."
            )
        return self._blobs.stdout.read(int(head[2]) + 1)[:-1]

    def _command(self, *words: str) -> list[str]:
        settings = [word for setting in SAFE for word in ("-c", setting)]
        return ["git", "--no-pager", "--literal-pathspecs", *settings, "-C", str(self.folder), *words]

    def _git(self, *words: str) -> bytes:
        try:
            done = subprocess.run(
                self._command(*words), capture_output=True, env=_environment(), stdin=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise UsageError("git is not installed", "Install it to read a repository's history.") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise InputError(f"{self.folder} has no history that git reads: {said[0] if said else 'it failed'}")
        return done.stdout


def _environment() -> dict[str, str]:
    kept = {name: entry for name, entry in os.environ.items() if not name.startswith("GIT_")}
    return kept | ENVIRONMENT


def _records(stream: object) -> Iterator[bytes]:
    """A commit at a time: what stands between two \\x01."""
    rest = b""
    for piece in iter(lambda: stream.read1(1 << 16), b""):  # type: ignore[attr-defined]
        *whole, rest = (rest + piece).split(b"\x01")
        yield from filter(None, whole)
    if rest:
        yield rest


def _changes(record: bytes) -> Iterator[Change]:
    """The regular files that a commit modified, in git's order of paths."""
    commit, message, *rest = record.split(b"\0")
    entries = [part.lstrip(b"\n") for part in rest if part.strip()]
    pairs = [(entries[at].split(), entries[at + 1]) for at in range(0, len(entries) - 1, 2)]
    for (old_mode, new_mode, before, after, status), path in pairs:
        modes = old_mode.lstrip(b":").decode(), new_mode.decode()
        if status == b"M" and all(mode in REGULAR for mode in modes):
            name = path.decode("utf-8", "replace")
            yield Change(
                commit.decode(), message.decode("utf-8", "replace"), name, before.decode(), after.decode(), len(pairs)
            )

"""Trust in a project folder's `.apprentice/`: given by a person, to exactly these bytes.

DATA/trust.json maps a folder to the hash of everything under its `.apprentice/`, names and bytes. Whatever changes
there takes the trust away until a person is asked again; no flag and no setting gives it. Symbolic links and special
files are refused, since a hash cannot vouch for what they lead to.

What it does not cover: a process that can already write into the folder may change a file after the hash was taken and
before the file is loaded. The next start notices; this one does not.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from agent.config import PROJECT_FOLDER
from agent.errors import ConfigError, ConsentDenied, InputError, OutputError

Ask = Callable[[str], Awaitable[bool]]
LARGEST = 50_000_000
"""Bytes under one `.apprentice/`; above, trust is refused, so that no cloned folder makes every start slow."""
MOST = 5_000
"""Files under one `.apprentice/`."""


def is_trusted(workspace: Path, data_dir: Path) -> bool:
    """Whether a person trusted this folder's `.apprentice/` as it is now; True if there is none."""
    try:
        current = digest(workspace)
    except InputError:
        return False
    return not current or _entries(data_dir / "trust.json").get(_key(workspace)) == current


def what(workspace: Path) -> list[str]:
    """What a person would trust, a line each: settings with their values, skills, tools, other files.

    If the folder can be trusted by nobody, the one line says why.
    """
    folder = workspace / PROJECT_FOLDER
    if not os.path.lexists(folder):
        return []
    try:
        names = [path.relative_to(folder) for path in _files(folder)]
    except InputError as error:
        return [error.message]
    lines = _settings(folder / "config.toml") if Path("config.toml") in names else []
    skills = sorted({name.parts[1] for name in names if name.parts[0] == "skills" and len(name.parts) > 2})
    for skill in skills:
        code = [name.name for name in names if name.parts[:2] == ("skills", skill) and name.suffix in (".py", ".pyc")]
        lines.append(f"skill {_shown(skill)}" + (f", with code: {_shown(', '.join(code))}" if code else ", text only"))
    for name in names:
        if name == Path("config.toml") or (name.parts[0] == "skills" and len(name.parts) > 2):
            continue
        code_file = len(name.parts) == 2 and name.parts[0] == "tools" and name.suffix == ".py"
        lines.append(f"{'tool file, code' if code_file else 'file'}: {_shown(name.as_posix())}")
    return lines


async def grant(workspace: Path, data_dir: Path, ask: Ask | None) -> bool:
    """Ask the person whether to trust this folder, and remember a yes.

    Args:
        workspace: the folder that holds `.apprentice/`.
        data_dir: the user's data folder.
        ask: shows a question at the terminal and returns what the person typed as yes or no; None without a terminal.

    Returns:
        Whether the folder is trusted now.

    Raises:
        InputError: the folder holds what cannot be trusted, or it changed while the person was reading.
        ConsentDenied: there is nobody to ask.
        OutputError: the answer could not be stored.
    """
    before = digest(workspace)
    if not before:
        return True
    if ask is None:
        raise ConsentDenied(f"{workspace} can be trusted only by a person at a terminal", "No flag gives trust.")
    listed = "\n".join(f"  {line}" for line in what(workspace))
    if not await ask(f"{_shown(str(workspace / PROJECT_FOLDER))} holds:\n{listed}\nTrust it, exactly as it is now?"):
        return False
    if digest(workspace) != before:
        raise InputError(f"{workspace / PROJECT_FOLDER} changed while you were asked", "Look at it and try again.")
    _change(data_dir, _key(workspace), before)
    return True


def revoke(workspace: Path, data_dir: Path) -> bool:
    """Take trust back. Returns whether there was any. Raises OutputError if that could not be stored."""
    return _change(data_dir, _key(workspace), None)


def digest(workspace: Path) -> str:
    """SHA-256 over the names and bytes of all files under `.apprentice/`; empty if there are none.

    Raises:
        InputError: a link or a special file lies in it, it cannot be read, or it is too large.
    """
    return _hashed(_contents(workspace / PROJECT_FOLDER))


@contextlib.contextmanager
def kept(workspace: Path, data_dir: Path, name: str, data: bytes) -> Iterator[None]:
    """Writing one file of text under `.apprentice/` inside this block keeps the trust that the folder had before it.

    For what the agent writes itself, as a person allowed: it knows the bytes, so nobody needs to look at them again.

    Args:
        workspace: the folder that holds `.apprentice/`.
        data_dir: the user's data folder.
        name: the file's path below `.apprentice/`; never settings, a skill or a tool.
        data: what is written into it.

    Raises:
        OutputError: the trust could not be stored; the folder has to be trusted anew.
    """
    try:
        contents = _contents(workspace / PROJECT_FOLDER)
    except InputError:
        contents = None
    yield
    key = _key(workspace)
    if contents is not None and (not contents or _entries(data_dir / "trust.json").get(key) == _hashed(contents)):
        _change(data_dir, key, _hashed(contents | {os.fsencode(name): data}))


def import_file(path: Path, name: str, kind: str = "file") -> ModuleType:
    """Run a Python file from its source and return the module.

    Python's own import would take a cached `.pyc` in place of the source that a person read, and write one into the
    folder, which would change its hash.

    Args:
        path: the file.
        name: the module's name.
        kind: what an error calls the file.

    Raises:
        ConfigError: the file cannot be read, or fails; the message names it and the error.
    """
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
    except Exception as error:  # someone's own code may raise anything
        sys.modules.pop(name, None)
        raise ConfigError(f"the {kind} {path} failed: {type(error).__name__}: {error}") from error
    return module


def _files(folder: Path) -> list[Path]:
    """Every file below the folder, by name. Raises InputError at the first entry that is no plain file or folder."""
    found: list[Path] = []
    waiting = [folder]
    if folder.is_symlink() or not folder.is_dir():
        raise InputError(f"{folder} is not a plain folder and cannot be trusted")
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError as error:
            raise InputError(f"{error.filename} cannot be read: {error.strerror}") from None
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                found.append(Path(entry.path))
            else:
                raise InputError(f"{_shown(entry.path)} is a link or a special file and cannot be trusted")
        if len(found) + len(waiting) > MOST:
            raise InputError(f"{folder} holds more than {MOST} files and cannot be trusted")
    return sorted(found, key=os.fsencode)


def _contents(folder: Path) -> dict[bytes, bytes]:
    """Every file's name below the folder and its bytes; none if there is no folder. Raises InputError as `digest`."""
    contents: dict[bytes, bytes] = {}
    size = 0
    for path in _files(folder) if os.path.lexists(folder) else ():
        data = _bytes(path)
        size += len(data)
        if size > LARGEST:
            raise InputError(f"{folder} is larger than {LARGEST // 1_000_000} MB and cannot be trusted")
        contents[os.fsencode(path.relative_to(folder).as_posix())] = data
    return contents


def _hashed(contents: Mapping[bytes, bytes]) -> str:
    """SHA-256 over names and bytes, each after its length; empty if there is nothing."""
    total = hashlib.sha256()
    for name, data in sorted(contents.items()):
        total.update(len(name).to_bytes(8, "big") + name + len(data).to_bytes(8, "big") + data)
    return total.hexdigest() if contents else ""


def _bytes(path: Path) -> bytes:
    """A file's bytes; what turned into a link or a pipe since it was listed is refused and not waited for."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InputError(f"{_shown(str(path))} is a special file and cannot be trusted")
            return file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"{_shown(str(path))} cannot be read: {error.strerror}") from None


def _settings(path: Path) -> list[str]:
    import tomllib  # here, since most folders bring no settings along

    try:
        tree: Any = tomllib.loads(_bytes(path).decode("utf-8"))
    except (ValueError, RecursionError, InputError):
        return ["config.toml, which is not valid TOML"]
    waiting, lines = [("", tree)], []
    while waiting:
        prefix, node = waiting.pop(0)
        for key, entry in node.items():
            if isinstance(entry, dict):
                waiting.append((f"{prefix}{key}.", entry))
            else:
                lines.append(f"setting {_shown(prefix + key)} = {_shown(repr(entry))}")
    return lines


def _shown(text: str) -> str:
    """Text of the folder's author as it may be printed: no control characters, at most 200 characters."""
    plain = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return plain if len(plain) <= 200 else plain[:199] + "…"


def _key(workspace: Path) -> str:
    return ascii(str(workspace.resolve()))[1:-1]


def _entries(path: Path) -> dict[str, str]:
    """What is stored. A file that does not parse trusts nothing."""
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}


def _change(data_dir: Path, key: str, hashed: str | None) -> bool:
    """Set or remove one entry. Returns whether there was one."""
    path = data_dir / "trust.json"
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _locked(data_dir / "trust.lock"):
            entries = _entries(path)
            if path.exists() and not entries and path.read_bytes().strip() != b"{}":
                os.replace(path, path.with_suffix(f".damaged-{secrets.token_hex(3)}"))
            had = entries.pop(key, None) is not None
            if hashed is not None:
                entries[key] = hashed
            write_private(path, json.dumps(entries, indent=1, sort_keys=True))
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error.strerror}", "Nothing changed in what is trusted."
        ) from None
    return had


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Two processes that change trust at once do it one after the other."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_private(path: Path, text: str) -> None:
    """Write a file that only the person can read, whole or not at all. Raises OSError."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)

"""The sandbox of the file tools: the folder that a run works in, and nothing around it.

Every path is opened one component at a time, relative to the folder opened before it and never through a symbolic
link. So no link leads out, not even one that is put there between a check and its use. Only regular files are read
or replaced: a FIFO or a device is refused before it is opened, so it cannot hang a run.

What this does not cover:
- shell commands: they run with the person's own rights, so each one is asked about (tools/shell.py);
- hard links and mounts: a file that has a name inside the workspace is inside;
- other programs of the same person, who may rename the workspace itself or any folder above it;
- a reader that opens the path which `resolve` returned: it was checked then, not when it is opened;
- Windows, which has no opening relative to a folder.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from agent.errors import InputError, ToolError

READ_LIMIT = 10_000_000
"""Bytes of the largest file that is read whole."""
PROTECTED = frozenset({".git", ".apprentice", ".beads"})
"""Folders that a model may not write: hooks in git's and beads' and trust in ours would let it run what it likes."""
SKIPPED = frozenset(
    {".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache"}
)
"""Folders that listing and searching leave out."""
_KERNEL = ("/proc", "/sys", "/dev")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_Place = tuple[Path, tuple[str, ...]]


class Workspace:
    """A folder that tools may read and write, and some places outside that they may read.

    Args:
        root: the folder.
        readable: files or folders outside of it that the person typed, readable for this run.

    Raises:
        InputError: `root` is not a folder.
    """

    def __init__(self, root: Path, readable: Iterable[Path] = ()) -> None:
        self.root = Path(os.path.realpath(root))
        if not self.root.is_dir():
            raise InputError(f"the workspace {root} is not a folder", "Give a folder that exists with --workspace.")
        self._roots = (str(self.root), os.path.abspath(root))
        self._readable: dict[Path, Path] = {}
        self.hidden: Callable[[str], str] = lambda _: ""
        """What the person's policy says about a file by its path: "deny", "ask", or neither."""
        for path in readable:
            self.allow_reading(path)

    @property
    def readable(self) -> tuple[Path, ...]:
        """What is readable outside of the root, with its symbolic links followed."""
        return tuple(dict.fromkeys(self._readable.values()))

    def allow_reading(self, path: Path) -> None:
        """Make a file or folder outside of the root readable for this run. Only for paths that a person typed, and
        for files that the agent itself wrote. Links in `path` itself are followed, those below it are not.
        """
        real = Path(os.path.realpath(path))
        self._readable[real] = self._readable[Path(os.path.abspath(path))] = real

    def resolve(self, path: str, *, write: bool = False) -> Path:
        """The real path that a model's path names. It need not exist.

        Args:
            path: relative to the root; an absolute path is taken if it lies inside or is readable.
            write: whether it is to be written; then only the root counts, without its protected folders.

        Raises:
            ToolError: it leaves the workspace, passes through a link, or is neither a file nor a folder.
        """
        base, parts = self._locate(path, write)
        with _told(path), suppress(FileNotFoundError), _open_folder(base, parts[:-1]) as folder:
            if parts:
                _kind(parts[-1], folder, path)
        return base.joinpath(*parts)

    def relative(self, path: str | Path) -> str:
        """The path as a model writes it: relative to the root where it lies inside, else absolute."""
        spelled = str(path)
        for root in self._roots:
            if (parts := _below(spelled, root)) is not None:
                return os.sep.join(parts) or "."
        return spelled

    def open(self, path: str) -> BinaryIO:
        """Open a regular file for reading. Raises ToolError as `resolve` does, or if there is no such file."""
        base, parts = self._locate(path, write=False)
        with _told(path):
            if not parts:
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            with _open_folder(base, parts[:-1]) as folder:
                if stat.S_ISDIR(_kind(parts[-1], folder, path)):
                    raise IsADirectoryError(errno.EISDIR, "is a folder")
                file = os.fdopen(os.open(parts[-1], _FILE, dir_fd=folder), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # swapped since it was looked at
            file.close()
            raise ToolError(f"{path} is not a regular file")
        return file

    def read_text(self, path: str, limit: int = READ_LIMIT) -> str:
        """A file's text, line ends as they are. Raises ToolError if it is no UTF-8 text of at most `limit` bytes."""
        with self.open(path) as file, _told(path):
            data = file.read(limit + 1)
            size = max(len(data), os.fstat(file.fileno()).st_size)
        if len(data) > limit:
            raise ToolError(f"{path} has {size:,} bytes, more than the {limit:,} that can be read at once")
        if b"\0" in data:
            raise ToolError(f"{path} is a binary file, not text")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ToolError(f"{path} is not UTF-8 text: byte {error.start} does not fit") from None

    def write_text(self, path: str, text: str, *, own: bool = False) -> None:
        """Write a file as a whole or not at all, and make the folders that it needs.

        The text goes into a new file beside it, which then takes its name; an existing file's mode is kept.

        Args:
            path: relative to the root.
            text: all of it.
            own: the agent itself keeps the file, so it may lie in a protected folder; never for a model's path.

        Raises:
            ToolError: as `resolve` does, or the system refused (a full disk, a read-only folder); then what was
                there is untouched.
        """
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError:
            raise ToolError(f"{path} was not written: the text holds half a character (a lone surrogate)") from None
        self.write_bytes(path, data, own=own)

    def write_bytes(self, path: str, data: bytes, *, own: bool = False) -> None:
        """The same for bytes."""
        base, parts = self._locate(path, write=True, own=own)
        with _told(path):
            if not parts:
                raise IsADirectoryError(errno.EISDIR, "is a folder")
            with _open_folder(base, parts[:-1], make=True) as folder:
                _replace(parts[-1], folder, data, path)

    def walk(self, path: str = ".") -> Iterator[str]:
        """Every regular file under a folder (or the file itself), sorted, as a path that `open` takes.

        Links and the folders in SKIPPED are left out, as is what cannot be opened, and what a policy denies or asks
        about: a person says yes to such a file by its name only.
        """
        base, parts = self._locate(path, write=False)
        with _told(path), _open_folder(base, parts[:-1]) as folder:
            mode = _kind(parts[-1], folder, path) if parts else stat.S_IFDIR
        if not stat.S_ISDIR(mode):
            yield self.relative(base.joinpath(*parts))
            return
        waiting = [parts]
        while waiting:
            here = waiting.pop()
            files, folders = _entries(base, here)
            waiting += [(*here, name) for name in reversed(folders)]
            for name in files:
                found = self.relative(base.joinpath(*here, name))
                if not self.hidden(found):
                    yield found

    def _locate(self, path: str, write: bool, own: bool = False) -> _Place:
        """The folder to start from and the components below it. Lexical: links are refused while opening."""
        if "\0" in path or path.startswith("~/") or path == "~":
            raise ToolError(f"{path!r} is not a path inside the workspace")
        place = self._place(os.path.normpath(os.path.join(self.root, path)), write)
        if place is None:
            raise ToolError(f"{path} is outside the workspace", "Use a path relative to the workspace.")
        base, parts = place
        real = os.path.join(base, *parts)
        if any(_below(real, folder) is not None for folder in _KERNEL):
            raise ToolError(f"{path} belongs to the kernel and is not a file of the workspace")
        if write and not own and any(_folded(part) in PROTECTED for part in parts):
            raise ToolError(f"{path} lies in a folder that only a person may change")
        if self.hidden(self.relative(real)) == "deny":
            raise ToolError(f"{path} is not for tools: a policy rule denies it")
        return place

    def _place(self, target: str, write: bool) -> _Place | None:
        for root in self._roots:
            if (parts := _below(target, root)) is not None:
                return self.root, parts
        for spelled, real in {} if write else self._readable.items():
            if (parts := _below(target, str(spelled))) is not None:
                place = real.joinpath(*parts)
                base = real if real.is_dir() else real.parent
                return base, place.relative_to(base).parts
        return None


def _below(path: str, folder: str) -> tuple[str, ...] | None:
    """The components of a path below a folder, both absolute and normal; None if it lies elsewhere. Texts, since every
    call of a tool comes through here and pathlib takes ten times as long."""
    inside = folder if folder.endswith(os.sep) else folder + os.sep
    if path == folder:
        return ()
    return tuple(path[len(inside) :].split(os.sep)) if path.startswith(inside) else None


@contextmanager
def _open_folder(base: Path, parts: Iterable[str], make: bool = False) -> Iterator[int]:
    """Descend from a folder to another one below it, never through a link. Yields its descriptor."""
    here = os.open(base, _FOLDER)
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=here)
            if stat.S_ISLNK(os.stat(part, dir_fd=here, follow_symlinks=False).st_mode):
                raise OSError(errno.ELOOP, "")
            below = os.open(part, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _kind(name: str, folder: int, path: str) -> int:
    """The mode of a file or folder. Raises OSError if there is none, ToolError if it is anything else."""
    mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    if stat.S_ISLNK(mode):
        raise OSError(errno.ELOOP, "")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise ToolError(f"{path} is not a regular file but a device, a FIFO or a socket")
    return mode


def _replace(name: str, folder: int, data: bytes, path: str) -> None:
    """Write a new file in `folder` and give it the name."""
    try:
        mode: int | None = _kind(name, folder, path)
    except FileNotFoundError:
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    temporary = f".{secrets.token_hex(6)}.tmp"
    descriptor = os.open(temporary, _NEW, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            if mode is not None:
                os.fchmod(file.fileno(), mode & 0o777)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


def _entries(base: Path, parts: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The names of the regular files and of the folders to descend into, each sorted."""
    files: list[str] = []
    folders: list[str] = []
    with suppress(OSError), _open_folder(base, parts) as folder, os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            elif entry.is_file(follow_symlinks=False):
                files.append(entry.name)
    return sorted(files), sorted(name for name in folders if name not in SKIPPED)


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Turn what the system answers into a sentence for the model."""
    try:
        yield
    except UnicodeEncodeError:
        raise ToolError(f"{path!r} is not a path inside the workspace") from None
    except FileNotFoundError:
        raise ToolError(f"there is no file {path}", "list_files shows what there is.") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ToolError(f"{path} passes through a symbolic link, and links are not followed") from None
        if error.errno == errno.EISDIR:
            raise ToolError(f"{path} is a folder, not a file") from None
        raise ToolError(f"{path} cannot be used: {error.strerror or error}") from None


def _folded(name: str) -> str:
    """A name as a file system that ignores case and invisible characters may read it."""
    visible = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    return unicodedata.normalize("NFKC", visible).casefold()

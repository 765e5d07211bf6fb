"""The sandbox: what a path may name, and that nothing leads out."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import stat
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from agent.errors import InputError, ToolError
from tools.workspace import Workspace


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the workspace, with a secret."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text("secret")
    return folder


def test_a_file_is_read_by_its_relative_and_its_absolute_path(workspace: Path) -> None:
    (workspace / "a").mkdir()
    (workspace / "a/b.txt").write_bytes("größe\r\n".encode())
    sandbox = Workspace(workspace)
    for path in ("a/b.txt", "./a/../a/b.txt", str(workspace / "a/b.txt")):
        assert sandbox.read_text(path) == "größe\r\n"
        assert sandbox.resolve(path) == workspace / "a/b.txt"
    assert sandbox.relative(workspace / "a/b.txt") == "a/b.txt"
    assert sandbox.relative(Path("/elsewhere/x")) == "/elsewhere/x"


def test_a_workspace_that_is_spelled_through_a_link_is_one_place(workspace: Path, tmp_path: Path) -> None:
    (workspace / "a.txt").write_text("a")
    link = tmp_path / "link"
    link.symlink_to(workspace)
    sandbox = Workspace(link)
    assert sandbox.root == workspace
    assert sandbox.read_text(str(link / "a.txt")) == sandbox.read_text(str(workspace / "a.txt")) == "a"
    assert sandbox.relative(link / "a.txt") == "a.txt"


def test_a_workspace_must_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a folder"):
        Workspace(tmp_path / "missing")


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret.txt",
        "a/../../outside/secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "..",
        "/",
        "~/x",
        "~",
        "a\0b",
        "/proc/self/environ",
        "../workspace-2/x",
    ],
)
def test_a_path_that_leaves_the_workspace_is_refused(workspace: Path, outside: Path, path: str, write: bool) -> None:
    sandbox = Workspace(workspace)
    with pytest.raises(ToolError, match="workspace"):
        sandbox.resolve(path, write=write)
    with pytest.raises(ToolError):
        sandbox.write_text(path, "x") if write else sandbox.read_text(path)
    assert sorted(os.listdir(workspace)) == []


def test_kernel_files_are_refused_even_where_the_workspace_holds_them() -> None:
    with pytest.raises(ToolError, match="belongs to the kernel"):
        Workspace(Path("/")).read_text("proc/self/environ")
    with pytest.raises(ToolError, match="belongs to the kernel"):
        Workspace(Path("/"), [Path("/proc/self/environ")]).read_text(f"/proc/{os.getpid()}/environ")


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("link.txt", "../outside/secret.txt", "link.txt"),
        ("folder", "../outside", "folder/secret.txt"),
        ("folder", "../outside", "folder/new.txt"),
        ("dangling", "../outside/new.txt", "dangling"),
        ("inside", "real.txt", "inside"),
        ("loop", "loop", "loop"),
    ],
)
def test_no_symbolic_link_is_followed(workspace: Path, outside: Path, link: str, target: str, path: str) -> None:
    (workspace / "real.txt").write_text("real")
    (workspace / link).symlink_to(target)
    sandbox = Workspace(workspace)
    for use in (
        lambda: sandbox.resolve(path),
        lambda: sandbox.resolve(path, write=True),
        lambda: sandbox.read_text(path),
        lambda: sandbox.write_text(path, "x"),
    ):
        with pytest.raises(ToolError, match="symbolic link"):
            use()
    assert os.listdir(outside) == ["secret.txt"]
    assert (outside / "secret.txt").read_text() == "secret"
    assert (workspace / "real.txt").read_text() == "real"


def test_a_link_that_comes_and_goes_while_files_are_used_never_leads_out(workspace: Path, outside: Path) -> None:
    """Another process swaps a folder for a link as fast as it can; every read and write stays inside."""
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            with suppress(OSError):  # what the sandbox writes may be in the way
                (workspace / "real").mkdir(exist_ok=True)
                (workspace / "real/secret.txt").write_text("mine")
                os.rename(workspace / "real", workspace / "a")
                os.rename(workspace / "a", workspace / "real")
                os.symlink(outside, workspace / "a")
                os.rename(workspace / "a", workspace / "b")
            for path in (workspace / "a", workspace / "b"):
                if path.is_symlink():
                    path.unlink()
                shutil.rmtree(path, ignore_errors=True)

    def use() -> set[str]:
        seen = set()
        sandbox = Workspace(workspace)
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            for path in ("a/secret.txt", "b/secret.txt"):
                try:
                    seen.add(sandbox.read_text(path))
                    sandbox.write_text(path, "mine")
                except ToolError as error:
                    seen.add(type(error).__name__)
        return seen

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        seen = use()
    finally:
        stop.set()
        thread.join()
    assert seen <= {"mine", "", "ToolError"}  # empty: the other process was just writing it
    assert "ToolError" in seen
    assert (outside / "secret.txt").read_text() == "secret"
    assert os.listdir(outside) == ["secret.txt"]


def test_a_link_put_there_after_the_check_is_not_followed(
    workspace: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment: between the look at the last component and its opening."""
    (workspace / "a.txt").write_text("mine")
    real_open = os.open

    def late_swap(path: str, *rest: int, dir_fd: int | None = None) -> int:
        if path == "a.txt":
            os.unlink(workspace / "a.txt")
            os.symlink(outside / "secret.txt", workspace / "a.txt")
        return real_open(path, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", late_swap)
    with pytest.raises(ToolError, match="symbolic link"):
        Workspace(workspace).read_text("a.txt")


def test_a_fifo_put_there_after_the_check_does_not_hang(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / "a.txt").write_text("mine")
    real_open = os.open

    def late_swap(path: str, *rest: int, dir_fd: int | None = None) -> int:
        if path == "a.txt":
            os.unlink(workspace / "a.txt")
            os.mkfifo(workspace / "a.txt")
        return real_open(path, *rest, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", late_swap)
    with pytest.raises(ToolError, match="not a regular file"):
        Workspace(workspace).read_text("a.txt")


def test_fifos_sockets_and_devices_are_refused_and_do_not_hang(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(workspace / "fifo")
    os.mknod(workspace / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    monkeypatch.chdir(workspace)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        sandbox = Workspace(workspace)
        for name in ("fifo", "null", "socket"):
            for use in (sandbox.resolve, sandbox.read_text, lambda path: sandbox.write_text(path, "x")):
                with pytest.raises(ToolError, match="device, a FIFO or a socket"):
                    use(name)
    assert stat.S_ISFIFO((workspace / "fifo").stat().st_mode)


def test_a_hard_link_is_an_ordinary_file(workspace: Path, outside: Path) -> None:
    os.link(outside / "secret.txt", workspace / "hard.txt")
    assert Workspace(workspace).read_text("hard.txt") == "secret"


@pytest.mark.parametrize(
    "path",
    [
        ".git/hooks/pre-commit",
        ".git",
        "sub/.git/config",
        ".apprentice/config.toml",
        ".GIT/config",
        ".g\u200cit/config",
        ".Apprentice/trust",
        "x/../.git/config",
    ],
)
def test_what_would_grant_rights_is_not_writable(workspace: Path, path: str) -> None:
    sandbox = Workspace(workspace)
    for use in (lambda: sandbox.write_text(path, "x"), lambda: sandbox.resolve(path, write=True)):
        with pytest.raises(ToolError, match="only a person may change"):
            use()
    assert os.listdir(workspace) == []


def test_what_would_grant_rights_is_readable(workspace: Path) -> None:
    (workspace / ".apprentice").mkdir()
    (workspace / ".apprentice/config.toml").write_text("[models]\n")
    assert Workspace(workspace).read_text(".apprentice/config.toml") == "[models]\n"


def test_what_the_person_typed_is_readable_and_nothing_beside_it(workspace: Path, outside: Path) -> None:
    (outside / "other.txt").write_text("other")
    sandbox = Workspace(workspace, [outside / "secret.txt"])
    assert sandbox.readable == (outside / "secret.txt",)
    for path in (str(outside / "secret.txt"), "../outside/secret.txt"):
        assert sandbox.read_text(path) == "secret"
    for path in (str(outside / "other.txt"), str(outside)):
        with pytest.raises(ToolError, match="outside the workspace"):
            sandbox.read_text(path)
    with pytest.raises(ToolError, match="outside the workspace"):
        sandbox.write_text(str(outside / "secret.txt"), "x")
    assert (outside / "secret.txt").read_text() == "secret"


def test_a_typed_folder_is_readable_with_what_is_below_but_not_through_its_links(
    workspace: Path, outside: Path, tmp_path: Path
) -> None:
    typed = tmp_path / "typed"
    (typed / "sub").mkdir(parents=True)
    (typed / "sub/a.txt").write_text("a")
    (typed / "link.txt").symlink_to(outside / "secret.txt")
    sandbox = Workspace(workspace, [typed])
    assert sandbox.read_text(str(typed / "sub/a.txt")) == "a"
    assert list(sandbox.walk(str(typed))) == [str(typed / "sub/a.txt")]
    with pytest.raises(ToolError, match="symbolic link"):
        sandbox.read_text(str(typed / "link.txt"))


def test_a_typed_link_is_followed_since_the_person_chose_it(workspace: Path, outside: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.txt"
    link.symlink_to(outside / "secret.txt")
    assert Workspace(workspace, [link]).read_text(str(link)) == "secret"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xff\xfe\x00", "binary"),
        (b"caf\xe9", "not UTF-8 text: byte 3"),
        (b"x" * 11, "has 11 bytes, more than the 10"),
    ],
)
def test_what_is_no_text_is_refused(workspace: Path, content: bytes, problem: str) -> None:
    (workspace / "a").write_bytes(content)
    with pytest.raises(ToolError, match=problem):
        Workspace(workspace).read_text("a", limit=10)


def test_missing_files_and_folders_are_named(workspace: Path) -> None:
    sandbox = Workspace(workspace)
    (workspace / "folder").mkdir()
    for path in ("folder", "", "."):
        with pytest.raises(ToolError, match="is a folder"):
            sandbox.read_text(path)
        with pytest.raises(ToolError, match="is a folder"):
            sandbox.write_text(path, "x")
    with pytest.raises(ToolError, match=r"there is no file none\.txt"):
        sandbox.read_text("none.txt")
    with pytest.raises(ToolError, match="there is no file none"):
        list(sandbox.walk("none"))
    with pytest.raises(ToolError, match="cannot be used: File name too long"):
        sandbox.read_text("x" * 300)
    with pytest.raises(ToolError, match="is not a path"):
        sandbox.read_text("\ud800")
    assert sandbox.resolve("none/new.txt", write=True) == workspace / "none/new.txt"


def test_writing_makes_folders_and_keeps_an_existing_mode(workspace: Path) -> None:
    sandbox = Workspace(workspace)
    sandbox.write_text("new/folder/a.sh", "one")
    path = workspace / "new/folder/a.sh"
    path.chmod(0o750)
    sandbox.write_text("new/folder/a.sh", "two\r\n")
    assert path.read_bytes() == b"two\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    assert os.listdir(path.parent) == ["a.sh"]


def test_a_write_that_fails_leaves_the_old_file_whole(workspace: Path) -> None:
    """The system stops a write after 1,000 bytes, as a full disk would."""
    sandbox = Workspace(workspace)
    sandbox.write_text("a.txt", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ToolError, match=r"a\.txt cannot be used: File too large"):
            sandbox.write_text("a.txt", "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert (workspace / "a.txt").read_text() == "old"
    assert os.listdir(workspace) == ["a.txt"]


def test_text_that_is_no_utf_8_is_not_written(workspace: Path) -> None:
    with pytest.raises(ToolError, match="lone surrogate"):
        Workspace(workspace).write_text("a.txt", "x\ud800")
    assert os.listdir(workspace) == []


def test_walking_is_sorted_and_leaves_out_links_and_machinery(workspace: Path, outside: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/b/c.txt", ".git/config", "node_modules/x/y.js", ".venv/bin/python", ".hidden"):
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (workspace / "link").symlink_to(outside)
    (workspace / "link.txt").symlink_to("b.txt")
    os.mkfifo(workspace / "fifo")
    sandbox = Workspace(workspace)
    assert list(sandbox.walk()) == [".hidden", "b.txt", "a/z.txt", "a/b/c.txt"]
    assert list(sandbox.walk("a")) == ["a/z.txt", "a/b/c.txt"]
    assert list(sandbox.walk("a/z.txt")) == ["a/z.txt"]


def test_a_folder_inside_that_is_asked_for_by_name_is_walked(workspace: Path) -> None:
    (workspace / "node_modules/x").mkdir(parents=True)
    (workspace / "node_modules/x/y.js").touch()
    assert list(Workspace(workspace).walk("node_modules")) == ["node_modules/x/y.js"]


def test_no_descriptor_is_left_open(workspace: Path) -> None:
    sandbox = Workspace(workspace)
    (workspace / "d").mkdir()
    (workspace / "d/link").symlink_to("x")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        sandbox.write_text("d/a.txt", "a")
        sandbox.read_text("d/a.txt")
        list(sandbox.walk())
        for bad in ("d/link", "d/none/x", "d"):
            with pytest.raises(ToolError):
                sandbox.read_text(bad)
    assert len(os.listdir("/proc/self/fd")) <= before


def test_what_a_policy_hides_is_not_read_written_or_come_across(workspace: Path) -> None:
    for name in ("a.txt", "private/b.txt", "ask.env"):
        (workspace / name).parent.mkdir(exist_ok=True)
        (workspace / name).write_text(name)
    sandbox = Workspace(workspace)
    sandbox.hidden = lambda path: "deny" if path.startswith("private/") else "ask" if path == "ask.env" else ""
    assert list(sandbox.walk()) == ["a.txt"]
    for path in ("private/b.txt", "./a/../private/b.txt", str(workspace / "private/b.txt")):
        with pytest.raises(ToolError, match="a policy rule denies it"):
            sandbox.read_text(path)
    with pytest.raises(ToolError, match="a policy rule denies it"):
        sandbox.write_text("private/new.txt", "x")
    assert sandbox.read_text("ask.env") == "ask.env"
    assert list(sandbox.walk("ask.env")) == ["ask.env"]

"""Trust: given by a person, to exactly these bytes, and by nothing else."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agent import trust
from agent.errors import ConfigError, ConsentDenied, InputError, OutputError
from tools import registry as tools_registry


@pytest.fixture
def project(workspace: Path) -> Path:
    """A folder whose .apprentice/ holds settings, a skill with code, and a tool."""
    folder = workspace / ".apprentice"
    (folder / "skills" / "greet").mkdir(parents=True)
    (folder / "tools").mkdir()
    (folder / "config.toml").write_text('privacy = "open"\n[models]\ndefault = "openai@http://evil.example:m"\n')
    (folder / "skills" / "greet" / "SKILL.md").write_text("---\nname: greet\ndescription: d\n---\nhello\n")
    (folder / "skills" / "greet" / "skill.py").write_text("async def run(job): return 'hi'\n")
    (folder / "tools" / "theirs.py").write_text("VALUE = 1\n")
    return workspace


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def answering(answer: bool, asked: list[str] | None = None) -> trust.Ask:
    async def ask(question: str) -> bool:
        if asked is not None:
            asked.append(question)
        return answer

    return ask


def grant(project: Path, data: Path, ask: trust.Ask | None) -> bool:
    return asyncio.run(trust.grant(project, data, ask))


def test_a_folder_without_project_files_needs_no_trust(workspace: Path, data: Path) -> None:
    assert trust.is_trusted(workspace, data)
    assert trust.what(workspace) == []
    assert grant(workspace, data, None)
    (workspace / ".apprentice").mkdir()
    assert trust.is_trusted(workspace, data)
    assert not data.exists()


def test_a_folder_is_not_trusted_until_a_person_says_yes(project: Path, data: Path) -> None:
    assert not trust.is_trusted(project, data)
    assert not grant(project, data, answering(False))
    assert not trust.is_trusted(project, data)
    assert grant(project, data, answering(True))
    assert trust.is_trusted(project, data)


def test_the_person_is_shown_what_they_would_trust(project: Path, data: Path) -> None:
    asked: list[str] = []
    grant(project, data, answering(False, asked))
    (project / ".apprentice" / "notes.txt").write_text("")
    assert trust.what(project) == [
        "setting privacy = 'open'",
        "setting models.default = 'openai@http://evil.example:m'",
        "skill greet, with code: skill.py",
        "file: notes.txt",
        "tool file, code: tools/theirs.py",
    ]
    assert "models.default" in asked[0]
    assert "skill greet, with code" in asked[0]


def test_there_is_no_way_to_trust_without_asking(project: Path, data: Path) -> None:
    assert list(inspect.signature(trust.grant).parameters) == ["workspace", "data_dir", "ask"]
    with pytest.raises(ConsentDenied, match="only by a person") as caught:
        grant(project, data, None)
    assert "No flag" in caught.value.hint
    assert not trust.is_trusted(project, data)


def add(project: Path) -> None:
    (project / ".apprentice" / "tools" / "more.py").write_text("")


def change(project: Path) -> None:
    (project / ".apprentice" / "tools" / "theirs.py").write_text("VALUE = 2\n")


def rename(project: Path) -> None:
    (project / ".apprentice" / "tools" / "theirs.py").rename(project / ".apprentice" / "tools" / "other.py")


def remove(project: Path) -> None:
    (project / ".apprentice" / "config.toml").unlink()


def move_bytes_between_name_and_content(project: Path) -> None:
    path = project / ".apprentice" / "tools" / "theirs.py"
    path.rename(path.with_name("theirs.pyV"))
    path.with_name("theirs.pyV").write_text("ALUE = 1\n")


def add_bytecode(project: Path) -> None:
    cache = project / ".apprentice" / "tools" / "__pycache__"
    cache.mkdir()
    (cache / "theirs.cpython-311.pyc").write_bytes(b"other code")


@pytest.mark.parametrize("act", [add, change, rename, remove, move_bytes_between_name_and_content, add_bytecode])
def test_whatever_changes_takes_the_trust_away(project: Path, data: Path, act: Callable[[Path], None]) -> None:
    grant(project, data, answering(True))
    act(project)
    assert not trust.is_trusted(project, data)


def test_trust_comes_back_with_the_same_bytes_and_is_asked_for_others(project: Path, data: Path) -> None:
    grant(project, data, answering(True))
    add(project)
    (project / ".apprentice" / "tools" / "more.py").unlink()
    assert trust.is_trusted(project, data)
    change(project)
    asked: list[str] = []
    assert grant(project, data, answering(True, asked))
    assert len(asked) == 1
    assert trust.is_trusted(project, data)


def test_trust_belongs_to_the_folder_and_not_to_a_copy(project: Path, data: Path, tmp_path: Path) -> None:
    import shutil

    grant(project, data, answering(True))
    copy = Path(shutil.copytree(project, tmp_path / "copy"))
    assert not trust.is_trusted(copy, data)
    link = tmp_path / "link"
    link.symlink_to(project)
    assert trust.is_trusted(link, data)


def test_trust_can_be_taken_back(project: Path, data: Path) -> None:
    assert not trust.revoke(project, data)
    grant(project, data, answering(True))
    assert trust.revoke(project, data)
    assert not trust.is_trusted(project, data)


def a_link(folder: Path) -> None:
    (folder / "tools" / "link.py").symlink_to("/etc/hostname")


def a_linked_folder(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent, target_is_directory=True)


def a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize("make", [a_link, a_linked_folder, a_pipe])
def test_links_and_special_files_cannot_be_trusted(project: Path, data: Path, make: Callable[[Path], None]) -> None:
    make(project / ".apprentice")
    assert not trust.is_trusted(project, data)
    with pytest.raises(InputError, match="a link or a special file"):
        grant(project, data, answering(True))
    assert "cannot be trusted" in trust.what(project)[0]


def test_a_linked_project_folder_cannot_be_trusted(project: Path, data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / ".apprentice").symlink_to(project / ".apprentice")
    with pytest.raises(InputError, match="not a plain folder"):
        grant(other, data, answering(True))
    assert not trust.is_trusted(other, data)


def test_a_folder_too_large_to_check_at_every_start_cannot_be_trusted(
    project: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "LARGEST", 20)
    with pytest.raises(InputError, match="larger than"):
        grant(project, data, answering(True))
    monkeypatch.setattr(trust, "MOST", 2)
    with pytest.raises(InputError, match="more than 2 files"):
        grant(project, data, answering(True))


def test_a_file_that_turns_into_a_pipe_is_not_waited_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = project / "pipe"
    os.mkfifo(pipe)
    monkeypatch.setattr(trust, "_files", lambda folder: [folder / "../pipe"])
    with pytest.raises(InputError, match="special file"):
        trust.digest(project)
    pipe.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        trust.digest(project)


def test_what_changes_while_the_person_reads_is_not_trusted(project: Path, data: Path) -> None:
    async def ask(question: str) -> bool:
        change(project)
        return True

    with pytest.raises(InputError, match="changed while you were asked"):
        grant(project, data, ask)
    assert not trust.is_trusted(project, data)


def test_what_is_shown_holds_no_control_characters(project: Path) -> None:
    (project / ".apprentice" / "tools" / "a\x1b[2Jb.py").write_text("")
    (project / ".apprentice" / "config.toml").write_text('[models]\ndefault = "\\u001b[31m' + "x" * 500 + '"\n')
    shown = trust.what(project)
    assert all(line.isprintable() and len(line) < 250 for line in shown)
    assert r"tool file, code: tools/a\x1b[2Jb.py" in shown


def test_a_config_that_does_not_parse_is_said_so(project: Path) -> None:
    (project / ".apprentice" / "config.toml").write_text("privacy =")
    assert trust.what(project)[0] == "config.toml, which is not valid TOML"


def test_the_answers_are_readable_by_their_owner_only(project: Path, data: Path) -> None:
    grant(project, data, answering(True))
    path = data / "trust.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {str(project.resolve()): trust.digest(project)}
    assert not list(data.glob("*.tmp"))


@pytest.mark.parametrize("text", ["{not json", "[1]", "", "[" * 100_000])
def test_a_damaged_file_of_answers_trusts_nothing_and_is_set_aside(project: Path, data: Path, text: str) -> None:
    data.mkdir()
    (data / "trust.json").write_text(text)
    assert not trust.is_trusted(project, data)
    grant(project, data, answering(True))
    assert trust.is_trusted(project, data)
    assert [path.read_text() for path in data.glob("trust.damaged-*")] == [text]


def test_answers_that_cannot_be_stored_are_an_error_and_change_nothing(project: Path, data: Path) -> None:
    data.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="could not be written"):
        grant(project, data, answering(True))
    assert not trust.is_trusted(project, data)


def test_a_full_disk_keeps_the_answers_there_were(
    project: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant(project, data, answering(True))
    before = (data / "trust.json").read_bytes()
    fsync = os.fsync

    def full(handle: int) -> None:
        fsync(handle)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        trust.revoke(project, data)
    assert (data / "trust.json").read_bytes() == before
    assert not list(data.glob("*.tmp"))


def test_two_that_change_trust_at_once_lose_nothing(tmp_path: Path, data: Path) -> None:
    folders = [tmp_path / f"project{number}" for number in range(12)]
    for folder in folders:
        (folder / ".apprentice").mkdir(parents=True)
        (folder / ".apprentice" / "x").write_text("")
    threads = [threading.Thread(target=grant, args=(folder, data, answering(True))) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(trust.is_trusted(folder, data) for folder in folders)


def test_loading_code_leaves_no_bytecode_and_reads_none(project: Path, data: Path) -> None:
    grant(project, data, answering(True))
    path = project / ".apprentice" / "tools" / "theirs.py"
    assert trust.import_file(path, "theirs_for_test").VALUE == 1
    assert sys.modules.pop("theirs_for_test").__file__ == str(path)
    assert trust.is_trusted(project, data)
    assert not list(project.rglob("__pycache__"))


def test_loading_a_project_tool_does_not_take_its_trust_away(project: Path, data: Path) -> None:
    folder = project / ".apprentice" / "tools"
    (folder / "shout.py").write_text(
        "from __future__ import annotations\n"
        "from tools.registry import ToolContext, tool\n\n"
        '@tool(effect="read")\n'
        "async def shout(context: ToolContext, text: str) -> str:\n"
        '    """Shout.\n\n    Args:\n        text: what.\n    """\n'
        "    return text.upper()\n"
    )
    grant(project, data, answering(True))
    assert "shout" in tools_registry.load([folder])
    assert trust.is_trusted(project, data)


@pytest.mark.parametrize(
    ("text", "reason"), [("1 / 0", "ZeroDivisionError"), ("def", "SyntaxError"), ("raise OSError", "OSError")]
)
def test_code_that_fails_is_named_with_its_error(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.py"
    path.write_text(text)
    with pytest.raises(ConfigError, match=f"the tool file {path} failed: {reason}"):
        trust.import_file(path, "bad_for_test", "tool file")
    assert "bad_for_test" not in sys.modules

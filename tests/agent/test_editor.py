"""The person's editor on a text: what comes back, and what is said when it cannot be had."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from agent import editor
from agent.errors import ConfigError, InputError


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> object:
    """Makes an editor of shell commands the person's own."""

    def chosen(commands: str) -> None:
        path = tmp_path / "an editor.sh"
        path.write_text(commands + "\n")
        monkeypatch.setenv("VISUAL", f"sh '{path}'")

    return chosen


def test_the_edited_text_comes_back_and_no_file_stays(use: object, tmp_path: Path) -> None:
    use(f'echo "$1" > {tmp_path}/name; printf " and more" >> "$1"')  # type: ignore[operator]
    assert editor.edit("ä text", ".json") == "ä text and more"
    name = (tmp_path / "name").read_text().strip()
    assert name.endswith(".json")
    assert not Path(name).exists()


def test_editor_is_used_where_visual_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "true")
    assert editor.edit("same") == "same"


def test_interrupts_work_as_before_afterwards(use: object) -> None:
    use("true")  # type: ignore[operator]
    before = signal.getsignal(signal.SIGINT)
    editor.edit("text")
    assert signal.getsignal(signal.SIGINT) is before


def test_an_editor_that_fails_changes_nothing(use: object) -> None:
    use("exit 3")  # type: ignore[operator]
    with pytest.raises(InputError, match="ended with exit code 3"):
        editor.edit("text")


def test_a_text_that_is_not_utf8_is_refused(use: object) -> None:
    use(r"""printf '\377' > "$1" """)  # type: ignore[operator]
    with pytest.raises(InputError, match="not UTF-8"):
        editor.edit("text")


@pytest.mark.parametrize(("command", "said"), [("no-such-editor-1", "does not start"), ("vi 'x", "is no command")])
def test_an_editor_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch, command: str, said: str) -> None:
    monkeypatch.setenv("VISUAL", command)
    with pytest.raises(ConfigError, match=said):
        editor.edit("text")


def test_without_any_editor_the_person_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as raised:
        editor.edit("text")
    assert raised.value.hint.startswith("Set EDITOR")

"""The versions of a specialist: added whole, promoted only past the gate, rolled back byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agent import config, registry, specialists
from agent.errors import InputError, ModelUnavailable, OutputError, UsageError
from agent.registry import Specialist
from agent.settings import Settings

SETTINGS = Settings()


def add(tmp_path: Path, content: str = "weights", name: str = "tester", **card: Any) -> Specialist:
    weights = tmp_path / "weights.gguf"
    weights.write_text(content)
    files = {"adapter.gguf": weights, "adapter.safetensors": weights}
    return specialists.add(name, {"skill": "annotate", "base": {"sha256": "b"}, **card}, files, SETTINGS)


def allow(found: Specialist, rival: Specialist | None = None, **verdict: Any) -> None:
    """Put the gate's yes beside a version's card, with other entries where they are given."""
    said = {"promote": True, "reasons": ["better"], "adapter_sha256": found.adapter_sha256}
    said["incumbent"] = rival.adapter_sha256 if rival else ""
    (found.folder / "gate.json").write_text(json.dumps(said | verdict))


def promote(found: Specialist, incumbent: Specialist | None = None) -> Specialist:
    allow(found, incumbent)
    return specialists.promote(found.name, found.version, SETTINGS)


def serving(name: str = "tester") -> str:
    found = registry.promoted(name, SETTINGS)
    return found.version if found else ""


def test_versions_count_from_one_and_are_candidates(tmp_path: Path) -> None:
    first, second = add(tmp_path), add(tmp_path, "others")
    assert (first.version, second.version) == ("1", "2")
    assert second.card["status"] == "candidate"
    assert second.card["adapter"]["sha256"] == hashlib.sha256(b"others").hexdigest()
    assert sorted(path.name for path in second.folder.iterdir()) == [
        "adapter.gguf",
        "adapter.safetensors",
        "card.json",
    ]
    assert serving() == ""


def test_a_version_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    missing = {"adapter.gguf": tmp_path / "nowhere.gguf"}
    with pytest.raises(InputError, match=r"nowhere\.gguf cannot be read"):
        specialists.add("tester", {}, missing, SETTINGS)
    folder = config.data_dir(SETTINGS) / "specialists"
    assert list(folder.iterdir()) == []
    folder.rmdir()
    folder.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="cannot be written"):
        add(tmp_path)


@pytest.mark.parametrize("name", ["", "../up", "A", "a b", ".hidden"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no specialist's name"):
        add(tmp_path, name=name)


def test_two_processes_that_add_at_once_make_two_versions(tmp_path: Path) -> None:
    threads = [threading.Thread(target=add, args=(tmp_path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = [found.version for found in registry.specialists(SETTINGS) if found.name == "tester"]
    assert made == [str(number) for number in range(1, 9)]


def test_ten_comes_after_nine(tmp_path: Path) -> None:
    for number in range(11):
        add(tmp_path, str(number))
    assert [found.version for found in registry.specialists(SETTINGS)][-3:] == ["9", "10", "11"]


def test_promotion_moves_the_pointer_and_both_cards(tmp_path: Path) -> None:
    first, second = add(tmp_path, "one"), add(tmp_path, "two")
    promote(first)
    assert serving() == "1"
    promote(second, first)
    assert serving() == "2"
    cards = [registry.specialist("tester", version, SETTINGS).card["status"] for version in "12"]
    assert cards == ["retired", "promoted"]
    moves = [(line["action"], line["from"], line["to"]) for line in specialists.history("tester", SETTINGS)]
    assert moves == [("promote", "", "1"), ("promote", "1", "2")]


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (None, "it was not measured"),
        ({"promote": False, "reasons": ["it is worse", "too few rows"]}, "it is worse; too few rows"),
        ({"adapter_sha256": "another"}, "specialist:tester@2 is not promoted"),
        ({"incumbent": "another"}, "against another version than the one that serves now"),
    ],
)
def test_nothing_is_promoted_without_the_gates_yes(tmp_path: Path, verdict: dict[str, Any] | None, said: str) -> None:
    first = promote(add(tmp_path, "one"))
    second = add(tmp_path, "two")
    if verdict is not None:
        allow(second, first, **verdict)
    with pytest.raises(UsageError) as raised:
        specialists.promote("tester", "2", SETTINGS)
    assert said in raised.value.message
    assert serving() == "1"


def test_what_serves_is_not_promoted_again(tmp_path: Path) -> None:
    first = promote(add(tmp_path))
    with pytest.raises(UsageError, match="serves already"):
        promote(first, first)


def test_weights_that_changed_since_they_were_added_are_not_promoted(tmp_path: Path) -> None:
    found = add(tmp_path)
    allow(found)
    before = found.adapter.stat()
    found.adapter.write_text("WEIGHTS")
    os.utime(found.adapter, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ModelUnavailable, match="is not the file that the card"):
        specialists.promote("tester", "1", SETTINGS)
    found.adapter.unlink()
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        specialists.promote("tester", "1", SETTINGS)


def test_rollback_restores_the_bytes_one_promotion_at_a_time(tmp_path: Path) -> None:
    found: list[Specialist] = []
    for number in range(3):
        found.append(add(tmp_path, f"weights {number}"))
        promote(found[-1], found[-2] if number else None)
    for number in (1, 0):
        back = specialists.rollback("tester", SETTINGS)
        assert back is not None
        assert back.adapter.read_text() == f"weights {number}"
        assert back.adapter_sha256 == hashlib.sha256(f"weights {number}".encode()).hexdigest()
        assert serving() == back.version
    assert specialists.rollback("tester", SETTINGS) is None
    assert serving() == ""
    with pytest.raises(UsageError, match="nothing to go back from"):
        specialists.rollback("tester", SETTINGS)


def test_after_a_rollback_and_another_promotion_the_way_back_is_the_new_one(tmp_path: Path) -> None:
    one, two, three = (add(tmp_path, text) for text in ("one", "two", "three"))
    promote(one)
    promote(two, one)
    specialists.rollback("tester", SETTINGS)
    promote(three, one)
    back = specialists.rollback("tester", SETTINGS)
    assert back is not None
    assert back.version == "1"


def test_a_rollback_to_weights_that_changed_is_refused(tmp_path: Path) -> None:
    one, two = add(tmp_path, "one"), add(tmp_path, "two")
    promote(one)
    promote(two, one)
    one.adapter.write_text("changed")
    with pytest.raises(ModelUnavailable, match="is not the file"):
        specialists.rollback("tester", SETTINGS)
    assert serving() == "2"


def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Specialist:
    """A version 0 that a skill brings along."""
    folder = tmp_path / "skills" / "test" / "specialist"
    folder.mkdir(parents=True)
    (folder / "adapter.gguf").write_text("zero")
    hashes = {"adapter": {"sha256": hashlib.sha256(b"zero").hexdigest()}, "base": {"sha256": "b"}}
    (folder / "card.json").write_text(json.dumps({"name": "tester", "status": "promoted", **hashes}))
    monkeypatch.setattr(registry, "BUILT_IN_SKILLS", tmp_path / "skills")
    return registry.specialist("tester", "0", SETTINGS)


def test_before_the_first_promotion_stands_the_shipped_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zero = shipped(tmp_path, monkeypatch)
    written = (zero.folder / "card.json").read_text()
    one = promote(add(tmp_path, "one"), zero)
    assert specialists.status(zero, SETTINGS) == "retired"
    back = specialists.rollback("tester", SETTINGS)
    assert back is not None
    assert (back.version, serving()) == ("0", "0")
    assert specialists.status(zero, SETTINGS) == "promoted"
    assert specialists.status(registry.specialist("tester", one.version, SETTINGS), SETTINGS) == "retired"
    assert (zero.folder / "card.json").read_text() == written, "what is shipped is never written to"
    with pytest.raises(UsageError, match="is shipped with the program"):
        specialists.remove("tester", "0", SETTINGS)


def test_what_serves_is_not_removed(tmp_path: Path) -> None:
    promote(add(tmp_path))
    with pytest.raises(UsageError, match="serves and is kept"):
        specialists.remove("tester", "1", SETTINGS)


def test_a_number_is_not_given_twice(tmp_path: Path) -> None:
    add(tmp_path)
    second = add(tmp_path)
    specialists.remove("tester", second.version, SETTINGS)
    assert not second.folder.exists()
    assert add(tmp_path).version == "3"


def test_the_way_back_leaves_out_what_was_removed(tmp_path: Path) -> None:
    one, two, three = (add(tmp_path, text) for text in ("one", "two", "three"))
    promote(one)
    promote(two, one)
    promote(three, two)
    specialists.remove("tester", "2", SETTINGS)
    back = specialists.rollback("tester", SETTINGS)
    assert back is not None
    assert back.version == "1"


def test_a_process_killed_between_record_and_pointer_changed_nothing(tmp_path: Path) -> None:
    one, two = add(tmp_path, "one"), add(tmp_path, "two")
    promote(one)
    allow(two, one)
    code = f"""
import os, signal
from agent import specialists
from agent.settings import Settings
write = specialists._write
def die(path, text):
    if path.name == "promoted":
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, text)
specialists._write = die
specialists.promote("tester", {two.version!r}, Settings())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == -signal.SIGKILL
    assert serving() == "1"
    assert specialists.status(registry.specialist("tester", "2", SETTINGS), SETTINGS) == "candidate"
    promote(two, one)
    back = specialists.rollback("tester", SETTINGS)
    assert back is not None
    assert back.version == "1"


def test_a_card_that_a_killed_process_left_behind_does_not_deceive(tmp_path: Path) -> None:
    one, two = add(tmp_path, "one"), add(tmp_path, "two")
    promote(one)
    promote(two, one)
    specialists.update_card(registry.specialist("tester", "1", SETTINGS), status="promoted")
    assert specialists.status(registry.specialist("tester", "1", SETTINGS), SETTINGS) == "retired"


def test_a_deployment_is_told_until_another_version_takes_its_place(tmp_path: Path) -> None:
    one, two = add(tmp_path, "one"), add(tmp_path, "two")
    specialists.record_deployment(one, {"address": "ollama:tester"}, SETTINGS)
    specialists.record_deployment(one, {"address": "openai@http://h/v1:t"}, SETTINGS)
    specialists.record_deployment(two, {"address": "ollama:tester"}, SETTINGS)
    assert [entry["address"] for entry in specialists.deployments(one, SETTINGS)] == ["openai@http://h/v1:t"]
    assert [entry["address"] for entry in specialists.deployments(two, SETTINGS)] == ["ollama:tester"]


def test_a_full_disk_keeps_what_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = add(tmp_path, "one"), add(tmp_path, "two")
    promote(one)
    allow(two, one)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        specialists.promote("tester", "2", SETTINGS)
    assert serving() == "1"
    with pytest.raises(OutputError, match="No space left"):
        add(tmp_path, "three")
    assert sorted(path.name for path in one.folder.parent.iterdir() if path.is_dir()) == ["1", "2"]
    assert [path.name for path in one.folder.parent.parent.iterdir()] == ["tester"]

"""The life of a specialist's versions: added as a candidate, promoted, retired, rolled back to, removed.

    DATA/specialists/NAME/
        VERSION/           1, 2, ...: card.json, adapter.gguf, adapter.safetensors; gate.json once it was judged
        promoted           the version that serves; without it, the shipped version 0, if there is one
        history.jsonl      every move of that pointer and every removal, oldest first
        deployments.jsonl  where a version was put to work besides here

Weights never change after a version was added. The pointer alone decides what serves: the next run reads it, in any
process. It is moved by `promote`, which wants a gate's yes for exactly these weights against exactly the version that
serves, and by `rollback`, which goes back to what served before.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from agent import registry
from agent.config import data_dir
from agent.errors import InputError, ModelUnavailable, OutputError, UsageError
from agent.registry import Specialist
from agent.settings import Settings

WEIGHTS = ("adapter.gguf", "adapter.safetensors")
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def folder_of(name: str, settings: Settings) -> Path:
    """Where the user's versions of a specialist stand. Raises UsageError if no specialist can be called so."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no specialist's name", "Use small letters, digits and hyphens.")
    return data_dir(settings) / "specialists" / name


def add(name: str, card: Mapping[str, Any], weights: Mapping[str, Path], settings: Settings) -> Specialist:
    """Add a version as a candidate. It appears whole or not at all.

    Args:
        name: of the specialist.
        card: as card.json will hold it; name, version, status, created and the adapter's hash are set here.
        weights: the files to copy: `adapter.gguf`, and `adapter.safetensors` where there is one.
        settings: say where the data folder is.

    Raises:
        InputError: a file is not there.
        OutputError: the folder cannot be written.
    """
    parent = folder_of(name, settings)
    staged = parent.parent / f".{name}.{secrets.token_hex(4)}"
    try:
        staged.mkdir(parents=True)
        for kind, source in weights.items():
            _copy(source, staged / kind)
        with _locked(parent):
            version = _next_version(parent)
            adapter = {**card.get("adapter", {}), "sha256": file_sha256(staged / "adapter.gguf")}
            entries = {"name": name, "version": version, "adapter": adapter, "status": "candidate", "created": now()}
            write_json(staged / "card.json", {**card, **entries})
            os.rename(staged, parent / str(version))
    except OSError as error:
        raise OutputError(f"{parent} cannot be written: {error.strerror}", "Nothing was added.") from None
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return registry.specialist(name, str(version), settings)


def promote(name: str, version: str, settings: Settings) -> Specialist:
    """Let a version serve from the next run on.

    Raises:
        UsageError: no gate said yes to these weights against the version that serves now.
        ModelUnavailable: there is no such version, or its weights are not what its card says.
    """
    parent = folder_of(name, settings)
    with _locked(parent):
        chosen = registry.specialist(name, version, settings)
        incumbent = registry.promoted(name, settings)
        if incumbent is not None and incumbent.version == chosen.version:
            raise UsageError(f"{chosen.address} serves already")
        check_bytes(chosen)
        _check_gate(chosen, incumbent)
        _serve(parent, incumbent, chosen, "promote")
    return registry.specialist(name, version, settings)


def rollback(name: str, settings: Settings) -> Specialist | None:
    """Let what served before serve again; None if nothing did.

    Raises:
        UsageError: nothing was promoted, so that there is nothing to go back from.
        ModelUnavailable: the weights of the version before are not what its card says.
    """
    parent = folder_of(name, settings)
    with _locked(parent):
        incumbent = registry.promoted(name, settings)
        if incumbent is None or incumbent.version == "0":
            raise UsageError(f"no version of {name} was promoted, so there is nothing to go back from")
        stack = _served(parent, incumbent.version)
        there = {found.version: found for found in registry.specialists(settings) if found.name == name}
        before = next((there[version] for version in reversed(stack[:-1]) if version in there), there.get("0"))
        if before is not None:
            check_bytes(before)
        _serve(parent, incumbent, before, "rollback")
    return registry.promoted(name, settings)


def remove(name: str, version: str, settings: Settings) -> None:
    """Remove a version for good. Its number is not given again.

    Raises:
        UsageError: it serves, or it is the shipped one.
    """
    parent = folder_of(name, settings)
    with _locked(parent):
        chosen = registry.specialist(name, version, settings)
        serving = registry.promoted(name, settings)
        if chosen.version == "0":
            raise UsageError(f"{chosen.address} is shipped with the program and is kept")
        if serving is not None and serving.version == version:
            raise UsageError(f"{chosen.address} serves and is kept", f"First `apprentice registry rollback {name}`.")
        aside = parent.parent / f".{name}.{secrets.token_hex(4)}"
        _append(parent / "history.jsonl", {"action": "remove", "version": version})
        os.rename(chosen.folder, aside)
        shutil.rmtree(aside, ignore_errors=True)


def status(found: Specialist, settings: Settings) -> str:
    """candidate, promoted or retired. The pointer decides; the card may be a killed process behind."""
    serving = registry.promoted(found.name, settings)
    if serving is not None and serving.version == found.version:
        return "promoted"
    written = str(found.card.get("status", "candidate"))
    return "retired" if written == "promoted" or found.version == "0" else written


def history(name: str, settings: Settings) -> list[dict[str, Any]]:
    """What was promoted, rolled back and removed, oldest first."""
    return _lines(folder_of(name, settings) / "history.jsonl")


def record_deployment(found: Specialist, entry: Mapping[str, Any], settings: Settings) -> None:
    """Note where a version was put to work. A later one at the same address replaces it in `deployments`."""
    parent = folder_of(found.name, settings)
    with _locked(parent):
        _append(parent / "deployments.jsonl", {"version": found.version, **entry})


def deployments(found: Specialist, settings: Settings) -> list[dict[str, Any]]:
    """Where this version was put to work and no other has taken its place since, oldest first."""
    latest = {entry["address"]: entry for entry in _lines(folder_of(found.name, settings) / "deployments.jsonl")}
    return [entry for entry in latest.values() if entry["version"] == found.version]


def check_bytes(found: Specialist) -> None:
    """Read the adapter anew and compare it with its card. Raises ModelUnavailable if it is another file, or gone."""
    try:
        same = file_sha256(found.adapter) == found.adapter_sha256
    except OSError as error:
        raise ModelUnavailable(
            f"{found.adapter} cannot be read: {error.strerror}", "Copy that file back there."
        ) from None
    if not same:
        raise ModelUnavailable(
            f"{found.adapter} is not the file that the card of {found.address} was written for", "Restore that file."
        )


def update_card(found: Specialist, **entries: Any) -> None:
    """Change entries of a version's card. The shipped version's is left as it is."""
    if found.version != "0":
        card = json.loads((found.folder / "card.json").read_text("utf-8"))
        write_json(found.folder / "card.json", {**card, **entries})


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    _write(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, read now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def now() -> str:
    """The time, UTC, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _serve(parent: Path, before: Specialist | None, after: Specialist | None, action: str) -> None:
    """Move the pointer. It is moved last but for the cards: a process that dies earlier has changed nothing."""
    source, target = (found.version if found else "" for found in (before, after))
    _append(parent / "history.jsonl", {"action": action, "from": source, "to": target})
    if target in ("", "0"):  # without a pointer the shipped version serves
        (parent / "promoted").unlink(missing_ok=True)
    else:
        _write(parent / "promoted", target + "\n")
    if before is not None:
        update_card(before, status="retired")
    if after is not None:
        update_card(after, status="promoted")


def _served(parent: Path, serving: str) -> list[str]:
    """The versions that served one after the other and were not rolled back, the present one last.

    A line holds only if what it led to is where the next one began: else a process died between it and the pointer.
    """
    moves = [entry for entry in _lines(parent / "history.jsonl") if "to" in entry]
    begins = [*(entry["from"] for entry in moves[1:]), serving]
    stack: list[str] = []
    for entry, after in zip(moves, begins, strict=True) if moves else ():
        if entry["to"] == after and entry["action"] == "promote":
            stack = [*(stack or [entry["from"]]), entry["to"]]
        elif entry["to"] == after:
            stack = stack[: stack.index(after) + 1] if after in stack else []
    return stack


def _check_gate(chosen: Specialist, incumbent: Specialist | None) -> None:
    try:
        verdict = json.loads((chosen.folder / "gate.json").read_text("utf-8"))
    except (OSError, ValueError):
        verdict = {}
    if not verdict.get("promote") or verdict.get("adapter_sha256") != chosen.adapter_sha256:
        reasons = "; ".join(verdict.get("reasons", [])) or "it was not measured"
        raise UsageError(
            f"{chosen.address} is not promoted: {reasons}",
            "Measure it on unseen cases with `apprentice evals run`, then `apprentice registry promote ... --report`.",
        )
    if verdict.get("incumbent") != (incumbent.adapter_sha256 if incumbent else ""):
        raise UsageError(
            f"{chosen.address} was measured against another version than the one that serves now",
            "Measure it against that one.",
        )


def _next_version(parent: Path) -> int:
    taken = [int(path.name) for path in parent.iterdir() if path.name.isdecimal()]
    for entry in _lines(parent / "history.jsonl"):
        taken += [int(entry[key]) for key in ("from", "to", "version") if str(entry.get(key, "")).isdecimal()]
    return max(taken, default=0) + 1


def _copy(source: Path, target: Path) -> None:
    try:
        data = source.open("rb")
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}", "Give a whole training run's folder.") from None
    with data, target.open("wb") as copy:
        shutil.copyfileobj(data, copy)
        copy.flush()
        os.fsync(copy.fileno())


def _lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; a last line that a killed process left unfinished is passed over."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for line in path.read_text("utf-8").splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
    return found


def _append(path: Path, entry: Mapping[str, Any]) -> None:
    """Add a line, through a whole new file: these are short, and an unfinished line would swallow the next."""
    before = path.read_text("utf-8") if path.exists() else ""
    _write(path, before + json.dumps({"time": now(), **entry}, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}", "What was there before still holds.") from None
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(parent: Path) -> Iterator[None]:
    """Two processes that change one specialist do it one after the other."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(parent / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise OutputError(
            f"{parent} cannot be written: {error.strerror}", "Set data_dir to a folder you can."
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

"""A workspace with beads, as these tests need it."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

from agent.beads.claims import Claims
from agent.beads.jsonl import BeadsFile
from agent.messages import Json
from tests.program import ROOT
from tools.workspace import Workspace


def line(name: str, *on: str, **more: Any) -> Json:
    """A bead as it stands in the file, which waits for others."""
    links = [{"issue_id": name, "depends_on_id": other, "type": "blocks"} for other in on]
    return {
        "_type": "issue",
        "id": name,
        "title": f"do {name}",
        "status": "open",
        "priority": 2,
        "dependencies": links,
        **more,
    }


def write(folder: Path, *lines: Json) -> Path:
    """Put beads into a folder; the file's path."""
    path = folder / ".beads" / "issues.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    return path


def read(folder: Path) -> dict[str, Json]:
    """The beads of a folder's file, by id."""
    lines = (folder / ".beads" / "issues.jsonl").read_text("utf-8").splitlines()
    return {entry["id"]: entry for entry in map(json.loads, lines) if "id" in entry}


def opened(folder: Path, *, heartbeat: float = 15, stale: float = 300) -> BeadsFile:
    """The beads of a folder, through their file."""
    workspace = Workspace(folder)
    return BeadsFile(workspace, Claims(workspace, heartbeat, stale))


def bd_program(folder: Path) -> str:
    """A program that answers as bd does, in a folder of its own; its path."""
    program = folder / "bin" / "bd"
    program.parent.mkdir()
    script = shlex.quote(str(ROOT / "tests" / "wire" / "bd.py"))
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -S {script} "$@"\n')
    program.chmod(0o755)
    return str(program)

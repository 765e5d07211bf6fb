"""Four real servers, listed and called through the loop as a person starts it: time and git from PyPI, two from npm."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import config
from tests.program import calling, record, run, script

GIT = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]


def needs_node(program: str) -> str:
    """The path of a server from npm; the test is left out where it is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(
            f"{program} is not on the PATH (npm install -g @modelcontextprotocol/{program.removeprefix('mcp-')})"
        )
    return found


def configure(**servers: list[str]) -> None:
    """Write servers into the person's settings: a name and the words of a command."""
    lines = []
    for name, (command, *arguments) in servers.items():
        lines += [f"[mcp.servers.{name}]", f"command = {json.dumps(command)}", f"args = {json.dumps(arguments)}", ""]
    target = config.config_dir() / "config.toml"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("\n".join(lines))


def observed(workspace: Path, allowed: str, *calls: tuple[str, dict[str, Any]], task: str = "do it") -> list[str]:
    """What a scripted model that makes these calls is answered, as it is on record."""
    model = script(workspace, [*(calling(name, **given) for name, given in calls), {"content": "done"}])
    effect = f"mcp:{allowed}"  # a second call comes after content from outside, the answer to the first
    flags = ("--allow", effect, "--allow-after-outside", effect, "--quiet")
    done = run(task, "--model", model, *flags, cwd=workspace)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    return [message.content for message in record().messages if message.role == "tool"]


def test_the_time_server_is_listed_and_called(workspace: Path) -> None:
    configure(time=[sys.executable, "-P", "-m", "mcp_server_time", "--local-timezone", "UTC"])
    asked = {"source_timezone": "Asia/Tokyo", "time": "12:30", "target_timezone": "UTC"}
    (converted,) = observed(workspace, "time", ("time__convert_time", asked))
    assert json.loads(converted)["target"]["datetime"].split("T")[1] == "03:30:00+00:00"
    offered = {schema["function"]["name"] for schema in record().tools}
    assert {"time__get_current_time", "time__convert_time"} <= offered


def test_the_git_server_is_listed_and_called(workspace: Path) -> None:
    (workspace / "a.txt").write_text("one\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "the first"]):
        subprocess.run([*GIT, *words], cwd=workspace, check=True)
    (workspace / "a.txt").write_text("two\n")
    configure(git=[sys.executable, "-P", "-m", "mcp_server_git", "--repository", str(workspace)])
    given = {"repo_path": str(workspace)}
    status, log, refused = observed(
        workspace,
        "git",
        ("git__git_status", given),
        ("git__git_log", given | {"max_count": 1}),
        ("git__git_log", {"max_count": "many"}),
    )
    assert re.search(r"modified: +a\.txt", status)
    assert "the first" in log
    assert "was not run" in refused


def test_the_everything_server_is_listed_and_called(workspace: Path) -> None:
    configure(everything=[needs_node("mcp-server-everything"), "stdio"])
    total, image, found, listed = observed(
        workspace,
        "everything",
        ("everything__get-sum", {"a": 2, "b": 40}),
        ("everything__get-tiny-image", {}),
        ("find_tools", {"query": "read a resource"}),
        ("everything__read_resource", {}),
        task="get the sum of two numbers and a tiny image",
    )
    assert "42" in total
    assert "[image, image/png, " in image
    assert "everything__read_resource" in found
    assert "demo://" in listed


def test_the_filesystem_server_is_listed_and_called(workspace: Path) -> None:
    (workspace / "note.txt").write_text("the note\n")
    configure(files=[needs_node("mcp-server-filesystem"), str(workspace)])
    text, refused = observed(
        workspace,
        "files",
        ("files__read_text_file", {"path": str(workspace / "note.txt")}),
        ("files__read_text_file", {"path": "/etc/passwd"}),
        task="read the text file note.txt",
    )
    assert text == "the note\n"
    assert "denied" in refused.lower()

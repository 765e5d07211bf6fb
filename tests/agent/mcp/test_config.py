"""Where MCP servers come from, and what of their definitions is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent import config
from agent.errors import ConfigError
from agent.mcp.config import Server, secrets, servers
from agent.settings import Settings


def project(folder: Path, listed: Any) -> Path:
    (folder / ".mcp.json").write_text(json.dumps({"mcpServers": listed}))
    return folder


def settings(**definitions: Any) -> Settings:
    return Settings.model_validate({"mcp": {"servers": definitions}})


def test_a_project_brings_servers_along_in_the_form_that_projects_share(tmp_path: Path) -> None:
    listed = {
        "files": {"command": "npx", "args": ["-y", "x"], "env": {"A": "b"}, "disabled": False},
        "far": {"type": "http", "url": "https://example.org/mcp", "headers": {"X-Key": "${KEY}"}},
    }
    found, problems = servers(settings(), project(tmp_path, listed))
    assert problems == []
    assert (found["files"].shown, found["files"].project) == ("A=b npx -y x", True)
    assert found["far"].shown == "https://example.org/mcp X-Key: ${KEY}"


def test_the_persons_own_server_goes_before_the_projects_of_the_same_name(tmp_path: Path) -> None:
    found, _ = servers(settings(files={"command": "mine"}), project(tmp_path, {"files": {"command": "theirs"}}))
    assert (found["files"].definition.command, found["files"].project) == ("mine", False)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"type": "sse", "url": "http://x/sse"}, "streamable HTTP"),
        ({}, "either a command or a url"),
        ({"command": "a", "url": "http://x"}, "either a command or a url"),
        ({"command": 7}, "command"),
        ("npx", "not an object"),
    ],
)
def test_an_entry_that_cannot_be_used_is_told_and_left_out(tmp_path: Path, entry: Any, said: str) -> None:
    found, problems = servers(settings(), project(tmp_path, {"good": {"command": "a"}, "odd": entry}))
    assert list(found) == ["good"]
    assert len(problems) == 1
    assert said in problems[0]


def test_a_name_that_could_pass_for_another_tool_is_left_out(tmp_path: Path) -> None:
    found, problems = servers(settings(), project(tmp_path, {"a b": {"command": "a"}, "": {"command": "a"}}))
    assert (found, len(problems)) == ({}, 2)


@pytest.mark.parametrize("text", ["[]", "{", '{"mcpServers": 3}', "[" * 100_000, "x" * 1_100_000])
def test_a_project_file_that_is_none_is_told_and_left_out(tmp_path: Path, text: str) -> None:
    (tmp_path / ".mcp.json").write_text(text)
    found, problems = servers(settings(), tmp_path)
    assert (found, len(problems)) == ({}, 1)


def test_variables_are_filled_in_at_the_start_and_never_before(tmp_path: Path) -> None:
    definition = {"command": "x", "args": ["${HERE:-none}", "${A}${B:-}"], "env": {"TOKEN": "${A}"}}
    server = servers(settings(one=definition), tmp_path)[0]["one"]
    filled = server.filled({"A": "secret"})
    assert (filled.args, filled.env) == (["none", "secret"], {"TOKEN": "secret"})
    assert "secret" not in server.shown
    with pytest.raises(ConfigError, match="needs the variable A, which is not set"):
        server.filled({})


def test_a_change_of_the_definition_changes_its_digest_and_a_projects_holds_in_its_folder_alone(tmp_path: Path) -> None:
    one = settings(a={"command": "x"}).mcp.servers["a"]
    other = settings(a={"command": "x", "args": ["y"]}).mcp.servers["a"]
    kinds = [
        Server("a", one, tmp_path),
        Server("a", other, tmp_path),
        Server("b", one, tmp_path),
        Server("a", one, tmp_path, project=True),
        Server("a", one, tmp_path / "b", project=True),
    ]
    assert len({server.digest for server in kinds}) == len(kinds)
    assert Server("a", one, tmp_path).digest == Server("a", one, tmp_path / "b").digest


def test_secrets_written_into_a_definition_are_known_and_references_are_none(tmp_path: Path) -> None:
    definition = {"url": "http://x", "headers": {"Authorization": "Bearer abcdefgh"}, "client_secret": "cdefghij"}
    command = {"command": "x", "env": {"API_KEY": "bcdefghi", "TOKEN": "${TOKEN}"}}
    found, _ = servers(settings(one=definition, two=command), tmp_path)
    assert secrets(found) == {
        "ONE_AUTHORIZATION": "abcdefgh",
        "ONE_CLIENT_SECRET": "cdefghij",
        "TWO_API_KEY": "bcdefghi",
    }


def test_an_untrusted_projects_settings_bring_no_server(tmp_path: Path) -> None:
    folder = tmp_path / ".apprentice"
    folder.mkdir()
    (folder / "config.toml").write_text('[mcp.servers.evil]\ncommand = "evil"\nenv = { A = "b" }\n')
    loaded, notices = config.load(tmp_path, trusted=False)
    assert loaded.mcp.servers == {}
    assert any("mcp.servers.evil.command is ignored" in notice for notice in notices)
    assert list(config.load(tmp_path, trusted=True)[0].mcp.servers) == ["evil"]


def test_a_misspelt_key_of_a_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no setting 'mcp.servers.a.comand'"):
        config.check({"mcp": {"servers": {"a": {"comand": "x"}}}}, "here")

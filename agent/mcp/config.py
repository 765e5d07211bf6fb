"""Which MCP servers there are: the person's, from the settings, and those that a project's `.mcp.json` brings along.

`.mcp.json` is the form that projects share: {"mcpServers": {"NAME": {"command": …, "args": […], "env": {…}}}}, or a
`url` with `headers`. Keys that others put there are left alone. Texts may say `${VAR}` or `${VAR:-default}`; they are
filled in when a server is started, so that what a person approves, and what is hashed, holds no secret.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.errors import ConfigError
from agent.settings import MCP_NAME, McpServer, Settings

PROJECT_FILE = ".mcp.json"
LARGEST = 1_000_000
"""Bytes of a project file that is read."""
VARIABLE = re.compile(r"\$\{([A-Za-z_]\w*)(?::-([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Server:
    """One server as it is written down.

    Args:
        name: begins the names of its tools.
        definition: how to reach it, its variables not filled in.
        root: the workspace.
        project: whether the project's file brings it along, so that a person has to approve it.
    """

    name: str
    definition: McpServer
    root: Path
    project: bool = False

    @property
    def digest(self) -> str:
        """SHA-256 of the definition: what an approval holds for. A project's holds in its own folder alone."""
        text = json.dumps(self.definition.model_dump(), sort_keys=True)
        place = str(self.root) if self.project else ""
        return hashlib.sha256(f"{self.name}\0{place}\0{text}".encode()).hexdigest()

    @property
    def shown(self) -> str:
        """The definition in one line, as a person reads it before approving it."""
        given = self.definition
        parts = [given.url, *(f"{name}: {text}" for name, text in given.headers.items())] if given.url else []
        parts += [f"{name}={text}" for name, text in given.env.items()]
        parts += [given.command, *given.args] if given.command else []
        return " ".join(parts) + (f" (in {given.cwd})" if given.cwd else "")

    @property
    def folder(self) -> Path:
        """Where its process runs."""
        return self.root / os.path.expanduser(self.definition.cwd)

    def filled(self, environment: Mapping[str, str]) -> McpServer:
        """The definition with its variables filled in.

        Raises:
            ConfigError: a variable is not set and has no default.
        """
        return McpServer.model_validate(_filled(self.definition.model_dump(), environment, self.name))


def servers(settings: Settings, root: Path) -> tuple[dict[str, Server], list[str]]:
    """The servers by name, and a sentence for each that cannot be used.

    Args:
        settings: the person's; a server of theirs goes before one of the same name in the project's file.
        root: the workspace, where `.mcp.json` may lie.
    """
    brought, problems = _project_servers(root)
    own = {name: Server(name, definition, root) for name, definition in settings.mcp.servers.items()}
    return brought | own, problems


def secrets(servers: Mapping[str, Server]) -> dict[str, str]:
    """What definitions hold that may be secret, as variables: secrets are known by their variables' names."""
    return {
        f"{server.name}_{name}".upper(): text
        for server in servers.values()
        for name, text in (
            *server.definition.env.items(),
            *((name, value.rpartition(" ")[2]) for name, value in server.definition.headers.items()),
            ("client_secret", server.definition.client_secret),
            ("private_key", server.definition.private_key),
        )
        if text and not VARIABLE.search(text)
    }


def _project_servers(root: Path) -> tuple[dict[str, Server], list[str]]:
    path = root / PROJECT_FILE
    if not path.is_file() or path.is_symlink():
        return {}, []
    try:
        if path.stat().st_size > LARGEST:
            return {}, [f"{path} is larger than {LARGEST:,} bytes and is left out"]
        listed = json.loads(path.read_bytes())["mcpServers"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}, [f'{path} cannot be read as {{"mcpServers": {{…}}}} and is left out']
    found: dict[str, Server] = {}
    problems = []
    for name, entry in listed:
        try:
            found[name] = Server(name, _definition(name, entry), root, project=True)
        except ConfigError as error:
            problems.append(f"{path}: the MCP server {name!r} is left out: {error.message}")
    return found, problems


def _definition(name: str, entry: Any) -> McpServer:
    """One entry of the file. Raises ConfigError if it is none that can be used."""
    if not re.fullmatch(MCP_NAME, name):
        raise ConfigError("a name has up to 32 letters, digits, - and _")
    if not isinstance(entry, dict):
        raise ConfigError("it is not an object")
    if entry.get("type") == "sse":
        raise ConfigError("the transport sse has been replaced by streamable HTTP, which this client speaks")
    try:
        return McpServer.model_validate({key: entry[key] for key in McpServer.model_fields if key in entry})
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}") from None


def _filled(value: Any, environment: Mapping[str, str], name: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(entry, environment, name) for key, entry in value.items()}
    if isinstance(value, list):
        return [_filled(entry, environment, name) for entry in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        found = environment.get(match[1]) or match[2]
        if found is None:
            raise ConfigError(
                f"the MCP server {name} needs the variable {match[1]}, which is not set",
                f"Set it, or give a default: ${{{match[1]}:-…}}.",
            )
        return found

    return VARIABLE.sub(fill, value)


def environment() -> Mapping[str, str]:
    """Where `${VAR}` is looked up."""
    return os.environ

"""What a person approved of each MCP server: its definition, and its tools as they were described then.

DATA/mcp/HASH.json, one file a definition. It is also the list of tools that a run starts with, so that a server's
process starts only when one of its tools is called: what is not as approved is not offered, and is refused when called.
The person's own servers are approved by being in their settings, with the tools of the first listing; a project's are
approved at a terminal (`apprentice mcp approve`), by nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from agent import trust
from agent.errors import OutputError
from agent.mcp.config import Server
from agent.messages import Json


@dataclass(frozen=True, slots=True)
class Listed:
    """One tool as its server describes it.

    Args:
        name: the server's name for it.
        description: what the model reads.
        parameters: its JSON schema as models get it.
        digest: SHA-256 of the name, the description and the schema as the server sent them.
        reads: the server says that it changes nothing.
    """

    name: str
    description: str
    parameters: Json
    digest: str
    reads: bool = False


@dataclass(frozen=True, slots=True)
class Approval:
    """What was approved of one server.

    Args:
        tools: by the server's name for them.
        resources: whether it has resources to read.
    """

    tools: dict[str, Listed] = field(default_factory=dict)
    resources: bool = False

    def differences(self, tools: dict[str, Listed]) -> list[str]:
        """The names of the tools in this listing that are new, or not as they were approved."""
        return [name for name, one in tools.items() if name not in self.tools or self.tools[name].digest != one.digest]


def tool_digest(name: str, description: str, schema: Json) -> str:
    """The hash by which a tool is known again. Raises RecursionError or ValueError if the schema is no JSON."""
    return hashlib.sha256(json.dumps([name, description, schema], sort_keys=True).encode()).hexdigest()


def read(data_dir: Path, server: Server) -> Approval | None:
    """What was approved of a server; None if nothing was, or its definition has changed since."""
    try:
        stored = json.loads(_place(data_dir, server).read_bytes())
        if stored["definition"] != server.digest:
            return None
        return Approval({name: Listed(**entry) for name, entry in stored["tools"].items()}, stored["resources"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None  # a damaged file approves nothing


def write(data_dir: Path, server: Server, approval: Approval) -> None:
    """Remember an approval. Raises OutputError if that could not be stored."""
    stored = {"server": server.name, "definition": server.digest, **asdict(approval)}
    write_private(_place(data_dir, server), json.dumps(stored))


def revoke(data_dir: Path, server: Server) -> None:
    """Forget what was approved of a server."""
    _place(data_dir, server).unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file that only the person can read, whole or not at all. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        trust.write_private(path, text)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error.strerror}", "Nothing changed in what is approved."
        ) from None


def _place(data_dir: Path, server: Server) -> Path:
    return data_dir / "mcp" / f"{server.digest[:32]}.json"

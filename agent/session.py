"""What a process holds while it works: settings, store, consent, tools, skills, and the models it has opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agent import registry
from agent.consent import Consent
from agent.messages import Event
from agent.models.base import Model
from agent.personal import Placeholders
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.mcp.tools import Servers
    from agent.traces import TraceStore
    from skills.registry import Skill
    from tools.registry import Tool, ToolContext
    from tools.workspace import Workspace

Emit = Callable[[Event], None]


@dataclass(slots=True)
class Session:
    """Everything that a run needs and does not own."""

    settings: Settings
    store: TraceStore
    emit: Emit
    consent: Consent
    workspace: Workspace
    tools: dict[str, Tool]
    tool_context: ToolContext
    skills: dict[str, Skill]
    data_dir: Path
    stdin: str | None = None
    """What was piped in; None if nothing was. Never searched for commands."""
    options: dict[str, str] = field(default_factory=dict)
    """A skill's flags from the command line, e.g. {"format": "jsonl"}."""
    models: dict[str, Model] = field(default_factory=dict)
    mcp: Servers | None = None
    """The MCP servers; None where none is configured."""
    source: str = ""
    """Who asks, as the runs' label `source`: `mcp:NAME` for another agent; empty for the person at this machine."""
    placeholders: Placeholders = field(default_factory=Placeholders)
    """What stands for personal data and secrets in the prompts of models that are not local."""

    def model(self, address: str) -> Model:
        """The opened model at this address. Raises ModelUnavailable or UsageError if the address is no good."""
        if address not in self.models:
            self.models[address] = registry.open_model(address, self.settings)
        return self.models[address]

    async def close(self) -> None:
        """Close every model and MCP server, then the store."""
        try:
            for model in self.models.values():
                await model.close()
            if self.mcp:
                await self.mcp.close()
        finally:
            self.store.close()

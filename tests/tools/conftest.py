"""What tools are given in these tests: a workspace, somebody who says yes or no, and a loopback web server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.consent import Consent
from agent.redact import Redactor
from agent.settings import Settings
from tests.tools.page_server import PageServer
from tools.registry import ToolContext
from tools.workspace import Workspace

MakeContext = Callable[..., ToolContext]


@pytest.fixture
def make_context(workspace: Path, tmp_path: Path) -> MakeContext:
    """Makes a ToolContext: `make_context(output_limit=200, yes=True, allowed={"shell"})`."""

    def make(
        *,
        yes: bool = False,
        allowed: set[str] | None = None,
        ask: Any = None,
        local_only: bool = False,
        environment: Mapping[str, str] | None = None,
        outputs: Path | None = None,
        **tools: Any,
    ) -> ToolContext:
        return ToolContext(
            workspace=Workspace(workspace),
            consent=Consent(yes=yes, allowed=frozenset(allowed or ()), ask=ask, local_only=local_only),
            settings=Settings.model_validate({"tools": tools}),
            redactor=Redactor(environment or {}),
            outputs=outputs or tmp_path / "outputs",
            cache=tmp_path / "cache",
        )

    return make


@pytest.fixture
def server() -> Iterator[PageServer]:
    with PageServer() as running:
        yield running

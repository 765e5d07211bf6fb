"""`python -X importtime` proves that neither --help nor a local run imports what it does not need."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NEVER = {"torch", "transformers", "mcp", "openai", "datasets", "peft"}
SHORT = "We measured 12 rivers for 3 years. Salt rose by 4% where roads were near. We did not study lakes."


def imported(*arguments: str) -> set[str]:
    """The top-level modules that `python agent.py ARGUMENTS` imports."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "agent.py"), *arguments]
    environment = os.environ | {"APPRENTICE_ANNOTATE__RETRIES": "0", "APPRENTICE_ANNOTATE__MAX_MOVE_TOKENS": "24"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) > 50
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_help_imports_no_model_no_http_and_no_terminal_library() -> None:
    assert not imported("--help") & (NEVER | {"llama_cpp", "numpy", "httpx", "ollama", "rich", "pydantic", "sqlite3"})


@pytest.mark.llama
def test_a_local_run_imports_llama_cpp_and_none_of_the_heavy_ones() -> None:
    found = imported("--model", "local", f"/annotate {SHORT * 3}")
    assert "llama_cpp" in found
    assert not found & (NEVER | {"httpx", "ollama", "rich", "prompt_toolkit", "pypdf", "bs4", "pylatexenc", "pyarrow"})

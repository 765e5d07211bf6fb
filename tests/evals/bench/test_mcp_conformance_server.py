"""The script around the official MCP suite: what it counts as passed; and the suite itself where it is installed."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest
from mcp import Client

from evals.bench import mcp_conformance_server as bench

SUITE = """
import sys, httpx
if sys.argv[1] == "list":
    print("Server scenarios:")
    names = ("ping", "tools-call-error", "server-sse-polling", "silent")
    print("".join(f"  - {name} [2025-11-25]\\n" for name in names))
    sys.exit()
url, scenario = sys.argv[3], sys.argv[5]
asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25",
         "capabilities": {}, "clientInfo": {"name": "suite", "version": "1"}}}
name = httpx.post(url, json=asked, headers={"Accept": "application/json, text/event-stream"}).text
expected = "apprentice" if scenario == "ping" else "conformance fixture"
if scenario != "silent":
    failed = int(scenario == "server-sse-polling" or expected not in name)
    print(f"Passed: {1 - failed}/1, {failed} failed, 0 warnings")
"""
"""Stands in for the suite: it says that a scenario passed if the right one of the two servers answers."""


@pytest.fixture
def suite(tmp_path: Path) -> str:
    path = tmp_path / "suite.py"
    path.write_text(SUITE)
    return f"{sys.executable} {path}"


def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, list[str]]:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    return bench.main(), capsys.readouterr().out.splitlines()


def test_the_product_is_asked_what_it_can_answer_and_the_fixture_the_rest(
    suite: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, lines = told(capsys, monkeypatch, "--suite", suite)
    assert [line.split()[:2] for line in lines[:2]] == [["passed", "ping"], ["passed", "tools-call-error"]]
    assert lines[2].startswith("left out  server-sse-polling")
    assert lines[3].startswith("FAILED    silent"), "what does not say that it passed has failed"
    assert (lines[4], code) == ("2 of 4 scenarios passed", 1)


def test_what_is_left_out_with_a_reason_fails_nothing(
    suite: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, lines = told(capsys, monkeypatch, "--suite", suite, "--scenario", "ping", "--scenario", "server-sse-polling")
    assert code == 0
    assert lines[-1].startswith("left out: server-sse-polling: ")


def test_a_suite_that_hangs_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "suite.py"
    path.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(bench, "SECONDS", 0.2)
    assert not bench.judge(f"{sys.executable} {path}", "ping", "fixture", "http://127.0.0.1:1/mcp").good


def test_a_server_that_does_not_start_is_told(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("raise SystemExit('no such luck')")
    with pytest.raises(RuntimeError, match="no such luck"), bench.served(str(path)):
        pass


def test_the_fixtures_tools_go_through_our_own_code() -> None:
    """Their calls are runs on record: the result of the one that works in parts links to its run."""

    async def ask(url: str) -> tuple[list[str], str]:
        async with Client(url) as client:
            result = await client.call_tool("test_tool_with_progress", {})
            refused = await client.call_tool("test_error_handling", {})
            return [content.type for content in result.content], str(refused.content[0])

    with bench.served("-m", "tests.wire.mcp_fixture", "0") as url:
        kinds, refused = asyncio.run(ask(url))
    assert kinds == ["text", "resource_link"]
    assert "intentionally returns an error" in refused


@pytest.mark.skipif(not shutil.which("conformance"), reason="the official suite is not on the PATH (npm)")
def test_the_official_suite_passes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, lines = told(capsys, monkeypatch, "--suite", "conformance")
    assert code == 0, "\n".join(lines)
    assert any(line.startswith("31 of 32") for line in lines)

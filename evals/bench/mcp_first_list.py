"""How long until a stdio server's tools are listed: `python -m evals.bench.mcp_first_list [ROUNDS]`.

The SDK alone (connect, list, nothing else) against ours (connect, list, look for resources, hash and convert every
schema), in turns in fresh processes, the SDK's import left out of both. Then ours again with the list on disk, where no
server is started at all.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROUNDS = 9
SERVER = ["-m", "mcp_server_git", "--repository", "."]


async def sdk() -> float:
    """Seconds of the SDK's own client."""
    from mcp import Client, StdioServerParameters

    started = time.perf_counter()
    async with Client(StdioServerParameters(command=sys.executable, args=SERVER)) as client:
        tools = (await client.list_tools()).tools
        seconds = time.perf_counter() - started
    assert len(tools) > 5
    return seconds


async def ours(data: Path) -> float:
    """Seconds of ours, until the tools can be offered."""
    import mcp  # noqa: F401

    from agent.mcp.config import Server
    from agent.mcp.elicitation import Person
    from agent.mcp.tools import Servers
    from agent.settings import McpServer

    definition = McpServer(command=sys.executable, args=SERVER)
    server = Server("git", definition, Path.cwd())
    servers = Servers({"git": server}, data, Person(), lambda event: None)
    started = time.perf_counter()
    tools = await servers.tools()
    seconds = time.perf_counter() - started
    await servers.close()
    assert len(tools) > 5
    return seconds


def main(arguments: list[str]) -> None:
    """Print the medians of all rounds, and their ratio."""
    if arguments[:1] == ["one"]:
        print(asyncio.run(sdk() if arguments[1] == "sdk" else ours(Path(arguments[2]))))
        return
    taken: dict[str, list[float]] = {"sdk": [], "ours": [], "ours, known": []}
    for _ in range(int(arguments[0]) if arguments else ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            for kind, seconds in taken.items():
                command = [sys.executable, "-m", "evals.bench.mcp_first_list", "one", kind.split(",")[0], folder]
                seconds.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    for kind, seconds in taken.items():
        print(f"{kind:<12}{statistics.median(seconds):.4f} s  ({min(seconds):.4f} to {max(seconds):.4f})")
    print(f"ours / sdk  {statistics.median(taken['ours']) / statistics.median(taken['sdk']):.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])

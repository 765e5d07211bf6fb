"""What the agent costs beside its model: start-up, time to the first request, time of a step, memory.

`python -m evals.bench.overhead [--rounds 15]` runs each measurement in interleaved rounds with its baseline in the
same virtual environment, and prints medians and their ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
IMPORTS = [sys.executable, "-c", "import argparse, asyncio, json, sqlite3"]
HELP = [sys.executable, str(ROOT / "agent.py"), "--help"]
NOOP = '''
from tools.registry import ToolContext, tool


@tool(effect="read", concurrent=True)
async def noop(context: ToolContext, number: int) -> str:
    """Nothing.

    Args:
        number: any.
    """
    return f"the number is {number}"
'''
DISABLED = "read_file,write_file,edit_file,list_files,search_files,run_shell,fetch_url,arxiv"


os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a person's Python keeps what it compiled


def wall(command: list[str]) -> float:
    """Seconds of a whole process."""
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


class Server:
    """evals.bench.server in a process of its own."""

    def __init__(self, steps: int) -> None:
        command = [sys.executable, "-m", "evals.bench.server", str(steps)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}/v1"
        self.steps = steps

    def run(self, command: list[str]) -> tuple[float, float, float]:
        """Seconds to the first request, milliseconds a step, and peak memory in MiB of one client process."""
        home = Path(tempfile.mkdtemp())
        (home / "config" / "tools").mkdir(parents=True)
        (home / "config" / "tools" / "noop.py").write_text(NOOP)
        environment = os.environ | {
            "APPRENTICE_CONFIG_DIR": str(home / "config"),
            "APPRENTICE_DATA_DIR": str(home / "data"),
            "APPRENTICE_MODELS__CONTEXT": "100000000",
            "APPRENTICE_BUDGET__STEPS": "100000",
            "APPRENTICE_BUDGET__TOKENS": "1000000000",
            "APPRENTICE_TOOLS__DISABLED": DISABLED,
            "PYTHONPATH": str(ROOT),
        }
        started = time.time()
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home
        )
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        with urllib.request.urlopen(self.url.replace("/v1", "/times")) as answer:
            arrivals: list[float] = json.load(answer)
        if child.returncode or len(arrivals) != self.steps + 1:
            raise SystemExit(f"{command} ended with {child.returncode} after {len(arrivals)} requests")
        step = (arrivals[-1] - arrivals[0]) / self.steps * 1000 if self.steps else 0.0
        return arrivals[0] - started, step, usage.ru_maxrss / 1024

    def agent(self) -> list[str]:
        return [
            sys.executable,
            str(ROOT / "agent.py"),
            "go on until you are done",
            "--model",
            f"openai@{self.url}:bench",
        ]

    def bare(self) -> list[str]:
        return [sys.executable, "-P", "-m", "evals.bench.bare_httpx", self.url]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    wall(HELP), wall(IMPORTS)
    ours, base = zip(*[(wall(HELP), wall(IMPORTS)) for _ in range(rounds)], strict=True)
    show("--help", "s", ours, base, limit="ratio 2")
    for steps in (1, 50, 500):
        server = Server(steps)
        server.run(server.agent()), server.run(server.bare())
        pairs = [(server.run(server.agent()), server.run(server.bare())) for _ in range(rounds)]
        agent, bare = zip(*pairs, strict=True)
        if steps == 1:
            show("start to first request", "s", [run[0] for run in agent], [run[0] for run in bare], limit="ratio 2")
        else:
            name = f"a step, of {steps}"
            show(name, "ms", [run[1] for run in agent], [run[1] for run in bare], limit="difference 1 ms")
        show(f"peak memory, {steps} steps", "MiB", [run[2] for run in agent], [run[2] for run in bare])
        server.process.kill()
        server.process.wait()


def show(name: str, unit: str, ours: Sequence[float], base: Sequence[float], limit: str = "") -> None:
    a, b = median(ours), median(base)
    digits = 3 if unit == "s" else 2
    print(
        f"{name:<26} agent {a:.{digits}f} {unit}  baseline {b:.{digits}f} {unit}  ratio {a / b:.2f}  "
        f"difference {a - b:+.{digits}f} {unit}" + (f"  (at most: {limit})" if limit else ""),
        flush=True,
    )


if __name__ == "__main__":
    main()

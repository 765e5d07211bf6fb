"""How often the embedded model, held to a schema, gets through a task with tools.

    python -m evals.tool_task [--runs 50] [--model local]

Each run asks for a word that stands in one of the workspace's files. Counted are model turns, turns that the protocol
read as a valid action or answer, turns cut by their token limit (failures), calls whose arguments fit the tool's
schema, and runs that reached an answer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections import Counter
from pathlib import Path

from agent.cli import task_parser
from agent.commands.task import do, open_session
from agent.errors import ToolError
from agent.messages import Trajectory
from agent.session import Session
from tools.registry import validate

WORDS = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heron", "inlet", "jetty")


async def measure(runs: int, model: str) -> Counter[str]:
    """Do the runs one after another in a fresh workspace and store, and count."""
    with tempfile.TemporaryDirectory() as folder:
        root = workspace(Path(folder))
        os.environ |= {"APPRENTICE_DATA_DIR": folder, "APPRENTICE_MODELS__PROTOCOL": "json"}
        options = task_parser().parse_args(["-", "--model", model, "--workspace", str(root), "--max-steps", "4"])
        session = await open_session(options, lambda event: None, ask=None)
        try:
            for number in range(runs):
                await do(session, f"Which word stands in note{number % len(WORDS)}.txt?", model=model)
                print(".", end="", flush=True)
        finally:
            session.store.flush()
            records = list(session.store.each())
            await session.close()
    print()
    return count(records, session)


def workspace(folder: Path) -> Path:
    """A folder of notes, a word in each."""
    root = folder / "workspace"
    root.mkdir()
    for number, word in enumerate(WORDS):
        (root / f"note{number}.txt").write_text(f"The word of note {number} is {word}.\n")
    return root


def count(records: list[Trajectory], session: Session) -> Counter[str]:
    """What the records say."""
    counted: Counter[str] = Counter(runs=len(records))
    for number, run in enumerate(records):
        for message, detail in zip(run.messages, run.details, strict=True):
            if message.role != "assistant":
                continue
            counted["turns"] += 1
            counted["truncated"] += detail.finish_reason == "length"
            readable = [call for call in message.tool_calls if not call.malformed]
            counted["valid turns"] += len(readable) == len(message.tool_calls) and detail.finish_reason != "length"
            for call in readable:
                counted["calls"] += 1
                counted["calls that fit their schema"] += _fits(session, call.name, call.arguments)
        counted["reached an answer"] += run.outcome == "success"
        counted["named the word"] += WORDS[number % len(WORDS)] in run.messages[-1].content
        counted[f"ended: {run.reason}"] += 1
    return counted


def _fits(session: Session, name: str, arguments: dict[str, object]) -> bool:
    from skills.registry import reader

    tools = session.tools | {"read_skill_file": reader(session.skills)}
    try:
        validate(tools[name], arguments)
    except (KeyError, ToolError):
        return False
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--model", default="local")
    options = parser.parse_args()
    for name, number in asyncio.run(measure(options.runs, options.model)).items():
        print(f"{name:<40} {number}")


if __name__ == "__main__":
    main()

"""The command line: what it accepts, and how failures are told. The commands themselves are in agent/commands/."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = """examples:
  apprentice "/annotate paper.txt save to output.md"
  cat paper.txt | apprentice "/annotate -"
  apprentice "/annotate papers/ save to all.jsonl" --model local
  apprentice "which of these files mention RAG?" --model ollama:qwen3:8b
  apprentice chat
  apprentice traces show last

commands (each has its own --help):
  chat      talk in a REPL             traces    list, show, search, export, delete
  skills    what it knows to do        route     which model would take a task, and why
  tools     what a model may call      doctor    what is there, what is missing, how to fix it
  models    addresses and specialists  config    settings: show, set, trust
"""

COMMANDS = {
    "chat": "chat",
    "skills": "listings",
    "tools": "listings",
    "models": "listings",
    "route": "listings",
    "doctor": "listings",
    "config": "config",
    "traces": "traces",
}
"""Which file of agent/commands/ each command stands in."""


def main(argv: list[str] | None = None) -> None:
    """Run one command and leave the process with its exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    name = next((word for word in arguments if not word.startswith("-")), "")
    parser = command_parser(name) if name in COMMANDS and arguments[0] == name else task_parser()
    options = parser.parse_args(arguments[1:] if parser.prog.endswith(f" {name}") else arguments)
    if not hasattr(options, "run") and not options.task:
        parser.print_help()
        sys.exit(0)
    check_layout()
    sys.exit(told(options))


def told(options: argparse.Namespace) -> int:
    """Run the command; tell what went wrong in a sentence. Returns the exit code."""
    import asyncio  # here, since --help must not wait for it

    from agent.errors import ApprenticeError

    try:
        return asyncio.run(_run(options))
    except ApprenticeError as error:
        _tell(error, as_json=getattr(options, "json", False))
        return error.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("interrupted; what was done is on record (`apprentice traces show last`)\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader went away: nothing is left to say, also not at exit
        return 141
    except Exception as error:  # a fault of ours: the person gets a sentence, and the details a file
        return _report(error)


async def _run(options: argparse.Namespace) -> int:
    if hasattr(options, "run"):
        return int(await options.run(options))
    from agent.commands.task import run

    return await run(options)


def _report(error: Exception) -> int:
    import traceback

    from agent import config
    from agent.redact import Redactor

    path = config.cache_dir() / "crash.log"
    sys.stderr.write(f"error: something in Apprentice itself failed: {type(error).__name__}: {error}\n")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            Redactor().redact("".join(traceback.format_exception(error))), encoding="utf-8", errors="replace"
        )
        sys.stderr.write(f"  The details are in {path}; what was done until then is on record.\n")
    except OSError:
        sys.stderr.write("  The details could not be written.\n")
    return 70


def _tell(error: Exception, *, as_json: bool) -> None:
    message, hint = getattr(error, "message", str(error)), getattr(error, "hint", "")
    if as_json:
        import json

        print(json.dumps({"event": "error", "kind": type(error).__name__, "message": message, "hint": hint}))
    sys.stderr.write(f"error: {message}\n" + (f"  {hint}\n" if hint else ""))


def task_parser() -> argparse.ArgumentParser:
    """The parser for `apprentice "TASK"`."""
    parser = argparse.ArgumentParser(
        prog="apprentice",
        usage='apprentice "TASK" [options]  |  apprentice COMMAND [...]',
        description="An agent that works in your terminal, records every run, and trains its own specialists.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("task", nargs="?", default="", metavar="TASK", help='what to do; "/NAME ..." activates a skill')
    add_run_options(parser)
    skill = parser.add_argument_group("for skills that write results")
    skill.add_argument("--format", choices=("md", "json", "jsonl", "csv"), help="of the result (else by its name)")
    skill.add_argument("--overwrite", action="store_true", help="replace a result file that exists")
    skill.add_argument("--explain", action="store_true", help="annotate: show what supports each move")
    skill.add_argument("--framework", metavar="NAME", help="annotate: other moves than the eight")
    skill.add_argument("--column", metavar="NAME", help="annotate: the CSV or JSONL column with the abstracts")
    skill.add_argument("--grounding", choices=("none", "numbers", "words"), help="annotate: what may not be invented")
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of everything that runs a model."""
    parser.add_argument("--model", default="", metavar="ADDRESS", help="e.g. local, ollama:NAME, openai@URL:NAME")
    parser.add_argument("--json", action="store_true", help="events as JSON lines on standard output")
    parser.add_argument("--quiet", action="store_true", help="only the answer")
    parser.add_argument("--yes", action="store_true", help="allow writing in the workspace, nothing else")
    parser.add_argument("--allow", action="append", default=[], metavar="EFFECT", help="shell, or net:HOST; repeatable")
    parser.add_argument("--max-steps", type=int, metavar="N", help="model turns in this run")
    parser.add_argument("--workspace", type=Path, default=Path("."), metavar="DIR", help="where files are (default: .)")


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command; its file says what it accepts and sets `run`."""
    parser = argparse.ArgumentParser(prog=f"apprentice {name}", formatter_class=argparse.RawDescriptionHelpFormatter)
    module: ModuleType = importlib.import_module(f"agent.commands.{COMMANDS[name]}")
    getattr(module, f"add_{name}")(parser)
    return parser


def check_layout() -> None:
    """Stop if `tools` or `skills` is somebody else's package: their names are common."""
    import skills
    import tools

    here = Path(__file__).resolve().parent.parent
    for package in (skills, tools):
        if Path(package.__path__[0]).resolve().parent != here:
            sys.exit(f"error: {package.__name__} was found in {package.__path__[0]}, not beside agent in {here}")

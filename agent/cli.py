"""The command line: what it accepts, and how failures are told. The commands themselves are in agent/commands/."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from agent import __version__
from agent.errors import UsageError

EXAMPLES = """examples ("/NAME ..." activates a skill):
  apprentice "/annotate paper.txt save to output.md"
  cat paper.txt | apprentice "/annotate -"
  apprentice "/annotate papers/ save to all.jsonl"
  apprentice "which of these files mention RAG?" --model ollama:qwen3:8b
  apprentice chat
  apprentice traces show last

commands (each has its own --help):
  chat      talk in a REPL              traces      list, show, search, export, correct, delete
  skills    what it knows to do         improve     train a specialist from the record, if it wins
  tools     what a model may call       train       its parts: datasets, training, export
  models    addresses and specialists   evals       measure models, compare them
  route     which model, and why        registry    specialists' versions: promote, roll back
  doctor    what is missing, the fix    deploy      a specialist to Ollama or a server
  config    settings: show, set, trust  policy      what is allowed, asked about, denied
  work      ready beads, one by one     mcp         servers whose tools it may use; be one
  resume    go on when interrupted
"""

COMMANDS = {
    "chat": "agent.commands.chat",
    "work": "agent.commands.work",
    "resume": "agent.commands.resume",
    "skills": "agent.commands.listings",
    "tools": "agent.commands.listings",
    "models": "agent.commands.listings",
    "route": "agent.commands.listings",
    "doctor": "agent.commands.listings",
    "config": "agent.commands.config",
    "policy": "agent.commands.policy",
    "traces": "agent.commands.traces",
    "mcp": "agent.commands.mcp",
    "train": "training.commands.train",
    "registry": "training.commands.registry",
    "deploy": "training.commands.deploy",
    "improve": "training.commands.improve",
    "evals": "evals.commands",
}
"""Which module each command stands in."""

LAYOUT = functools.partial(argparse.RawDescriptionHelpFormatter, max_help_position=33)


def main(argv: list[str] | None = None) -> None:
    """Run one command and leave the process with its exit code: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        options = parse(arguments)
    except UsageError as error:
        _tell(error, as_json="--json" in arguments)
        sys.exit(error.exit_code)
    check_layout()
    sys.exit(told(options))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """What the command line asks for; without a task, the help is printed and the process ends.

    Raises:
        UsageError: it is not understood; the hint names what was probably meant.
    """
    named = bool(arguments) and arguments[0] in COMMANDS
    parser = command_parser(arguments[0]) if named else task_parser()
    options, unknown = parser.parse_known_args(arguments[1:] if named else arguments)
    if hasattr(options, "overrides"):  # argparse takes key=value in one place only: here, after an option too
        options.overrides = [*options.overrides, *(word for word in unknown if not word.startswith("-"))]
        unknown = [word for word in unknown if word.startswith("-")]
    flags = [word for word in unknown if word.startswith("-")]
    if flags:
        parser.error(f"there is no option {flags[0]}")
    if named and unknown:
        parser.error(f"{unknown[0]!r} is more than this command takes")
    if not named and options.task in ("", "help"):
        parser.print_help()
        sys.exit(0)
    if not named and " " not in options.task:
        _check_command(options.task, unknown)
    if unknown:
        words = " ".join([options.task, *unknown])
        raise UsageError("a task is one argument", f'Put it in quotes: apprentice "{words}"')
    return options


def _check_command(word: str, more: Sequence[str]) -> None:
    """Raise UsageError if a single word looks like a misspelt command: it would go to a model as a task."""
    import difflib  # here, since most tasks are longer

    near = difflib.get_close_matches(word.lower(), COMMANDS, n=1, cutoff=0.75)
    if near:
        raise UsageError(
            f"there is no command {word!r}",
            f"Did you mean `{' '.join(['apprentice', near[0], *more])}`? A task of one word needs a second one.",
        )


class Parser(argparse.ArgumentParser):
    """Tells what is wrong as every other failure is told: one sentence, and what to do next."""

    def error(self, message: str) -> NoReturn:
        wrong = re.fullmatch(r"argument ACTION: invalid choice: '(.*)' \(choose from (.*)\)", message, re.DOTALL)
        if wrong:
            raise UsageError(f"{self.prog} has no action {wrong[1]!r}", f"There are: {wrong[2].replace(chr(39), '')}.")
        raise UsageError(message.removeprefix("argument "), self._hint(message))

    def _hint(self, message: str) -> str:
        import difflib

        given = re.search(r"no option (--[\w-]+)", message)
        known = [option for action in self._actions for option in action.option_strings]
        near = difflib.get_close_matches(given[1], known, n=1) if given else []
        return f"Did you mean {near[0]}?" if near else f"`{self.prog} --help` shows what there is."


def positive(text: str) -> int:
    """A whole number from 1, given as an option's value."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


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
    from agent.terminal import clean

    path = config.cache_dir() / "crash.log"
    sys.stderr.write(clean(f"error: something in Apprentice itself failed: {type(error).__name__}: {error}\n"))
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
    from agent.terminal import clean

    message, hint = getattr(error, "message", str(error)), getattr(error, "hint", "")
    if as_json:
        import json

        print(json.dumps({"event": "error", "kind": type(error).__name__, "message": message, "hint": hint}))
    sys.stderr.write(clean(f"error: {message}\n" + (f"  {hint}\n" if hint else "")))  # servers and files may say it


def task_parser() -> argparse.ArgumentParser:
    """The parser for `apprentice "TASK"`."""
    parser = Parser(
        prog="apprentice",
        usage='apprentice "TASK" [options]  |  apprentice COMMAND [...]',
        description="An agent that works in your terminal and records every run, to train its own specialists.",
        epilog=EXAMPLES,
        formatter_class=LAYOUT,
    )
    parser.add_argument("task", nargs="?", default="", metavar="TASK", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"apprentice {__version__}")
    add_run_options(parser)
    skill = parser.add_argument_group("for skills that write results")
    skill.add_argument("--format", choices=("md", "json", "jsonl", "csv"), help="of the result (else by its name)")
    skill.add_argument("--overwrite", action="store_true", help="replace a result file, or any large one, that exists")
    skill.add_argument("--explain", action="store_true", help="annotate: show what supports each move")
    skill.add_argument("--framework", metavar="NAME", help="annotate: other moves than the eight")
    skill.add_argument("--column", metavar="NAME", help="annotate: the CSV or JSONL column with the abstracts")
    skill.add_argument(
        "--best-of", metavar="N", help="annotate: of N replies the best moves (N:likelihood: the likeliest)"
    )
    skill.add_argument("--grounding", choices=("none", "numbers", "words"), help="annotate: what may not be invented")
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of everything that runs a model."""
    parser.add_argument("--model", default="", metavar="ADDRESS", help="e.g. local, ollama:NAME, openai@URL:NAME")
    parser.add_argument("--json", action="store_true", help="events as JSON lines on standard output")
    parser.add_argument("--quiet", action="store_true", help="only the answer")
    parser.add_argument("--yes", action="store_true", help="allow writing in the workspace, nothing else")
    parser.add_argument(
        "--allow", action="append", default=[], metavar="EFFECT", help="shell, net:HOST, mcp:SERVER; repeatable"
    )
    parser.add_argument(
        "--allow-after-outside",
        action="append",
        default=[],
        metavar="EFFECT",
        help="the same, also once pages or other content from outside was read",
    )
    parser.add_argument("--max-steps", type=positive, metavar="N", help="model turns in this run")
    parser.add_argument("--phases", action="store_true", help="plan and carry out in turn, with a todo list")
    parser.add_argument("--workspace", type=Path, default=Path("."), metavar="DIR", help="where files are (default: .)")


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command; its file says what it accepts and sets `run`."""
    parser = Parser(prog=f"apprentice {name}", formatter_class=LAYOUT)
    module: ModuleType = importlib.import_module(COMMANDS[name])
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

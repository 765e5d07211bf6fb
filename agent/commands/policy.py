"""`apprentice policy`: what would be allowed, asked about or denied, and which rule decides. Nothing is run."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.consent import Consent
from agent.errors import ConsentDenied, UsageError
from agent.messages import Json
from agent.settings import Settings

if TYPE_CHECKING:
    from tools.registry import Tool

EFFECT = re.compile(r"read|write|shell|net:\S+|mcp:\S+")


def add_policy(parser: argparse.ArgumentParser) -> None:
    parser.description = "What is allowed, asked about or denied, and why. A dry run: nothing is done."
    commands = parser.add_subparsers(metavar="ACTION", title="actions")
    lister = commands.add_parser("list", help="the rules, and what happens to a plain call of each tool")
    lister.set_defaults(run=show)
    checker = commands.add_parser("check", help="what happens to one effect or call, and which rule decides")
    checker.add_argument("what", metavar="EFFECT/CALL", help="""write, net:HOST, or: run_shell {"command": "ls"}""")
    checker.set_defaults(run=check)
    parser.set_defaults(run=show)
    for each in (parser, lister, checker):
        each.add_argument("--yes", action="store_true", help="as if given to the run")
        each.add_argument("--allow", action="append", default=[], metavar="EFFECT", help="as if given to the run")
        each.add_argument("--allow-after-outside", action="append", default=[], metavar="EFFECT", help="the same")
        each.add_argument("--after-outside", action="store_true", help="as if content from outside had been read")
        each.add_argument("--workspace", type=Path, default=Path("."), metavar="DIR")


async def check(options: argparse.Namespace) -> int:
    """Say what happens to one effect or call. Exit code 0 if it is allowed or asked about, 3 if it is denied."""
    consent, settings, tools = _opened(options)
    effect, name, arguments = _parsed(options.what, tools)
    found = tools.get(name)
    outcome, why = await _outcome(consent, settings, effect, name, arguments, found)
    print(f"{outcome}: {why}" if why else outcome)
    return 3 if outcome == "deny" else 0


async def show(options: argparse.Namespace) -> int:
    """List the rules, then each tool with what a call of it meets."""
    from agent.policy import BUILT_IN, spelled

    consent, settings, tools = _opened(options)
    for number, rule in enumerate(settings.policy.rules, 1):
        print(f"rule {number}: {spelled(rule)}")
    print(f"{len(settings.policy.rules) or 'no'} rules of yours, {len(BUILT_IN)} built-in ones for commands")
    for name, found in tools.items():
        effect = "net:any-host" if found.effect == "net" else found.effect
        outcome, why = await _outcome(consent, settings, effect, name, {}, found)
        print(f"{name} [{found.effect}]: {outcome}{f', {why}' if why else ''}")
    return 0


def _opened(options: argparse.Namespace) -> tuple[Consent, Settings, dict[str, Tool]]:
    """The consent that a run with these options would have, with nobody to ask yet."""
    from agent.commands import task
    from agent.policy import Rules

    root = task.workspace_root(options.workspace)
    settings, trusted, notices = task.settings_for(root, options)
    print("".join(f"! {notice}\n" for notice in notices), end="")
    consent = Consent(
        yes=options.yes,
        allowed=frozenset([*settings.consent.allow, *task.effects(options.allow)]),
        local_only=settings.privacy == "local-only",
        after_outside=frozenset(
            [*settings.consent.allow_after_outside, *task.effects(options.allow_after_outside, "--allow-after-outside")]
        ),
        rules=Rules(settings.policy.rules, root),
    )
    if options.after_outside:
        consent.taint.expose("--after-outside", 1.0)
    return consent, settings, task.known_tools(root, settings, trusted)


def _parsed(what: str, tools: dict[str, Tool]) -> tuple[str, str, Json]:
    """The effect, the tool's name and the arguments that a text names. Raises UsageError."""
    name, _, rest = what.strip().partition(" ")
    if EFFECT.fullmatch(name) and (not rest or name == "shell"):
        return name, "", {"command": rest} if rest else {}
    hint = """Write an effect (write, shell, net:HOST, mcp:SERVER), or a tool and its arguments as JSON."""
    try:
        arguments = json.loads(rest or "{}")
    except ValueError:
        raise UsageError(f"the arguments in {what!r} are not JSON", hint) from None
    if not isinstance(arguments, dict) or (name not in tools and "__" not in name):
        raise UsageError(f"{name!r} is neither an effect nor a tool with its arguments", hint)
    return (tools[name].effect if name in tools else f"mcp:{name.partition('__')[0]}"), name, arguments


async def _outcome(
    consent: Consent, settings: Settings, effect: str, name: str, arguments: Json, found: Tool | None
) -> tuple[str, str]:
    """`allow`, `ask` or `deny`, and why: the gate itself is asked, and every question noted and answered yes."""
    questions: list[str] = []

    async def note(question: str) -> bool:
        questions.append(question)
        return True

    asked = replace(consent, ask=note)
    try:
        bound = await asked.for_call(name, effect, arguments) if name else asked
        effect, sent = _host(settings, found, arguments) if effect == "net" else (effect, "")
        if effect != "read":
            path, command = (str(arguments.get(key, "")) for key in ("path", "command"))
            await bound.require(effect, name or effect, path=path, command=command, sent=sent)
    except ConsentDenied as denied:
        return "deny", denied.in_one_line
    return ("ask", " ".join(questions)) if questions else ("allow", "")


def _host(settings: Settings, found: Tool | None, arguments: Json) -> tuple[str, str]:
    """The effect and the address of a call that uses the network, from its url or the tool's own setting."""
    from urllib.parse import urlsplit

    url = str(arguments.get("url") or (settings.tools.arxiv_url if found and found.name == "arxiv" else ""))
    return f"net:{(urlsplit(url).hostname or 'any-host').lower()}", url

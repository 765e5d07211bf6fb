"""`apprentice skills | tools | models | route | doctor`: what there is, and what would happen."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from agent import registry
from agent.errors import ConfigError
from agent.settings import Settings

if TYPE_CHECKING:
    from tools.registry import Tool


def add_skills(parser: argparse.ArgumentParser) -> None:
    parser.description = "The skills: what each does, where it comes from, what activates it."
    _workspace(parser)
    parser.set_defaults(run=skills)


def add_tools(parser: argparse.ArgumentParser) -> None:
    parser.description = "The tools that a model may call. --json prints their schemas."
    _workspace(parser)
    parser.set_defaults(run=tools)


def add_models(parser: argparse.ArgumentParser) -> None:
    parser.description = "The forms of a model's address, what is configured, and the specialists."
    _workspace(parser)
    parser.set_defaults(run=models)


def add_route(parser: argparse.ArgumentParser) -> None:
    parser.description = "Which model would take a task, and why. Nothing is run or contacted."
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("--model", default="", metavar="ADDRESS")
    _workspace(parser)
    parser.set_defaults(run=route)


def add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.description = "What is there, what is missing, and the one command that fixes it."
    _workspace(parser)
    parser.add_argument("--download", action="store_true", help="fetch the embedded model, after asking")
    parser.set_defaults(run=doctor)


def _workspace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workspace", type=Path, default=Path("."), metavar="DIR")
    parser.add_argument("--json", action="store_true")


async def skills(options: argparse.Namespace) -> int:
    from agent.commands.task import known_skills, settings_for, workspace_root

    root = workspace_root(options.workspace)
    _, trusted, notices = settings_for(root, options)
    found, problems = known_skills(root, trusted)
    for skill in found.values():
        if options.json:
            entry = {"name": skill.name, "description": skill.description, "origin": skill.origin}
            print(json.dumps(entry | {"folder": str(skill.folder), "metadata": skill.metadata}, ensure_ascii=False))
        else:
            print(f"/{skill.name} ({skill.origin})\n{_indented(skill.description)}")
    _tell([*notices, *problems])
    return 0


async def tools(options: argparse.Namespace) -> int:
    """List the tools: ours, the person's, and those of MCP servers as they were approved; none is started."""
    from agent.commands.task import known_tools, settings_for, workspace_root

    root = workspace_root(options.workspace)
    settings, trusted, notices = settings_for(root, options)
    served, unknown = _of_servers(root, settings)
    for tool in (known_tools(root, settings, trusted) | served).values():
        if options.json:
            print(json.dumps(tool.schema, ensure_ascii=False))
        else:
            effect = tool.origin if tool.effect == "mcp" else tool.effect  # which server it belongs to
            print(f"{tool.name} [{effect}{', concurrent' if tool.concurrent else ''}]")
            print(_indented(tool.description))
    _tell([*notices, *unknown])
    return 0


def _of_servers(root: Path, settings: Settings) -> tuple[dict[str, Tool], list[str]]:
    """The approved tools of MCP servers, and a sentence for each server of which nothing is known."""
    from agent.commands.task import mcp_servers

    servers, notices = mcp_servers(root, settings)
    if not servers:
        return {}, notices
    from agent.config import data_dir
    from agent.mcp.elicitation import Person
    from agent.mcp.tools import Servers

    local_only = settings.privacy == "local-only"
    found = Servers(servers, data_dir(settings), Person(), lambda event: None, local_only=local_only).approved()
    listed = {tool.origin for tool in found.values()}
    for server in servers.values():
        if f"mcp:{server.name}" not in listed:
            notices.append(
                f"of the MCP server {server.name} no tool is known: "
                f"`apprentice mcp {'approve' if server.project else 'tools'} {server.name}` lists them"
            )
    return {name: tool for name, tool in found.items() if name not in settings.tools.disabled}, notices


async def models(options: argparse.Namespace) -> int:
    from agent.commands.task import settings_for, workspace_root

    settings, _, notices = settings_for(workspace_root(options.workspace), options)
    keys = ("default", "strong", "toolshim")
    configured = {f"models.{key}": getattr(settings.models, key) for key in keys}
    specialists = registry.specialists(settings)
    serving = {found.address for s in specialists if (found := registry.promoted(s.name, settings))}
    if options.json:
        listed = [{"address": s.address, "serves": s.address in serving, "card": s.card} for s in specialists]
        print(json.dumps({"addresses": registry.ADDRESSES, "configured": configured, "specialists": listed}))
        return 0
    print("addresses")
    for address, meaning in registry.ADDRESSES.items():
        print(f"  {address:<28}{meaning}")
    print("configured")
    for key, address in configured.items():
        print(f"  {key:<28}{address or '-'}")
    print("specialists")
    for specialist in specialists:
        print(f"  {specialist.address:<40}{'serves' if specialist.address in serving else 'does not serve'}")
    if not specialists:
        print("  none yet")
    _tell(notices)
    return 0


async def route(options: argparse.Namespace) -> int:
    from agent import router
    from agent.commands.task import known_skills, settings_for, workspace_root
    from skills import registry as skills_registry

    root = workspace_root(options.workspace)
    settings, trusted, notices = settings_for(root, options)
    known, problems = known_skills(root, trusted)
    activations, _ = skills_registry.activate(options.task, known)
    named = [{"name": activation.skill.name, "reason": activation.reason} for activation in activations]
    if not options.json:
        for skill in named:
            print(f"skill       {skill['name']}: {skill['reason']}")
    chosen = router.route(settings, flag=options.model, skills=[activation.skill for activation in activations])
    local = registry.is_local(chosen.model, settings)
    if options.json:
        decision = {"model": chosen.model, "rule": chosen.rule, "reason": chosen.reason, "local": local}
        print(json.dumps(decision | {"escalation": chosen.escalation, "skills": named}, ensure_ascii=False))
        return 0
    print(f"model       {chosen.model}: {chosen.reason}")
    print(f"stays here  {'yes' if local else 'no, the task leaves this machine'}")
    unset = "is not set" if not settings.models.strong else "is the same, or would leave this machine"
    print(f"escalation  {chosen.escalation or f'none (models.strong {unset})'}")
    _tell([*notices, *problems])
    return 0


async def doctor(options: argparse.Namespace) -> int:
    from agent import doctor as examination
    from agent.commands.task import ask_on_terminal, at_terminal, settings_for, workspace_root
    from agent.terminal import clean

    root = workspace_root(options.workspace)
    try:
        settings, _, _ = settings_for(root, options)
    except ConfigError:
        if options.download:  # what the person set is not known, privacy included
            raise
        settings = Settings()  # the finding `config` names the fault
    if options.download:
        from agent.consent import Consent
        from agent.models import embedded

        ask = ask_on_terminal if at_terminal() else None
        consent = Consent(ask=ask, local_only=settings.privacy == "local-only", how="")
        print(f"the embedded model is at {await embedded.download(settings, consent, _progress)}")
    findings = await examination.examine(settings, root)
    print(examination.as_json(findings) if options.json else clean(examination.as_text(findings)))
    return 0 if all(finding.ok for finding in findings) else 1


def _progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    os.write(2, f"\r{done / 1e6:.0f} of {total / 1e6:.0f} MB{end}".encode())


def _indented(text: str) -> str:
    """A description under its name, broken between words where a person reads it."""
    import textwrap

    from agent.commands.traces import screen_width
    from agent.terminal import clean

    return textwrap.fill(clean(text), screen_width(), initial_indent="    ", subsequent_indent="    ")


def _tell(notices: list[str]) -> None:
    from agent.terminal import clean

    for notice in notices:
        print(clean(f"! {notice}"))

"""`apprentice registry`: the versions of the specialists: list, show, promote, roll back, remove."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from agent import config, registry, specialists
from agent.errors import UsageError
from agent.registry import Specialist
from agent.settings import Settings


def add_registry(parser: argparse.ArgumentParser) -> None:
    parser.description = "The specialists' versions. Without an action: list them. NAME@V is one version."
    parser.set_defaults(run=list_versions, json=False)
    actions = parser.add_subparsers(metavar="ACTION", title="actions")
    listing = actions.add_parser("list", help="every version, and which serve")
    listing.set_defaults(run=list_versions)
    show = actions.add_parser("show", help="one version's card, its gate and where it works")
    show.add_argument("version", metavar="NAME[@V]")
    show.set_defaults(run=show_version)
    promote = actions.add_parser("promote", help="let a version serve, if the gate allows it")
    promote.add_argument("version", metavar="NAME[@V]", help="the newest version if none is given")
    add_reports(promote)
    promote.set_defaults(run=promote_version)
    back = actions.add_parser("rollback", help="let what served before serve again")
    back.add_argument("name", metavar="NAME")
    back.set_defaults(run=roll_back)
    remove = actions.add_parser("remove", help="remove a version that does not serve, for good")
    remove.add_argument("version", metavar="NAME@V")
    remove.add_argument("--yes", action="store_true", help="do not ask")
    remove.set_defaults(run=remove_version)
    for action in (listing, show, promote, back, remove):
        action.add_argument("--json", action="store_true")


def add_reports(parser: argparse.ArgumentParser) -> None:
    """The options of everything that asks the gate."""
    parser.add_argument("--report", type=Path, metavar="PATH", help="`evals run annotate`, with the incumbent")
    parser.add_argument("--rehearsal", type=Path, metavar="PATH", help="`evals run rehearsal --against local`")


async def list_versions(options: argparse.Namespace) -> int:
    settings = _settings()
    found = registry.specialists(settings)
    rows = [_row(one, settings) for one in found]
    if options.json:
        print(json.dumps(rows, ensure_ascii=False))
        return 0
    for row in rows:
        f1 = f"F1 {row['f1']:.3f}" if row["f1"] is not None else "not measured"
        print(f"{row['name']}@{row['version']:<6}{row['status']:<11}{f1:<14}{row['created']}")
    if not rows:
        print("no specialists yet")
    return 0


async def show_version(options: argparse.Namespace) -> int:
    settings = _settings()
    found = _named(options.version, settings)
    gate = found.folder / "gate.json"
    shown = {
        "address": found.address,
        "folder": str(found.folder),
        "status": specialists.status(found, settings),
        "deployments": specialists.deployments(found, settings),
        "gate": json.loads(gate.read_text("utf-8")) if gate.is_file() else None,
        "history": [line for line in specialists.history(found.name, settings) if found.version in line.values()],
        "card": found.card,
    }
    print(json.dumps(shown, ensure_ascii=False) if options.json else "\n".join(_lines(found, shown)))
    return 0


async def promote_version(options: argparse.Namespace) -> int:
    settings = _settings()
    name, _, version = options.version.partition("@")
    found = registry.specialist(name, version or _newest(name, settings), settings)
    reasons = promote(found, options.report, options.rehearsal, settings)
    if options.json:
        print(json.dumps({"promoted": found.address, "reasons": reasons}, ensure_ascii=False))
    else:
        print(f"{found.address} serves from the next run on: {'; '.join(reasons)}")
    return 0


async def roll_back(options: argparse.Namespace) -> int:
    settings = _settings()
    found = specialists.rollback(options.name, settings)
    if options.json:
        print(json.dumps({"promoted": found.address if found else None}))
    else:
        print(f"{found.address} serves again" if found else f"no version of {options.name} serves now")
    return 0


async def remove_version(options: argparse.Namespace) -> int:
    from agent.commands import task

    settings = _settings()
    name, _, version = options.version.partition("@")
    if not version:
        raise UsageError(f"{options.version!r} names no version", f"Write {name}@1 for the first one.")
    ask = task.ask_on_terminal if task.at_terminal() else None
    if not options.yes and not (ask and await ask(f"Remove {options.version} for good?")):
        raise UsageError("nothing was removed", "Give --yes to remove without being asked.")
    specialists.remove(name, version, settings)
    print(json.dumps({"removed": options.version}) if options.json else f"{options.version} removed")
    return 0


def promote(found: Specialist, report: Path | None, rehearsal: Path | None, settings: Settings) -> list[str]:
    """Ask the gate and, if it says yes, move the pointer. Reports that are not given are those of the last time.

    Returns:
        The gate's reasons.

    Raises:
        UsageError: the gate says no; the sentence has its reasons. Or nothing was measured.
    """
    from agent.models import embedded
    from agent.models.gguf_file import sha256
    from training import gate

    report = report or _kept(found, "report")
    if report is None:
        raise UsageError(
            f"{found.address} is not promoted: it was not measured",
            f"`apprentice evals run annotate --cases FILE --model {found.address}`, then --report PATH.",
        )
    incumbent = registry.promoted(found.name, settings)
    rehearsal, base = rehearsal or _kept(found, "rehearsal"), embedded.find(settings)
    decision = gate.judge(found, incumbent, report, rehearsal, settings.gate, sha256(base))
    if not decision.promote:
        raise UsageError(
            f"{found.address} is not promoted: {'; '.join(decision.reasons)}",
            f"`apprentice registry show {found.name}@{found.version}` has the figures.",
        )
    specialists.promote(found.name, found.version, settings)
    return decision.reasons


def _kept(found: Specialist, kind: str) -> Path | None:
    path = found.folder / f"{kind}.json"
    return path if path.is_file() else None


def _settings() -> Settings:
    return config.load(Path(os.devnull), trusted=False)[0]


def _named(given: str, settings: Settings) -> Specialist:
    """A version by NAME@V; by NAME the one that serves, else the newest."""
    name, _, version = given.partition("@")
    serving = None if version else registry.promoted(name, settings)
    return serving or registry.specialist(name, version or _newest(name, settings), settings)


def _newest(name: str, settings: Settings) -> str:
    versions = [int(found.version) for found in registry.specialists(settings) if found.name == name]
    return str(max(versions)) if versions else ""


def _row(found: Specialist, settings: Settings) -> dict[str, Any]:
    return {
        "name": found.name,
        "version": found.version,
        "status": specialists.status(found, settings),
        "f1": (found.card.get("metrics") or {}).get("f1"),
        "created": found.card.get("created", ""),
        "deployments": [entry["address"] for entry in specialists.deployments(found, settings)],
    }


def _lines(found: Specialist, shown: dict[str, Any]) -> list[str]:
    """A version as a person reads it."""
    card, gate = found.card, shown["gate"]
    data, metrics = card.get("dataset", {}), card.get("metrics") or {}
    adapter, base = card.get("adapter", {}), card.get("base", {})
    lines = [
        f"{found.address}  {shown['status']}, made {card.get('created', '?')}, in {found.folder}",
        f"base       {base.get('name', '?')} (sha256 {str(base.get('sha256', ''))[:12]})",
        f"adapter    rank {adapter.get('rank', '?')}, alpha {adapter.get('alpha', '?')} "
        f"(sha256 {str(adapter.get('sha256', ''))[:12]})",
        f"dataset    {data.get('rows', '?')} rows of {len(data.get('documents', []))} documents",
    ]
    if "f1" in metrics:
        lines.append(f"measured   token F1 {metrics['f1']:.3f} on {metrics['suite']['rows']} rows, incumbent "
                     f"{metrics['incumbent_f1']:.3f}")  # fmt: skip
    if gate:
        lines += [f"gate       {'yes' if gate['promote'] else 'no'}: {reason}" for reason in gate["reasons"]]
    lines += [f"works at   {entry['address']} since {entry['time']}" for entry in shown["deployments"]]
    lines += [f"history    {line['time']} {line['action']}{_moved(line)}" for line in shown["history"]]
    return lines


def _moved(line: dict[str, Any]) -> str:
    return f" {line['from'] or 'nothing'} → {line['to'] or 'nothing'}" if "to" in line else ""

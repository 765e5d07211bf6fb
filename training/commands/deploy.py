"""`apprentice deploy NAME[@V] --to local | ollama[:MODEL] | URL`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict

from agent import registry
from agent.errors import ModelUnavailable, UsageError
from agent.settings import Settings
from training.commands.registry import _named, _newest, _settings, add_reports, promote

QUANTISATIONS = ("Q4_K_M", "Q8_0", "F16")


def add_deploy(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Put a specialist to work. local: it serves here, if the gate allows it (`registry promote`). ollama: a merged "
        "model on models.ollama_url. URL: an OpenAI-compatible server that you run; the file to serve is written."
    )
    parser.add_argument("version", metavar="NAME[@V]", help="the version that serves, or the newest, if none is given")
    parser.add_argument("--to", required=True, metavar="TARGET", help="local, ollama, ollama:MODEL, or http://HOST/v1")
    parser.add_argument("--model", default="", metavar="NAME", help="what the server calls it (default: NAME)")
    parser.add_argument("--quantisation", choices=QUANTISATIONS, default="Q4_K_M", help="of the merged file")
    parser.add_argument("--json", action="store_true")
    add_reports(parser)
    parser.set_defaults(run=deploy)


async def deploy(options: argparse.Namespace) -> int:
    settings = _settings()
    if options.to == "local":
        return _locally(options, settings)
    try:
        from training import deploy as deployment
    except ModuleNotFoundError as error:
        raise ModelUnavailable(f"{error.name} is not installed", "Run `scripts/setup train`.") from None
    found = _named(options.version, settings)
    target, _, tag = options.to.partition(":")
    if target == "ollama":
        model = tag or options.model or found.name
        made = await deployment.to_ollama(found, model, options.quantisation, settings, _tell, _progress)
    elif options.to.startswith(("http://", "https://")):
        model, url = options.model or found.name, options.to.rstrip("/")
        made = await deployment.to_server(found, url, model, options.quantisation, settings, _tell)
    else:
        raise UsageError(f"there is no target {options.to!r}", "Targets: local, ollama, ollama:MODEL, http://HOST/v1.")
    print(json.dumps(asdict(made)) if options.json else f"{found.address} works at {made.address}")
    return 0


def _locally(options: argparse.Namespace, settings: Settings) -> int:
    name, _, version = options.version.partition("@")
    found = registry.specialist(name, version or _newest(name, settings), settings)
    serving = registry.promoted(name, settings)
    if serving is None or serving.version != found.version:
        for reason in promote(found, options.report, options.rehearsal, settings):
            _tell(reason)
    print(json.dumps({"address": found.address}) if options.json else f"{found.address} serves from the next run on")
    return 0


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _progress(name: str, done: int, total: int) -> None:
    """How much of a file is sent: a line that overwrites itself on a terminal, the end of it elsewhere."""
    if sys.stderr.isatty() or done == total:
        end = "\n" if done == total else "\r"
        sys.stderr.write(f"{name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB{end}")

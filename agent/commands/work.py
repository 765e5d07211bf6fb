"""`apprentice work`: take up the workspace's ready beads, one after another, until none is left."""

from __future__ import annotations

import argparse
import sys

from agent.errors import InputError
from agent.messages import Event

DESCRIPTION = """Take up the workspace's ready beads, one after another, until none is left.

Several may work in one folder: no bead is held by two, and what a killed one left is begun anew."""


def add_work(parser: argparse.ArgumentParser) -> None:
    """What `apprentice work` accepts."""
    from agent import cli

    parser.description = DESCRIPTION
    parser.add_argument("--max", type=cli.positive, default=0, metavar="N", help="begin at most N beads")
    cli.add_run_options(parser)
    parser.set_defaults(run=run)


async def run(options: argparse.Namespace) -> int:
    """Do the beads. Returns 0 if every bead that was begun was closed; raises ApprenticeError if none can be done."""
    from agent import terminal
    from agent.beads.backend import open_beads
    from agent.beads.bead import are_used
    from agent.beads.worker import work
    from agent.commands.task import ask_on_terminal, at_terminal, open_session

    sink = terminal.choose(as_json=options.json, quiet=options.quiet, out=sys.stdout, err=sys.stderr)
    ask = ask_on_terminal if at_terminal() else None
    session = await open_session(options, sink, ask=ask, how="start `apprentice work` with")
    try:
        if not are_used(session.workspace.root, session.settings):
            raise InputError(
                f"{session.workspace.root} has no .beads folder", "`bd init` makes one, or set beads.enabled."
            )
        beads = await open_beads(session.workspace, session.settings, session.consent, session.store.redactor)
        tally = await work(session, beads, model=options.model, most=options.max)
        left = len(await beads.ready())
        unready = f"; {left} are ready still" if left else ""
        counted = f"{len(tally.closed)} closed, {len(tally.failed)} attempts failed, {len(tally.blocked)} set aside"
        session.emit(Event("answer", "", {"text": f"{counted}{unready}."}))
    finally:
        await session.close()
    return 1 if tally.blocked or (tally.failed and not set(tally.failed) <= set(tally.closed)) else 0

"""`apprentice mcp serve`: our skills and reading tools for other agents. Nobody is asked; flags say what is allowed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agent.messages import Event


def add_serve(parser: argparse.ArgumentParser) -> None:
    """The options of `mcp serve`."""
    from agent.cli import positive

    parser.description = (
        "Offers annotate, the skills that are instructions, and reading the workspace to other agents over MCP: on "
        "standard input and output, or with --http on 127.0.0.1. Nobody is asked: what no flag allows is refused."
    )
    parser.add_argument("--http", type=_port, metavar="PORT", help="serve at http://127.0.0.1:PORT/mcp (0: any port)")
    parser.add_argument("--model", default="", metavar="ADDRESS", help="for every call; else as routing says")
    parser.add_argument("--yes", action="store_true", help="skills may write in the workspace")
    allow = "shell, net:HOST, mcp:SERVER; repeatable"
    parser.add_argument("--allow", action="append", default=[], metavar="EFFECT", help=allow)
    after = "the same, also for a client's text, and once other content from outside was read"
    parser.add_argument("--allow-after-outside", action="append", default=[], metavar="EFFECT", help=after)
    parser.add_argument("--max-steps", type=positive, metavar="N", help="model turns in one run")
    parser.add_argument("--workspace", type=Path, default=Path("."), metavar="DIR", help="where files are (default: .)")
    parser.set_defaults(run=serve, json=False)


async def serve(options: argparse.Namespace) -> int:
    """Serve until the client leaves or the process is told to end."""
    from agent.commands.task import open_session

    session = await open_session(options, _to_stderr, ask=None, how="start `apprentice mcp serve` with")
    try:
        import logging

        from agent.serving import server, transport
        from agent.serving.call import Service

        logging.basicConfig(format="%(levelname)s %(message)s")  # before the SDK, which would draw frames around it
        service = Service(session, options.model)
        made = server.make(service)
        if options.http is None:
            await transport.over_stdio(made)
        else:
            await transport.over_http(made, options.http, service.end)
    finally:
        await session.close()
    return 0


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _to_stderr(event: Event) -> None:
    """What is told before any call, e.g. that a project's folder is not trusted; a call's events go to its client."""
    from agent.terminal import clean

    if event.kind == "notice":
        sys.stderr.write(clean(f"! {event.data['text']}\n"))

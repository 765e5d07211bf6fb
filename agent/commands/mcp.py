"""`apprentice mcp`: servers of the Model Context Protocol."""

from __future__ import annotations

import argparse

from agent.commands.mcp_serve import add_serve


def add_mcp(parser: argparse.ArgumentParser) -> None:
    parser.description = "The Model Context Protocol: be a server for other agents."
    commands = parser.add_subparsers(metavar="ACTION", title="actions", required=True)
    add_serve(commands.add_parser("serve", help="offer our skills and reading tools to other agents"))

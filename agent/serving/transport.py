"""How a server is reached: standard input and output, or HTTP on this machine.

HTTP binds 127.0.0.1 and answers only requests whose Host, and Origin if there is one, name this machine and port: a
page in a browser cannot reach it through a name that resolves here (DNS rebinding). What this does not cover: other
programs and people on the same machine, who can connect as the client does.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from agent.errors import UsageError

HOST = "127.0.0.1"
PATH = "/mcp"


async def over_stdio(server: MCPServer[Any]) -> None:
    """Serve one client until it closes standard input, or the process is told to end (SIGTERM, Ctrl-C)."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await server.run_stdio_async()


async def over_http(server: MCPServer[Any], port: int) -> None:
    """Serve any number of clients at http://127.0.0.1:PORT/mcp until the process is told to end.

    Args:
        server: what is offered.
        port: 0 takes a free one; the address is told on standard error.

    Raises:
        UsageError: the port is taken or not ours to take.
    """
    import uvicorn

    listener = _listen(port)
    port = listener.getsockname()[1]
    names = [f"{name}:{port}" for name in (HOST, "localhost")]
    security = TransportSecuritySettings(allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names])
    app = server.streamable_http_app(streamable_http_path=PATH, transport_security=security)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    sys.stderr.write(f"serving at http://{HOST}:{port}{PATH}; Ctrl-C ends it\n")
    await uvicorn.Server(config).serve(sockets=[listener])


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"port {port} cannot be used: {reason}", "Give --http another one; 0 takes any.") from None
    return listener

"""How a server is reached: standard input and output, or HTTP on this machine.

HTTP binds 127.0.0.1 and answers only requests whose Host, and Origin if there is one, name this machine and port: a
page in a browser cannot reach it through a name that resolves here (DNS rebinding). What this does not cover: other
programs and people on the same machine, who can connect as the client does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Self, cast

import anyio
import uvicorn
from mcp.server.mcpserver import MCPServer
from mcp.server.stdio import stdio_server
from mcp.server.transport_security import TransportSecuritySettings

from agent.errors import UsageError

HOST = "127.0.0.1"
PATH = "/mcp"


async def over_stdio(server: MCPServer[Any]) -> None:
    """Serve one client until it closes standard input, or the process is told to end (SIGTERM, Ctrl-C)."""
    _end_on_sigterm()
    lines = cast("anyio.AsyncFile[str]", _Lines())
    low = server._lowlevel_server  # MCPServer's own way reads in a thread that a signal would wait for
    async with stdio_server(stdin=lines) as (incoming, outgoing):
        await low.run(incoming, outgoing, low.create_initialization_options())


async def over_http(server: MCPServer[Any], port: int, ending: Callable[[], Awaitable[None]]) -> None:
    """Serve any number of clients at http://127.0.0.1:PORT/mcp until the process is told to end.

    Args:
        server: what is offered.
        port: 0 takes a free one; the address is told on standard error.
        ending: is awaited before the connections are closed: ends the calls that are going on.

    Raises:
        UsageError: the port is taken or not ours to take.
    """
    _end_on_sigterm()
    listener = _listen(port)
    port = listener.getsockname()[1]
    names = [f"{name}:{port}" for name in (HOST, "localhost")]
    security = TransportSecuritySettings(allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names])
    app = server.streamable_http_app(streamable_http_path=PATH, transport_security=security)
    config = uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    web = Web(config)
    serving = asyncio.create_task(web.serve(sockets=[listener]))
    sys.stderr.write(f"serving at http://{HOST}:{port}{PATH}; Ctrl-C ends it\n")
    try:
        async with server.session_manager.run():
            await asyncio.shield(serving)
    finally:
        web.should_exit = True
        await ending()
        await serving


class _Lines:
    """The lines of standard input, read in a thread that nobody waits for when the process ends."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(1)
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, name="stdin", daemon=True).start()

    def _read(self) -> None:
        with open(os.dup(0), "rb") as given:
            for line in itertools.chain(given, [b""]):
                asyncio.run_coroutine_threadsafe(self._waiting.put(line), self._loop).result()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        if line := await self._waiting.get():
            return line.decode("utf-8", "replace")
        raise StopAsyncIteration


class Web(uvicorn.Server):
    """Leaves signals to asyncio: uvicorn would raise them again at its end, before the record is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _end_on_sigterm() -> None:
    """SIGTERM cancels this task, as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


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

"""One live connection to an MCP server, over its standard streams or streamable HTTP, through the official SDK.

The SDK's scopes must be left by the task that entered them, so a task of the connection's own holds it open until it is
closed; calls come from any task. A server that went away is noticed, and the next call connects anew, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agent.errors import ApprenticeError, ToolError
from agent.mcp import config
from agent.mcp.config import Server
from agent.mcp.elicitation import Person, answer

if TYPE_CHECKING:
    import mcp_types
    from mcp import Client
    from mcp.client.session import ClientRequestContext

T = TypeVar("T")


class Progress(Protocol):
    """Is told how far a request is."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


PAGES = 100
"""Pages of a listing that are read: a list without an end must not hang a run."""
CLOSE_SECONDS = 6.0
"""For a server to end by itself; the SDK ends its process group before that."""
PERSON_SECONDS = 300.0
"""For a person to sign in."""
SAID = 2000
"""Bytes that are kept of what a server writes to standard error."""


class Connection:
    """A connection that is opened once and closed once.

    Args:
        server: what to connect to.
        person: answers what the server asks.
        data_dir: where OAuth tokens are kept.
    """

    def __init__(self, server: Server, person: Person, data_dir: Path) -> None:
        self.server, self.person, self.data_dir = server, person, data_dir
        self.changed = False
        """The server said that its tools are others now."""
        self.listening = False
        """A server of the newer protocol has agreed to say so."""
        self.client: Client | None = None
        self._given = server.definition
        self._closing = asyncio.Event()
        self._holder: asyncio.Task[None] | None = None
        self._scope: Any = None
        self._limits: set[asyncio.Timeout] = set()
        self._said = b""
        self._gone = False

    @property
    def alive(self) -> bool:
        """Whether a call can be sent."""
        return self.client is not None and not self._gone and self._holder is not None and not self._holder.done()

    async def open(self) -> None:
        """Start the server, or reach it, and agree on a version.

        Raises:
            ConfigError: the definition needs a variable that is not set.
            ToolError: it did not get ready; the sentence says why, with the last thing that the server said.
        """
        import anyio

        self._given = self.server.filled(config.environment())
        self._scope = anyio.CancelScope()
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._holder = asyncio.create_task(self._hold(ready))
        try:
            with self._time(self._given.connect_timeout) as limit:
                async with limit:
                    self.client = await ready
        except TimeoutError:
            raise self._failed(f"it was not ready within {self._given.connect_timeout:g} seconds") from None
        except ApprenticeError:
            raise
        except Exception as error:
            raise self._failed(_why(error)) from None
        finally:
            if self.client is None:
                self._scope.cancel()

    async def close(self) -> None:
        """End the connection and a process that was started for it. Safe to call at any time, twice too."""
        self._closing.set()
        if self._holder is not None and not self._holder.done():
            await asyncio.wait([self._holder], timeout=CLOSE_SECONDS)
            self._scope.cancel()
            await asyncio.wait([self._holder], timeout=CLOSE_SECONDS)
        self.client = None

    async def _hold(self, ready: asyncio.Future[Client]) -> None:
        """Keep the connection open until it is to be closed, or breaks."""
        try:
            with self._scope:
                async with contextlib.AsyncExitStack() as stack:
                    client = await stack.enter_async_context(self._client(await self._transport(stack)))
                    watching = asyncio.create_task(self._watch(client))
                    stack.callback(watching.cancel)
                    if not ready.done():
                        ready.set_result(client)
                    await self._closing.wait()
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error if isinstance(error, Exception) else RuntimeError("it was stopped"))
            if not isinstance(error, Exception):
                raise
        finally:
            self._gone = True
            if not ready.done():
                ready.cancel()

    def _client(self, transport: Any) -> Client:
        from mcp import Client
        from mcp_types import Implementation

        from agent import __version__

        return Client(
            transport,
            mode="legacy" if self._given.legacy else "auto",
            client_info=Implementation(name="apprentice", version=__version__),
            elicitation_callback=self._elicit,
            message_handler=self._hear,
            cache=None,  # what was approved is kept by us
        )

    async def _transport(self, stack: contextlib.AsyncExitStack) -> Any:
        """The SDK's transport, which also tells when the other side is gone."""
        _quiet()
        if not self._given.url:
            from mcp import StdioServerParameters
            from mcp.client.stdio import stdio_client

            given = self._given
            parameters = StdioServerParameters(
                command=given.command,
                args=given.args,
                env=given.env,
                cwd=self.server.folder,
            )
            return self._watched(stdio_client(parameters, errlog=self._listener(stack)))
        from mcp.client.streamable_http import streamable_http_client

        from agent.mcp.auth import http_client

        client = await stack.enter_async_context(
            http_client(self.server, self._given, self.person, self.data_dir, self._wait_for_person)
        )
        return self._watched(streamable_http_client(self._given.url, http_client=client))

    @contextlib.asynccontextmanager
    async def _watched(self, transport: Any) -> AsyncIterator[Any]:
        async with transport as (read, write):
            yield _Watched(read, self._lost), write

    def _lost(self) -> None:
        self._gone = True

    def _listener(self, stack: contextlib.AsyncExitStack) -> Any:
        """A pipe for a process's standard error, of which the end is kept: it often says what is wrong."""
        read, write = os.pipe()
        os.set_blocking(read, False)
        loop = asyncio.get_running_loop()

        def hear() -> None:
            with contextlib.suppress(OSError):
                piece = os.read(read, 65536)
                self._said = (self._said + piece)[-SAID:]
                if not piece:
                    loop.remove_reader(read)

        def close() -> None:
            loop.remove_reader(read)
            os.close(read)

        loop.add_reader(read, hear)
        stack.callback(close)
        return stack.enter_context(os.fdopen(write, "w"))

    async def _watch(self, client: Client) -> None:
        """On servers of the newer protocol, subscribe to changes of the tools; older ones tell them unasked."""
        from mcp_types.version import MODERN_PROTOCOL_VERSIONS

        tools = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or tools is None or not tools.list_changed:
            return
        with contextlib.suppress(Exception):  # a server that does not keep the stream is asked at the next run anyway
            async with client.listen(tools_list_changed=True) as changes:
                self.listening = True
                async for _ in changes:
                    self.changed = True

    async def _hear(self, message: Any) -> None:
        from mcp_types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            self.changed = True

    async def _elicit(
        self, context: ClientRequestContext, params: mcp_types.ElicitRequestParams
    ) -> mcp_types.ElicitResult:
        """Put the server's question to the person; meanwhile no time-out runs."""
        self._reschedule(None)
        try:
            return await answer(self.server.name, params, self.person)
        finally:
            self._reschedule(self._given.timeout)

    def _wait_for_person(self) -> None:
        self._reschedule(PERSON_SECONDS)

    def _reschedule(self, seconds: float | None) -> None:
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(None if seconds is None else now + seconds)

    @contextlib.contextmanager
    def _time(self, seconds: float) -> Any:
        """A time-out that stops while a person is asked."""
        limit = asyncio.timeout(seconds)
        self._limits.add(limit)
        try:
            yield limit
        finally:
            self._limits.discard(limit)

    async def request(self, ask: Callable[[Client, Progress], Awaitable[T]], heard: Progress | None = None) -> T:
        """Send one request, within the server's time-out, which progress begins anew. Cancelling it tells the server.

        Args:
            ask: sends it; given the client, and what to call when the server tells progress.
            heard: is told of it too.

        Raises:
            ToolError: no answer in time, the server went away, or it answered with an error.
        """
        client = self.client
        if client is None or not self.alive:
            raise self._failed("it is gone")
        with self._time(self._given.timeout) as limit:

            async def tell(progress: float, total: float | None, message: str | None) -> None:
                if not limit.expired() and limit.when() is not None:
                    limit.reschedule(asyncio.get_running_loop().time() + self._given.timeout)
                if heard:
                    await heard(progress, total, message)

            try:
                async with limit:
                    return await ask(client, tell)
            except TimeoutError:
                raise ToolError(
                    f"the MCP server {self.server.name} did not answer within {self._given.timeout:g} seconds",
                    f"mcp.servers.{self.server.name}.timeout sets that.",
                ) from None
            except ApprenticeError:
                raise
            except Exception as error:  # the SDK's own, pydantic's, and what breaks below them
                if "Session terminated" in str(error):
                    self._gone = True
                raise self._failed(_why(error)) from None

    def _failed(self, why: str) -> ToolError:
        said = " ".join(self._said.decode("utf-8", "replace").split())[-300:]
        return ToolError(f"the MCP server {self.server.name} failed: {why}", f"It said: {said}" if said else "")


class _Watched:
    """The SDK's stream of what comes in, which tells when it ends."""

    def __init__(self, stream: Any, ended: Callable[[], None]) -> None:
        self._stream, self._ended = stream, ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> _Watched:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> Any:
        return await self._stream.__aexit__(*error)

    def __aiter__(self) -> _Watched:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except BaseException:
            self._ended()
            raise


async def every(page: Callable[[str | None], Awaitable[Any]], field: str) -> list[Any]:
    """All entries of a listing, page by page."""
    found: list[Any] = []
    cursor: str | None = None
    for _ in range(PAGES):
        result = await page(cursor)
        found += getattr(result, field)
        cursor = result.next_cursor
        if not cursor:
            break
    return found


def _why(error: BaseException) -> str:
    """The innermost reason as a sentence: the SDK wraps it in groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ApprenticeError):
        return error.in_one_line
    if isinstance(error, FileNotFoundError):
        return f"there is no {error.filename}"
    if type(error).__name__ == "ConnectError":
        return "nothing answers at its address"
    if str(error) == "Connection closed":
        return "it ended, or closed the connection"
    return " ".join(str(error).split())[:500] or type(error).__name__


def _quiet() -> None:
    """What goes wrong is told in our sentences; the SDK's own tracebacks stay off the person's terminal."""
    import logging

    for name in ("mcp", "client", "httpx2", "httpcore2"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())

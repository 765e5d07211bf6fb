"""OAuth for servers at an address: the SDK's flow, tokens in the person's data folder, sign-in in their browser.

A server whose definition names an issuer is signed in to by the program itself (client credentials), for that issuer
alone: whatever else a server names as its authority never sees the secret.

DATA/mcp/auth-HASH.json, readable by the person alone. Tokens go into requests to the server and nowhere else: not
onto the record, not onto the screen. Where nobody is at the terminal, a server that wants a sign-in is an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from agent.errors import ToolError
from agent.mcp.approval import write_private
from agent.mcp.config import Server
from agent.mcp.elicitation import Person
from agent.settings import McpServer

if TYPE_CHECKING:
    import httpx2
    from mcp.client.auth import AuthorizationCodeResult, OAuthClientProvider
    from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

SIGN_IN_SECONDS = 300.0
DONE = b"Signed in. You can close this window and go back to the terminal.\n"


@contextlib.asynccontextmanager
async def http_client(
    server: Server, given: McpServer, person: Person, data_dir: Path, waits: Callable[[], None]
) -> AsyncIterator[httpx2.AsyncClient]:
    """The HTTP client of one connection, which signs in when the server asks for it.

    Args:
        server: whose tokens are used.
        given: its definition with the variables filled in.
        person: who signs in.
        data_dir: where tokens are kept.
        waits: called when a person begins to sign in, since that takes longer than a connection may.
    """
    import httpx2

    storage = Storage(data_dir / "mcp" / f"auth-{server.digest[:32]}.json", given)
    timeout = httpx2.Timeout(30, read=None)  # a request's own time-out is the connection's
    local = urlsplit(given.url).hostname in ("localhost", "127.0.0.1", "::1")
    with contextlib.closing(_Callback(storage.port)) as callback:
        signs_itself_in = any(name.lower() == "authorization" for name in given.headers)
        auth = None
        if given.issuer:
            auth = _program(given, storage)
        elif not signs_itself_in:
            auth = _provider(server.name, given, storage, person, callback, waits)
        async with httpx2.AsyncClient(headers=given.headers, timeout=timeout, auth=auth, trust_env=not local) as client:
            yield client


class Storage:
    """What the SDK's flow remembers of one server, in one private file.

    Args:
        path: the file. A damaged one remembers nothing.
        given: the definition: a client that was registered beforehand is in it.
    """

    def __init__(self, path: Path, given: McpServer) -> None:
        self._path, self._given = path, given
        try:
            kept = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            kept = {}
        self.kept: dict[str, Any] = kept if isinstance(kept, dict) else {}
        self.redirect_uri = ""

    @property
    def port(self) -> int:
        """The port that the sign-in came back to last time, for which the client is registered; 0 if there is none."""
        uris = self.kept.get("client", {}).get("redirect_uris") or [""]
        return urlsplit(uris[0]).port or 0

    async def get_tokens(self) -> OAuthToken | None:
        from mcp.shared.auth import OAuthToken

        return OAuthToken.model_validate(self.kept["tokens"]) if "tokens" in self.kept else None

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._keep(
            tokens=tokens.model_dump(mode="json", exclude_none=True),
            expires=time.time() + tokens.expires_in if tokens.expires_in else None,
        )

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        from mcp.shared.auth import OAuthClientInformationFull

        if self._given.client_id:
            method = "client_secret_basic" if self._given.client_secret else "none"
            return OAuthClientInformationFull.model_validate(
                {
                    "client_id": self._given.client_id,
                    "client_secret": self._given.client_secret or None,
                    "redirect_uris": [self.redirect_uri],
                    "token_endpoint_auth_method": method,
                }
            )
        client = self.kept.get("client")
        if client is None or self.redirect_uri not in (client.get("redirect_uris") or ()):
            return None  # the port is taken by now: the client is registered anew
        return OAuthClientInformationFull.model_validate(client)

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._keep(client=client_info.model_dump(mode="json", exclude_none=True))

    def keep_metadata(self, metadata: Any) -> None:
        """Remember where the authority renews tokens: after a restart nothing else says it."""
        self._keep(metadata=metadata.model_dump(mode="json", exclude_none=True))

    def _keep(self, **entries: Any) -> None:
        self.kept |= entries
        write_private(self._path, json.dumps(self.kept))


def _program(given: McpServer, storage: Storage) -> OAuthClientProvider:
    """The sign-in of a program that was registered beforehand: with its secret, or with what it signs with its key."""
    from mcp.client.auth.extensions import client_credentials as sdk

    if given.client_secret:
        return sdk.ClientCredentialsOAuthProvider(
            given.url, storage, given.client_id, given.client_secret, issuer=given.issuer
        )
    said = sdk.SignedJWTParameters(
        issuer=given.client_id,
        subject=given.client_id,
        signing_key=given.private_key,
        signing_algorithm=given.signing_algorithm,
    )
    return sdk.PrivateKeyJWTOAuthProvider(
        given.url, storage, given.client_id, said.create_assertion_provider(), issuer=given.issuer
    )


def _provider(
    name: str, given: McpServer, storage: Storage, person: Person, callback: _Callback, waits: Callable[[], None]
) -> OAuthClientProvider:
    from mcp.client.auth import OAuthClientProvider
    from mcp.shared.auth import OAuthClientMetadata, OAuthMetadata

    storage.redirect_uri = callback.uri

    class Provider(OAuthClientProvider):
        """The SDK's, which also renews tokens that it read from the file."""

        async def _initialize(self) -> None:
            await super()._initialize()
            if self.context.current_tokens and storage.kept.get("expires"):
                self.context.token_expiry_time = storage.kept["expires"]
            if "metadata" in storage.kept:
                self.context.oauth_metadata = OAuthMetadata.model_validate(storage.kept["metadata"])

        async def _handle_token_response(self, response: httpx2.Response) -> None:
            await super()._handle_token_response(response)
            if self.context.oauth_metadata:
                storage.keep_metadata(self.context.oauth_metadata)

    async def redirect(url: str) -> None:
        waits()
        await callback.listen()
        if not await person.opens(name, "asks you to sign in", url):
            raise ToolError(
                f"the MCP server {name} wants you to sign in",
                f"`apprentice mcp tools {name}` at a terminal asks you to.",
            )

    metadata = OAuthClientMetadata.model_validate(
        {"client_name": "Apprentice", "redirect_uris": [callback.uri], "token_endpoint_auth_method": None}
    )
    return Provider(
        given.url,
        metadata,
        storage,
        redirect_handler=redirect,
        callback_handler=callback.result,
        client_metadata_url=given.client_metadata_url or None,
    )


class _Callback:
    """Where the browser comes back to: a port of this machine's loopback, that listens only during a sign-in.

    Args:
        port: the one to take if it is free; 0 takes any.
    """

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind(("127.0.0.1", port))
        except OSError:
            self._socket.bind(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._socket.getsockname()[1]}/callback"
        self._server: asyncio.Server | None = None
        self._came: asyncio.Future[dict[str, str]] | None = None

    async def listen(self) -> None:
        """Begin to listen for one sign-in."""
        self._came = asyncio.get_running_loop().create_future()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, sock=self._socket)

    async def result(self) -> AuthorizationCodeResult:
        """What the browser brought. Raises ToolError if it brought a refusal, or nothing in time."""
        from mcp.client.auth import AuthorizationCodeResult

        assert self._came is not None
        try:
            async with asyncio.timeout(SIGN_IN_SECONDS):
                given = await self._came
        except TimeoutError:
            raise ToolError(f"nobody signed in within {SIGN_IN_SECONDS:g} seconds", "Try again.") from None
        if "code" not in given:
            raise ToolError(f"the sign-in was refused: {given.get('error', 'no code came back')}")
        return AuthorizationCodeResult(code=given["code"], state=given.get("state"), iss=given.get("iss"))

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, asyncio.LimitOverrunError):
            line = (await reader.readline()).decode("ascii", "replace").split()
            target = urlsplit(line[1]) if len(line) == 3 and line[0] == "GET" else None
            ours = target is not None and target.path == "/callback"
            status, body = (b"200 OK", DONE) if ours else (b"404 Not Found", b"")
            head = b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            writer.write(head % (status, len(body)) + body)
            await writer.drain()
            if target is not None and ours and self._came is not None and not self._came.done():
                self._came.set_result({name: values[0] for name, values in parse_qs(target.query).items()})
        writer.close()

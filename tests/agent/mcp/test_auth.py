"""Servers at an address: headers, sessions, and the sign-in of a person in a browser."""

from __future__ import annotations

import asyncio
import json
import stat
import sys
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from agent.errors import ToolError
from agent.mcp.config import Server
from agent.mcp.elicitation import Person
from agent.mcp.tools import Servers
from agent.settings import McpServer
from tests.wire.mcp_http_server import McpHttpServer

FOLLOW = (
    "import sys, urllib.request, pathlib; pathlib.Path(sys.argv[1]).open('a').write('went\\n'); "
    "urllib.request.urlopen(sys.argv[2], timeout=10).read()"
)


@pytest.fixture
def server() -> Iterator[McpHttpServer]:
    with McpHttpServer() as running:
        yield running


def key() -> str:
    """A new private key in PEM."""
    made = ec.generate_private_key(ec.SECP256R1())
    plain = serialization.NoEncryption()
    return made.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()


class Browser:
    """A browser that follows links, and the person before it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = folder / "browser.log"
        script = folder / "follow.py"
        script.write_text(FOLLOW)
        monkeypatch.setenv("BROWSER", f"{sys.executable} {script} {self._log} %s")
        monkeypatch.setattr(webbrowser, "_tryorder", None)  # it looks at BROWSER only once
        self.asked: list[str] = []
        self.willing = True

    async def ask(self, question: str) -> bool:
        self.asked.append(question)
        return self.willing

    @property
    def person(self) -> Person:
        return Person(self.ask)

    @property
    def opened(self) -> int:
        return len(self._log.read_text().splitlines()) if self._log.exists() else 0


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Browser:
    return Browser(tmp_path, monkeypatch)


def said(server: McpHttpServer, folder: Path, person: Person | None = None, calls: int = 1, **more: Any) -> list[str]:
    """What `echo` answers to so many calls, in a process of its own."""
    definition = McpServer.model_validate({"url": server.url} | more)

    async def work() -> list[str]:
        one = Server("web", definition, folder)
        servers = Servers({"web": one}, folder / "data", person or Person(), lambda event: None)
        try:
            return [
                await servers.call(await servers.connection(one), "echo", {"text": "hi"}, "echo") for _ in range(calls)
            ]
        finally:
            await servers.close()

    return asyncio.run(work())


def kept(folder: Path) -> Path:
    """The file with the tokens."""
    return next((folder / "data" / "mcp").glob("auth-*.json"))


def test_a_server_at_an_address_is_called_with_the_headers_that_are_set(
    server: McpHttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "the-key")
    assert said(server, tmp_path, headers={"Authorization": "Bearer ${KEY}"}) == ["echo hi"]
    assert {headers["authorization"] for headers in server.headers} == {"Bearer the-key"}


def test_a_session_that_the_server_forgot_is_told_once_and_the_next_call_begins_another(
    server: McpHttpServer, tmp_path: Path
) -> None:
    async def work() -> str:
        one = Server("web", McpServer(url=server.url), tmp_path)
        servers = Servers({"web": one}, tmp_path / "data", Person(), lambda event: None)
        try:
            live = await servers.connection(one)
            server.forgotten = True
            with pytest.raises(ToolError, match="Session terminated"):
                await servers.call(live, "echo", {"text": "hi"}, "echo")
            return await servers.call(await servers.connection(one), "echo", {"text": "hi"}, "echo")
        finally:
            await servers.close()

    assert asyncio.run(work()) == "echo hi"
    assert server.sessions == 2


def test_a_server_that_is_gone_is_told_and_found_again_when_it_is_back(tmp_path: Path) -> None:
    async def work() -> str:
        with McpHttpServer() as first:
            one = Server("web", McpServer(url=first.url), tmp_path)
            servers = Servers({"web": one}, tmp_path / "data", Person(), lambda event: None)
            live = await servers.connection(one)
        try:
            with pytest.raises(ToolError, match="the MCP server web failed"):
                await servers.call(live, "echo", {"text": "hi"}, "echo")
            with pytest.raises(ToolError, match="nothing answers at its address"):
                await servers.connection(one)
            with McpHttpServer(port=first.port):
                return await servers.call(await servers.connection(one), "echo", {"text": "hi"}, "echo")
        finally:
            await servers.close()

    assert asyncio.run(work()) == "echo hi"


def test_a_person_signs_in_once_in_their_browser_and_the_token_is_theirs_alone(
    server: McpHttpServer, tmp_path: Path, browser: Browser
) -> None:
    server.sign_in = True
    assert said(server, tmp_path, browser.person) == ["echo hi"]
    assert said(server, tmp_path) == ["echo hi"], "the next process needs nobody"
    assert (browser.opened, server.registered, server.grants) == (1, 1, ["authorization_code"])
    assert browser.asked[0].startswith(f"The MCP server web asks you to sign in: {server.base}/authorization?")
    assert stat.S_IMODE(kept(tmp_path).stat().st_mode) == 0o600


def test_a_token_that_ran_out_is_renewed_without_the_person(
    server: McpHttpServer, tmp_path: Path, browser: Browser
) -> None:
    server.sign_in = True
    said(server, tmp_path, browser.person)
    stored = json.loads(kept(tmp_path).read_text())
    kept(tmp_path).write_text(json.dumps(stored | {"expires": time.time() - 10}))
    assert said(server, tmp_path) == ["echo hi"]
    assert server.grants == ["authorization_code", "refresh_token"]


@pytest.mark.parametrize("there", [True, False])
def test_without_a_sign_in_the_error_says_how_to_get_one(
    server: McpHttpServer, tmp_path: Path, browser: Browser, there: bool
) -> None:
    server.sign_in, browser.willing = True, False
    with pytest.raises(ToolError, match=r"wants you to sign in. `apprentice mcp tools web` at a terminal"):
        said(server, tmp_path, browser.person if there else None)
    assert browser.opened == 0


def test_a_client_that_was_registered_beforehand_is_used(
    server: McpHttpServer, tmp_path: Path, browser: Browser
) -> None:
    server.sign_in = True
    assert said(server, tmp_path, browser.person, client_id="mine", client_secret="its-secret") == ["echo hi"]
    assert server.registered == 0


def test_a_program_signs_in_by_itself_with_its_secret(server: McpHttpServer, tmp_path: Path, browser: Browser) -> None:
    server.sign_in = True
    program = {"client_id": "robot", "client_secret": "its-secret", "issuer": server.base}
    assert said(server, tmp_path, None, **program) == ["echo hi"]
    assert server.grants == ["client_credentials"]
    assert (server.registered, browser.opened) == (0, 0)


def test_a_program_signs_in_with_what_it_signs(server: McpHttpServer, tmp_path: Path) -> None:
    server.sign_in = True
    program = {"client_id": "robot", "private_key": key(), "signing_algorithm": "ES256", "issuer": server.base}
    assert said(server, tmp_path, None, **program) == ["echo hi"]
    assert server.grants == ["client_credentials"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"client_secret": "its-secret", "issuer": "https://other.example"}, "other.example"),
        ({"private_key": "no key", "issuer": ""}, "key"),
    ],
)
def test_nobody_else_gets_the_secret_and_a_damaged_key_is_told(
    server: McpHttpServer, tmp_path: Path, more: dict[str, str], told: str
) -> None:
    server.sign_in = True
    with pytest.raises(ToolError, match=told):
        said(server, tmp_path, None, client_id="robot", **(more | {"issuer": more["issuer"] or server.base}))
    assert server.grants == []


def test_an_issuer_needs_a_client_with_one_way_to_sign_in() -> None:
    for more in ({}, {"client_id": "a"}, {"client_id": "a", "client_secret": "b", "private_key": "c"}):
        with pytest.raises(ValueError, match="with an issuer a server has"):
            McpServer.model_validate({"url": "http://x", "issuer": "http://y"} | more)


def test_a_damaged_file_of_tokens_means_to_sign_in_again(
    server: McpHttpServer, tmp_path: Path, browser: Browser
) -> None:
    server.sign_in = True
    said(server, tmp_path, browser.person)
    kept(tmp_path).write_text("[")
    assert said(server, tmp_path, browser.person) == ["echo hi"]
    assert browser.opened == 2


def test_only_web_addresses_are_opened(browser: Browser) -> None:
    assert not asyncio.run(browser.person.opens("web", "asks", "file:///etc/passwd"))
    assert not asyncio.run(browser.person.opens("web", "asks", "javascript:alert(1)"))
    assert browser.asked == []

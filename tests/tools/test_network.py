"""Who may be reached, and how much may come back. The servers are real and on loopback; so each test says itself
that loopback is allowed, which nothing outside of the code can."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agent.errors import ConsentDenied, ToolError
from tests.tools.conftest import MakeContext
from tests.tools.page_server import PageServer, page, redirect
from tools import network
from tools.network import Page, fetch, is_public, lookup
from tools.registry import ToolContext

HOST = "example.org"


def loopback_only(host: str, address: str) -> bool:
    """As strict as `is_public`, but for the one address where the test server is."""
    return address == "127.0.0.1" or is_public(host, address)


def names(**known: str | Sequence[str]) -> network.Lookup:
    """A resolver: every name is at 127.0.0.1 but for those given, with _ for a dot."""
    table = {name.replace("_", "."): [at] if isinstance(at, str) else at for name, at in known.items()}

    async def resolve(host: str, port: int) -> Sequence[str]:
        return table.get(host, ["127.0.0.1"])

    return resolve


def get(context: ToolContext, url: str, resolve: network.Lookup | None = None) -> Page:
    return asyncio.run(fetch(context, url, allowed=loopback_only, resolve=resolve or names()))


@pytest.fixture
def context(make_context: MakeContext) -> ToolContext:
    return make_context(allowed={f"net:{HOST}", "net:other.org"}, fetch_limit=10_000, fetch_timeout=5)


@pytest.fixture
def site(server: PageServer) -> str:
    """The test server under a name of the internet."""
    return f"http://{HOST}:{server.port}"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.127.255.255",
        "0.0.0.0",
        "0.1.2.3",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "100::1",
        "2001:db8::1",
        "2001:2::1",
        "4000::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "2002:7f00:1::",
        "2002:c0a8:101::1",
        "2001:0:a00:1:0:0:f5ff:fffe",
        "2001:0:808:808:0:0:f5ff:fffe",
        "64:ff9b::7f00:1",
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "2a00:1450::5efe:192.168.0.1",
        "2a00:1450::200:5efe:10.0.0.1",
    ],
)
def test_no_address_of_a_private_or_special_network_is_public(address: str) -> None:
    assert not is_public("trusted.example.org", address)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "100.63.255.255",
        "100.128.0.1",
        "172.32.0.1",
        "2606:4700::1111",
        "2a00:1450:4001::200e",
        "::ffff:8.8.8.8",
        "2002:808:808::1",
        "64:ff9b::808:808",
    ],
)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public("", address)


def test_a_page_comes_back_with_its_type_and_character_set(context: ToolContext, server: PageServer, site: str) -> None:
    server.pages["/a"] = page("grün".encode("latin-1"), "Text/Plain; charset=ISO-8859-1")
    found = get(context, f"{site}/a?q=1#part")
    assert (found.status, found.content_type, found.charset, found.body) == (
        200,
        "text/plain",
        "iso-8859-1",
        b"gr\xfcn",
    )
    assert found.url == f"{site}/a?q=1"
    path, headers = server.requests[0]
    assert path == "/a?q=1"
    assert headers["host"] == f"{HOST}:{server.port}"
    assert headers.keys() & {"cookie", "authorization"} == set()


def test_the_standard_lookup_and_rule_refuse_loopback(make_context: MakeContext, server: PageServer) -> None:
    context = make_context(allowed={"net:localhost", "net:127.0.0.1", "net:::1"})
    for host in ("localhost", "127.0.0.1", "[::1]", "localhost."):
        with pytest.raises(ToolError, match="only public addresses"):
            asyncio.run(fetch(context, f"http://{host}:{server.port}/"))
    assert server.requests == []


def test_nothing_is_looked_up_before_consent(make_context: MakeContext) -> None:
    looked_up = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        looked_up.append(host)
        return ["127.0.0.1"]

    with pytest.raises(ConsentDenied) as caught:
        get(make_context(allowed={"net:other.org"}), f"http://{HOST}/a?q=1", resolve)
    assert caught.value.message == f"not allowed: fetch http://{HOST}/a?q=1"
    assert caught.value.hint == f"To allow it, give --allow net:{HOST}."
    assert looked_up == []


def test_local_only_refuses_even_what_is_allowed(make_context: MakeContext) -> None:
    with pytest.raises(ConsentDenied, match="privacy is local-only"):
        get(make_context(allowed={f"net:{HOST}"}, local_only=True), f"http://{HOST}/")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://example.org/", "not an http or https address"),
        ("file:///etc/hosts", "not an http or https address"),
        ("javascript:alert(1)", "not an http or https address"),
        ("example.org/page", "not an http or https address"),
        ("http://", "not an http or https address"),
        ("", "not an http or https address"),
        ("http://user:pass@example.org/", "holds a user name or password"),
        ("http://example.org@other.org/", "holds a user name or password"),
        ("http://example.org:22/", "names the port 22"),
        ("https://example.org:25/", "names the port 25"),
        ("http://example.org:0/", "names the port 0"),
        ("http://example.org:99999/", "names the port 99999"),
        ("http://exa mple.org/", "not an http or https address"),
        ("http://example.org%2f@/", "not an http|password"),
        ("http://example.org/\n\rX: y", "is not an address"),
        ("http://[::1/", "is not an address"),
    ],
)
def test_an_address_that_is_not_fetched_is_named(context: ToolContext, url: str, problem: str) -> None:
    with pytest.raises(ToolError, match=problem) as caught:
        get(context, url)
    assert "pass" not in caught.value.message.replace("password", "")


@pytest.mark.parametrize(
    ("spelled", "asked"), [("EXAMPLE.org", HOST), ("example.org.", HOST), ("exämple.org", "xn--exmple-cua.org")]
)
def test_consent_is_asked_for_the_host_as_the_network_knows_it(
    make_context: MakeContext, spelled: str, asked: str
) -> None:
    with pytest.raises(ConsentDenied) as caught:
        get(make_context(), f"http://{spelled}/")
    assert caught.value.hint == f"To allow it, give --allow net:{asked}."


@pytest.mark.parametrize("at", ["10.0.0.1", "::ffff:127.0.0.1", ["127.0.0.1", "192.168.0.1"], []])
def test_a_name_at_a_private_address_is_refused(
    context: ToolContext, server: PageServer, site: str, at: str | list[str]
) -> None:
    with pytest.raises(ToolError, match=r"example\.org is at .*: only public addresses are fetched from"):
        get(context, f"{site}/", names(example_org=at))
    assert server.requests == []


def test_a_name_that_changes_its_address_is_asked_only_once(
    context: ToolContext, server: PageServer, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second answer would be private. The connection goes to the first; no other is asked for."""
    answers = iter(["127.0.0.1", "127.0.0.2", "10.0.0.1"])
    connected: list[str] = []
    real = socket.socket.connect

    async def rebinding(host: str, port: int) -> Sequence[str]:
        return [next(answers)]

    def connect(self: socket.socket, address: Any) -> None:
        connected.append(address[0])
        real(self, address)

    def no_lookup(*_: Any, **__: Any) -> Any:
        raise AssertionError("a name was looked up again")

    class Loop(asyncio.SelectorEventLoop):
        async def sock_connect(self, sock: socket.socket, address: Any) -> None:
            connected.append(address[0])
            await super().sock_connect(sock, address)

    server.pages["/"] = page("first")
    monkeypatch.setattr(socket, "gethostbyname", no_lookup)
    with asyncio.Runner(loop_factory=Loop) as runner:
        found = runner.run(fetch(context, f"{site}/", allowed=loopback_only, resolve=rebinding))
        assert found.body == b"first"
        with pytest.raises(ToolError, match=r"is at 127\.0\.0\.2"):
            runner.run(fetch(context, f"{site}/", allowed=loopback_only, resolve=rebinding))
    assert connected == ["127.0.0.1"]


def test_the_next_address_is_tried_when_one_does_not_answer(
    context: ToolContext, server: PageServer, site: str
) -> None:
    server.pages["/"] = page("here")  # it listens on IPv4 alone

    def allowed(host: str, address: str) -> bool:
        return address in ("::1", "127.0.0.1")

    found = asyncio.run(fetch(context, f"{site}/", allowed=allowed, resolve=names(example_org=["::1", "127.0.0.1"])))
    assert found.body == b"here"


def test_redirects_are_followed_and_the_last_address_is_told(
    context: ToolContext, server: PageServer, site: str
) -> None:
    server.pages |= {
        "/1": redirect("/2", "301 Moved Permanently"),
        "/2": redirect(f"http://other.org:{server.port}/3", "307 Temporary Redirect"),
        "/3": page("there"),
    }
    found = get(context, f"{site}/1")
    assert (found.url, found.body) == (f"http://other.org:{server.port}/3", b"there")
    assert [path for path, _ in server.requests] == ["/1", "/2", "/3"]


def test_a_redirect_to_another_host_needs_its_own_consent(
    make_context: MakeContext, server: PageServer, site: str
) -> None:
    server.pages |= {"/": redirect(f"http://other.org:{server.port}/x?data=1"), "/x": page("there")}
    with pytest.raises(ConsentDenied, match=r"fetch http://other\.org:\d+/x\?data=1"):
        get(make_context(allowed={f"net:{HOST}"}), f"{site}/")
    assert [path for path, _ in server.requests] == ["/"]


def test_a_person_is_asked_once_for_each_host(make_context: MakeContext, server: PageServer, site: str) -> None:
    questions = []

    async def ask(question: str) -> bool:
        questions.append(question)
        return True

    server.pages |= {
        "/": redirect("/again"),
        "/again": redirect(f"http://other.org:{server.port}/x"),
        "/x": page("there"),
    }
    get(make_context(ask=ask), f"{site}/")
    assert questions == [
        f"Allow net:{HOST}: fetch {site}/?",
        f"Allow net:other.org: fetch http://other.org:{server.port}/x?",
    ]


@pytest.mark.parametrize(
    "location",
    [
        "http://private.example/",
        "http://192.168.0.1/admin",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
    ],
)
def test_a_redirect_to_a_private_address_is_refused(
    make_context: MakeContext, server: PageServer, site: str, location: str
) -> None:
    async def yes(_: str) -> bool:
        return True

    async def resolve(host: str, port: int) -> Sequence[str]:
        return {HOST: ["127.0.0.1"], "private.example": ["10.1.2.3"]}.get(host) or await lookup(host, port)

    server.pages["/"] = redirect(location)
    with pytest.raises(ToolError, match="only public addresses"):
        get(make_context(ask=yes), f"{site}/", resolve)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://u:p@other.org/", "http://other.org:22/"])
def test_a_redirect_to_what_is_no_page_is_refused(
    context: ToolContext, server: PageServer, site: str, location: str
) -> None:
    server.pages["/"] = redirect(location)
    with pytest.raises(ToolError, match=r"not an http|password|the port 22"):
        get(context, f"{site}/")


def test_redirects_in_a_circle_end(context: ToolContext, server: PageServer, site: str) -> None:
    server.pages["/"] = redirect("/")
    with pytest.raises(ToolError, match="more than 5 redirects"):
        get(context, f"{site}/")
    assert len(server.requests) == 6


def endless(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        connection.sendall(b"x" * 10_000)


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def silent(connection: socket.socket) -> None:
    time.sleep(10)


def drip_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n")
        time.sleep(0.02)


def cut(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")


@pytest.mark.parametrize("answer", [endless, page("x" * 10_001)])
def test_a_body_over_the_limit_is_refused(
    context: ToolContext, server: PageServer, site: str, answer: bytes | Callable[[socket.socket], None]
) -> None:
    server.pages["/"] = answer
    with pytest.raises(ToolError, match="has more than 10,000 bytes") as caught:
        get(context, f"{site}/")
    assert "tools.fetch_limit" in caught.value.hint


def test_a_body_at_the_limit_is_fetched(context: ToolContext, server: PageServer, site: str) -> None:
    server.pages["/"] = page("x" * 10_000)
    assert len(get(context, f"{site}/").body) == 10_000


@pytest.mark.parametrize("answer", [drip, silent, drip_headers])
def test_a_server_that_takes_for_ever_is_left(
    make_context: MakeContext, server: PageServer, site: str, answer: Callable[[socket.socket], None]
) -> None:
    server.pages["/"] = answer
    context = make_context(allowed={f"net:{HOST}"}, fetch_timeout=0.4)
    started = time.monotonic()
    with pytest.raises(ToolError, match=r"took longer than 0\.4 s"):
        get(context, f"{site}/")
    assert time.monotonic() - started < 2


def test_the_time_is_for_all_redirects_together_but_not_for_the_persons_answers(
    make_context: MakeContext, server: PageServer, site: str
) -> None:
    def slow(connection: socket.socket) -> None:
        time.sleep(0.3)
        connection.sendall(redirect("/"))

    async def slow_yes(_: str) -> bool:
        await asyncio.sleep(1.2)
        return True

    server.pages["/"] = slow
    with pytest.raises(ToolError, match="took longer than 1 s"):
        get(make_context(ask=slow_yes, fetch_timeout=1), f"{site}/")
    assert 3 <= len(server.requests) <= 4


def test_a_connection_that_breaks_is_explained(context: ToolContext, server: PageServer, site: str) -> None:
    server.pages["/"] = cut
    with pytest.raises(ToolError, match=r"could not be fetched: .+"):
        get(context, f"{site}/")
    server.pages["/"] = lambda connection: connection.close()
    with pytest.raises(ToolError, match=r"could not be fetched: .+"):
        get(context, f"{site}/")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ToolError, match=r"could not be fetched: .+"):
        get(context, f"http://{HOST}:{port}/")


def test_a_packed_page_is_unpacked(context: ToolContext, server: PageServer, site: str) -> None:
    server.pages["/"] = page(gzip.compress(b"hello " * 1000), headers="Content-Encoding: gzip\r\n")
    assert get(context, f"{site}/").body == b"hello " * 1000
    assert server.requests[0][1]["accept-encoding"] == "gzip"


def test_a_bomb_is_refused_before_it_is_unpacked(
    context: ToolContext, server: PageServer, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred megabytes of zeros in a hundred kilobytes: only the limit and one byte are unpacked."""
    packer = zlib.compressobj(wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(100)) + packer.flush()
    server.pages["/"] = page(bomb, headers="Content-Encoding: gzip\r\n")
    unpacked = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, **options: Any) -> None:
            self.inner = real(**options)

        def decompress(self, data: bytes, most: int) -> bytes:
            out = self.inner.decompress(data, most)
            unpacked.append(len(out))
            return out

    monkeypatch.setattr(zlib, "decompressobj", Counting)
    with pytest.raises(ToolError, match="more than 10,000 bytes"):
        get(context, f"{site}/")
    assert sum(unpacked) == 10_001


@pytest.mark.parametrize(
    ("body", "encoding", "problem"),
    [
        (b"not gzip at all", "gzip", "gzip data is damaged"),
        (gzip.compress(b"hello" * 100, mtime=0)[:-12], "gzip", "broke off before its end"),
        (b"x", "br", "packed as br, which was not asked for"),
        (b"x", "gzip, gzip", "packed as gzip, gzip"),
    ],
)
def test_a_page_that_cannot_be_unpacked_is_refused(
    context: ToolContext, server: PageServer, site: str, body: bytes, encoding: str, problem: str
) -> None:
    server.pages["/"] = page(body, headers=f"Content-Encoding: {encoding}\r\n")
    with pytest.raises(ToolError, match=problem):
        get(context, f"{site}/")


def test_proxies_and_passwords_of_the_environment_are_ignored(
    context: ToolContext, server: PageServer, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.pages["/"] = page("direct")
    assert get(context, f"{site}/").body == b"direct"


def test_the_name_stays_in_tls_though_the_connection_goes_to_an_address(context: ToolContext) -> None:
    """A server that reads the first message of TLS finds the name in it, and not the address."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                received.append(connection.recv(65536))

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ToolError, match="could not be fetched"):
            get(context, f"https://{HOST}:{listener.getsockname()[1]}/")
        thread.join()
    assert HOST.encode() in received[0]
    assert b"127.0.0.1" not in received[0]


def test_lookup_gives_literal_addresses_back_and_asks_for_names() -> None:
    assert asyncio.run(lookup("8.8.8.8", 80)) == ["8.8.8.8"]
    assert asyncio.run(lookup("2001:db8::1", 80)) == ["2001:db8::1"]
    assert "127.0.0.1" in asyncio.run(lookup("localhost", 80))


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")])
def test_a_name_that_is_not_found_is_explained(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ToolError, match=r"no address was found for the host missing\.example"):
        asyncio.run(lookup("missing.example", 80))


def test_a_resolver_that_hangs_holds_up_neither_the_fetch_nor_the_exit(
    make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer.wait(20) and [])
    started = time.monotonic()
    with pytest.raises(ToolError, match=r"took longer than 0\.3 s"):
        asyncio.run(fetch(make_context(allowed={f"net:{HOST}"}, fetch_timeout=0.3), f"http://{HOST}/"))
    assert time.monotonic() - started < 2
    answer.set()

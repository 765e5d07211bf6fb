"""Fetching from the network for a tool: who may be reached, and how much may come back.

Each hop of a fetch is checked alike, the first address and every redirect:
- http or https, no user name or password in the address, port 80, 443 or from 1024 up (so no mail or shell server);
- a person's consent for the host, before even its name is looked up;
- its name is looked up here, every address must be public, and the connection goes to the address that was checked:
  a name that changes its mind in between (DNS rebinding) gains nothing. Host header and TLS keep the name.
Proxies, cookies and passwords of the environment are not used. Bytes are counted after unpacking and while they come.

What this does not cover: a public server that forwards to a private one, and a network that routes public
addresses to private machines.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from agent.errors import ToolError
from tools.registry import ToolContext

if TYPE_CHECKING:
    import httpx

REDIRECTS = 5
CONNECT_SECONDS = 5.0
"""For one address of a host; then its next one is tried."""
USER_AGENT = "apprentice/0.1"

Allowed = Callable[[str, str], bool]
"""Whether a host may be reached at an IP address."""
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host."""


@dataclass(frozen=True, slots=True)
class Page:
    """What came back. `url` is the last one after redirects; `content_type` is lower case, without parameters."""

    url: str
    status: int
    content_type: str
    charset: str
    body: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    page: Page
    location: str
    """Where a redirect leads; empty if it is none."""


def is_public(host: str, address: str) -> bool:
    """Whether an IP address is one of the public internet. The host's name does not matter.

    Addresses that carry an IPv4 address (mapped, 6to4, Teredo, NAT64, ISATAP) are as public as that one.
    """
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv4Address):
        return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip in _RELAYS)
    inner = _embedded(ip)
    if inner:
        return all(is_public(host, str(entry)) for entry in inner)
    return ip in _UNICAST and ip.is_global and not ip.is_multicast


_RELAYS = ipaddress.ip_network("192.88.99.0/24")
_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")


def _embedded(ip: ipaddress.IPv6Address) -> list[ipaddress.IPv4Address]:
    """The IPv4 addresses that packets to this one may end at."""
    last = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if ip in _NAT64 or ip in _COMPATIBLE or (int(ip) >> 32) & 0xFFFFFFFF in (0x00005EFE, 0x02005EFE):
        return [last]
    return [entry for entry in (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())) if entry is not None]


async def lookup(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, in the system's order. In a daemon thread: a resolver that hangs holds up no exit.

    Raises:
        ToolError: there is no such name.
    """
    with suppress(ValueError):
        return [str(ipaddress.ip_address(host))]
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def tell(addresses: list[str]) -> None:
        if not answer.done():
            answer.set_result(addresses)

    def work() -> None:
        addresses: list[str] = []
        with suppress(OSError, UnicodeError):
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(row[4][0]) for row in rows))
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, addresses)

    threading.Thread(target=work, daemon=True, name="lookup").start()
    found = await answer
    if not found:
        raise ToolError(f"no address was found for the host {host}", "Check its spelling, and the connection.")
    return found


async def fetch(context: ToolContext, url: str, *, allowed: Allowed = is_public, resolve: Lookup = lookup) -> Page:
    """Get what is at an address, redirects followed, within the limits of `tools.fetch_limit` and `fetch_timeout`.

    Args:
        context: asks for consent, and has the limits.
        url: http or https.
        allowed: which addresses may be reached; other than `is_public` only for a host that the person configured.
        resolve: looks names up.

    Raises:
        ConsentDenied: nobody allowed a host.
        ToolError: a refused address, too many bytes or redirects, no time left, or the connection failed.
    """
    import httpx

    left = context.settings.tools.fetch_timeout
    for _ in range(REDIRECTS + 1):
        target = _target(url)
        await context.consent.require(f"net:{_host(target)}", f"fetch {target}", sent=str(target))
        started = time.monotonic()
        try:
            async with asyncio.timeout(left):
                answer = await _hop(target, context.settings.tools.fetch_limit, allowed, resolve)
        except TimeoutError:
            seconds = context.settings.tools.fetch_timeout
            raise ToolError(f"{url} took longer than {seconds:g} s", "The limit is tools.fetch_timeout.") from None
        except (httpx.HTTPError, OSError) as error:
            raise ToolError(f"{url} could not be fetched: {str(error) or type(error).__name__}") from None
        left -= time.monotonic() - started
        if not answer.location:
            return answer.page
        try:
            url = urljoin(str(target), answer.location)
        except ValueError:
            raise ToolError(f"{target} redirects to {answer.location!r}, which is no address") from None
    raise ToolError(f"{url} was reached by more than {REDIRECTS} redirects, which is the most that is followed")


def _target(url: str) -> httpx.URL:
    """The parsed address, without its fragment. Raises ToolError if it is none that may be fetched."""
    import httpx

    try:
        target = httpx.URL(url.strip()).copy_with(fragment=None)
    except (httpx.InvalidURL, ValueError) as error:
        raise ToolError(f"{url!r} is not an address: {error}") from None
    if target.scheme not in ("http", "https") or not re.fullmatch(r"[\w.:-]+", _host(target), re.ASCII):
        raise ToolError(f"{url!r} is not an http or https address")
    if target.userinfo:
        raise ToolError(f"the address of {target.host} holds a user name or password, which is not sent")
    if target.port is not None and target.port not in (80, 443, *range(1024, 65536)):
        raise ToolError(f"{url} names the port {target.port}: only 80, 443 and 1024 to 65535 are fetched from")
    return target


def _host(target: httpx.URL) -> str:
    """The host as consent names it: ASCII (so that look-alike letters show), lower case, no dot at its end."""
    return target.raw_host.decode("ascii").lower().rstrip(".")


async def _hop(target: httpx.URL, limit: int, allowed: Allowed, resolve: Lookup) -> _Answer:
    """One request, to the first of the host's addresses that answers."""
    import httpx

    host = _host(target)
    addresses = await resolve(host, target.port or (443 if target.scheme == "https" else 80))
    refused = [address for address in addresses if not allowed(host, address)]
    if refused or not addresses:
        raise ToolError(f"{host} is at {', '.join(refused) or 'no address'}: only public addresses are fetched from")
    for address in addresses[:-1]:
        with suppress(httpx.ConnectError, httpx.ConnectTimeout):
            return await _request(target, address, limit)
    return await _request(target, addresses[-1], limit)


async def _request(target: httpx.URL, address: str, limit: int) -> _Answer:
    """Ask one IP address for the page. The name stays in the Host header and in TLS, which checks it."""
    import httpx

    headers = {"Host": target.netloc.decode("ascii"), "User-Agent": USER_AGENT, "Accept-Encoding": "gzip"}
    timeout = httpx.Timeout(None, connect=CONNECT_SECONDS)  # the whole is timed by the caller
    async with (
        httpx.AsyncClient(trust_env=False, follow_redirects=False, timeout=timeout) as client,
        client.stream(
            "GET", target.copy_with(host=address), headers=headers, extensions={"sni_hostname": _host(target)}
        ) as response,
    ):
        location = response.headers.get("location", "") if response.has_redirect_location else ""
        body = b"" if location else await _body(response, str(target), limit)
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        page = Page(str(target), response.status_code, content_type, response.charset_encoding or "", body)
        return _Answer(page, location)


async def _body(response: httpx.Response, url: str, limit: int) -> bytes:
    """The unpacked body. Never more than `limit` bytes of it, and one more packet, are in memory."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise ToolError(f"{url} is packed as {encoding}, which was not asked for")
    unpacker = None if encoding == "identity" else zlib.decompressobj(wbits=31)
    body = bytearray()
    async for packet in response.aiter_raw():
        try:
            body += unpacker.decompress(packet, limit + 1 - len(body)) if unpacker else packet
        except zlib.error:
            raise ToolError(f"{url} could not be unpacked: its gzip data is damaged") from None
        if len(body) > limit:
            raise ToolError(f"{url} has more than {limit:,} bytes", "The limit is tools.fetch_limit.")
    if unpacker and not unpacker.eof:
        raise ToolError(f"{url} broke off before its end")
    return bytes(body)

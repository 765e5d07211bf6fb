"""The one place for time-outs, retries and error mapping of every model that is reached by HTTP.

An attempt at a reply raises `Failure`; `Server.attempts` retries it while nothing of the reply has been passed on, and
otherwise raises the ModelError in it. Closing or cancelling the iterator closes the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import ipaddress
import json
import os
import random
import re
import ssl
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from agent.errors import ContextOverflow, ModelCut, ModelError, ModelRefused, ModelUnavailable
from agent.messages import Json
from agent.models.sse import EventDecoder
from agent.settings import Settings

if TYPE_CHECKING:
    from types import ModuleType

    import httpx

T = TypeVar("T")
BACKOFF = 0.5
"""Seconds before the first retry; doubled for each further one, with up to a quarter of chance on top."""
LONGEST_BACKOFF = 8.0
LONGEST_RETRY_AFTER = 60.0
"""The most seconds of a server's Retry-After that are waited."""
ERROR_BYTES = 64 * 1024
"""The most that is read of an error's body."""
RETRIED = (408, 429)
_OVERFLOW = re.compile(r"context.?(?:length|size|window)|too long|too many tokens", re.IGNORECASE)


class Failure(Exception):
    """One attempt failed.

    Args:
        error: what is raised if the attempt is not repeated.
        retry: whether the same request may go better later.
        after: seconds that the server asked to wait.
        said: the server's own sentence; empty if it said nothing.
    """

    def __init__(self, error: ModelError, *, retry: bool = False, after: float | None = None, said: str = "") -> None:
        super().__init__(error.message)
        self.error = error
        self.retry = retry
        self.after = after
        self.said = said


class Server:
    """A server of models: its address, key and time-outs, and one connection pool for the model's life.

    Args:
        model: the model's address, as errors name it.
        url: where paths are appended to.
        settings: connect_timeout, read_timeout and retries of `models`.
        key: sent in `key_header`, and removed from whatever the server says.
        key_name: the environment variable that holds the key.
        key_header: the header's name and the text before the key.
        headers: sent with every request.
        missing: what to do when the server does not know the model.
    """

    def __init__(
        self,
        model: str,
        url: str,
        settings: Settings,
        *,
        key: str = "",
        key_name: str = "",
        key_header: tuple[str, str] = ("authorization", "Bearer "),
        headers: Mapping[str, str] | None = None,
        missing: str = "",
    ) -> None:
        self.url = url.rstrip("/")
        shown = without_user(self.url)
        self.name = model if shown in model else f"{model} at {shown}"
        self.retries = settings.models.retries
        self.connect_timeout = settings.models.connect_timeout
        self.read_timeout = settings.models.read_timeout
        self._key = key.strip()
        self._key_name = key_name
        self._key_header = key_header
        self._headers = {"content-type": "application/json", **(headers or {})}
        self._missing = missing
        self._client: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"Server({self.name!r})"

    async def close(self) -> None:
        """Close the connections. A later request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def attempts(
        self, attempt: Callable[[], AsyncGenerator[T, None]], ask_for_less: Callable[[str], bool] = lambda said: False
    ) -> AsyncGenerator[T, None]:
        """Run an attempt, and run it again where that may help and nothing of it has been passed on.

        Args:
            attempt: makes the iterator of one request's pieces; it raises Failure.
            ask_for_less: given the server's sentence; True if the next attempt leaves something out that the server
                refused. Such an attempt is made at once and is not counted as a retry.

        Raises:
            ModelError: the last attempt's.
        """
        retried = 0
        while True:
            started = False
            try:
                async with contextlib.aclosing(attempt()) as pieces:
                    async for piece in pieces:
                        started = True
                        yield piece
                return
            except Failure as failure:
                if started:
                    raise _cut(failure.error) from None
                if not (failure.said and ask_for_less(failure.said)):
                    if not failure.retry or retried >= self.retries:
                        raise failure.error from None
                    wait = _wait(retried, failure.after)
                    retried += 1
                    await asyncio.sleep(wait)

    async def events(self, path: str, body: bytes) -> AsyncGenerator[Json, None]:
        """POST a request and yield the JSON of each server-sent event until the stream or `[DONE]` ends it.

        Raises:
            Failure: no connection, an error's status, an error inside the stream, silence, or what is not JSON.
        """
        headers = self.key_headers()
        decoder = EventDecoder()
        with self.failures():
            async with self._open().stream("POST", self.url + path, content=body, headers=headers) as response:
                await self.check(response)
                chunks = response.aiter_bytes()
                async for chunk in chunks:
                    for data in decoder.feed(chunk):
                        if data == "[DONE]":
                            await _drain(chunks)
                            return
                        yield self._event(data)

    async def answer(self, path: str, body: bytes) -> Json:
        """POST a request that is answered by one JSON object. Raises Failure as `events` does."""
        with self.failures():
            response = await self._open().post(self.url + path, content=body, headers=self.key_headers())
            if response.status_code != 200:
                raise self.refused(response.status_code, response.text, response.headers)
            return dict(response.json())

    def _event(self, data: str) -> Json:
        event = json.loads(data)
        if not isinstance(event, dict):
            raise ValueError("an event is not an object")
        if event.get("error"):
            raise self.said_in_stream(json.dumps(event))
        return event

    async def check(self, response: httpx.Response) -> None:
        """Raise Failure unless the response is a stream with status 200."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code == 200 and kind not in ("text/html", "application/json"):
            return
        text = await _beginning(response)
        if response.status_code != 200:
            raise self.refused(response.status_code, text, response.headers)
        if kind == "application/json" and sentence_in(text):
            raise self.said_in_stream(text)
        raise Failure(
            ModelUnavailable(f"{self.name} answered with {kind} instead of a stream", "Check the server's address.")
        )

    def refused(self, status: int, text: str, headers: Mapping[str, str]) -> Failure:
        """The failure for a status other than 200, with the server's own sentence."""
        sentence = self.scrub(sentence_in(text)) or "no reason given"
        said = f"{self.name} answered {status}: {sentence}"
        after = retry_after(headers.get("retry-after", ""))
        if overflow := _overflow(sentence):
            return Failure(overflow, said=sentence)
        if "insufficient_quota" in text:
            return Failure(ModelRefused(said, "The account has no credit left."), said=sentence)
        if status in RETRIED or status >= 500:
            return Failure(
                ModelUnavailable(said, "Try again later, or use another model."), retry=True, after=after, said=sentence
            )
        if status in (401, 403):
            hint = f"Check the key in {self._key_name}." if self._key_name else "The server wants other credentials."
            return Failure(ModelRefused(said, hint), said=sentence)
        if status == 404:
            return Failure(ModelUnavailable(said, self._missing), said=sentence)
        if 300 <= status < 400:
            return Failure(ModelUnavailable(said, "The address has moved: set the new one."), said=sentence)
        hint = "Set models.protocol to json or text." if "tool" in sentence.lower() else ""
        return Failure(ModelRefused(said, hint), said=sentence)

    def said_in_stream(self, text: str) -> Failure:
        """The failure for an error that came inside a stream whose status was 200."""
        sentence = self.scrub(sentence_in(text)) or "no reason given"
        if overflow := _overflow(sentence):
            return Failure(overflow, said=sentence)
        return Failure(
            ModelCut(f"{self.name} reported an error in its reply: {sentence}", "Try again, or use another model."),
            retry=True,
            said=sentence,
        )

    def cut(self, what: str) -> Failure:
        """The failure for a reply that ended early or was not understood."""
        return Failure(ModelCut(f"{self.name} {what}", "Try again, or use another model."), retry=True)

    @contextlib.contextmanager
    def failures(self) -> Iterator[None]:
        """Turn what httpx raises, and what reading JSON of another shape raises, into Failure.

        Causes are dropped: they may hold a header.
        """
        httpx = import_httpx()
        try:
            yield
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            error = ModelUnavailable(f"{self.name}: the address is no good", "Write it like http://127.0.0.1:8000/v1.")
            raise Failure(error) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, ConnectionError) as problem:
            reason = self.scrub(str(problem)) or f"no answer within {self.connect_timeout:g} s"
            error = ModelUnavailable(f"{self.name} cannot be reached: {reason}", "Is the server running there?")
            raise Failure(error, retry=True) from None
        except httpx.TimeoutException:
            # Not repeated: whoever waited read_timeout once would wait as long again each time.
            error = ModelUnavailable(
                f"{self.name} stayed silent for {self.read_timeout:g} s",
                "Raise models.read_timeout if it is only slow.",
            )
            raise Failure(error) from None
        except httpx.HTTPError:
            raise self.cut("broke off the connection") from None
        except (ValueError, LookupError, TypeError, AttributeError):
            raise self.cut("sent something that is not the JSON of a reply") from None

    def scrub(self, text: str) -> str:
        """The text on one line, cut to a sentence's length, without the key."""
        line = " ".join(text.split())
        for secret in (self._key, urlsplit(self.url).password):
            line = line.replace(secret, "[key]") if secret else line
        return line if len(line) <= 300 else f"{line[:300]}…"

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments of an httpx.AsyncClient for this server."""
        httpx = import_httpx()
        secure = self.url.lower().startswith("https:")
        return {
            "timeout": httpx.Timeout(self.read_timeout, connect=self.connect_timeout, pool=self.connect_timeout),
            # Loading the certificates takes longer than a short request; without TLS an empty store will do.
            "verify": True if secure else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            # A proxy for the outside world must not get what is meant for this machine.
            "trust_env": not is_loopback(self.url),
            "follow_redirects": False,
        }

    def _open(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = import_httpx().AsyncClient(headers=self._headers, **self.client_options())
        return self._client

    def key_headers(self) -> dict[str, str]:
        """The header with the key; none without one. Raises Failure if no header could hold it."""
        if not self._key:
            return {}
        if not (self._key.isascii() and self._key.isprintable()):
            raise Failure(ModelRefused(f"{self._key_name} holds characters that no key has", "Set it again."))
        name, prefix = self._key_header
        return {name: prefix + self._key}


def import_httpx() -> ModuleType:
    """httpx without its command line, which would import click, rich and pygments where they are installed (60 ms).

    And without sniffio, which httpcore looks for four times a request: a package that is not there is searched for on
    the whole path each time (0.2 ms), and we run on asyncio alone.
    """
    if "httpx" not in sys.modules:
        sys.modules.setdefault("sniffio", None)  # type: ignore[arg-type]
        sys.modules["httpx._main"] = None  # type: ignore[assignment]
        try:
            import httpx
        finally:
            del sys.modules["httpx._main"]
    import httpx

    return httpx


def key_from(variable: str) -> str:
    """A key from the environment, empty if there is none."""
    return os.environ.get(variable, "").strip()


def sentence_in(text: str) -> str:
    """What a server says in an error's body, whichever of the usual forms it takes; empty if it says nothing."""
    try:
        found = json.loads(text)
    except ValueError:
        found = "" if text.lstrip().startswith("<") else text
    for key in ("error", "message", "detail", "msg"):
        if isinstance(found, list) and found:
            found = found[0]
        if isinstance(found, dict) and found.get(key):
            found = found[key]
    return found if isinstance(found, str) else ""


def retry_after(text: str) -> float | None:
    """Seconds to wait from a Retry-After header: a number or a date; None if it is neither."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if seconds == seconds else None


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine: `localhost`, or an address of 127.0.0.0/8 or ::1; not 127.example.org."""
    try:
        host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _overflow(sentence: str) -> ContextOverflow | None:
    """Servers that refuse a prompt for its length name both numbers, in either order."""
    numbers = [int(number) for number in re.findall(r"\d{2,}", sentence)]
    if not _OVERFLOW.search(sentence) or len(numbers) < 2 or numbers[0] == numbers[1]:
        return None
    hint = "Give less text, or a model with a longer context."
    return ContextOverflow(max(numbers[:2]), min(numbers[:2]), hint)


def _cut(error: ModelError) -> ModelError:
    return ModelCut(error.message, error.hint) if isinstance(error, ModelUnavailable) else error


def _wait(retried: int, after: float | None) -> float:
    if after is not None:
        return after
    return float(min(BACKOFF * 2**retried, LONGEST_BACKOFF) * random.uniform(1, 1.25))


async def _beginning(response: httpx.Response) -> str:
    """The first part of a body; what can be read of it, if it breaks off."""
    httpx = import_httpx()
    body = b""
    with contextlib.suppress(httpx.HTTPError):
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > ERROR_BYTES:
                break
    return body.decode("utf-8", "replace")


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end of a finished stream, so that the connection can be used again; not for long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            async for _ in chunks:
                pass


def without_user(url: str) -> str:
    """The URL without the user's name and password."""
    return re.sub(r"//[^/@]*@", "//", url)

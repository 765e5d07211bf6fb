"""Making a model on an Ollama server: upload its files as blobs, create it, and check the prompt that it renders.

https://github.com/ollama/ollama/blob/main/docs/api.md (create a model, create a blob). From 0.34.1 on the server takes
no adapters and quantises nothing, so it gets one merged and quantised file. An error may come inside a stream whose
status is 200.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.errors import ModelCut
from agent.messages import Json, Message
from agent.models.http import Failure, Server, import_httpx, key_from
from agent.models.wire import dumps
from agent.settings import Settings

TEMPLATE = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
"""ChatML as a Go template, for models whose own template says the same (deploy checks that it does)."""
PARAMETERS: Json = {"stop": ["<|im_end|>", "</annotation>"], "temperature": 0.1, "num_ctx": 4096}
TAKES_NO_ADAPTERS = (0, 34, 1)
CHUNK = 1 << 20
"""Bytes of a file that are sent at a time."""

Progress = Callable[[str, int, int], None]
"""Told what is sent, the bytes that are there and the bytes that there will be."""


class Ollama:
    """A model to be made on the server that `models.ollama_url` names.

    Every method raises ModelError if the server is not there, refuses, or breaks off.
    """

    def __init__(self, model: str, settings: Settings) -> None:
        self.model = model
        key = key_from("OLLAMA_API_KEY")
        url = settings.models.ollama_url
        self._server = Server(f"ollama:{model}", url, settings, key=key, key_name="OLLAMA_API_KEY")

    async def takes_adapters(self) -> bool:
        """Whether the server is old enough to take a base and an adapter. Builds without a version are new."""
        async with self._request("GET", "/api/version") as response:
            said = json.loads(await response.aread())["version"]
        version = tuple(int(part) for part in re.findall(r"\d+", str(said))[:3])
        return (0, 0, 0) < version < TAKES_NO_ADAPTERS

    async def upload(self, path: Path, sha256: str, progress: Progress) -> str:
        """Send a file unless the server has it; returns the digest by which `create` names it."""
        digest, size = f"sha256:{sha256}", await asyncio.to_thread(os.path.getsize, path)
        async with self._request("HEAD", f"/api/blobs/{digest}", good=(200, 404)) as response:
            if response.status_code == 200:
                progress(path.name, size, size)
                return digest

        async def content() -> AsyncIterator[bytes]:
            done = 0
            with await asyncio.to_thread(open, path, "rb") as file:
                while data := await asyncio.to_thread(file.read, CHUNK):
                    yield data
                    done += len(data)
                    progress(path.name, done, size)

        headers = {"content-length": str(size)}
        async with self._request("POST", f"/api/blobs/{digest}", content=content(), headers=headers):
            return digest

    async def create(self, files: Json, adapters: Json, system: str, tell: Callable[[str], None]) -> None:
        """Make the model of uploaded files.

        Args:
            files: the digest of the model's file, by file name.
            adapters: of its adapter, for servers that take one; may be empty.
            system: the system message where a conversation has none.
            tell: told the server's own words on what it does.

        Raises:
            ModelError: also where the server's stream ends before it said `success`.
        """
        body: Json = {"model": self.model, "files": files, "template": TEMPLATE, "system": system, "stream": True}
        body |= {"parameters": PARAMETERS} | ({"adapters": adapters} if adapters else {})
        status = ""
        async with self._request("POST", "/api/create", content=dumps(body)) as response:
            async for line in response.aiter_lines():
                if not line.strip():
                    continue
                event = json.loads(line)
                if event.get("error"):
                    raise self._server.said_in_stream(line)
                if event.get("status") != status:
                    status = str(event.get("status", ""))
                    tell(f"ollama: {status}")
        if status != "success":
            raise ModelCut(f"{self._server.name} ended before it said that {self.model} is made", "Try again.")

    async def rendered(self, messages: Sequence[Message]) -> str | None:
        """The prompt that the server makes of a conversation; None if it is too old to tell."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        body = {"model": self.model, "messages": turns, "stream": False, "_debug_render_only": True}
        async with self._request(
            "POST", "/api/chat", content=dumps({**body, "options": {"num_predict": 1}})
        ) as response:
            answer = json.loads(await response.aread())
        info = answer.get("_debug_info") or {}
        return info.get("rendered_template")

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, *, good: Sequence[int] = (200, 201), **more: Any
    ) -> AsyncIterator[Any]:
        """One request with its failures as ModelError; the response is open, and its status one of the good ones."""
        server, httpx = self._server, import_httpx()
        headers = {**server.key_headers(), **more.pop("headers", {})}
        try:
            with server.failures():
                async with (
                    httpx.AsyncClient(**server.client_options()) as client,
                    client.stream(method, server.url + path, headers=headers, **more) as response,
                ):
                    if response.status_code not in good:
                        text = (await response.aread()).decode("utf-8", "replace")
                        raise server.refused(response.status_code, text, response.headers)
                    yield response
        except Failure as failure:
            raise failure.error from None

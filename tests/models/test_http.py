"""Time-outs, retries and errors are the same for every server; shown here on the OpenAI protocol unless it differs."""

from __future__ import annotations

import asyncio
import email.utils
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from agent import registry
from agent.errors import ContextOverflow, ModelCut, ModelError, ModelRefused, ModelUnavailable
from agent.messages import Message
from agent.models import http
from agent.models.anthropic import Anthropic
from agent.models.base import Delta, Model, Reply
from agent.models.ollama import Ollama
from agent.models.openai import OpenAI
from agent.models.sse import EventDecoder
from agent.settings import Settings
from tests.wire.anthropic_server import AnthropicServer
from tests.wire.model_server import Fault, ModelServer, Raw, Say, Turn, closed_port
from tests.wire.ollama_server import OllamaServer
from tests.wire.openai_server import OpenAIServer

KEY = "sk-test-0123456789abcdef"
ASK = [Message("user", "hello?")]
Make = Callable[..., Model]


def open_openai(url: str, **models: Any) -> Model:
    return OpenAI("m", Settings.model_validate({"models": models}), url=f"{url}/v1")


def open_anthropic(url: str, **models: Any) -> Model:
    return Anthropic("m", Settings.model_validate({"models": {"anthropic_url": url, **models}}))


def open_ollama(url: str, **models: Any) -> Model:
    return Ollama("m", Settings.model_validate({"models": {"ollama_url": url, **models}}))


BACKENDS = {
    "openai": (OpenAIServer, open_openai),
    "anthropic": (AnthropicServer, open_anthropic),
    "ollama": (OllamaServer, open_ollama),
}


@pytest.fixture(autouse=True)
def keys_and_short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APPRENTICE_SERVER_KEY", "ANTHROPIC_API_KEY", "OLLAMA_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setattr(http, "BACKOFF", 0.01)


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[tuple[ModelServer, Make]]:
    kind, make = BACKENDS[request.param]
    with kind() as server:
        yield server, make


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


async def pieces_of(model: Model, messages: Sequence[Message] = ASK, **request: Any) -> list[Delta | Reply]:
    try:
        return [piece async for piece in model.chat(messages, **request)]
    finally:
        await model.close()


def ask(model: Model, messages: Sequence[Message] = ASK, **request: Any) -> Reply:
    """The reply at the end of the stream."""
    last = asyncio.run(pieces_of(model, messages, **request))[-1]
    assert isinstance(last, Reply)
    return last


def failure(model: Model, **request: Any) -> ModelError:
    """The error that a request ends in; no key is in it."""
    with pytest.raises(ModelError) as caught:
        asyncio.run(pieces_of(model, **request))
    shown = repr(caught.value) + caught.value.message + caught.value.hint + repr(model)
    assert KEY not in shown
    assert caught.value.__cause__ is None
    return caught.value


# Retries


@pytest.mark.parametrize("fault", [Fault(500), Fault(503), Fault(429), Fault(kind="drop"), Say("x", cut_after=0)])
def test_a_passing_fault_is_retried(backend: tuple[ModelServer, Make], fault: Turn) -> None:
    server, make = backend
    server.script(fault, fault, Say("hello"))
    assert ask(make(server.url)).message.content == "hello"
    assert len(server.requests) == 3


def test_an_error_at_the_start_of_a_stream_is_retried(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(Say("x", error_after=0), Say("hello"))
    assert ask(make(server.url)).message.content == "hello"


def test_retries_end_and_the_servers_own_sentence_is_told(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(*[Fault(500, "the GPU is on fire")] * 3)
    error = failure(make(server.url, retries=2))
    assert isinstance(error, ModelUnavailable)
    assert "answered 500: the GPU is on fire" in error.message
    assert len(server.requests) == 3


def test_no_retry_when_none_is_allowed(server: OpenAIServer) -> None:
    server.script(Fault(500))
    failure(open_openai(server.url, retries=0))
    assert len(server.requests) == 1


def test_retry_after_is_waited(server: OpenAIServer) -> None:
    server.script(Fault(429, headers={"Retry-After": "0.3"}), Say("hello"))
    started = time.perf_counter()
    ask(open_openai(server.url))
    assert 0.3 <= time.perf_counter() - started < 3


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("2", 2), ("0", 0), ("-5", 0), ("86400", http.LONGEST_RETRY_AFTER), ("inf", http.LONGEST_RETRY_AFTER)],
)
def test_retry_after_in_seconds_is_capped(header: str, seconds: float) -> None:
    assert http.retry_after(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    waited = http.retry_after(email.utils.formatdate(time.time() + 20, usegmt=True))
    assert waited is not None
    assert 17 < waited <= 20


@pytest.mark.parametrize("header", ["", "soon", "nan"])
def test_a_retry_after_that_is_neither_is_ignored(header: str) -> None:
    assert http.retry_after(header) is None


def test_waits_grow_to_a_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BACKOFF", 0.5)
    waits = [http._wait(number, None) for number in range(10)]
    assert 0.5 <= waits[0] <= 0.625
    assert 1 <= waits[1] <= 1.25
    assert max(waits) <= http.LONGEST_BACKOFF * 1.25


def test_nothing_is_repeated_once_a_piece_was_passed_on(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(Say("hello there", cut_after=5), Say("again"))
    seen: list[Delta | Reply] = []

    async def read() -> None:
        model = make(server.url)
        try:
            async for piece in model.chat(ASK):
                seen.append(piece)  # noqa: PERF401 - what came before the error matters
        finally:
            await model.close()

    server.turns[0] = Say("hello there", cut_after={"OllamaServer": 2}.get(type(server).__name__, 4))
    with pytest.raises(ModelCut):
        asyncio.run(read())
    assert seen
    assert all(isinstance(piece, Delta) for piece in seen)
    assert len(server.requests) == 1


# What a server may answer


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_refused_with_a_hint_and_without_the_key(backend: tuple[ModelServer, Make], status: int) -> None:
    server, make = backend
    server.script(Fault(status, f"Incorrect API key provided: {KEY}. See your account."))
    error = failure(make(server.url))
    assert isinstance(error, ModelRefused)
    assert "Incorrect API key provided: [key]." in error.message
    assert "_KEY" in error.hint
    assert len(server.requests) == 1


def test_a_bad_request_is_told_in_the_servers_words(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(Fault(400, "'m' does not support tools"))
    error = failure(make(server.url))
    assert isinstance(error, ModelRefused)
    assert "does not support tools" in error.message
    assert "models.protocol" in error.hint


def test_an_unknown_model_is_unavailable(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(Fault(404, "model 'm' not found"))
    error = failure(make(server.url))
    assert isinstance(error, ModelUnavailable)
    assert "model 'm' not found" in error.message
    assert error.hint


def test_no_server_is_unavailable_and_the_address_is_named(backend: tuple[ModelServer, Make]) -> None:
    _, make = backend
    url = f"http://127.0.0.1:{closed_port()}"
    error = failure(make(url, retries=1))
    assert isinstance(error, ModelUnavailable)
    assert "cannot be reached" in error.message
    assert url in error.message


def test_silence_before_the_reply_ends_by_the_time_out(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(Fault(kind="silence"))
    error = failure(make(server.url, read_timeout=0.2))
    assert isinstance(error, ModelUnavailable)
    assert "stayed silent for 0.2 s" in error.message
    assert len(server.requests) == 1


def test_silence_in_the_middle_is_a_cut(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    after = 2 if isinstance(server, OllamaServer) else 4
    server.script(Say("hello there", silence_after=after))
    error = failure(make(server.url, read_timeout=0.3))
    assert isinstance(error, ModelCut)
    assert "silent" in error.message


def test_an_error_in_the_middle_is_a_cut_with_the_servers_sentence(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    after = 2 if isinstance(server, OllamaServer) else 4
    server.script(Say("hello there", error_after=after, error="the runner has stopped"))
    error = failure(make(server.url))
    assert isinstance(error, ModelCut)
    assert "the runner has stopped" in error.message
    assert len(server.requests) == 1


def test_broken_json_is_a_cut(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(Say("hello there", broken_after=0))
    error = failure(make(server.url, retries=0))
    assert isinstance(error, ModelCut)
    assert "not the JSON of a reply" in error.message


@pytest.mark.parametrize("data", ["[1, 2]", '"text"', '{"choices": [3], "type": "content_block_delta", "message": 5}'])
def test_json_of_another_shape_is_a_cut(backend: tuple[ModelServer, Make], data: str) -> None:
    server, make = backend
    kind = server.content_type
    body = f"{data}\n" if kind == "application/x-ndjson" else f"data: {data}\n\n"
    server.script(Raw(body.encode(), kind))
    assert isinstance(failure(make(server.url, retries=0)), ModelCut)


def test_a_stream_that_just_ends_is_a_cut(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(Raw(b"", server.content_type))
    error = failure(make(server.url, retries=0))
    assert isinstance(error, ModelCut)
    assert "before its end" in error.message


def test_a_web_page_instead_of_a_stream_points_at_the_address(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(Raw(b"<html>Welcome</html>", "text/html; charset=utf-8"))
    error = failure(make(server.url))
    assert isinstance(error, ModelUnavailable)
    assert "text/html instead of a stream" in error.message


def test_an_error_as_plain_json_with_status_200_is_told(server: OpenAIServer) -> None:
    server.script(Raw(b'{"error": {"message": "no such deployment"}}', "application/json"))
    assert "no such deployment" in failure(open_openai(server.url, retries=0)).message


@pytest.mark.parametrize(
    ("sentence", "needed", "limit"),
    [
        ("This model's maximum context length is 2048 tokens. However, you requested 3031 tokens.", 3031, 2048),
        ("prompt is too long: 208310 tokens > 200000 maximum", 208310, 200000),
        ("the request exceeds the available context size: 9000 of 4096", 9000, 4096),
    ],
)
def test_a_prompt_that_is_too_long_gives_both_numbers(
    server: OpenAIServer, sentence: str, needed: int, limit: int
) -> None:
    server.script(Fault(400, sentence))
    error = failure(open_openai(server.url))
    assert isinstance(error, ContextOverflow)
    assert (error.needed, error.limit) == (needed, limit)


def test_a_prompt_refused_inside_the_stream_gives_both_numbers(server: OpenAIServer) -> None:
    server.script(Say("x", error_after=0, error="maximum context length is 2048 tokens, you sent 3031"))
    assert isinstance(failure(open_openai(server.url)), ContextOverflow)


def test_an_account_without_credit_is_not_retried(server: OpenAIServer) -> None:
    body = '{"error": {"message": "You exceeded your quota.", "code": "insufficient_quota"}}'
    server.script(Fault(429, body=body))
    error = failure(open_openai(server.url))
    assert isinstance(error, ModelRefused)
    assert "credit" in error.hint
    assert len(server.requests) == 1


def test_a_redirect_is_not_followed(server: OpenAIServer) -> None:
    server.script(Fault(307, headers={"Location": f"{server.url}/elsewhere"}))
    error = failure(open_openai(server.url))
    assert "answered 307" in error.message
    assert "moved" in error.hint


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('{"error": {"message": "one"}}', "one"),
        ('{"error": "two"}', "two"),
        ('{"detail": [{"msg": "three"}]}', "three"),
        ('{"message": "four"}', "four"),
        ("plain\nwords", "plain\nwords"),
        ("<html>busy</html>", ""),
        ("[]", ""),
        ("", ""),
    ],
)
def test_the_servers_sentence_is_found_in_every_usual_form(body: str, sentence: str) -> None:
    assert http.sentence_in(body) == sentence


def test_an_endless_error_is_cut_to_a_sentence(server: OpenAIServer) -> None:
    server.script(Fault(400, body="no " * 100_000))
    assert len(failure(open_openai(server.url)).message) < 500


def test_an_address_that_is_no_url_is_told() -> None:
    assert "address is no good" in failure(open_openai("ftp://127.0.0.1")).message


def test_a_password_in_the_address_is_not_shown() -> None:
    model = open_openai(f"http://me:hunter2-secret@127.0.0.1:{closed_port()}", retries=0)
    assert "hunter2" not in failure(model).message + model.address


# Keys


@pytest.mark.parametrize(("key", "sent"), [(KEY, f"Bearer {KEY}"), (f" {KEY}\n", f"Bearer {KEY}"), ("", None)])
def test_the_key_is_sent_without_the_space_around_it(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, key: str, sent: str | None
) -> None:
    monkeypatch.setenv("APPRENTICE_SERVER_KEY", key)
    ask(open_openai(server.url))
    assert server.requests[0].headers.get("authorization") == sent


@pytest.mark.parametrize("key", ["sk-ключ", "sk-a\nb"])
def test_a_key_that_no_header_can_hold_is_refused_by_the_variables_name(
    backend: tuple[ModelServer, Make], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    server, make = backend
    for name in ("APPRENTICE_SERVER_KEY", "ANTHROPIC_API_KEY", "OLLAMA_API_KEY"):
        monkeypatch.setenv(name, key)
    error = failure(make(server.url))
    assert isinstance(error, ModelRefused)
    assert "_KEY holds characters" in error.message
    assert key not in error.message


def test_a_proxy_is_not_used_for_this_machine(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    assert ask(open_openai(server.url)).message.content == "ok"


# Connections and cancelling


def test_one_connection_serves_all_requests(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend

    async def three() -> None:
        model = make(server.url)
        for _ in range(3):
            assert [piece async for piece in model.chat(ASK)]
        await model.close()

    asyncio.run(three())
    assert len({request.connection for request in server.requests}) == 1


def test_a_model_can_be_used_again_after_close(server: OpenAIServer) -> None:
    async def twice() -> None:
        model = open_openai(server.url)
        for _ in range(2):
            assert [piece async for piece in model.chat(ASK)]
            await model.close()

    asyncio.run(twice())
    assert len(server.requests) == 2


def test_cancelling_closes_the_connection_within_half_a_second(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(Fault(kind="silence"))

    async def cancel() -> float:
        model = make(server.url)
        reading = asyncio.create_task(pieces_of(model))
        await asyncio.to_thread(server.asked.wait, 2)
        started = time.perf_counter()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        return time.perf_counter() - started

    assert asyncio.run(cancel()) < 0.5
    assert server.left_early.wait(2)


def test_closing_the_iterator_closes_the_connection(backend: tuple[ModelServer, Make]) -> None:
    server, make = backend
    server.script(Say("hello there", silence_after=2 if isinstance(server, OllamaServer) else 4))

    async def close_early() -> bool:
        model = make(server.url)
        stream = model.chat(ASK)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        left = await asyncio.to_thread(server.left_early.wait, 2)
        await model.close()
        return left

    assert asyncio.run(close_early())


# Server-sent events and imports


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events_are_read_whatever_their_line_ends_and_pieces(size: int, end: str) -> None:
    lines = [": a comment", "event: delta", "data: one", "", "data:two", "data: zwölf", "id: 3", "", "retry: 5", ""]
    stream = "".join(line + end for line in [*lines, "data", "", "data: never completed"]).encode()
    decoder = EventDecoder()
    found = [data for start in range(0, len(stream), size) for data in decoder.feed(stream[start : start + size])]
    assert found == ["one", "two\nzwölf", ""]


def test_a_byte_order_mark_before_the_first_event_is_skipped() -> None:
    assert EventDecoder().feed(b"\xef\xbb\xbfdata: one\n\n") == ["one"]


def test_only_one_space_after_the_colon_is_dropped() -> None:
    assert EventDecoder().feed(b"data:  two\n\n") == [" two"]


def test_httpx_is_imported_without_its_command_line() -> None:
    code = (
        "import sys; from agent.models.http import import_httpx; import_httpx(); "
        "print([name for name in ('click', 'rich', 'httpx._main') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://127.8.9.10", True),
        ("http://localhost:11434", True),
        ("http://LOCALHOST", True),
        ("http://[::1]:8000", True),
        ("127.0.0.1:11434", True),
        ("http://127.example.org/v1", False),
        ("http://127.0.0.1.example.org", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1@example.org/", False),
        ("http://0.0.0.0:8000", False),
        ("http://10.0.0.7", False),
        ("http://[::1", False),
        ("", False),
    ],
)
def test_only_an_address_of_this_machine_is_loopback(url: str, here: bool) -> None:
    """On it hangs whether a task may be sent there under local-only, and whether a proxy is used."""
    assert http.is_loopback(url) == here
    if url.startswith("http") and here:
        assert registry.is_local(f"openai@{url}:m", Settings())
    assert registry.is_local("ollama:m", Settings.model_validate({"models": {"ollama_url": url}})) == here

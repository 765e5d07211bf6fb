"""Model servers that fail, met by the whole program: one sentence, exit code 4, and what was done before stays."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.program import ABSTRACTS, annotation, put_on_record, record, refused, run, script
from tests.wire.anthropic_server import AnthropicServer
from tests.wire.model_server import Fault, ModelServer, Raw, Say, Turn, closed_port
from tests.wire.ollama_server import OllamaServer
from tests.wire.openai_server import OpenAIServer

WRONG_KEY = Fault(401, "Incorrect API key provided")
NO_SUCH_MODEL = Fault(404, "the model 'm' does not exist")
HTML = Raw(b"<html>Welcome to nginx!</html>", "text/html")
ONE_TRY = {"APPRENTICE_MODELS__RETRIES": "0", "APPRENTICE_MODELS__READ_TIMEOUT": "0.5"}
FAULTS = [
    pytest.param(Fault(500, "out of memory"), ["answered 500: out of memory", "Try again later"], id="500"),
    pytest.param(Fault(kind="silence"), ["stayed silent for 0.5 s", "models.read_timeout"], id="slow"),
    pytest.param(Fault(kind="drop"), ["broke off the connection"], id="dropped"),
    pytest.param(Say("half an answer", cut_after=2), ["broke off the connection", "Try again"], id="cut"),
    pytest.param(Say("half an answer", broken_after=2), ["not the JSON of a reply"], id="broken JSON"),
    pytest.param(Say("half an answer", error_after=2), ["the engine is overloaded"], id="error in the stream"),
    pytest.param(Say("half an answer", silence_after=2), ["stayed silent for 0.5 s"], id="silent midway"),
    pytest.param(HTML, ["text/html instead of a stream", "Check the server's address."], id="no model server"),
    pytest.param(NO_SUCH_MODEL, ["answered 404: the model 'm' does not exist"], id="unknown model"),
    pytest.param(WRONG_KEY, ["answered 401: Incorrect API key provided"], id="wrong key"),
]


@dataclass
class Desk:
    """A workspace with an earlier result and an earlier run, and a server."""

    folder: Path
    server: OpenAIServer
    earlier: str

    @property
    def model(self) -> str:
        return f"openai@{self.server.url}/v1:m"


@pytest.fixture
def desk(workspace: Path) -> Iterator[Desk]:
    (workspace / "earlier.md").write_text("# Mine\n")
    rows = [ABSTRACTS[number] for number in range(3)]
    (workspace / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with OpenAIServer() as server:
        yield Desk(workspace, server, put_on_record("an earlier task"))


@pytest.mark.parametrize(("turn", "said"), FAULTS)
def test_a_server_that_fails_is_told_and_the_record_keeps_what_came(desk: Desk, turn: Turn, said: list[str]) -> None:
    desk.server.script(turn)
    done = run("say hello save to result.md", "--model", desk.model, cwd=desk.folder, **ONE_TRY)
    refused(done, 4, desk.model, *said)
    assert done.stdout == ""
    assert {path.name for path in desk.folder.iterdir()} == {"earlier.md", "rows.jsonl"}
    assert (desk.folder / "earlier.md").read_text() == "# Mine\n"
    entry = record()
    assert entry.outcome == "failure"
    assert said[0] in entry.reason
    assert [message.role for message in entry.messages] == ["system", "user", "assistant"]
    assert "half an answer".startswith(entry.messages[-1].content)
    assert bool(entry.messages[-1].content) == isinstance(turn, Say), "what had streamed is kept"
    assert said[0] in entry.details[-1].error
    assert record(desk.earlier).task == "an earlier task"


def test_a_server_that_is_down_is_told(desk: Desk) -> None:
    address = f"openai@http://127.0.0.1:{closed_port()}/v1:m"
    done = run("/annotate rows.jsonl save to result.jsonl", "--model", address, cwd=desk.folder, **ONE_TRY)
    refused(done, 4, address, "cannot be reached", "Is the server running there?")
    assert not list(desk.folder.glob("result*"))
    assert record(desk.earlier).task == "an earlier task"


def test_ollama_that_is_down_is_told_with_what_to_start(desk: Desk) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    done = run("hello", "--model", "ollama:tiny", cwd=desk.folder, APPRENTICE_MODELS__OLLAMA_URL=url, **ONE_TRY)
    refused(done, 4, "ollama:tiny", "cannot be reached")


@pytest.mark.parametrize(("kind", "setting"), [(AnthropicServer, "ANTHROPIC_URL"), (OllamaServer, "OLLAMA_URL")])
@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (Fault(500, "out of memory"), "answered 500: out of memory"),
        (Say("half an answer", cut_after=2), "broke off"),
        (Say("half an answer", broken_after=2), "not the JSON of a reply"),
        (WRONG_KEY, "answered 401"),
        (NO_SUCH_MODEL, "answered 404"),
    ],
    ids=["500", "cut", "broken JSON", "wrong key", "unknown model"],
)
def test_servers_of_other_protocols_fail_the_same_way(
    workspace: Path, kind: type[ModelServer], setting: str, turn: Turn, said: str
) -> None:
    scheme = kind.__name__.removesuffix("Server").lower()
    with kind() as server:
        server.script(turn)
        settings = {f"APPRENTICE_MODELS__{setting}": server.url, "ANTHROPIC_API_KEY": "not-one", **ONE_TRY}
        done = run("hello", "--model", f"{scheme}:m", cwd=workspace, **settings)
    refused(done, 4, f"{scheme}:m", said)
    assert "not-one" not in done.stderr
    assert record().outcome == "failure"


def test_a_wrong_key_is_named_by_its_variable_and_never_shown(desk: Desk) -> None:
    key = "wrong-" + "k3y" * 8
    desk.server.script(Fault(401, f"Incorrect API key provided: {key}"))
    done = run("hello", "--model", desk.model, cwd=desk.folder, APPRENTICE_SERVER_KEY=key)
    refused(done, 4, "Check the key in APPRENTICE_SERVER_KEY.", "[key]")
    assert key not in done.stderr
    assert key not in record().reason


def test_a_missing_key_is_told_before_anything_is_sent(desk: Desk) -> None:
    refused(run("hello", "--model", "openai:gpt", cwd=desk.folder), 4, "needs a key", "Set OPENAI_API_KEY")


@pytest.mark.parametrize(
    "turn", [Fault(500, "busy"), Say("half", cut_after=0), Fault(429, headers={"retry-after": "0"})]
)
def test_a_server_that_recovers_is_asked_again(desk: Desk, turn: Turn) -> None:
    desk.server.script(turn, Say("there you are"))
    done = run("hello", "--model", desk.model, cwd=desk.folder, APPRENTICE_MODELS__RETRIES="1")
    assert (done.returncode, done.stdout) == (0, "there you are\n"), done.stderr
    assert len(desk.server.requests) == 2


def test_a_slow_server_is_left_after_the_time_that_is_set(desk: Desk) -> None:
    desk.server.script(Fault(kind="silence"))
    started = time.monotonic()
    refused(run("hello", "--model", desk.model, cwd=desk.folder, **ONE_TRY), 4, "stayed silent for 0.5 s")
    assert time.monotonic() - started < 10
    assert desk.server.left_early.wait(5)


def test_what_was_annotated_before_the_server_fell_over_is_kept_and_not_done_again(desk: Desk) -> None:
    desk.server.script(Say(annotation(0)), Fault(500, "out of memory"))
    command = ("/annotate rows.jsonl save to result.jsonl", "--model", desk.model)
    done = run(*command, cwd=desk.folder, **ONE_TRY)
    refused(done, 4, "answered 500: out of memory")
    assert f"are kept in {desk.folder}/result.jsonl.partial" in done.stderr
    partial = desk.folder / "result.jsonl.partial"
    header, kept = map(json.loads, partial.read_text().splitlines())
    assert "partial" in header
    assert kept["annotation"] == json.loads(annotation(0))
    assert not (desk.folder / "result.jsonl").exists()

    asked = len(desk.server.requests)
    desk.server.script(Say(annotation(1)), Say(annotation(2)))
    again = run(*command, cwd=desk.folder, **ONE_TRY)
    assert again.returncode == 0, again.stderr
    assert len(desk.server.requests) == asked + 2, "only what was missing was asked for"
    results = [json.loads(line) for line in (desk.folder / "result.jsonl").read_text().splitlines()]
    assert [entry["annotation"] for entry in results] == [json.loads(annotation(number)) for number in range(3)]
    assert not partial.exists()


def test_a_reply_that_breaks_off_costs_one_paper_and_no_other(desk: Desk) -> None:
    desk.server.script(Say(annotation(0)), Say(annotation(1), cut_after=3), Say(annotation(2)))
    done = run("/annotate rows.jsonl save to result.jsonl", "--model", desk.model, cwd=desk.folder, **ONE_TRY)
    refused(done, 4, "1 of 3 papers were not annotated", "the other 2 are saved to", "rows.jsonl:2")
    saved = [json.loads(line)["source"] for line in (desk.folder / "result.jsonl").read_text().splitlines()]
    assert saved == ["rows.jsonl:1", "rows.jsonl:3"]
    desk.server.script(Say(annotation(1)))
    again = run("/annotate rows.jsonl save to result.jsonl", "--model", desk.model, cwd=desk.folder, **ONE_TRY)
    assert again.returncode == 0, again.stderr
    assert len((desk.folder / "result.jsonl").read_text().splitlines()) == 3


def test_a_reply_that_is_no_annotation_is_recorded_as_rejected_and_told(desk: Desk) -> None:
    (desk.folder / "paper.txt").write_text(ABSTRACTS[0]["abstract"])
    desk.server.script(Say("I would rather not."), Say("Really not."))
    done = run("/annotate paper.txt", "--model", desk.model, cwd=desk.folder, **ONE_TRY)
    assert done.returncode == 1, done.stderr
    assert record().outcome == "failure"
    assert [detail.preference for detail in record().details if detail.model] == ["rejected", "rejected"]


@pytest.mark.parametrize(
    ("address", "code", "said"),
    [
        ("gpt5", 2, ["there is no model 'gpt5'", "ollama:NAME"]),
        ("openai@nonsense", 2, ["lacks a model's name or a URL", "openai@http://127.0.0.1:8000/v1:NAME"]),
        ("gguf:/nowhere/model.gguf", 4, ["/nowhere/model.gguf"]),
        ("specialist:nobody", 4, ["there is no specialist nobody", "`apprentice models` lists them."]),
        ("scripted:/nowhere.jsonl", 4, ["/nowhere.jsonl cannot be read: No such file"]),
    ],
)
def test_an_unknown_model_is_told_before_anything_is_done(desk: Desk, address: str, code: int, said: list[str]) -> None:
    done = run("/annotate rows.jsonl save to result.jsonl", "--model", address, cwd=desk.folder)
    refused(done, code, *said)
    assert not list(desk.folder.glob("result*"))
    assert record(desk.earlier).outcome == "success"


def test_a_scripted_model_that_has_no_reply_left_is_told(desk: Desk) -> None:
    done = run("hello", "--model", script(desk.folder, []), cwd=desk.folder)
    refused(done, 4, "has no reply left")

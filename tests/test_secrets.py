"""Secrets never reach the disk: not the record, not the files of long outputs, not the history, however they came in.

What counts is bytes: every file below the test's own folders is searched for each secret.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent import registry
from agent.messages import Message, Route
from agent.models.base import Fixed
from agent.run import Run, detail_of
from tests.agent.test_redact import KEY_BLOCK, TOKENS, made
from tests.program import Terminal, calling, data_folder, record, run, script
from tests.wire.model_server import Say
from tests.wire.openai_server import OpenAIServer

OWN = "correct-horse-battery-9"
"""The value of a variable whose name looks secret."""
SECRETS = [*TOKENS.values(), OWN, KEY_BLOCK.format("RSA ").splitlines()[1]]
TEXT = "\n".join([*(f"use {token} here" for token in TOKENS.values()), f"and {OWN}.", KEY_BLOCK.format("RSA ")])


@pytest.fixture(autouse=True)
def variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_PASSWORD", OWN)


def home() -> Path:
    """Where everything of the program's own is: its data, its cache and its settings."""
    return data_folder().parent


def leaked() -> list[tuple[str, str]]:
    """Each secret that stands in a file of the program's, and the file; also as JSON and UTF-16 spell it."""
    found = []
    for path in (path for path in home().rglob("*") if path.is_file()):
        data = path.read_bytes()
        for secret in SECRETS:
            spellings = (secret.encode(), json.dumps(secret)[1:-1].encode(), secret.encode("utf-16-le"))
            if any(spelling in data for spelling in spellings):
                found.append((secret[:12], path.name))
    return found


def on_record() -> str:
    """Everything that the newest run says."""
    entry = record()
    said = [f"{message.content}{message.thought}{message.tool_calls}" for message in entry.messages]
    return "\n".join([entry.task, entry.reason, *said])


def test_there_are_twenty_kinds_of_secrets_and_the_search_finds_them() -> None:
    assert len({kind.strip() for kind in TOKENS}) >= 20
    home().mkdir(parents=True, exist_ok=True)
    (home() / "leak.txt").write_text(TEXT)
    assert len(leaked()) == len(SECRETS)
    (home() / "leak.txt").unlink()
    assert leaked() == []


def test_secrets_in_what_is_typed_piped_and_answered_are_not_on_record(workspace: Path) -> None:
    replies = [
        {"thought": TEXT, "tool_calls": [{"name": "write_file", "arguments": {"path": "a.txt", "content": TEXT}}]},
        {"tool_calls": [{"name": "read_file", "arguments": TEXT}]},
        {"content": TEXT},
    ]
    task = f"remember {TOKENS['github-token']} and - please"
    done = run(task, "--model", script(workspace, replies), "--yes", cwd=workspace, stdin=TEXT.encode())
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == TEXT, "the person sees the answer as it is"
    assert (workspace / "a.txt").read_text() == TEXT, "and a file that they allowed is written as it was asked"
    assert leaked() == []
    said = on_record()
    for kind in {kind.strip() for kind in TOKENS} | {"environment-value", "private-key"}:
        assert f"[redacted:{kind}]" in said
    assert OWN not in run("traces", "show", "last", cwd=workspace).stdout


@pytest.mark.parametrize("ending", [{}, {"cut_after": 60}, {"error_after": 100}], ids=["whole", "cut", "error"])
def test_secrets_in_a_streamed_reply_are_not_on_record(workspace: Path, ending: dict[str, int]) -> None:
    text = f"I found {OWN} and {TOKENS['github-token']} there.\n{KEY_BLOCK.format('')}\n" + "So it ends. " * 60
    with OpenAIServer() as server:
        server.script(Say(text, logprob=-0.5, **ending))  # pieces of five characters
        settings = {"APPRENTICE_MODELS__RETRIES": "0"}
        done = run("look", "--model", f"openai@{server.url}/v1:m", cwd=workspace, **settings)
    assert done.returncode == (4 if ending else 0), done.stderr
    assert leaked() == []
    last = record().messages[-1]
    assert last.role == "assistant"
    assert last.content.startswith("I found [redacted:environment-value] and [redacted:github-token] there.\n[redacted")
    assert record().details[-1].logprobs == (), "log-probabilities of a secret's tokens go too"


def test_secrets_in_what_a_server_says_are_not_on_record(workspace: Path) -> None:
    from tests.wire.model_server import Fault

    with OpenAIServer() as server:
        server.script(Fault(400, f"bad key {TOKENS['openai-key']} for {OWN}"))
        done = run("look", "--model", f"openai@{server.url}/v1:m", cwd=workspace)
    assert done.returncode == 4
    assert leaked() == []


@pytest.mark.parametrize("lines", [300, 2000])
def test_secrets_in_a_tools_long_output_are_not_in_its_file(workspace: Path, lines: int) -> None:
    filler = "an ordinary line of a log\n" * lines
    (workspace / "log.txt").write_text(f"{filler}{TEXT}\n{filler}{TEXT.replace(chr(10), ' ')}\n{filler}")
    calls = [calling("run_shell", command="cat log.txt"), calling("run_shell", command="env; cat log.txt")]
    calls += [calling("search_files", pattern="use"), calling("read_file", path="log.txt", start=lines)]
    model = script(workspace, [*calls, {"content": "seen"}])
    done = run("look", "--allow", "shell", "--model", model, cwd=workspace)
    assert done.returncode == 0, done.stderr
    outputs = list((data_folder() / "outputs").glob("*.txt"))
    assert outputs
    assert "[redacted:github-token]" in outputs[0].read_text()
    assert {path.stat().st_mode & 0o777 for path in outputs} == {0o600}
    assert leaked() == []


def test_a_secret_that_is_cut_where_two_reads_of_the_pipe_meet_is_found(workspace: Path) -> None:
    token = TOKENS["github-token"]
    command = f"printf %09000d 0; echo; printf 'key {token[:9]}'; sleep 0.3; echo '{token[9:]} end'"
    model = script(workspace, [calling("run_shell", command=command), {"content": "seen"}])
    assert run("look", "--allow", "shell", "--model", model, cwd=workspace).returncode == 0
    [output] = (data_folder() / "outputs").glob("*.txt")
    assert "key [redacted:github-token] end" in output.read_text()
    assert token not in output.read_text()


def test_the_shell_does_not_get_the_secret_variables(workspace: Path) -> None:
    command = 'echo "[$VAULT_PASSWORD][$OPENAI_API_KEY]" > seen.txt'
    model = script(workspace, [calling("run_shell", command=command), {"content": "seen"}])
    done = run("x", "--allow", "shell", "--model", model, cwd=workspace, OPENAI_API_KEY=TOKENS["openai-key"])
    assert done.returncode == 0, done.stderr
    assert (workspace / "seen.txt").read_text() == "[][]\n"


def test_a_pasted_secret_is_not_in_the_repls_history(workspace: Path) -> None:
    with Terminal("chat", "--model", script(workspace, [{"content": "fine"}]), cwd=workspace) as terminal:
        terminal.expect("leaves.")
        terminal.expect(">")
        terminal.type(f"my key is {TOKENS['openai-key']} and {OWN}\r")
        terminal.expect("success")
        terminal.expect(">")
        terminal.type("\x04")
        assert terminal.wait() == 0
    history = Path(os.environ["APPRENTICE_CACHE_DIR"]) / "chat_history"
    assert "my key is [redacted:openai-key] and [redacted:environment-value]" in history.read_text()
    assert leaked() == []


def test_a_crash_of_ours_writes_no_secret(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from agent.cli import told

    class Options:
        async def run(self, options: object) -> int:
            raise RuntimeError(f"no luck with {TOKENS['github-token']}")

    assert told(Options()) == 70  # type: ignore[arg-type]
    log = Path(os.environ["APPRENTICE_CACHE_DIR"]) / "crash.log"
    assert "no luck with [redacted:github-token]" in log.read_text()
    assert "something in Apprentice itself failed" in capsys.readouterr().err


@pytest.fixture
def local(bench: Callable[..., Any]) -> Iterator[Any]:
    """A session whose model is the embedded one."""
    desk = bench([], settings={"models": {"context": 512, "threads": 1}})
    desk.session.models["local"] = model = registry.open_model("local", desk.session.settings)
    yield desk
    asyncio.run(model.close())


@pytest.mark.llama
@pytest.mark.parametrize(("text", "kept"), [("ghp" + "_" + made(36), False), ("an ordinary sentence", True)])
def test_no_token_ids_are_kept_for_a_message_with_a_secret(local: Any, text: str, kept: bool) -> None:
    """They would spell it. The embedded model is made to say the text, so that its real token ids come back."""
    template = (Fixed(f'{{"claim": "{text}"}}'),)

    async def work() -> tuple[int, ...]:
        async with Run(local.session, "say it", Route("local", "flag", "r")) as opened:
            reply = await opened.ask("local", [Message("user", "say it")], template=template)
            await opened.add(reply.message, detail_of(reply, {}))
            opened.finish("success", "answer")
            return tuple(reply.token_ids)

    ids = asyncio.run(work())
    store = local.session.store
    store.flush()
    assert len(ids) > 4
    stored = store.get(store.runs()[0].id)
    assert stored.details[0].token_ids == (ids if kept else ())
    assert bool(stored.details[0].logprobs) == kept
    with sqlite3.connect(store.path) as connection:
        blob = connection.execute("SELECT token_ids FROM messages").fetchone()[0]
    assert (text in stored.messages[0].content, bool(blob)) == (kept, kept)

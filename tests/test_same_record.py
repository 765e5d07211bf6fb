"""One task through every kind of backend leaves records of one shape. `pytest -s` prints the table."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agent.cli import task_parser
from agent.commands.task import do, open_session
from agent.messages import Trajectory
from tests.wire.anthropic_server import AnthropicServer
from tests.wire.llama_server import llama_server
from tests.wire.model_server import Say
from tests.wire.ollama_server import OllamaServer

TASK = "Which files are here?"
TOOLS = "read_file,write_file,edit_file,search_files,run_shell,fetch_url,arxiv"
TURNS = (Say("", thought="I look.", tool_calls=(("list_files", "{}"),)), Say("There is note.txt."))
COLUMNS = ("backend", "protocol", "roles", "calls", "prompt", "written", "token ids", "log-probabilities", "model")

pytestmark = pytest.mark.llama


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trajectory]:
    """The record of the task by backend: two real ones with the embedded model, two at the wire."""
    folder = tmp_path_factory.mktemp("same")
    (folder / "note.txt").write_text("A note.\n")
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        ollama, anthropic = stack.enter_context(OllamaServer()), stack.enter_context(AnthropicServer())
        ollama.script(*TURNS)
        anthropic.script(*TURNS)
        url = stack.enter_context(llama_server(folder, 2048))
        patch.setenv("ANTHROPIC_API_KEY", "sk-ant-for-the-test")
        patch.setenv("APPRENTICE_DATA_DIR", str(folder / "data"))
        patch.setenv("APPRENTICE_CONFIG_DIR", str(folder / "config"))
        patch.setenv("APPRENTICE_CACHE_DIR", str(folder / "cache"))
        patch.setenv("APPRENTICE_TOOLS__DISABLED", TOOLS)
        patch.setenv("APPRENTICE_MODELS__CONTEXT", "2048")
        patch.setenv("APPRENTICE_MODELS__OLLAMA_URL", ollama.url)
        patch.setenv("APPRENTICE_MODELS__ANTHROPIC_URL", anthropic.url)
        made = {}
        for address, protocol in (
            ("local", "json"),
            (f"openai@{url}:smollm2", "json"),
            ("ollama:wire", "native"),
            ("anthropic:wire", "native"),
        ):
            patch.setenv("APPRENTICE_MODELS__PROTOCOL", protocol)
            made[address] = asyncio.run(run_once(folder, address))
    return made


async def run_once(folder: Path, address: str) -> Trajectory:
    options = task_parser().parse_args([TASK, "--model", address, "--workspace", str(folder), "--max-steps", "2"])
    session = await open_session(options, lambda event: None, ask=None)
    try:
        await do(session, TASK, model=address)
        session.store.flush()
        return session.store.get(session.store.runs(limit=1)[0].id)
    finally:
        await session.close()


def shape(value: Any) -> Any:
    """The keys and kinds of a record, without its values."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_every_run_has_the_same_head(records: dict[str, Trajectory]) -> None:
    heads = []
    for run in records.values():
        head = asdict(run)
        for own in ("messages", "details", "labels"):
            head.pop(own)
        heads.append(shape(head))
    assert all(head == heads[0] for head in heads)


def test_every_run_opens_with_the_system_message_and_the_task_and_then_takes_turns(
    records: dict[str, Trajectory],
) -> None:
    for run in records.values():
        roles = [message.role for message in run.messages]
        assert roles[:3] == ["system", "user", "assistant"]
        assert run.messages[1].content == TASK
        for message, following in zip(run.messages[2:], [*run.messages[3:], None], strict=True):
            if message.role == "assistant" and message.tool_calls:
                assert following is not None
                assert following.role == "tool"
                assert following.tool_call_id == message.tool_calls[0].id


def test_every_reply_says_how_it_came_to_be(records: dict[str, Trajectory]) -> None:
    for run in records.values():
        replies = [d for m, d in zip(run.messages, run.details, strict=True) if m.role == "assistant"]
        assert replies
        for detail in replies:
            assert detail.model
            assert {"temperature", "max_tokens"} <= set(detail.sampling)
            assert detail.usage.prompt_tokens > 0
            assert detail.usage.completion_tokens > 0
            assert detail.finish_reason in ("stop", "length", "tool_calls")
            assert detail.seconds > 0
            assert len(detail.token_ids) in (0, detail.usage.completion_tokens)


def test_the_wire_backends_did_the_same(records: dict[str, Trajectory]) -> None:
    ollama, anthropic = records["ollama:wire"], records["anthropic:wire"]
    for one, other in zip(ollama.messages, anthropic.messages, strict=True):
        assert (one.role, one.content, one.thought, one.name) == (other.role, other.content, other.thought, other.name)
        assert [(c.name, c.arguments) for c in one.tool_calls] == [(c.name, c.arguments) for c in other.tool_calls]


def test_the_table(records: dict[str, Trajectory]) -> None:
    rows = [row(address, run) for address, run in records.items()]
    print("\n| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for entry in rows:
        print("| " + " | ".join(str(cell) for cell in entry) + " |")
    assert len(rows) == 4
    assert all(len(entry) == len(COLUMNS) for entry in rows)


def row(address: str, run: Trajectory) -> tuple[Any, ...]:
    replies = [d for m, d in zip(run.messages, run.details, strict=True) if m.role == "assistant"]
    calls = [call for message in run.messages for call in message.tool_calls]
    return (
        address.partition(":")[0].partition("@")[0],
        "json" if any("schema_sha256" in detail.sampling for detail in replies) else "native",
        " ".join(message.role[0] for message in run.messages),
        json.dumps([call.name for call in calls]),
        run.usage.prompt_tokens,
        run.usage.completion_tokens,
        sum(len(detail.token_ids) for detail in replies),
        sum(len(detail.logprobs) for detail in replies),
        replies[0].model,
    )

"""`hf:`: what was just trained answers through the product's own protocol."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from agent import registry
from agent.errors import ContextOverflow, ModelError, ModelUnavailable
from agent.messages import Message
from agent.models.base import Delta, Reply
from agent.models.transformers import CHUNK, Transformers
from agent.settings import Settings
from tests.training import tiny

ASKED = [Message("system", "Annotate."), Message("user", "We sort wood with a new kind of saw. It works on ice.")]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny base that changes what it says."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(5)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    saved = tmp_path_factory.mktemp("adapter")
    get_peft_model(AutoModelForCausalLM.from_pretrained(folder), config).save_pretrained(str(saved))
    return saved


@pytest.fixture
def no_lookup(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that somebody tried to reach."""
    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(str(host)))
    return asked


def ask(model: Transformers, messages: list[Message] = ASKED, **options: Any) -> tuple[str, Reply]:
    """The streamed text, and the reply."""

    async def main() -> tuple[str, Reply]:
        pieces = [piece async for piece in model.chat(messages, **options)]
        reply = pieces[-1]
        assert isinstance(reply, Reply)
        return "".join(piece.text for piece in pieces if isinstance(piece, Delta)), reply

    return asyncio.run(main())


def by_transformers(folder: Path, adapter: Path | None, prompt: list[int], count: int) -> list[int]:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    model = PeftModel.from_pretrained(model, str(adapter)) if adapter else model
    found = model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=count, do_sample=False)
    return list(found[0, len(prompt) :].tolist())


@pytest.mark.parametrize("adapted", [False, True])
def test_a_greedy_reply_is_that_of_transformers(folder: Path, adapter: Path, adapted: bool) -> None:
    used = adapter if adapted else None
    model = Transformers(str(folder), Settings(), used)
    text, reply = ask(model, max_tokens=12)
    tokenizer = tiny.tokenizer()
    shown = [{"role": message.role, "content": message.content} for message in ASKED]
    prompt = tokenizer.apply_chat_template(shown, add_generation_prompt=True)["input_ids"]
    wanted = by_transformers(folder, used, list(prompt), 12)
    assert list(reply.token_ids) == wanted
    assert reply.usage.prompt_tokens == len(prompt) == asyncio.run(model.count_tokens(ASKED))
    assert text == reply.message.content == tokenizer.decode(wanted, skip_special_tokens=True)
    assert reply.adapter == (str(adapter) if adapted else "")


def test_a_long_prompt_is_read_in_parts_and_changes_nothing(folder: Path) -> None:
    long = [Message("user", "The saw cuts wood and ice alike. " * 60)]
    model = Transformers(str(folder), Settings())
    _, reply = ask(model, long, max_tokens=8)
    prompt = model._prompt(long)
    assert len(prompt) > 2 * CHUNK
    assert list(reply.token_ids) == by_transformers(folder, None, prompt, 8)


def test_every_token_has_its_log_probability(folder: Path) -> None:
    _, reply = ask(Transformers(str(folder), Settings()), max_tokens=10)
    assert len(reply.logprobs) == len(reply.token_ids)
    assert all(-math.log(700) * 2 < value <= 0 for value in reply.logprobs)
    assert reply.mean_logprob == pytest.approx(sum(reply.logprobs) / len(reply.logprobs))


def test_a_seed_repeats_a_sample_and_another_gives_another(folder: Path) -> None:
    model = Transformers(str(folder), Settings())
    first, again, other = (ask(model, max_tokens=20, temperature=2.0, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_stop_text_ends_the_reply_and_is_never_shown(folder: Path) -> None:
    model = Transformers(str(folder), Settings())
    whole, _ = ask(model, max_tokens=24)
    stop = whole[6:9]
    text, reply = ask(model, max_tokens=24, stop=[stop])
    assert text == reply.message.content == whole[: whole.index(stop)]
    assert reply.finish_reason == "stop"


def test_leaving_early_stops_the_model(folder: Path) -> None:
    model = Transformers(str(folder), Settings())

    async def main() -> float:
        stream = model.chat(ASKED, max_tokens=1500, temperature=1.0)
        async for _ in stream:
            break
        started = time.perf_counter()
        await stream.aclose()  # type: ignore[attr-defined]
        with await asyncio.to_thread(lambda: model._turn):
            return time.perf_counter() - started

    assert asyncio.run(main()) < 0.5


def test_what_does_not_fit_is_refused_before_it_is_read(folder: Path) -> None:
    settings = Settings.model_validate({"models": {"context": 300}})
    with pytest.raises(ContextOverflow):
        ask(Transformers(str(folder), settings), [Message("user", "wood and ice " * 200)])


def test_it_takes_neither_tools_nor_schemas(folder: Path) -> None:
    with pytest.raises(ModelError, match="free text only"):
        ask(Transformers(str(folder), Settings()), schema={"type": "object"})


@pytest.mark.parametrize("missing", ["base", "adapter"])
def test_what_is_not_there_is_named(folder: Path, tmp_path: Path, missing: str) -> None:
    base, adapter = (tmp_path / "gone", None) if missing == "base" else (folder, tmp_path / "gone")
    with pytest.raises(ModelUnavailable, match="gone"):
        ask(Transformers(str(base), Settings(), adapter))


def test_a_name_of_the_hub_is_never_fetched(no_lookup: list[str]) -> None:
    with pytest.raises(ModelUnavailable, match="on this machine") as caught:
        ask(Transformers("somebody/some-model", Settings()))
    assert "hf download somebody/some-model" in caught.value.hint
    assert no_lookup == []


def test_its_address_names_base_and_adapter(folder: Path, adapter: Path) -> None:
    model = registry.open_model(f"hf:{folder}+{adapter}", Settings())
    assert isinstance(model, Transformers)
    assert model.address == f"hf:{folder}+{adapter}"
    assert registry.is_local(model.address, Settings())

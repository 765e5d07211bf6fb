"""Addresses become backends; specialists are found by name and version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agent import config, registry
from agent.errors import ConfigError, ModelUnavailable, UsageError
from agent.settings import Settings


@pytest.fixture
def specialists() -> Path:
    folder = config.data_dir(Settings()) / "specialists"
    for version in ("1", "2"):
        (folder / "tester" / version).mkdir(parents=True)
        (folder / "tester" / version / "card.json").write_text(json.dumps({"name": "tester", "base": "x"}))
    return folder


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("ollama:qwen3:8b", "Ollama"),
        ("openai:gpt", "OpenAI"),
        ("openai@http://127.0.0.1:8000/v1:some/model", "OpenAI"),
        ("anthropic:claude", "Anthropic"),
    ],
)
def test_an_address_opens_its_backend_and_contacts_nothing(address: str, kind: str) -> None:
    model = registry.open_model(address, Settings())
    assert (type(model).__name__, model.address) == (kind, address)


@pytest.mark.parametrize(
    ("typed", "meant"), [("ollma:qwen3:8b", "ollama:qwen3:8b"), ("antropic:claude", "anthropic:claude")]
)
def test_a_misspelt_address_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(UsageError) as raised:
        registry.open_model(typed, Settings())
    assert raised.value.hint.startswith(f"Did you mean {meant}? Addresses: local, ")


def test_a_gguf_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(ModelUnavailable, match=r"somewhere\.gguf cannot be read"):
        registry.open_model("gguf:somewhere.gguf", Settings())


@pytest.mark.parametrize("address", ["", "gpt-4", "ollama:", "openai:", "loca"])
def test_an_unknown_address_is_answered_with_the_known_forms(address: str) -> None:
    with pytest.raises(UsageError, match="there is no model") as raised:
        registry.open_model(address, Settings())
    assert "openai@URL:NAME" in raised.value.hint


@pytest.mark.parametrize("address", ["openai@nowhere", "openai@http://127.0.0.1:8000", "openai@:x"])
def test_a_server_without_a_models_name_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="lacks a model's name or a URL"):
        registry.server_and_name(address)


def test_a_models_name_may_contain_slashes() -> None:
    found = registry.server_and_name("openai@http://127.0.0.1:8000/v1:Qwen/Qwen3-8B")
    assert found == ("http://127.0.0.1:8000/v1", "Qwen/Qwen3-8B")


def test_nothing_serves_until_a_version_is_promoted(specialists: Path) -> None:
    assert registry.promoted("tester", Settings()) is None
    (specialists / "tester" / "promoted").write_text("2")
    found = registry.promoted("tester", Settings())
    assert found is not None
    assert found.address == "specialist:tester@2"
    assert found.adapter == specialists / "tester" / "2" / "adapter.gguf"


def test_a_pointer_to_a_version_that_is_gone_is_an_error(specialists: Path) -> None:
    (specialists / "tester" / "promoted").write_text("7")
    with pytest.raises(ConfigError, match="names version '7'"):
        registry.promoted("tester", Settings())


def test_a_broken_card_is_named(specialists: Path) -> None:
    (specialists / "tester" / "1" / "card.json").write_text("{")
    with pytest.raises(ConfigError, match="is not a specialist's card"):
        registry.specialists(Settings())


def test_a_version_can_be_asked_for_by_name(specialists: Path) -> None:
    assert registry.specialist("tester", "1", Settings()).version == "1"
    with pytest.raises(ModelUnavailable, match="no specialist tester@9"):
        registry.specialist("tester", "9", Settings())
    with pytest.raises(ModelUnavailable, match="no specialist nobody"):
        registry.specialist("nobody", "", Settings())


def test_a_shipped_specialist_is_version_0_until_another_is_promoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, specialists: Path
) -> None:
    shipped = tmp_path / "skills" / "test" / "specialist"
    shipped.mkdir(parents=True)
    (shipped / "card.json").write_text(json.dumps({"name": "tester"}))
    monkeypatch.setattr(registry, "BUILT_IN_SKILLS", tmp_path / "skills")
    found = registry.promoted("tester", Settings())
    assert found is not None
    assert (found.version, found.folder) == ("0", shipped)


@pytest.mark.parametrize("address", ["openai@http://[bad:NAME", "openai@http://[::1:NAME"])
def test_an_address_that_is_no_url_is_told(address: str) -> None:
    with pytest.raises(UsageError, match="lacks a model's name or a URL"):
        registry.open_model(address, Settings())


@pytest.mark.parametrize("address", ["gguf:~nobody-here/x.gguf", "scripted:~nobody-here/x.jsonl"])
def test_the_home_of_somebody_who_is_not_there_is_no_crash(address: str) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        registry.open_model(address, Settings())


@pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "glm:cloud", "GLM:Cloud", "gpt-oss:120B-CLOUD"])
def test_a_model_that_ollama_serves_from_its_cloud_is_not_local(name: str) -> None:
    assert not registry.is_local(f"ollama:{name}", Settings())

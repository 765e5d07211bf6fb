"""Who is measured: hashes of what stands behind an address, and no model on what it was made from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from agent.config import data_dir
from agent.errors import ConsentDenied, InputError, ModelUnavailable, UsageError
from agent.settings import Settings
from evals.subject import subject, unseen
from tests.evals.examples import add_specialist, write_base


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A small file that stands in for the embedded model: nothing here loads it."""
    return write_base(tmp_path / "base.gguf")


@pytest.fixture
def settings(base: Path) -> Settings:
    return Settings.model_validate({"models": {"local_path": str(base)}})


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_specialist_is_named_with_its_version_and_the_hashes_of_its_files(settings: Settings, base: Path) -> None:
    add_specialist(data_dir(settings), base, "3", ["d1", "d2"])
    (data_dir(settings) / "specialists" / "annotator" / "promoted").write_text("3")
    who = subject("specialist:annotator", settings)
    assert (who.address, who.base, who.documents) == ("specialist:annotator@3", "local", {"d1", "d2"})
    assert who.specialist == {
        "name": "annotator",
        "version": "3",
        "adapter_sha256": digest(b"GGUF of 3"),
        "base_sha256": digest(base.read_bytes()),
    }


def test_an_adapter_beside_a_card_is_that_specialist(settings: Settings, base: Path) -> None:
    folder = add_specialist(data_dir(settings), base, "3", ["d1"])
    who = subject(f"gguf:{base}+{folder / 'adapter.gguf'}", settings)
    assert (who.base, who.documents) == (f"gguf:{base}", {"d1"})
    assert who.specialist
    assert (who.specialist["name"], who.specialist["version"]) == ("annotator", "3")
    (folder / "card.json").unlink()
    bare = subject(f"gguf:{base}+{folder / 'adapter.gguf'}", settings)
    assert (bare.specialist, bare.documents, bare.hashes["adapter"]) == (None, None, digest(b"GGUF of 3"))


def test_a_card_that_does_not_parse_is_named(settings: Settings, base: Path) -> None:
    folder = add_specialist(data_dir(settings), base, "3", [])
    (folder / "card.json").write_text("{")
    with pytest.raises(InputError, match=r"card\.json is not a specialist's card"):
        subject(f"gguf:{base}+{folder / 'adapter.gguf'}", settings)


def test_models_without_an_adapter_are_their_own_base(settings: Settings, base: Path) -> None:
    assert subject("local", settings).hashes == {"base": digest(base.read_bytes())}
    server = subject("ollama:qwen3:8b", settings)
    assert (server.base, server.hashes, server.specialist, server.documents) == ("ollama:qwen3:8b", {}, None, None)


def test_what_is_not_there_or_may_not_be_reached_is_refused_at_once(settings: Settings, base: Path) -> None:
    with pytest.raises(ModelUnavailable, match="no specialist nobody@1"):
        subject("specialist:nobody@1", settings)
    (add_specialist(data_dir(settings), base, "4", []) / "adapter.gguf").unlink()
    with pytest.raises(ModelUnavailable, match="annotator@4 lacks its weights"):
        subject("specialist:annotator@4", settings)
    with pytest.raises(UsageError, match="there is no model 'lokal'"):
        subject("lokal", settings)
    with pytest.raises(ModelUnavailable, match="cannot be read"):
        subject("gguf:/nowhere/model.gguf", settings)
    private = settings.model_copy(update={"privacy": "local-only"})
    with pytest.raises(ConsentDenied, match="would leave this machine"):
        subject("anthropic:some-model", private)


def test_a_model_is_not_measured_on_what_it_was_made_from_unless_somebody_insists(
    settings: Settings, base: Path
) -> None:
    add_specialist(data_dir(settings), base, "3", ["d1", "d2"])
    who = subject("specialist:annotator@3", settings)
    with pytest.raises(
        InputError, match="specialist:annotator@3 was made from 1 of the suite's 2 documents"
    ) as refused:
        unseen(who, ["d2", "d9"])
    assert "--seen" in refused.value.hint
    assert unseen(who, ["d2", "d9"], insist=True) == ["d2"]
    assert unseen(who, ["d9"]) == []


def test_a_card_that_lists_no_documents_leaves_it_unknown(settings: Settings, base: Path) -> None:
    folder = add_specialist(data_dir(settings), base, "3", None)
    assert json.loads((folder / "card.json").read_text())["dataset"] == {}
    assert subject("specialist:annotator@3", settings).documents is None

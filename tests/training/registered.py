"""A tiny base that is served as the embedded one, and specialists of it in the registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from agent import config, specialists
from agent.models.gguf_file import sha256
from agent.registry import Specialist
from agent.settings import Settings
from tests.training import adapters, tiny
from training import export


def write_weights(folder: Path, *, sharp: bool = False) -> Path:
    """`base/`, `base.gguf`, and three adapters for it: `adapter-0/` to `adapter-2/`, each with its GGUF file.

    A sharp base has embeddings long enough that an adapter can make a token likely.
    """
    tiny.write_base(folder / "base")
    if sharp:
        path = folder / "base" / "model.safetensors"
        tensors = load_file(path)
        tensors["model.embed_tokens.weight"] *= 15
        save_file(tensors, path, metadata={"format": "pt"})
    base = export.model_gguf(folder / "base", None, folder / "base.gguf", "F16").path
    for number in range(3):
        adapter = adapters.write_adapter(folder / "base", folder / f"adapter-{number}", seed=number, size=0.05)
        export.adapter_gguf(adapter, base, folder / f"adapter-{number}.gguf")
    return folder


def serve(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Let the tiny base stand in for the embedded one, in this process and in those that it starts."""
    monkeypatch.setenv("APPRENTICE_MODELS__LOCAL_PATH", str(weights / "base.gguf"))
    monkeypatch.setenv("APPRENTICE_MODELS__THREADS", "1")
    return config.load(Path("/dev/null"), trusted=False)[0]


def add(weights: Path, number: int, settings: Settings, name: str = "tester", **card: Any) -> Specialist:
    """Put one of the adapters into the registry as the next version."""
    entries = {
        "skill": "annotate",
        "base": {"name": "tiny", "sha256": sha256(weights / "base.gguf")},
        "adapter": {"rank": 4, "alpha": 8, "targets": adapters.ALL},
        "dataset": {"sha256": "d", "rows": 100, "verified": {"train": 100}, "documents": []},
        "metrics": {},
    }
    files = {
        "adapter.gguf": weights / f"adapter-{number}.gguf",
        "adapter.safetensors": weights / f"adapter-{number}" / "adapter_model.safetensors",
    }
    return specialists.add(name, entries | card, files, settings)


def allow(found: Specialist, incumbent: Specialist | None = None) -> Specialist:
    """The gate's yes beside a version's card, as `training.gate` writes it."""
    verdict = {"promote": True, "reasons": ["it is better"], "adapter_sha256": found.adapter_sha256}
    rival = incumbent.adapter_sha256 if incumbent else ""
    (found.folder / "gate.json").write_text(json.dumps(verdict | {"incumbent": rival}))
    return found

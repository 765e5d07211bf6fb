"""Who is evaluated: an address, what stands behind it by hash, and whether it was made from the suite's documents."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent import registry
from agent.errors import ConsentDenied, InputError
from agent.settings import Settings


@dataclass(frozen=True, slots=True)
class Subject:
    """A model as a report names it.

    Args:
        address: its exact address, a specialist's version included.
        base: the address of the model without its adapter, for the few-shot baseline.
        hashes: SHA-256 of its files, by what they are: `base`, `adapter`. Empty for a model of a server.
        specialist: what the report says of a specialist; None for other models.
        documents: keys of the documents that it was made from, as its card lists them; None if nobody says.
    """

    address: str
    base: str
    hashes: dict[str, str] = field(default_factory=dict)
    specialist: dict[str, str] | None = None
    documents: frozenset[str] | None = None


def subject(address: str, settings: Settings) -> Subject:
    """Look up an address without loading anything.

    Raises:
        UsageError: the address has no known form.
        ModelUnavailable: the specialist, or the file, does not exist, or the specialist is not what its card says.
        ConsentDenied: the model would leave this machine, and privacy is local-only.
    """
    if settings.privacy == "local-only" and not registry.is_local(address, settings):
        raise ConsentDenied(f"{address} would leave this machine, and privacy is local-only", "Give a local --model.")
    registry.open_model(address, settings)  # loads nothing; raises if a file is missing, or is not its card's
    scheme, _, rest = address.partition(":")
    if scheme == "specialist":
        name, _, version = rest.partition("@")
        found = registry.specialist(name, version, settings)
        return _llamacpp(found.address, "local", _embedded(settings), found.adapter, found.card, found.version)
    if address == "local":
        return _llamacpp(address, address, _embedded(settings), None, {}, "")
    if scheme == "gguf":
        base, _, adapter = rest.partition("+")
        path = Path(adapter).expanduser() if adapter else None
        card = _card_beside(path) if path else {}
        return _llamacpp(address, f"gguf:{base}", Path(base).expanduser(), path, card, str(card.get("version", "")))
    return Subject(address, address)


def unseen(subject: Subject, documents: Collection[str], *, insist: bool = False) -> list[str]:
    """The suite's documents that the model was made from.

    Args:
        subject: the model.
        documents: the suite's document keys.
        insist: return them instead of refusing.

    Raises:
        InputError: there are some, and nobody insists.
    """
    seen = sorted((subject.documents or frozenset()) & set(documents))
    if seen and not insist:
        raise InputError(
            f"{subject.address} was made from {len(seen)} of the suite's {len(set(documents))} documents",
            "Give another suite; --seen measures it all the same, and the report then counts for no promotion.",
        )
    return seen


def _embedded(settings: Settings) -> Path:
    from agent.models.embedded import find

    return find(settings)


def _llamacpp(
    address: str, base_address: str, base: Path, adapter: Path | None, card: dict[str, Any], version: str
) -> Subject:
    from agent.models.gguf_file import sha256

    hashes = {"base": sha256(base)} | ({"adapter": sha256(adapter)} if adapter else {})
    if not card:
        return Subject(address, base_address, hashes)
    specialist = {
        "name": str(card.get("name", "")),
        "version": version,
        "adapter_sha256": hashes.get("adapter", ""),
        "base_sha256": hashes["base"],
    }
    documents = card.get("dataset", {}).get("documents")
    known = frozenset(map(str, documents)) if isinstance(documents, list) else None
    return Subject(address, base_address, hashes, specialist, known)


def _card_beside(adapter: Path) -> dict[str, Any]:
    """The card of the specialist whose adapter is given as a file; empty if it is nobody's."""
    path = adapter.parent / "card.json"
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a specialist's card: {error}", "Correct it, or take it away.") from None
    return card if isinstance(card, dict) else {}

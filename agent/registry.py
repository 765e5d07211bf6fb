"""Models by address; specialists by name and version.

A specialist is a folder with a card.json and its weights. The user's stand in DATA/specialists/NAME/VERSION/, where the
file DATA/specialists/NAME/promoted holds the version that serves; a skill's own folder `specialist/` is version 0.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.config import data_dir
from agent.errors import ConfigError, ModelUnavailable, UsageError
from agent.models.base import Model
from agent.settings import Settings

ADDRESSES = {
    "local": "the embedded model, in this process",
    "gguf:PATH[+ADAPTER]": "any GGUF file, with a LoRA adapter if you like",
    "specialist:NAME[@VERSION]": "a specialist of the registry, on the embedded model",
    "ollama:NAME": "a model of an Ollama server",
    "openai:NAME": "OpenAI",
    "openai@URL:NAME": "any OpenAI-compatible server (vLLM, llama-server, LM Studio)",
    "anthropic:NAME": "Anthropic",
    "hf:ID_OR_PATH[+ADAPTER]": "transformers and peft, to evaluate what was just trained",
    "scripted:PATH": "replays the replies of a JSONL file; for tests and demonstrations",
}
BUILT_IN_SKILLS = Path(__file__).resolve().parent.parent / "skills"


@dataclass(frozen=True, slots=True)
class Specialist:
    """One version of a specialist. `adapter` is the LoRA in GGUF form; `card` is its card.json."""

    name: str
    version: str
    folder: Path
    card: dict[str, Any]

    @property
    def adapter(self) -> Path:
        return self.folder / "adapter.gguf"

    @property
    def address(self) -> str:
        return f"specialist:{self.name}@{self.version}"

    @property
    def adapter_sha256(self) -> str:
        """Of adapter.gguf, as its card says; empty if it does not."""
        return _hash_in(self.card, "adapter")

    @property
    def base_sha256(self) -> str:
        """Of the GGUF that it was trained for, as its card says; empty if it does not."""
        return _hash_in(self.card, "base")


def open_model(address: str, settings: Settings) -> Model:
    """Make the backend for an address; nothing is loaded or contacted before its first use.

    Raises:
        UsageError: the address has no known form.
        ModelUnavailable: the file or specialist that it names does not exist.
    """
    scheme, _, rest = address.partition(":")
    if address == "local" or scheme in ("gguf", "specialist"):
        return _open_llamacpp(address, scheme, rest, settings)
    if scheme == "ollama" and rest:
        from agent.models.ollama import Ollama

        return Ollama(rest, settings)
    if scheme == "openai" and rest:
        from agent.models.openai import OpenAI

        return OpenAI(rest, settings)
    if address.startswith("openai@"):
        from agent.models.openai import OpenAI

        url, name = server_and_name(address)
        return OpenAI(name, settings, url=url)
    if scheme == "anthropic" and rest:
        from agent.models.anthropic import Anthropic

        return Anthropic(rest, settings)
    if scheme == "hf" and rest:
        from agent.models.transformers import Transformers

        base, _, adapter = rest.partition("+")
        return Transformers(base, settings, Path(os.path.expanduser(adapter)) if adapter else None, address)
    if scheme == "scripted" and rest:
        from agent.models.scripted import Scripted

        return Scripted.from_file(Path(os.path.expanduser(rest)))
    near = difflib.get_close_matches(scheme, {re.split(r"[:@]", form)[0] for form in ADDRESSES}, n=1, cutoff=0.7)
    meant = f"Did you mean {address.replace(scheme, near[0], 1)}? " if near and near[0] != scheme else ""
    raise UsageError(f"there is no model {address!r}", f"{meant}Addresses: {', '.join(ADDRESSES)}.")


def _open_llamacpp(address: str, scheme: str, rest: str, settings: Settings) -> Model:
    from agent.models.embedded import find
    from agent.models.llamacpp import LlamaCpp

    if address == "local":
        return LlamaCpp(find(settings), settings, address=address)
    if scheme == "gguf":
        base, _, adapter = rest.partition("+")
        base, adapter = os.path.expanduser(base), os.path.expanduser(adapter)
        return LlamaCpp(Path(base), settings, adapter=Path(adapter) if adapter else None, address=address)
    name, _, version = rest.partition("@")
    found = specialist(name, version, settings)
    embedded = find(settings)
    check_weights(found, embedded)
    return LlamaCpp(embedded, settings, adapter=found.adapter, address=found.address)


def check_weights(found: Specialist, base: Path) -> None:
    """Raise ModelUnavailable unless the adapter is the one that its card was written for, and so is the base.

    Args:
        found: the specialist.
        base: the GGUF that it would be served with.
    """
    from agent.models.gguf_file import sha256

    if not found.adapter.is_file():
        raise ModelUnavailable(f"{found.address} lacks its weights, {found.adapter}", "Copy that file back there.")
    if found.adapter_sha256 != sha256(found.adapter):
        raise ModelUnavailable(
            f"{found.adapter} is not the file that the card of {found.address} was written for",
            f"Restore it, or take an earlier version: `apprentice registry rollback {found.name}`.",
        )
    if found.base_sha256 != sha256(base):
        raise ModelUnavailable(
            f"{found.address} was trained on another base than {base.name}",
            "Set models.local_path to the base that its card names, or train it again.",
        )


def server_and_name(address: str) -> tuple[str, str]:
    """The two halves of openai@URL:NAME. The name is what follows the last colon that is not a port's."""
    rest = address.removeprefix("openai@")
    url, _, name = rest.rpartition(":")
    try:
        host = urlsplit(url).hostname
    except ValueError:  # brackets that hold no IPv6 address
        host = None
    if not host or name.isdigit() or ("/" in name and "//" in name):
        raise UsageError(f"{address!r} lacks a model's name or a URL", "Write openai@http://127.0.0.1:8000/v1:NAME.")
    return url, name


def is_local(address: str, settings: Settings) -> bool:
    """Whether a task sent to this address stays on this machine."""
    if address == "local" or address.startswith(("gguf:", "specialist:", "hf:", "scripted:")):
        return True
    from agent.models.http import is_loopback

    if address.startswith("ollama:"):
        # Ollama serves names that end in "cloud" from its own servers, through the local one.
        return is_loopback(settings.models.ollama_url) and not address.lower().endswith(("-cloud", ":cloud"))
    return address.startswith("openai@") and is_loopback(server_and_name(address)[0])


def specialists(settings: Settings) -> list[Specialist]:
    """Every version of every specialist on this machine, shipped ones first."""
    shipped = [_read(card.parent, "0") for card in sorted(BUILT_IN_SKILLS.glob("*/specialist/card.json"))]
    names = sorted((data_dir(settings) / "specialists").glob("[!.]*"))  # what begins with a dot comes and goes
    own = [card.parent for name in names for card in name.glob("*/card.json")]
    numbered = sorted((folder for folder in own if folder.name.isdecimal()), key=lambda f: (f.parent.name, int(f.name)))
    return shipped + [_read(folder, folder.name) for folder in numbered]


def promoted(name: str, settings: Settings) -> Specialist | None:
    """The version of a specialist that serves: the one that its pointer names, else the shipped one, else None.

    Raises:
        ConfigError: the pointer names a version that is not there, or a card does not parse.
    """
    pointer = data_dir(settings) / "specialists" / name / "promoted"
    versions = [found for found in specialists(settings) if found.name == name]
    if not pointer.is_file():
        return next((found for found in versions if found.version == "0"), None)
    version = pointer.read_text().strip()
    found = next((found for found in versions if found.version == version), None)
    if found is None:
        raise ConfigError(f"{pointer} names version {version!r} of {name}, which is not there")
    return found


def specialist(name: str, version: str, settings: Settings) -> Specialist:
    """One version of a specialist; the promoted one if `version` is empty. Raises ModelUnavailable."""
    if not version:
        found = promoted(name, settings)
    else:
        found = next((s for s in specialists(settings) if (s.name, s.version) == (name, version)), None)
    if found is None:
        raise ModelUnavailable(
            f"there is no specialist {name}{'@' + version if version else ''}", "`apprentice models` lists them."
        )
    return found


def _hash_in(card: dict[str, Any], part: str) -> str:
    entry = card.get(part)
    return str(entry.get("sha256", "")) if isinstance(entry, dict) else ""


def _read(folder: Path, version: str) -> Specialist:
    path = folder / "card.json"
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        return Specialist(card["name"], version, folder, card)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a specialist's card: {error!r}") from None

"""Frameworks: what an annotation consists of, as data. One TOML file holds the moves, their questions and limits.

The built-in ones lie in `frameworks/` beside this file. A person's own is `frameworks/NAME.toml` in their
configuration folder; it wins over a built-in one of the same name. `frameworks/examples/clinical-pico.toml`
explains every key.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from agent.config import config_dir
from agent.errors import ConfigError, UsageError
from agent.messages import Json

BUILT_IN = Path(__file__).parent / "frameworks"
Line = Annotated[str, StringConstraints(min_length=1, pattern=r"^[^\x00-\x1f]+$")]


class Move(BaseModel):
    """One part of an annotation: a key, and the question that its sentence answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    question: Line
    min_words: int = Field(8, ge=1, le=200)
    max_words: int = Field(45, ge=1, le=200)
    required: bool = False
    """Whether the absent text is refused: the abstract always states this move."""

    @model_validator(mode="after")
    def _limits_in_order(self) -> Move:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words is {self.min_words} and max_words only {self.max_words}")
        return self


class Framework(BaseModel):
    """The moves of an annotation, in order, and the rules that hold for all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    instructions: Line
    """What the model is told before the moves."""
    absent: Annotated[str, StringConstraints(pattern=r'^[^\W\d_][^\d"\\\x00-\x1f]*\.$')]
    """The exact text of a move that the abstract does not state; it ends with a full stop."""
    min_support: float = Field(0.75, ge=0, le=1)
    """The least share of a move's content words that the abstract must support."""
    max_alike: float = Field(0.7, ge=0, le=1)
    """The highest token F1 that two stated moves may have with each other."""
    moves: tuple[Move, ...] = Field(min_length=1, max_length=24)

    @model_validator(mode="after")
    def _keys_differ(self) -> Framework:
        keys = self.keys
        repeated = sorted({key for key in keys if keys.count(key) > 1})
        if repeated:
            raise ValueError(f"the move {repeated[0]!r} stands there twice")
        return self

    @property
    def keys(self) -> list[str]:
        return [move.key for move in self.moves]

    @cached_property
    def version(self) -> str:
        """A hash of the content: what was annotated under another version is not the same work."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]

    def move(self, key: str) -> Move:
        """The move of this key. Raises KeyError if there is none."""
        for move in self.moves:
            if move.key == key:
                return move
        raise KeyError(key)

    def reply_schema(self) -> Json:
        """The JSON schema of an annotation, for models that take one instead of a grammar."""
        return {
            "type": "object",
            "properties": {move.key: {"type": "string", "description": move.question} for move in self.moves},
            "required": self.keys,
            "additionalProperties": False,
        }


def available() -> dict[str, Path]:
    """The file of every framework that can be named, the person's own before the built-in ones."""
    own = config_dir() / "frameworks"
    files = [*sorted(BUILT_IN.glob("*.toml")), *(sorted(own.glob("*.toml")) if own.is_dir() else [])]
    return {path.stem: path for path in files}


def load(name: str) -> Framework:
    """The framework of this name.

    Raises:
        UsageError: there is none; the hint has the nearest name.
        ConfigError: its file does not parse, or a key does not fit; the message names file and key.
    """
    files = available()
    if name not in files:
        near = difflib.get_close_matches(name, files, n=1, cutoff=0.4)
        known = f"There are {', '.join(sorted(files))}; your own goes to {config_dir() / 'frameworks'}."
        hint = f"Did you mean {near[0]!r}? {known}" if near else known
        raise UsageError(f"there is no annotation framework {name!r}", hint)
    return read(files[name])


def read(path: Path) -> Framework:
    """Read one framework file; its name is the file's. Raises ConfigError as `load` does."""
    try:
        content: dict[str, Any] = tomllib.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"the framework file {path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the framework file {path} is not valid TOML: {error}", "Correct that line.") from None
    if "name" in content:
        raise ConfigError(f"the framework file {path}: there is no key 'name'", "A framework is named by its file.")
    try:
        return Framework.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        raise ConfigError(_problem(path, error), _allowed()) from None


def _problem(path: Path, error: ValidationError) -> str:
    errors = error.errors()
    first = next((entry for entry in errors if entry["type"] == "extra_forbidden"), errors[0])
    key = re.sub(r"\.(\d+)", r"[\1]", ".".join(str(part) for part in first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"the framework file {path}: there is no key {key!r}"
    if first["type"] == "missing":
        return f"the framework file {path}: the key {key!r} is missing"
    where = f"{key}: " if key else ""
    return f"the framework file {path}: {where}{first['msg']}"


def _allowed() -> str:
    keys = [name for name in Framework.model_fields if name != "name"]
    return f"Keys: {', '.join(keys)}; of each move: {', '.join(Move.model_fields)}."

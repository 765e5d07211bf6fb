"""Settings: defaults < user file < project file < environment < flags.

A project file is read only as far as it narrows until a person trusts its folder (agent/trust.py). An unknown key,
or a value that does not fit, is an error that names the file, the key and what is allowed.
"""

from __future__ import annotations

import difflib
import itertools
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import platformdirs
from pydantic import BaseModel, ValidationError

from agent.errors import ConfigError
from agent.settings import Policy, Settings

PROJECT_FOLDER = ".apprentice"
SMALLER = (
    "budget.",
    *(f"tools.{name}" for name in ("output_limit", "fetch_limit", "fetch_timeout", "shell_timeout", "rewrite_limit")),
    *(f"work.{name}" for name in ("notes_tokens", "depth", "share", "parallel")),
)
"""Settings that an untrusted project may make smaller."""


def config_dir() -> Path:
    """The user's configuration folder (config.toml, skills/, tools/)."""
    return Path(os.environ.get("APPRENTICE_CONFIG_DIR") or platformdirs.user_config_dir("apprentice"))


def data_dir(settings: Settings) -> Path:
    """The user's data folder (traces.db, specialists/, trust.json, outputs/)."""
    chosen = settings.data_dir or os.environ.get("APPRENTICE_DATA_DIR")
    return Path(os.path.expanduser(chosen)) if chosen else Path(platformdirs.user_data_dir("apprentice"))


def cache_dir() -> Path:
    """The cache folder (built wheels, downloaded models, arXiv answers)."""
    return Path(os.environ.get("APPRENTICE_CACHE_DIR") or platformdirs.user_cache_dir("apprentice"))


def load(workspace: Path, *, trusted: bool, flags: Mapping[str, Any] | None = None) -> tuple[Settings, list[str]]:
    """Read every layer of the settings.

    Args:
        workspace: the folder whose .apprentice/config.toml is the project file.
        trusted: whether a person trusts that folder; if not, its file may only narrow.
        flags: dotted keys from the command line, e.g. {"budget.steps": 5}; they win over everything.

    Returns:
        The settings, and a sentence for each line of the project file that was left out.

    Raises:
        ConfigError: a file that does not parse, an unknown key, a value that does not fit.
    """
    layers: dict[str, Any] = {}
    user_file = config_dir() / "config.toml"
    project_file = workspace / PROJECT_FOLDER / "config.toml"
    notices: list[str] = []
    _merge(layers, _read(user_file), str(user_file))
    project = _read(project_file)
    if project:
        check(project, str(project_file))
        project, notices = _stricter_policy(project, Settings.model_validate(layers), project_file)
    if project and not trusted:
        project, more = _only_narrowing(project, Settings.model_validate(layers), project_file)
        notices += more
    _merge(layers, project, str(project_file))
    _merge(layers, _environment(os.environ), "the environment")
    _merge(layers, _nest(flags or {}), "the command line")
    return Settings.model_validate(layers), notices


def describe(model: type[BaseModel] = Settings, prefix: str = "") -> list[tuple[str, str, str]]:
    """Every setting as (dotted key, default, what it means), in the order of the code."""
    rows = []
    meanings = _meanings(model)
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows += describe(field.annotation, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, repr(field.default), meanings.get(name, "")))
    return rows


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The docstring under each field. Read when asked for: pydantic's own way reads them at every start."""
    import ast
    import inspect

    body = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(body, ast.ClassDef)
    return {
        field.target.id: inspect.cleandoc(note.value.value)
        for field, note in itertools.pairwise(body.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(note, ast.Expr)
        and isinstance(note.value, ast.Constant)
        and isinstance(note.value.value, str)
    }


def value(settings: Settings, key: str) -> Any:
    """The value of one dotted key. Raises ConfigError with the nearest key if there is none."""
    node: Any = settings
    for part in key.split("."):
        if isinstance(node, dict) and part in node:  # a table whose names are the person's own
            node = node[part]
        elif isinstance(node, BaseModel) and part in type(node).model_fields:
            node = getattr(node, part)
        else:
            raise ConfigError(f"there is no setting {key!r}", _nearest(key))
    return node


def _read(path: Path) -> dict[str, Any]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a project may bring a FIFO along, which would never end
            raise ConfigError(f"{path} is not a regular file", "Remove it.")
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    import tomllib  # here, since most starts find no file

    try:
        return tomllib.loads(text.decode("utf-8"))
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deeply", "Correct it, or remove it.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}", "Correct that line, or remove the file.") from None


def _merge(into: dict[str, Any], layer: dict[str, Any], source: str) -> None:
    """Lay one layer over the others, after checking it by itself so that an error can name its source."""
    if layer:
        check(layer, source)
    _overlay(into, layer)


def _overlay(into: dict[str, Any], layer: dict[str, Any]) -> None:
    for key, entry in layer.items():
        if isinstance(entry, dict) and isinstance(into.get(key), dict):
            _overlay(into[key], entry)
        else:
            into[key] = entry


def check(layer: dict[str, Any], source: str) -> None:
    """Raise ConfigError, naming the source, the key and what is allowed, unless every entry of a layer fits."""
    try:
        Settings.model_validate(layer)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"{source}: there is no setting {key!r}", _nearest(key)) from None
        raise ConfigError(f"{source}: {key} = {first['input']!r} does not fit: {first['msg']}", _allowed(key)) from None


def _nearest(key: str) -> str:
    near = difflib.get_close_matches(key, [row[0] for row in describe()], n=1, cutoff=0.4)
    return f"Did you mean {near[0]!r}?" if near else "`apprentice config` lists every setting."


def _allowed(key: str) -> str:
    row = next((row for row in describe() if row[0] == key), None)
    choices = get_args(_annotation(key))
    values = f"Allowed: {', '.join(map(str, choices))}. " if choices else ""
    return f"{values}{row[2]} (default {row[1]})" if row else "`apprentice config` lists every setting."


def _annotation(key: str) -> Any:
    node: Any = Settings
    for part in key.split("."):
        field = getattr(node, "model_fields", {}).get(part)
        node = field.annotation if field else None
    return node


def _environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """APPRENTICE_MODELS__DEFAULT=x is models.default = "x"; lists are comma-separated."""
    prefix = "APPRENTICE_"
    given = {name: text for name, text in environment.items() if name.startswith(prefix)}
    keys = {row[0]: row for row in describe()} if given else {}
    found: dict[str, Any] = {}
    for name, text in given.items():
        key = name.removeprefix(prefix).lower().replace("__", ".")
        if name.startswith(prefix) and key in keys:
            parts = [part.strip() for part in text.split(",") if part.strip()]
            found[key] = parts if keys[key][1].startswith("[") else text
        elif name.startswith(prefix) and ("__" in name or difflib.get_close_matches(key, ["privacy"])):
            raise ConfigError(f"the environment variable {name} names no setting", _nearest(key))
    return _nest(found)


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for key, entry in flat.items():
        *parents, leaf = key.split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = entry
    return nested


def _stricter_policy(project: dict[str, Any], user: Settings, path: Path) -> tuple[dict[str, Any], list[str]]:
    """The project's settings with its policy added to the user's, trusted or not: nothing in it may allow anything."""
    policy = project.get("policy")
    if policy is None:
        return project, []
    own = Policy.model_validate(policy)
    added = [rule for rule in own.rules if rule.action != "allow"]
    notices = (
        [f"{path}: a policy rule that allows is ignored: only your own file may allow"] if own.rules != added else []
    )
    if "personal" in policy and own.personal == "keep" != user.policy.personal:
        notices.append(f"{path}: policy.personal is ignored: only your own file may keep personal data in prompts")
    merged = {
        "rules": [rule.model_dump() for rule in (*user.policy.rules, *added)],
        "personal": own.personal if own.personal == "redact" and "personal" in policy else user.policy.personal,
    }
    return project | {"policy": merged}, notices


def _only_narrowing(project: dict[str, Any], current: Settings, path: Path) -> tuple[dict[str, Any], list[str]]:
    """What an untrusted project file may say: stricter privacy, smaller budgets and limits, fewer tools."""
    kept: dict[str, Any] = {}
    notices = []
    checked = Settings.model_validate(project)
    for key, _ in _flatten(project):
        entry = value(checked, key)  # as the type that it will have: "5" is a number where one is meant
        if _narrows(key, entry, current):
            kept[key] = sorted({*current.tools.disabled, *entry}) if key == "tools.disabled" else entry
        else:
            notices.append(f"{path}: {key} is ignored until you trust this folder (`apprentice config trust`)")
    return _nest(kept), notices


def _narrows(key: str, entry: Any, current: Settings) -> bool:
    if key == "privacy":
        return bool(entry == "local-only")
    if key == "tools.disabled" or key.startswith("policy."):  # `_stricter_policy` left only what is stricter
        return True
    return key.startswith(SMALLER) and bool(entry <= value(current, key))


def _flatten(nested: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for key, entry in nested.items():
        if isinstance(entry, dict):
            rows += _flatten(entry, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, entry))
    return rows

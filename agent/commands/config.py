"""`apprentice config`: show and set settings, and trust a project's folder."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import tomllib
from pathlib import Path
from typing import Any

from agent import config
from agent.errors import ConfigError, OutputError, UsageError
from agent.settings import Settings


def add_config(parser: argparse.ArgumentParser) -> None:
    parser.description = "Settings: defaults < your file < the project's file < APPRENTICE_* variables < flags."
    parser.set_defaults(run=show, workspace=Path("."))
    commands = parser.add_subparsers(metavar="ACTION", title="actions")
    commands.add_parser("list", help="every setting, its value and what it means").set_defaults(run=show)
    setter = commands.add_parser("set", help="change a setting in your file")
    setter.add_argument("key", metavar="KEY", help="e.g. models.default")
    setter.add_argument("value", metavar="VALUE")
    setter.set_defaults(run=set_value)
    commands.add_parser("path", help="where your file is").set_defaults(run=path)
    for name, run, about in (
        ("trust", grant, "let this folder's .apprentice/ take effect, after showing what is in it"),
        ("untrust", revoke, "take that back"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("--workspace", type=Path, default=Path("."), metavar="DIR")
        command.set_defaults(run=run)


async def show(options: argparse.Namespace) -> int:
    from agent.commands.task import settings_for, workspace_root

    settings, _, notices = settings_for(workspace_root(options.workspace), options)
    defaults = Settings()
    for key, default, meaning in config.describe():
        value = config.value(settings, key)
        changed = value != config.value(defaults, key)
        print(f"{key} = {value!r} (default {default})" if changed else f"{key} = {default}")
        print(f"    {meaning}" if meaning else "", end="\n" if meaning else "")
    print("\n".join(f"! {notice}" for notice in notices), end="\n" if notices else "")
    return 0


async def path(options: argparse.Namespace) -> int:
    print(config.config_dir() / "config.toml")
    return 0


async def set_value(options: argparse.Namespace) -> int:
    """Change one key of the user's file; the rest of the file, comments included, stays as it is."""
    target = config.config_dir() / "config.toml"
    config.value(Settings(), options.key)
    if options.key not in {row[0] for row in config.describe()}:
        raise UsageError(f"{options.key} is a group of settings", "`apprentice config` lists every setting.")
    changed = _with(read_text(target), options.key, options.value)
    try:
        config.check(tomllib.loads(changed), str(target))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{target} would not be valid TOML: {error}", "Correct that file by hand.") from None
    replace(target, changed)
    print(f"{options.key} = {options.value} in {target}")
    return 0


async def grant(options: argparse.Namespace) -> int:
    from agent import trust
    from agent.commands import task

    root = task.workspace_root(options.workspace)
    settings, _ = config.load(Path(os.devnull), trusted=False)
    ask = task.ask_on_terminal if task.at_terminal() else None
    granted = await trust.grant(root, config.data_dir(settings), ask)
    print(f"{root} is trusted" if granted else f"{root} is not trusted")
    return 0 if granted else 1


async def revoke(options: argparse.Namespace) -> int:
    from agent import trust
    from agent.commands import task

    root = task.workspace_root(options.workspace)
    settings, _ = config.load(Path(os.devnull), trusted=False)
    had = trust.revoke(root, config.data_dir(settings))
    print(f"{root} is no longer trusted" if had else f"{root} was not trusted")
    return 0


def read_text(target: Path) -> str:
    """What the file holds; nothing if there is none."""
    try:
        return target.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{target} cannot be read: {reason}", "Correct that file, or remove it.") from None


def _with(text: str, key: str, value: str) -> str:
    """The file's text with one key changed or added, in its table."""
    table, _, leaf = key.rpartition(".")
    line = f"{leaf} = {_toml(key, value)}"
    lines = text.splitlines()
    start = lines.index(f"[{table}]") + 1 if table and f"[{table}]" in lines else 0
    if table and not start:
        return "\n".join([*lines, *([""] if lines else []), f"[{table}]", line, ""])
    end = next((i for i in range(start, len(lines)) if lines[i].lstrip().startswith("[")), len(lines))
    at = next((i for i in range(start, end) if lines[i].split("=")[0].strip() == leaf), None)
    if at is None:
        lines.insert(start, line)
    else:
        lines[at] = line
    return "\n".join(lines) + "\n"


def _toml(key: str, value: str) -> str:
    """The value as TOML writes it, by the kind of the setting."""
    import json

    default: Any = config.value(Settings(), key)
    if isinstance(default, dict):
        raise UsageError(f"{key} is a table", "`apprentice mcp add` adds a server.")
    if isinstance(default, list):
        return json.dumps([part.strip() for part in value.split(",") if part.strip()], ensure_ascii=False)
    if isinstance(default, str):
        return json.dumps(value, ensure_ascii=False)  # TOML has no surrogate pairs
    if isinstance(default, bool):
        if value.lower() not in ("true", "false"):
            raise UsageError(f"{key} is true or false, not {value!r}")
        return value.lower()
    try:
        return repr(type(default)(value))
    except ValueError:
        raise UsageError(f"{key} takes a number, not {value!r}") from None


def replace(target: Path, text: str) -> None:
    """Write the person's file, whole or not at all. Raises OutputError."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(text)
        os.replace(temporary, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise OutputError(f"{target} could not be written: {error.strerror}", "It is as it was.") from None

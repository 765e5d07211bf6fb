"""What this machine has, what is missing, and the one command that fixes each thing that is.

Every check is a function that returns findings. They run side by side; the ones that could hang or die (the model's
first token, nvidia-smi) are child processes with a time-out. Nothing is written, and no server off this machine is
contacted that the settings do not name. Values of keys are never shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent import config, registry, trust
from agent.errors import ApprenticeError, ConfigError
from agent.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
SET_UP = shlex.quote(str(ROOT / "scripts" / "setup"))
REINSTALL = f"rm -rf {shlex.quote(str(ROOT / '.venv'))} && {SET_UP}"
KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""The variable that holds the key, for each kind of address that needs one."""
STAY_LOCAL = "Set models.default, strong and toolshim to models of this machine, or privacy to open."
FREE = 500_000_000
"""Bytes that the data folder's disk should have free: months of records, or one specialist's training run."""
REACH = 1.5
"""Seconds that a server has to answer."""
BD_SECONDS = 5.0
"""For bd to say its version."""
ONE_TOKEN = "import sys; from agent.doctor import generate_one_token; generate_one_token(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `fix` is a command, or where no command can help, one sentence; empty if ok."""

    name: str
    ok: bool
    found: str
    fix: str = ""


async def examine(settings: Settings, workspace: Path) -> list[Finding]:
    """Look at everything, side by side.

    Args:
        settings: as they are in force; where they could not be read, the defaults (the finding `config` says why).
        workspace: the folder whose project file and trust are looked at.

    Returns:
        The findings, always in the same order. No failure is raised: it is a finding.
    """
    checks = (
        asyncio.to_thread(packages, "apprentice"),
        runtime(settings),
        backends(settings),
        asyncio.to_thread(keys, settings),
        asyncio.to_thread(disk, settings),
        gpu(),
        asyncio.to_thread(specialists, settings),
        asyncio.to_thread(trace_store, settings),
        asyncio.to_thread(project, settings, workspace),
        beads(settings, workspace),
    )
    return [finding for found in await asyncio.gather(*checks) for finding in found]


def as_text(findings: list[Finding]) -> str:
    """The findings as lines; under what is not ok stands what fixes it."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{'ok ' if finding.ok else 'FIX'}  {finding.name:<{width}}  {finding.found}")
        if finding.fix:
            lines.append(f"     {'':<{width}}  → {finding.fix}")
    wrong = sum(not finding.ok for finding in findings)
    lines.append("Everything is there." if not wrong else f"{wrong} of {len(findings)} to fix.")
    return "\n".join(lines)


def as_json(findings: list[Finding]) -> str:
    """The findings as a JSON list of objects with name, ok, found, fix."""
    return json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=1)


def packages(distribution: str) -> list[Finding]:
    """Whether the Python that runs this has the versions that the distribution pins."""
    python = f"{platform.python_version()} ({sys.executable})"
    try:
        pins = [
            line.split(";")[0].strip()
            for line in importlib.metadata.requires(distribution) or []
            if "extra" not in line
        ]
    except importlib.metadata.PackageNotFoundError:
        return [Finding("python", False, f"{python}, where {distribution} is not installed", SET_UP)]
    wrong = []
    for pin in pins:
        name, _, version = pin.partition("==")
        try:
            there = importlib.metadata.version(name.partition("[")[0])
        except importlib.metadata.PackageNotFoundError:
            there = "missing"
        if there != version:
            wrong.append(f"{name} is {there}, not {version}")
    if wrong:
        return [Finding("python", False, f"{python}: {'; '.join(wrong)}", REINSTALL)]
    return [Finding("python", True, f"{python}, {len(pins)} packages at their pins")]


async def runtime(settings: Settings) -> list[Finding]:
    """The embedded model's file, and whether llama.cpp generates a token with it."""
    model, finding = await asyncio.to_thread(embedded_model, settings)
    return [finding, await llama_cpp(model)]


def embedded_model(settings: Settings) -> tuple[Path | None, Finding]:
    """The file of the embedded model, if it is one, and what is to say about it."""
    from agent.models import embedded

    name = "embedded model"
    fix = "Set models.local_path to a GGUF file, or to nothing." if settings.models.local_path else REINSTALL
    try:
        model = embedded.find(settings)
        with open(model, "rb") as stream:
            magic, size = stream.read(4), os.fstat(stream.fileno()).st_size
    except ApprenticeError as error:
        return None, Finding(name, False, error.message, fix)
    except OSError as error:
        return None, Finding(name, False, str(error), fix)
    if magic != b"GGUF":
        return None, Finding(name, False, f"{model} is not a GGUF file", fix)
    return model, Finding(name, True, f"{model} ({_megabytes(size)})")


async def llama_cpp(model: Path | None, wait: float = 20) -> Finding:
    """Whether llama-cpp-python is there and generates one token, tried in a child process, which may die.

    Args:
        model: a GGUF file; None says that there is none, so that nothing can be tried.
        wait: seconds that the token may take.
    """
    name = "llama.cpp"
    if importlib.util.find_spec("llama_cpp") is None:
        return Finding(name, False, "llama-cpp-python is not installed", REINSTALL)
    version = importlib.metadata.version("llama-cpp-python")
    if model is None:
        return Finding(
            name, False, f"{version}, not tried: there is no model", "The embedded model's fix is this one's."
        )
    started = time.monotonic()
    command = [sys.executable, "-P", "-c", ONE_TOKEN, str(model)]
    code, output = await _run(command, wait)
    if code == 0:
        return Finding(name, True, f"{version}, loaded and generated a token in {time.monotonic() - started:.1f} s")
    if code is None:
        return Finding(
            name, False, f"{version} generated no token in {wait:.0f} s", "Run this again on a quieter machine."
        )
    if code < 0:
        rebuild = f"rm -rf {shlex.quote(str(config.cache_dir() / 'wheels'))} && {REINSTALL}"
        died = f"{version} dies of {signal.Signals(-code).name}: it was built for another CPU"
        return Finding(name, False, died, rebuild)
    last = output.strip().rpartition("\n")[2]
    return Finding(name, False, f"{version} failed with {model}: {last}", REINSTALL)


def generate_one_token(model: str) -> None:
    """Load a GGUF file and generate one token, on one thread. Run it in a child process: a bad build does not raise."""
    from llama_cpp import Llama

    llama = Llama(model, n_ctx=64, n_threads=1, n_threads_batch=1, verbose=False)
    llama.create_completion("Hello", max_tokens=1)
    llama.close()


async def backends(settings: Settings) -> list[Finding]:
    """Ollama, and every model that the settings name: whether its server answers, whether its file is there."""
    named = _named(settings)
    checks = [ollama(settings, [address for address in named if address.startswith("ollama:")])]
    for address in named:
        if address.startswith(("openai:", "openai@", "anthropic:")):
            checks.append(server(settings, address))
        elif not address.startswith("ollama:"):
            checks.append(asyncio.to_thread(file, settings, address))
    return list(await asyncio.gather(*checks))


def _named(settings: Settings) -> list[str]:
    models = settings.models
    return list(dict.fromkeys(filter(None, (models.default, models.strong, models.toolshim))))


async def ollama(settings: Settings, named: list[str]) -> Finding:
    """Whether Ollama answers, and has the models that the settings name (`named`, as addresses)."""
    url = settings.models.ollama_url.rstrip("/")
    if refused := _refused(settings, "ollama:"):
        return Finding("ollama", not named, f"{url} is not contacted: {refused}", STAY_LOCAL if named else "")
    status, answer = await _get(f"{url}/api/version")
    if status != 200 and not named:
        return Finding("ollama", True, f"none at {url}; no model of yours needs it")
    if status != 200:
        return Finding("ollama", False, f"no answer from {url}, which {named[0]} needs", "ollama serve")
    found = f"{url}, version {answer.get('version', 'unknown')}"
    _, tags = await _get(f"{url}/api/tags") if named else (0, {})
    there = {entry.get("name") for entry in tags.get("models") or [] if isinstance(entry, dict)}
    for name in (address.removeprefix("ollama:") for address in named):
        if not there & {name, f"{name}:latest"}:
            return Finding("ollama", False, f"{found}, without the model {name}", f"ollama pull {shlex.quote(name)}")
    return Finding("ollama", True, found)


async def server(settings: Settings, address: str) -> Finding:
    """Whether the server of an openai or anthropic address answers. No key is sent: a refusal is an answer too."""
    name = f"model {address}"
    try:
        if address.startswith("openai@"):
            url = registry.server_and_name(address)[0]
        else:
            url = settings.models.openai_url if address.startswith("openai:") else settings.models.anthropic_url
    except ApprenticeError as error:
        return Finding(name, False, error.message, error.hint)
    if refused := _refused(settings, address):
        return Finding(name, False, f"{url} is not contacted: {refused}", STAY_LOCAL)
    status, _ = await _get(f"{url.rstrip('/')}/models")
    if not status:
        return Finding(
            name, False, f"no answer from {url}", "Start that server, or set models.default and models.strong."
        )
    return Finding(name, True, f"{url} answers")


def file(settings: Settings, address: str) -> Finding:
    """Whether a model in this process (local, gguf:, specialist:, scripted:) is there."""
    try:
        registry.open_model(address, settings)
    except ApprenticeError as error:
        return Finding(f"model {address}", False, error.message, error.hint or "Set models.default or models.strong.")
    return Finding(f"model {address}", True, "there")


def keys(settings: Settings) -> list[Finding]:
    """Which keys are set, by the names of their variables, and whether a model that the settings name lacks its key."""
    found = ", ".join(f"{name} {'set' if os.environ.get(name) else 'not set'}" for name in KEYS.values())
    for address in _named(settings):
        needed = KEYS.get(address.partition(":")[0])
        if needed and not os.environ.get(needed):
            return [Finding("keys", False, f"{found}; {address} needs it", f"export {needed}=...")]
    return [Finding("keys", True, found)]


def disk(settings: Settings) -> list[Finding]:
    """Whether the data folder, or the folder that it would be made in, can be written, and has room."""
    folder = config.data_dir(settings).absolute()
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    elsewhere = "Set data_dir to a folder that you can write."
    try:
        free = shutil.disk_usage(there).free
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return [Finding("disk", False, f"{folder} cannot be written: {error.strerror}", elsewhere)]
    if free < FREE:
        return [
            Finding("disk", False, f"only {_megabytes(free)} free at {folder}", f"du -sh {shlex.quote(str(there))}")
        ]
    return [Finding("disk", True, f"{_megabytes(free)} free at {folder}")]


async def gpu() -> list[Finding]:
    """The graphics cards, if nvidia-smi tells of any. None is ever needed."""
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        code, output = await _run(query, 2)
        if code == 0 and output.strip():
            return [Finding("gpu", True, "; ".join(output.strip().splitlines()))]
    return [Finding("gpu", True, "none found, none needed")]


def specialists(settings: Settings) -> list[Finding]:
    """Which version of each specialist serves."""
    try:
        names = list(dict.fromkeys(found.name for found in registry.specialists(settings)))
        serving = [found for name in names if (found := registry.promoted(name, settings))]
    except ConfigError as error:
        return [Finding("specialists", False, error.message, error.hint or "Put that file right, or move it away.")]
    for found in serving:
        if not found.adapter.is_file():
            return [
                Finding("specialists", False, f"{found.address} lacks {found.adapter}", "Copy that file back there.")
            ]
    return [Finding("specialists", True, ", ".join(found.address for found in serving) or "none promoted yet")]


def trace_store(settings: Settings) -> list[Finding]:
    """Whether the record is sound: SQLite's own quick check, on a connection that cannot write."""
    path = config.data_dir(settings).absolute() / "traces.db"
    name = "trace store"
    if not path.exists():
        return [Finding(name, True, f"none yet; the first run makes {path}")]
    deadline = time.monotonic() + REACH
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.5)) as connection:
        # True ends the statement: a store of many gigabytes is then reported as not checked to its end.
        connection.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
        try:
            runs = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
            found = f"{path} ({_megabytes(path.stat().st_size)}, {runs} run{'' if runs == 1 else 's'})"
            answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                check = f"sqlite3 {shlex.quote(str(path))} 'PRAGMA integrity_check'"
                return [
                    Finding(name, True, f"{path} ({_megabytes(path.stat().st_size)}), too large to check here", check)
                ]
            if "locked" in str(error):
                return [
                    Finding(name, False, f"{path} is locked by another process", f"fuser -v {shlex.quote(str(path))}")
                ]
            return [_damaged(path, str(error))]
        except sqlite3.DatabaseError as error:
            return [_damaged(path, str(error))]
    return [Finding(name, True, found)] if answer == "ok" else [_damaged(path, answer)]


def project(settings: Settings, workspace: Path) -> list[Finding]:
    """Whether the configuration files can be read, and whether this folder's are trusted."""
    trusted = trust.is_trusted(workspace, config.data_dir(settings))
    try:
        _, ignored = config.load(workspace, trusted=trusted)
        read = Finding("config", True, str(config.config_dir() / "config.toml"))
        if not (config.config_dir() / "config.toml").exists():
            read = Finding("config", True, f"the defaults; yours would be {config.config_dir() / 'config.toml'}")
    except ConfigError as error:
        ignored = []
        read = Finding("config", False, error.message, error.hint or "Put that file right, or remove it.")
    has_project = (workspace / config.PROJECT_FOLDER).exists()
    state = "trusted, as it is now" if trusted and has_project else "nothing in it needs trust"
    if not trusted:
        state = f"not trusted: {len(ignored)} settings, and all skills and tools of it, are left out"
    return [read, Finding("folder", True, f"{workspace}: {state}", "" if trusted else "apprentice config trust")]


async def beads(settings: Settings, workspace: Path) -> list[Finding]:
    """Where the folder has beads: whether bd is there to reach them, and which version. It runs outside the folder,
    with no variable that may be a secret: a clone's `.beads` has no say in this, and without bd nothing is missing."""
    from agent.beads.bead import FOLDER

    if not (workspace / FOLDER).is_dir():
        return []
    direct = f"the beads in {workspace / FOLDER} are read and written directly"
    if not settings.beads.bd:
        return [Finding("bd", True, f"not used (beads.bd is false): {direct}")]
    program = shutil.which("bd")
    if program is None:
        return [Finding("bd", True, f"not installed: {direct}")]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    try:
        code, output = await _run([program, "version"], BD_SECONDS, cwd="/", env=environment)
    except OSError as error:
        code, output = 1, str(error)
    version = output.strip().partition("\n")[0]
    if code == 0 and version:
        return [Finding("bd", True, f"{version} ({program})")]
    why = f"gives no version within {BD_SECONDS:g} s" if code is None else f"gives no version: {version or 'nothing'}"
    return [Finding("bd", False, f"{program} {why}", "apprentice config set beads.bd false")]


def _refused(settings: Settings, address: str) -> str:
    """Why a server is not contacted; empty if it may be."""
    off_limits = settings.privacy == "local-only" and not registry.is_local(address, settings)
    return "privacy is local-only" if off_limits else ""


def _damaged(path: Path, why: str) -> Finding:
    parts = [shlex.quote(str(part)) for end in ("", "-wal", "-shm") if (part := Path(f"{path}{end}")).exists()]
    folder = shlex.quote(f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    aside = f"mkdir {folder} && mv {' '.join(parts)} {folder}"
    return Finding("trace store", False, f"{path} is damaged: {why}", aside)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"


async def _get(url: str) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object of an answer; (0, {}) if there was none."""
    import httpx

    from agent.models.http import is_loopback

    try:
        async with httpx.AsyncClient(timeout=REACH, trust_env=not is_loopback(url)) as client:
            answer = await asyncio.wait_for(client.get(url), REACH)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError):
        return 0, {}
    try:
        body = answer.json()
    except ValueError:
        body = {}
    return answer.status_code, body if isinstance(body, dict) else {}


async def _run(command: list[str], wait: float, **more: Any) -> tuple[int | None, str]:
    """A child process's exit code (None: it ran out of time and was ended) and its output, both streams as one."""
    child = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        **more,
    )
    try:
        output, _ = await asyncio.wait_for(child.communicate(), wait)
    except TimeoutError:
        return None, ""
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return child.returncode, output.decode(errors="replace")

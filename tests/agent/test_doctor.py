"""The doctor: each finding in both states, with real files, servers and processes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent import config, doctor
from agent.doctor import Finding
from agent.settings import Settings
from tests.in_process import typed


class Backend(BaseHTTPRequestHandler):
    """Ollama's version and list of models, and an OpenAI-compatible server that wants a key."""

    def do_GET(self) -> None:
        answers = {
            "/api/version": (200, {"version": "0.34.1"}),
            "/api/tags": (200, {"models": [{"name": "qwen3:8b"}, {"name": "smollm2:latest"}]}),
            "/v1/models": (401, {"error": {"message": "no key"}}),
        }
        status, body = answers.get(self.path, (404, {}))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def backend() -> Iterator[str]:
    """The URL of a running server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def dead() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def with_models(**models: Any) -> Settings:
    return Settings.model_validate({"models": models})


def ask_backends(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in asyncio.run(doctor.backends(settings))}


def install(folder: Path, requirement: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the metadata of a distribution `thing`, with one requirement, on the path."""
    info = folder / "thing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\nRequires-Dist: {requirement}\n")
    monkeypatch.syspath_prepend(str(folder))


def test_packages_at_their_pins_are_ok(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "thing==1.0", monkeypatch)
    [finding] = doctor.packages("thing")
    assert finding.ok
    assert "1 packages at their pins" in finding.found


@pytest.mark.parametrize(
    ("requirement", "said"), [("thing==2.0", "thing is 1.0, not 2.0"), ("nowhere==3", "nowhere is missing, not 3")]
)
def test_a_package_off_its_pin_is_named(
    requirement: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, requirement, monkeypatch)
    [finding] = doctor.packages("thing")
    assert not finding.ok
    assert said in finding.found
    assert finding.fix == doctor.REINSTALL


def test_a_python_without_the_agent_is_told_to_set_up() -> None:
    [finding] = doctor.packages("no-such-distribution")
    assert not finding.ok
    assert finding.fix.endswith("scripts/setup")


@pytest.mark.llama
def test_the_embedded_model_generates_a_token() -> None:
    model, llama = asyncio.run(doctor.runtime(Settings()))
    assert model.ok, model
    assert model.found.endswith("MB)")
    assert llama.ok, llama
    assert "generated a token" in llama.found


def test_a_model_file_that_is_no_gguf_is_not_tried(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_text("a web page that says 404")
    model, llama = asyncio.run(doctor.runtime(with_models(local_path=str(tmp_path / "model.gguf"))))
    assert not model.ok
    assert "is not a GGUF file" in model.found
    assert "models.local_path" in model.fix
    assert not llama.ok
    assert "not tried" in llama.found


def test_a_configured_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    model, _ = asyncio.run(doctor.runtime(with_models(local_path=str(tmp_path / "gone.gguf"))))
    assert not model.ok
    assert "gone.gguf" in model.found
    assert "models.local_path" in model.fix


def test_a_damaged_gguf_file_fails_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(4000))
    model, llama = asyncio.run(doctor.runtime(with_models(local_path=str(tmp_path / "model.gguf"))))
    assert model.ok
    assert not llama.ok
    assert "model.gguf" in llama.found


def broken_llama(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A llama_cpp that the child process finds before the real one."""
    (folder / "llama_cpp").mkdir()
    (folder / "llama_cpp" / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder / "model.gguf"


def test_a_build_that_dies_is_said_to_die_and_of_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"
    finding = asyncio.run(doctor.llama_cpp(broken_llama(tmp_path, dying, monkeypatch)))
    assert not finding.ok
    assert "dies of SIGILL" in finding.found
    assert str(config.cache_dir() / "wheels") in finding.fix


def test_a_build_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging = f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    finding = asyncio.run(doctor.llama_cpp(broken_llama(tmp_path, hanging, monkeypatch), wait=3))
    assert not finding.ok
    assert "no token in 3 s" in finding.found
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_llama_cpp_python_that_is_not_installed_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    finding = asyncio.run(doctor.llama_cpp(Path("any.gguf")))
    assert not finding.ok
    assert "not installed" in finding.found


def test_ollama_tells_its_version(backend: str) -> None:
    finding = ask_backends(with_models(ollama_url=backend))["ollama"]
    assert finding.ok
    assert "0.34.1" in finding.found


def test_no_ollama_is_fine_until_a_model_needs_it(dead: str) -> None:
    assert ask_backends(with_models(ollama_url=dead))["ollama"].ok
    finding = ask_backends(with_models(ollama_url=dead, default="ollama:qwen3:8b"))["ollama"]
    assert not finding.ok
    assert finding.fix == "ollama serve"


def test_a_model_that_ollama_lacks_is_pulled(backend: str) -> None:
    assert ask_backends(with_models(ollama_url=backend, default="ollama:smollm2", strong="ollama:qwen3:8b"))[
        "ollama"
    ].ok
    finding = ask_backends(with_models(ollama_url=backend, default="ollama:llama9"))["ollama"]
    assert not finding.ok
    assert finding.fix == "ollama pull llama9"


def test_a_server_that_is_silent_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        finding = ask_backends(with_models(ollama_url=url, default="ollama:x"))["ollama"]
    assert not finding.ok
    assert "no answer" in finding.found


def test_a_server_that_refuses_the_key_is_there(backend: str) -> None:
    address = f"openai@{backend}/v1:some-model"
    assert ask_backends(with_models(default=address))[f"model {address}"].ok


def test_a_server_that_is_down_is_named(dead: str) -> None:
    settings = with_models(default="openai:x", openai_url=dead, strong="anthropic:y", anthropic_url=dead)
    found = ask_backends(settings)
    assert not found["model openai:x"].ok
    assert dead in found["model openai:x"].found
    assert not found["model anthropic:y"].ok


def test_an_address_without_a_name_is_refused_with_the_right_form() -> None:
    finding = ask_backends(with_models(default="openai@http://127.0.0.1:8000"))["model openai@http://127.0.0.1:8000"]
    assert not finding.ok
    assert "openai@http" in finding.fix


def test_local_only_contacts_nothing_off_this_machine() -> None:
    # conftest refuses every other look-up, so a contact would fail loudly.
    models = {"default": "openai:x", "strong": "ollama:y", "ollama_url": "http://models.example:11434"}
    settings = Settings.model_validate({"privacy": "local-only", "models": models})
    found = ask_backends(settings)
    for name in ("model openai:x", "ollama"):
        assert not found[name].ok
        assert "privacy is local-only" in found[name].found


def test_a_model_in_this_process_must_be_there(tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text(json.dumps({"content": "hello"}) + "\n")
    assert ask_backends(with_models(default=f"scripted:{replies}"))[f"model scripted:{replies}"].ok
    assert ask_backends(with_models(toolshim=f"scripted:{replies}"))[f"model scripted:{replies}"].ok
    for address in ("specialist:nobody", "no-such-scheme:x"):
        finding = ask_backends(with_models(default=address))[f"model {address}"]
        assert not finding.ok
        assert finding.fix


def test_keys_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-value")
    findings = doctor.keys(with_models(default="openai:x"))
    assert findings[0].ok
    assert "OPENAI_API_KEY set" in findings[0].found
    assert "ANTHROPIC_API_KEY not set" in findings[0].found
    assert "sk-secret-value" not in doctor.as_text(findings) + doctor.as_json(findings)


def test_a_key_that_a_configured_model_needs_is_missed() -> None:
    [finding] = doctor.keys(with_models(strong="anthropic:x"))
    assert not finding.ok
    assert finding.fix.startswith("export ANTHROPIC_API_KEY=")


def test_the_data_folder_is_not_made_by_looking(tmp_path: Path) -> None:
    [finding] = doctor.disk(Settings(data_dir=str(tmp_path / "new" / "data")))
    assert finding.ok
    assert list(tmp_path.iterdir()) == []


def test_a_data_folder_that_cannot_be_written_is_named() -> None:
    [finding] = doctor.disk(Settings(data_dir="/proc/apprentice"))
    assert not finding.ok
    assert "/proc/apprentice cannot be written" in finding.found
    assert "data_dir" in finding.fix


def test_a_full_disk_is_told_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE", 10**19)
    [finding] = doctor.disk(Settings(data_dir=str(tmp_path)))
    assert not finding.ok
    assert finding.found.startswith("only ")
    assert finding.fix == f"du -sh {tmp_path}"


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 'NVIDIA H100, 81559 MiB'", "NVIDIA H100, 81559 MiB"),
        ("exit 9", "none found, none needed"),
        ("exec sleep 60", "none found, none needed"),
    ],
)
def test_a_graphics_card_is_shown_and_never_needed(
    script: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert asyncio.run(doctor.gpu()) == [Finding("gpu", True, found)]


def specialist(data: Path, name: str, version: str, *, adapter: bool = True) -> Path:
    folder = data / "specialists" / name / version
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(json.dumps({"name": name}))
    if adapter:
        (folder / "adapter.gguf").write_bytes(b"GGUF")
    (folder.parent / "promoted").write_text(version)
    return folder


def test_the_promoted_specialists_are_listed(tmp_path: Path) -> None:
    specialist(tmp_path, "digest", "2")
    [finding] = doctor.specialists(Settings(data_dir=str(tmp_path)))
    assert finding.ok
    assert "specialist:digest@2" in finding.found


def test_a_specialist_without_its_weights_is_named(tmp_path: Path) -> None:
    folder = specialist(tmp_path, "digest", "2", adapter=False)
    [finding] = doctor.specialists(Settings(data_dir=str(tmp_path)))
    assert not finding.ok
    assert str(folder / "adapter.gguf") in finding.found


def test_a_card_that_does_not_parse_is_named(tmp_path: Path) -> None:
    (specialist(tmp_path, "digest", "2") / "card.json").write_text("{")
    [finding] = doctor.specialists(Settings(data_dir=str(tmp_path)))
    assert not finding.ok
    assert "card.json" in finding.found


def store(folder: Path) -> Path:
    """A database with runs in it, of some hundred pages."""
    path = folder / "traces.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (id TEXT PRIMARY KEY, task TEXT)")
    connection.executemany("INSERT INTO runs VALUES (?, ?)", [(f"run{n}", "x" * 2000) for n in range(300)])
    connection.commit()
    connection.close()
    return path


def check_store(folder: Path) -> Finding:
    [finding] = doctor.trace_store(Settings(data_dir=str(folder)))
    return finding


def test_a_store_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    finding = check_store(tmp_path)
    assert finding.ok
    assert "none yet" in finding.found
    assert list(tmp_path.iterdir()) == []


def test_a_sound_store_tells_its_runs(tmp_path: Path) -> None:
    store(tmp_path)
    finding = check_store(tmp_path)
    assert finding.ok
    assert "300 runs" in finding.found


def test_a_store_with_damaged_pages_is_found_out(tmp_path: Path) -> None:
    path = store(tmp_path)
    with open(path, "r+b") as file:
        file.seek(4096 * 20)
        file.write(os.urandom(4096 * 40))
    finding = check_store(tmp_path)
    assert not finding.ok
    assert "damaged" in finding.found
    subprocess.run(finding.fix, shell=True, check=True)
    assert [entry.name for entry in tmp_path.glob("*/*")] == ["traces.db"]
    assert "none yet" in check_store(tmp_path).found


def test_a_file_that_is_no_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "traces.db").write_bytes(b"not a database at all" * 300)
    assert "damaged" in check_store(tmp_path).found


def test_a_locked_store_is_told_from_a_damaged_one(tmp_path: Path) -> None:
    other = sqlite3.connect(store(tmp_path))
    other.execute("BEGIN EXCLUSIVE")
    finding = check_store(tmp_path)
    other.close()
    assert not finding.ok
    assert "locked by another process" in finding.found
    assert finding.fix.startswith("fuser")


def test_a_store_too_large_to_check_in_time_is_not_called_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = store(tmp_path)
    connection = sqlite3.connect(path)
    connection.executemany("INSERT INTO runs VALUES (?, '')", [(f"more{n}",) for n in range(40_000)])
    connection.commit()
    connection.close()
    monkeypatch.setattr(doctor, "REACH", 0)
    finding = check_store(tmp_path)
    assert "too large to check here" in finding.found
    assert "integrity_check" in finding.fix


def look_at(workspace: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor.project(Settings(), workspace)}


def test_no_configuration_means_the_defaults(workspace: Path) -> None:
    found = look_at(workspace)
    assert found["config"].ok
    assert "the defaults" in found["config"].found
    assert "nothing in it needs trust" in found["folder"].found


def test_a_bad_setting_is_named_with_its_file(workspace: Path) -> None:
    config.config_dir().mkdir(parents=True)
    (config.config_dir() / "config.toml").write_text("[budget]\nsteps = 7\n")
    assert look_at(workspace)["config"].ok
    (config.config_dir() / "config.toml").write_text("[budget]\nstepps = 7\n")
    finding = look_at(workspace)["config"]
    assert not finding.ok
    assert "config.toml" in finding.found
    assert "budget.steps" in finding.fix


def test_a_folder_that_nobody_trusts_is_said_so(workspace: Path) -> None:
    (workspace / ".apprentice").mkdir()
    (workspace / ".apprentice" / "config.toml").write_text('[models]\ndefault = "openai:x"\n')
    finding = look_at(workspace)["folder"]
    assert "not trusted: 1 settings" in finding.found
    assert finding.fix == "apprentice config trust"


def test_a_folder_is_trusted_as_it_is_now(workspace: Path) -> None:
    from agent import trust

    async def yes(question: str) -> bool:
        return True

    (workspace / ".apprentice").mkdir()
    (workspace / ".apprentice" / "config.toml").write_text('[models]\ndefault = "openai:x"\n')
    asyncio.run(trust.grant(workspace, config.data_dir(Settings()), yes))
    assert "trusted, as it is now" in look_at(workspace)["folder"].found


# Beads


def looked_for_bd(workspace: Path, **settings: Any) -> list[Finding]:
    return asyncio.run(doctor.beads(Settings.model_validate({"beads": settings}), workspace))


def a_bd(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program bd on the path, which does this."""
    program = folder / "bin" / "bd"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{code}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def test_a_folder_without_beads_hears_nothing_of_bd(workspace: Path) -> None:
    assert looked_for_bd(workspace) == []


def test_without_bd_beads_are_used_all_the_same(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / ".beads").mkdir()
    monkeypatch.setenv("PATH", str(workspace))
    [finding] = looked_for_bd(workspace)
    assert (finding.ok, finding.fix) == (True, "")
    assert finding.found.startswith("not installed: the beads in ")


def test_bd_says_its_version_outside_of_the_folder_and_learns_no_secret(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / ".beads").mkdir()
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("MY_API_KEY", "sk-secret")
    program = a_bd(tmp_path, 'echo "bd version 0.60.0 ($1 in $PWD, key $MY_API_KEY)"\necho more', monkeypatch)
    assert looked_for_bd(workspace) == [
        Finding("bd", True, f"bd version 0.60.0 (version in /, key ) ({program})")
    ]  # fmt: skip
    assert looked_for_bd(workspace, bd=False)[0].found.startswith("not used (beads.bd is false)")


@pytest.mark.parametrize(("code", "why"), [("echo broken >&2; exit 3", "broken"), ("exit 0", "nothing")])
def test_a_bd_that_gives_no_version_can_be_left_out(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, why: str
) -> None:
    (workspace / ".beads").mkdir()
    program = a_bd(tmp_path, code, monkeypatch)
    [finding] = looked_for_bd(workspace)
    assert (finding.ok, finding.found) == (False, f"{program} gives no version: {why}")
    assert finding.fix == "apprentice config set beads.bd false"


def test_a_bd_that_cannot_be_started_is_told(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / ".beads").mkdir()
    program = a_bd(tmp_path, "", monkeypatch)
    program.write_text("#!/no/such/shell\n")
    [finding] = looked_for_bd(workspace)
    assert "No such file or directory" in finding.found


def test_a_bd_that_hangs_is_ended(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace / ".beads").mkdir()
    a_bd(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600", monkeypatch)
    monkeypatch.setattr(doctor, "BD_SECONDS", 1.0)
    [finding] = looked_for_bd(workspace)
    assert "gives no version within 1 s" in finding.found
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_bd_is_looked_at_with_everything_else(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace / ".beads").mkdir()
    monkeypatch.setenv("PATH", str(workspace))
    monkeypatch.chdir(workspace)
    findings = json.loads(typed(capsys, "doctor", "--json").stdout)
    assert findings[-1]["name"] == "bd"


@pytest.mark.llama
def test_everything_is_looked_at_and_nothing_is_written(workspace: Path, dead: str) -> None:
    findings = asyncio.run(doctor.examine(with_models(ollama_url=dead), workspace))
    assert [finding.name for finding in findings] == [
        *("python", "embedded model", "llama.cpp", "ollama", "keys", "disk", "gpu"),
        *("specialists", "trace store", "config", "folder"),
    ]
    assert not config.data_dir(Settings()).exists()
    assert not config.config_dir().exists()


def test_the_text_shows_what_fixes_what_is_wrong() -> None:
    findings = [Finding("disk", True, "12 GB free"), Finding("ollama", False, "no answer", "ollama serve")]
    lines = doctor.as_text(findings).splitlines()
    assert lines[0].startswith("ok ")
    assert lines[1].startswith("FIX")
    assert lines[2].strip() == "→ ollama serve"
    assert lines[3] == "1 of 2 to fix."
    assert doctor.as_text(findings[:1]).endswith("Everything is there.")
    assert json.loads(doctor.as_json(findings))[1] == {
        "name": "ollama", "ok": False, "found": "no answer", "fix": "ollama serve",
    }  # fmt: skip

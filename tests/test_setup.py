"""Set-up on a fresh machine: scripts/setup, with real pip, real processes, and a small package in llama.cpp's place."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest
from packaging.specifiers import SpecifierSet

from agent import config

ROOT = Path(__file__).resolve().parent.parent
LLAMA = "llama-cpp-python==0.3.36"

# Builds a wheel that holds the options it was built with. It needs nothing but Python, so pip needs no network.
BACKEND = """
import os, pathlib, time, zipfile

def build_wheel(directory, settings=None, metadata=None):
    with open(os.environ["BUILDS"], "a") as log:
        log.write(f"{os.getpid()}\\n")
    time.sleep(float(os.environ.get("BUILD_SECONDS", "0")))
    name, info = "llama_cpp_python-0.3.36-py3-none-any.whl", "llama_cpp_python-0.3.36.dist-info"
    with zipfile.ZipFile(pathlib.Path(directory) / name, "w") as wheel:
        wheel.writestr("llama_cpp.py", f"OPTIONS = {os.environ['CMAKE_ARGS']!r}")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: llama-cpp-python\\nVersion: 0.3.36\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""
BUILD_SYSTEM = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
METADATA = "Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 0.3.36\n"


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip without a network, and with the source of one small package; returns the file that counts its builds."""
    with tarfile.open(tmp_path / "llama_cpp_python-0.3.36.tar.gz", "w:gz") as archive:
        for name, text in {"backend.py": BACKEND, "pyproject.toml": BUILD_SYSTEM, "PKG-INFO": METADATA}.items():
            entry = tarfile.TarInfo(f"llama_cpp_python-0.3.36/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("BUILDS", str(tmp_path / "builds"))
    return tmp_path / "builds"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A fresh clone, as far as set-up sees it."""
    folder = tmp_path / "a clone"
    (folder / "scripts").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "scripts/setup"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def load(clone: Path) -> ModuleType:
    """The clone's scripts/setup as a module."""
    loader = SourceFileLoader("setup_script", str(clone / "scripts" / "setup"))
    spec = importlib.util.spec_from_loader("setup_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def run(clone: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", str(clone / "scripts" / "setup"), *arguments]
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def finished(setup: ModuleType, extra: str) -> None:
    """Make the clone look as after a finished set-up."""
    setup.PYTHON.parent.mkdir(parents=True, exist_ok=True)
    setup.PYTHON.unlink(missing_ok=True)
    setup.PYTHON.symlink_to(os.path.realpath(sys.executable))
    setup.write_stamp({"inputs": setup.inputs(), "extra": extra} | setup.identity())


def test_a_second_set_up_does_nothing(clone: Path) -> None:
    finished(load(clone), "dev")
    before = {path: path.lstat().st_mtime_ns for path in clone.rglob("*")}
    for arguments in ([], ["base"], ["train"], ["dev"]):
        done = run(clone, *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {path: path.lstat().st_mtime_ns for path in clone.rglob("*")} == before


def test_tools_for_tests_are_missing_after_a_base_set_up(clone: Path) -> None:
    finished(load(clone), "base")
    assert run(clone).returncode == 0
    for more in ("train", "dev"):
        assert "no C++ compiler" in run(clone, more, CXX="none", PATH="").stderr
    finished(load(clone), "train")
    assert run(clone, "train").returncode == 0
    assert "no C++ compiler" in run(clone, "dev", CXX="none", PATH="").stderr


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "scripts/setup"])
def test_a_change_of_what_is_installed_makes_it_work_again(clone: Path, name: str) -> None:
    setup = load(clone)
    finished(setup, "dev")
    with open(clone / name, "a") as file:
        file.write("\n# another line\n")
    assert setup.stamp()["inputs"] != setup.inputs()
    assert "no C++ compiler" in run(clone, CXX="none", PATH="").stderr


def test_an_environment_that_was_moved_or_broken_is_not_kept(clone: Path) -> None:
    setup = load(clone)
    assert setup.stamp() == {}
    finished(setup, "dev")
    assert setup.stamp()["extra"] == "dev"
    moved = clone.rename(clone.with_name("moved"))
    assert load(moved).stamp() == {}
    moved.rename(clone)
    setup.STAMP.write_text("[")
    assert setup.stamp() == {}
    finished(setup, "dev")
    setup.PYTHON.unlink()
    setup.PYTHON.symlink_to("/nowhere/python3.11")
    assert setup.stamp() == {}


def test_an_environment_of_another_python_is_not_kept(clone: Path) -> None:
    setup = load(clone)
    finished(setup, "dev")
    setup.PYTHON.unlink()
    setup.PYTHON.write_text("#!/bin/sh\necho 3.9.18 'and so on'\n")
    setup.PYTHON.chmod(0o755)
    assert setup.stamp() == {}


def test_without_a_python_one_sentence_says_what_to_install(clone: Path, tmp_path: Path) -> None:
    done = run(clone, PYTHON="", PATH=str(tmp_path / "empty"))
    assert done.returncode == 1
    assert "no Python 3.11 or newer" in done.stderr
    assert "PYTHON=/path/to/python3.11" in done.stderr


def test_a_python_that_does_not_start_is_passed_over(clone: Path, tmp_path: Path) -> None:
    finished(load(clone), "dev")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, line in {"python3.11": "exit 127", "python3.12": f'exec "{sys.executable}" "$@"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    assert run(clone, PYTHON="", PATH=str(programs)).returncode == 0
    (programs / "python3.12").unlink()
    assert run(clone, PYTHON="", PATH=str(programs)).returncode == 1


def test_without_a_compiler_nothing_is_begun(clone: Path) -> None:
    done = run(clone, CXX="none", PATH="")
    assert done.returncode == 1
    assert "no C++ compiler" in done.stderr
    assert "apt install g++" in done.stderr
    assert not (clone / ".venv").exists()
    assert not config.cache_dir().exists()


def test_an_unknown_argument_is_refused(clone: Path) -> None:
    done = run(clone, "everything")
    assert done.returncode == 1
    assert "usage: scripts/setup [train|dev]" in done.stderr


@pytest.mark.parametrize(
    "variables",
    [
        {"APPRENTICE_CACHE_DIR": "/some/where"},
        {"XDG_CACHE_HOME": "/some/cache"},
        {"XDG_CACHE_HOME": "relative"},
        {"XDG_CACHE_HOME": ""},
    ],
)
def test_wheels_lie_in_the_agents_own_cache(
    clone: Path, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("APPRENTICE_CACHE_DIR")
    monkeypatch.setenv("HOME", "/home/someone")
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert load(clone).cache() == config.cache_dir()


def test_the_build_is_portable_and_named_by_architecture(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = load(clone)
    monkeypatch.setattr(setup.platform, "machine", lambda: "x86_64")
    intel, intel_folder = setup.flags(), setup.wheel_folder(LLAMA).name
    monkeypatch.setattr(setup.platform, "machine", lambda: "aarch64")
    arm, arm_folder = setup.flags(), setup.wheel_folder(LLAMA).name
    assert "-DGGML_NATIVE=OFF" in intel
    assert "-DGGML_NATIVE=OFF" in arm
    assert "-DGGML_AVX2=ON" in intel
    assert "AVX" not in arm
    assert intel_folder.startswith(f"llama-cpp-python-0.3.36-{sys.platform}-x86_64-")
    assert arm_folder.startswith(f"llama-cpp-python-0.3.36-{sys.platform}-aarch64-")


def test_the_wheel_is_built_once_by_however_many_ask(clone: Path, offline: Path) -> None:
    setup = load(clone)
    setup.wheels().mkdir(parents=True)
    (setup.wheels() / ".building-left-by-a-killed-process").mkdir()
    with ThreadPoolExecutor(3) as pool:
        built = list(pool.map(lambda _: setup.build_wheel(LLAMA, sys.executable), range(3)))
    assert len(set(built)) == 1
    assert built[0].parent == setup.wheel_folder(LLAMA)
    assert len(offline.read_text().split()) == 1
    assert sorted(path.name for path in setup.wheels().iterdir()) == [".lock", built[0].parent.name]
    assert setup.flags().encode() in built[0].read_bytes()


def test_a_build_that_fails_leaves_nothing_and_says_why(clone: Path, offline: Path) -> None:
    setup = load(clone)
    with pytest.raises(setup.SetupFailed, match="No matching distribution found for llama-cpp-python==9"):
        setup.build_wheel("llama-cpp-python==9", sys.executable)
    assert [path.name for path in setup.wheels().iterdir()] == [".lock"]


def test_an_interrupted_set_up_leaves_nothing_half_and_goes_on_later(clone: Path, offline: Path) -> None:
    """The first call is stopped in the build; the second builds and installs that wheel, and then lacks a network."""
    command = ["/bin/sh", str(clone / "scripts" / "setup")]
    environment = {**os.environ, "PYTHON": sys.executable, "BUILD_SECONDS": "600"}
    child = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (offline.exists() and offline.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    _, said = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "interrupted" in said
    state = subprocess.run(["ps", "-o", "stat=", "-p", offline.read_text().strip()], capture_output=True, text=True)
    assert state.stdout.strip()[:1] in ("", "Z")  # gone, or dead and not yet collected by init
    wheels = config.cache_dir() / "wheels"
    assert [path.name for path in wheels.iterdir()] == [".lock"]

    done = run(clone)
    assert done.returncode == 1
    assert "making .venv anew" in done.stderr
    assert "installing what builds this package: exit code 1" in done.stderr
    assert "run this again" in done.stderr
    assert not (clone / ".venv" / "setup.json").exists()
    assert len(offline.read_text().split()) == 2
    wheel = next(wheels.glob("*/*.whl"))
    installed = subprocess.check_output(
        [clone / ".venv/bin/python", "-c", "import llama_cpp; print(llama_cpp.OPTIONS)"]
    )
    assert "-DGGML_NATIVE=OFF" in installed.decode()
    assert wheel.name == "llama_cpp_python-0.3.36-py3-none-any.whl"


def test_two_set_ups_of_one_folder_take_turns(clone: Path) -> None:
    setup = load(clone)
    finished(setup, "dev")
    with setup.locked(clone / "scripts" / "setup", "a test"):
        command = ["/bin/sh", str(clone / "scripts" / "setup")]
        environment = {**os.environ, "PYTHON": sys.executable}
        waiting = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
        assert waiting.stderr is not None
        assert "waiting for another set-up" in waiting.stderr.readline()
        assert waiting.poll() is None
    assert waiting.wait(30) == 0
    waiting.stderr.close()


def test_a_failed_step_shows_its_last_lines_and_the_remedy(clone: Path) -> None:
    setup = load(clone)
    with pytest.raises(setup.SetupFailed) as caught:
        setup.call("counting", ["sh", "-c", "seq 100; exit 3"], "Count again.")
    text = str(caught.value)
    assert "counting: exit code 3" in text
    assert "100\n" in text
    assert "\n    88\n" not in text
    assert "Count again." in text
    with pytest.raises(setup.SetupFailed, match="killed by SIGILL"):
        setup.call("dying", ["sh", "-c", "kill -ILL $$"])
    assert "\n88\n" in (clone / ".venv" / "setup.log").read_text()


def test_a_long_step_gives_signs_of_life(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup = load(clone)
    monkeypatch.setattr(setup, "PATIENCE", 0.2)
    setup.call("sleeping", ["sleep", "0.5"])
    assert "still at it" in capsys.readouterr().err


def test_the_persons_pip_settings_do_not_bend_the_environment(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = load(clone)
    for name in ("PIP_USER", "PIP_TARGET", "PYTHONPATH"):
        monkeypatch.setenv(name, "1")
    setup.call("printing", ["env"], CMAKE_ARGS="-DX=1")
    lines = (clone / ".venv" / "setup.log").read_text().splitlines()
    assert "PIP_CONSTRAINT=constraints.txt" in lines
    assert "CMAKE_ARGS=-DX=1" in lines
    assert not [line for line in lines if line.startswith(("PIP_USER=", "PIP_TARGET=", "PYTHONPATH="))]


def test_every_version_is_pinned_once() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)] == []
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in (line.split("==") for line in lines)}
    assert len(pins) == len(lines)
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)
    wanted = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["dev"]]
    wanted += [*project["project"]["optional-dependencies"]["parquet"]]
    wanted += [*project["project"]["optional-dependencies"]["train"], *project["build-system"]["requires"]]
    for requirement in wanted:
        name, _, version = requirement.partition("==")
        name = re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()
        if name not in ("apprentice", "llama-cpp-python"):
            assert pins.get(name) == version, requirement


def test_every_pinned_version_takes_the_oldest_python_that_is_promised() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        oldest = tomllib.load(file)["project"]["requires-python"].removeprefix(">=") + ".0"
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    asks = {
        found.metadata["Name"]: found.metadata["Requires-Python"] or ""
        for found in importlib.metadata.distributions()
        if found.metadata["Name"] in pinned
    }
    assert len(asks) > 50
    assert {name: text for name, text in asks.items() if oldest not in SpecifierSet(text)} == {}


def test_the_base_install_brings_no_training_library() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    assert not re.search(r"\b(torch|transformers|peft|datasets|matplotlib)\b", " ".join(project["dependencies"]))
    pinned = [entry for entry in project["optional-dependencies"]["train"] if not entry.startswith("apprentice[")]
    assert all("==" in entry for entry in pinned)

"""`apprentice registry` and `deploy` as a person meets them, and a running chat that takes up what was promoted."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from agent import cli, registry, specialists
from agent.errors import ApprenticeError, ModelUnavailable, UsageError
from agent.registry import Specialist
from agent.settings import Settings
from skills import registry as skills_registry
from tests.program import Terminal
from tests.training import registered, reports
from tests.wire.ollama_library import OllamaLibrary

ABSTRACT = "We measured 12 rivers for 3 years. Salt rose by 4% where roads were near. We did not study lakes."


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registered.write_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def settings(weights: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return registered.serve(weights, monkeypatch)


@pytest.fixture
def nothing_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry as if no skill brought a specialist along."""
    monkeypatch.setattr(registry, "BUILT_IN_SKILLS", tmp_path)


def run(*arguments: str) -> int:
    """One command in this process; its exit code."""
    options = cli.parse(arguments)
    return int(asyncio.run(options.run(options)))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def write_reports(
    folder: Path, found: Specialist, incumbent: Specialist | None = None, gain: float = 0.05
) -> list[str]:
    """Reports in which a version is ahead of its incumbent; the options that give them."""
    suite, prompts = reports.write_suite(folder / "s.jsonl"), reports.write_suite(folder / "r.jsonl", 60, "rehearsal")
    theirs = reports.model(suite, reports.scores(), incumbent.card if incumbent else None, baseline=incumbent is None)
    ours = reports.model(suite, reports.scores(gain=gain), found.card)
    name = incumbent.address if incumbent else reports.FEW_SHOT
    measured = reports.report(suite, {found.address: ours, name: theirs})
    models = {found.address: reports.rehearsed(prompts, 50, found.card), "local": reports.rehearsed(prompts, 50)}
    (folder / "rehearsal").mkdir(exist_ok=True)
    reports.write(folder / "report.json", measured)
    reports.write(folder / "rehearsal" / "report.json", reports.report(prompts, models, "rehearsal"))
    return ["--report", str(folder / "report.json"), "--rehearsal", str(folder / "rehearsal")]


@pytest.mark.usefixtures("nothing_shipped")
def test_a_version_goes_through_its_life(
    weights: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = registered.add(weights, 0, settings)
    assert run("registry", "promote", "tester@1", *write_reports(tmp_path, one)) == 0
    assert "specialist:tester@1 serves from the next run on: its token F1 is 0.540 against 0.490" in said(capsys)
    two = registered.add(weights, 1, settings)
    assert run("registry", "promote", "tester", *write_reports(tmp_path, two, one)) == 0
    said(capsys)
    assert run("registry") == 0
    lines = said(capsys).splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["tester@1", "retired", "F1", "0.540"],
        ["tester@2", "promoted", "F1", "0.540"],
    ]
    assert run("registry", "show", "tester") == 0
    shown = said(capsys)
    assert shown.startswith("specialist:tester@2  promoted")
    assert "gate       yes: its token F1 is 0.540" in shown
    assert "promote 1 → 2" in shown
    assert run("registry", "rollback", "tester") == 0
    assert "specialist:tester@1 serves again" in said(capsys)
    assert run("registry", "remove", "tester@2", "--yes") == 0
    assert run("registry", "rollback", "tester") == 0
    assert "no version of tester serves now" in said(capsys)
    assert registry.promoted("tester", settings) is None


@pytest.mark.usefixtures("nothing_shipped")
def test_everything_is_there_for_programs_too(
    weights: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = registered.add(weights, 0, settings)
    registered.add(weights, 1, settings)
    run("registry", "promote", "tester@1", "--json", *write_reports(tmp_path, one))
    assert json.loads(said(capsys))["promoted"] == "specialist:tester@1"
    run("registry", "list", "--json")
    rows = json.loads(said(capsys))
    assert [(row["version"], row["status"]) for row in rows] == [("1", "promoted"), ("2", "candidate")]
    run("registry", "show", "tester@1", "--json")
    shown = json.loads(said(capsys))
    assert shown["card"]["metrics"]["suite"]["rows"] == 100
    assert shown["gate"]["figures"]["policy"]["rows"] == 40
    assert shown["gate"]["adapter_sha256"] == one.adapter_sha256
    run("registry", "remove", "tester@2", "--yes", "--json")
    assert json.loads(said(capsys)) == {"removed": "tester@2"}
    run("registry", "rollback", "tester", "--json")
    assert json.loads(said(capsys)) == {"promoted": None}


def test_nothing_is_promoted_unmeasured(weights: Path, settings: Settings) -> None:
    registered.add(weights, 0, settings)
    with pytest.raises(UsageError, match="is not promoted: it was not measured"):
        run("registry", "promote", "tester")


def test_the_gates_no_is_told_and_kept(
    weights: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = registered.add(weights, 0, settings)
    options = write_reports(tmp_path, one, gain=0.0)
    with pytest.raises(UsageError, match=r"not promoted: its token F1 is 0\.490 against 0\.490"):
        run("registry", "promote", "tester", *options)
    run("registry", "show", "tester")
    assert "gate       no: its token F1 is 0.490" in said(capsys)
    assert registry.promoted("tester", settings) is None
    with pytest.raises(UsageError, match="not promoted: its token F1"):
        run("registry", "promote", "tester")  # with the reports of the last time


def test_no_option_gets_past_the_gate() -> None:
    parsers = [cli.command_parser("registry"), cli.command_parser("deploy")]
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action.choices, dict):
                parsers += action.choices.values()
    options = {option for parser in parsers for action in parser._actions for option in action.option_strings}
    assert options == {
        "-h", "--help", "--json", "--yes", "--report", "--rehearsal", "--to", "--model", "--quantisation",
    }  # fmt: skip


@pytest.mark.usefixtures("nothing_shipped")
def test_an_empty_registry_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("registry", "list") == 0
    assert said(capsys) == "no specialists yet\n"
    with pytest.raises(ModelUnavailable, match="there is no specialist nobody"):
        run("registry", "show", "nobody")


def test_a_removal_is_asked_about(weights: Path, settings: Settings) -> None:
    registered.add(weights, 0, settings)
    with pytest.raises(UsageError, match="nothing was removed"):
        run("registry", "remove", "tester@1")
    with pytest.raises(UsageError, match="names no version"):
        run("registry", "remove", "tester", "--yes")
    assert registry.specialist("tester", "1", settings)


def test_deploy_to_local_is_promotion(
    weights: Path, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = registered.add(weights, 0, settings)
    with pytest.raises(UsageError, match="it was not measured"):
        run("deploy", "tester", "--to", "local")
    for _ in range(2):
        assert run("deploy", "tester", "--to", "local", *write_reports(tmp_path, one)) == 0
        assert "specialist:tester@1 serves from the next run on" in said(capsys)


def test_a_deployment_is_shown(
    weights: Path, settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registered.allow(registered.add(weights, 0, settings))
    specialists.promote("tester", "1", settings)
    with OllamaLibrary() as server:
        monkeypatch.setenv("APPRENTICE_MODELS__OLLAMA_URL", server.url)
        assert run("deploy", "tester", "--to", "ollama:mine", "--quantisation", "F16", "--json") == 0
        assert json.loads(said(capsys)) == {"address": "ollama:mine", "quantisation": "F16", "file": ""}
        assert list(server.models) == ["mine"]
    run("registry", "show", "tester")
    assert "works at   ollama:mine since 20" in said(capsys)
    with pytest.raises(ApprenticeError, match="cannot be reached"):
        run("deploy", "tester", "--to", "http://127.0.0.1:9/v1")
    with pytest.raises(UsageError, match="no target 'cloud'"):
        run("deploy", "tester", "--to", "cloud")


@pytest.mark.parametrize("changed", ["weights", "base", "gone"])
def test_a_specialist_that_is_not_what_its_card_says_is_not_opened(
    weights: Path, settings: Settings, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = registered.add(weights, 0, settings)
    assert registry.open_model("specialist:tester@1", settings).address == "specialist:tester@1"
    expected = "is not the file that the card of specialist:tester@1 was written for"
    if changed == "weights":
        found.adapter.write_bytes((weights / "adapter-1.gguf").read_bytes())
    elif changed == "gone":
        found.adapter.unlink()
        expected = "lacks its weights"
    else:
        specialists.update_card(found, base={"name": "another", "sha256": "0" * 64})
        expected = "was trained on another base than base.gguf"
    with pytest.raises(ModelUnavailable, match=expected):
        registry.open_model("specialist:tester@1", settings)


@pytest.mark.llama
def test_a_running_chat_uses_what_was_promoted_meanwhile(weights: Path, settings: Settings, tmp_path: Path) -> None:
    known, _ = skills_registry.load(Path("/nowhere"), None)
    name = known["annotate"].metadata["specialist"]
    one, two = (registered.add(weights, number, settings, name) for number in (0, 1))
    registered.allow(one, registry.promoted(name, settings))
    specialists.promote(name, "1", settings)
    small = {"APPRENTICE_ANNOTATE__RETRIES": "0", "APPRENTICE_ANNOTATE__MAX_MOVE_TOKENS": "8"}
    with Terminal("chat", cwd=tmp_path, **small) as terminal:
        terminal.expect("leaves.", 60)
        annotated_by(terminal, one)
        registered.allow(two, one)
        specialists.promote(name, "2", settings)
        annotated_by(terminal, two)
        specialists.rollback(name, settings)
        annotated_by(terminal, one)
        terminal.expect(">")
        terminal.type("\x04")
        assert terminal.wait() == 0


def annotated_by(terminal: Terminal, found: Specialist) -> None:
    """Annotate in the chat; assert which specialist is chosen, and whose bytes are then used."""
    terminal.type(f"/annotate {ABSTRACT}\r")
    terminal.expect(found.address, 60)
    terminal.expect(f"{found.name}/{found.version} (sha256:{found.adapter_sha256[:12]})", 60)

"""`apprentice evals` as a person uses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agent.cli import parse, told
from agent.config import data_dir
from agent.settings import Settings
from tests.evals.examples import ABSENT, GOLD, a_case, add_specialist, scripted, write_base, write_cases
from training.rows import document_key

ROOT = Path(__file__).resolve().parent.parent.parent


def evals(*arguments: object) -> int:
    return told(parse(["evals", *map(str, arguments)]))


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    return write_cases(tmp_path / "salt.jsonl", [a_case(1), a_case(2), a_case(3)])


def test_a_run_prints_the_report_and_writes_it_with_all_its_baselines(
    tmp_path: Path, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = scripted(tmp_path / "good.jsonl", [GOLD] * 6)
    weak = scripted(tmp_path / "weak.jsonl", [GOLD | {"limitation": ABSENT}] * 6)
    out = tmp_path / "out"
    code = evals("run", "annotate", "--cases", cases, "--model", good, "--against", weak, "--out", out)
    printed = capsys.readouterr()
    assert code == 0
    assert printed.out.startswith("# Evaluation: salt\n")
    assert f"{good}: F1 1.000" in printed.err
    report = json.loads((out / "report.json").read_text())
    baselines = [f"{good}, 3 examples", f"{weak}, 3 examples", "sentences in order", "all absent"]
    assert list(report["models"]) == [good, weak, *baselines]
    assert [name for name, entry in report["models"].items() if entry["baseline"]] == baselines
    pairs = list(dict.fromkeys((line["a"], line["b"]) for line in report["comparisons"]))
    assert pairs == [(good, weak), *[(good, name) for name in baselines]]
    assert (out / "report.html").is_file()
    assert not (data_dir(Settings()) / "traces.db").exists(), "evaluation never becomes training data"


def test_only_the_first_rows_are_asked_and_the_few_shot_baseline_can_be_left_out(
    tmp_path: Path, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = scripted(tmp_path / "model.jsonl", [GOLD])
    arguments = ("run", "annotate", "--cases", cases, "--model", address, "--rows", 1, "--no-baselines", "--json")
    assert evals(*arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["suite"]["rows"], list(report["models"])) == (1, [address, "sentences in order", "all absent"])
    assert evals("show") == 0
    listed = capsys.readouterr().out
    folder = data_dir(Settings()) / "evals" / f"salt-{report['suite']['sha256'][:8]}"
    assert listed.startswith(f"{folder}  ")
    assert listed.rstrip().endswith(f"1 rows  {address}")
    assert evals("show", folder) == 0
    assert "| sentences in order |" in capsys.readouterr().out


def test_without_reports_show_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert evals("show") == 0
    assert capsys.readouterr().out == "no reports\n"


def test_several_models_are_compared_with_the_first(
    tmp_path: Path, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (scripted(tmp_path / f"{name}.jsonl", [GOLD] * 3) for name in ("one", "two"))
    evals("run", "annotate", "--cases", cases, "--model", one, "--model", two, "--no-baselines", "--json")
    lines = json.loads(capsys.readouterr().out)["comparisons"]
    pairs = list(dict.fromkeys((line["a"], line["b"]) for line in lines))
    assert pairs == [
        (two, one),
        *[(name, other) for name in (one, two) for other in ("sentences in order", "all absent")],
    ]


def test_reports_of_two_runs_are_compared_and_the_joint_one_written(
    tmp_path: Path, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, reply in (("one", GOLD), ("two", GOLD | {"limitation": ABSENT})):
        address = scripted(tmp_path / f"{name}.jsonl", [reply] * 3)
        evals("run", "annotate", "--cases", cases, "--model", address, "--no-baselines", "--out", tmp_path / name)
    capsys.readouterr()
    assert evals("compare", tmp_path / "one", tmp_path / "two", "--out", tmp_path / "both") == 0
    assert "| token F1 | +0.125 |" in capsys.readouterr().out
    assert (tmp_path / "both" / "report.html").is_file()


def test_a_specialist_is_not_measured_on_its_own_rows_unless_seen_insists(
    tmp_path: Path, cases: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_base(tmp_path / "base.gguf")
    monkeypatch.setenv("APPRENTICE_MODELS__LOCAL_PATH", str(base))
    add_specialist(data_dir(Settings()), base, "1", [document_key(a_case(2).abstract)])
    arguments = ("run", "annotate", "--cases", cases, "--model", "specialist:annotator@1", "--out", tmp_path / "out")
    assert evals(*arguments) == 2
    assert "was made from 1 of the suite's 3 documents" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert evals(*arguments, "--seen") == 4
    assert "was made from" not in capsys.readouterr().err, "it goes on to load the model, which here has no weights"


def test_a_rehearsal_is_run_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = scripted(tmp_path / "model.jsonl", ["The chemical formula of water is H2O.", "A week has 9 days."])
    assert evals("run", "rehearsal", "--model", address, "--rows", 2, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr()
    assert "| 50.0% (0%-100%) |" in printed.out
    assert f"{address}: passed 0.500" in printed.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["models"]) == [address]


def test_an_example_from_the_suite_ends_the_run_before_any_model_is_asked(
    tmp_path: Path, cases: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = scripted(tmp_path / "model.jsonl", [])
    code = evals(
        "run", "annotate", "--cases", cases, "--model", address, "--examples", cases, "--out", tmp_path / "out"
    )
    assert code == 2
    assert "is the suite's case 'c1'" in capsys.readouterr().err


@pytest.mark.parametrize(("ending", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_an_interrupted_or_killed_run_goes_on_where_it_was(
    tmp_path: Path, cases: Path, ending: signal.Signals, code: int
) -> None:
    script, out = tmp_path / "model.jsonl", tmp_path / "out"
    address = scripted(script, [{"content": json.dumps(GOLD)}, {"content": json.dumps(GOLD), "delay": 60}])
    arguments = ["run", "annotate", "--cases", str(cases), "--model", address, "--no-baselines", "--out", str(out)]
    command = [sys.executable, "-P", str(ROOT / "agent.py"), "evals", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 30
    while not ((out / "rows.jsonl").exists() and '"c1"' in (out / "rows.jsonl").read_text()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(ending)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == code
    if ending == signal.SIGINT:
        assert f"finished rows are in {out / 'rows.jsonl'}; the same command goes on from there" in errors
    scripted(script, [GOLD | {"limitation": ABSENT}] * 2)
    assert evals(*arguments) == 0
    report = json.loads((out / "report.json").read_text())
    assert [row["f1"] for row in report["models"][address]["rows"]] == [1.0, 7 / 8, 7 / 8]


def test_help_imports_neither_numpy_nor_matplotlib_nor_rich() -> None:
    command = "main(['evals', 'run', '--help'])"
    code = f"import sys; from agent.cli import main\ntry: {command}\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--against ADDRESS" in done.stdout
    assert not {"numpy", "matplotlib", "rich", "evals.annotate"} & set(done.stdout.split())

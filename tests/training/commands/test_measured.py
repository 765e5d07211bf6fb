"""What `evals run` writes is what the gate reads: real adapters, measured through llama.cpp, then asked about."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch

from agent import cli, config, registry, specialists
from agent.errors import UsageError
from agent.registry import Specialist
from skills.annotate import attempt, framework
from tests.training import registered, tiny
from training import publish, sft
from training.rows import Row, document_key

pytestmark = pytest.mark.llama
SUITE = Path(__file__).parents[3] / "evals" / "cases" / "annotate.jsonl"


def run(*arguments: str) -> None:
    options = cli.parse(arguments)
    assert asyncio.run(options.run(options)) == 0


def test_a_measured_candidate_is_judged_on_the_reports_of_evals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = registered.write_weights(tmp_path / "weights")
    settings = registered.serve(weights, monkeypatch)
    monkeypatch.setenv("APPRENTICE_ANNOTATE__RETRIES", "0")
    monkeypatch.setenv("APPRENTICE_ANNOTATE__MAX_MOVE_TOKENS", "12")
    one = registered.add(weights, 0, settings)
    kept_out = SUITE.read_text("utf-8").splitlines()
    seen = [document_key(json.loads(kept_out[0])["abstract"])]
    two = registered.add(weights, 1, settings, dataset={"documents": seen})
    registered.allow(one, None)
    specialists.promote("tester", "1", settings)
    suite = ("evals", "run", "annotate", "--cases", str(SUITE), "--no-baselines", "--seen")
    run(*suite, "--model", two.address, "--against", one.address, "--out", str(tmp_path / "measured"))
    run("evals", "run", "rehearsal", "--model", two.address, "--against", "local", "--out", str(tmp_path / "rehearsed"))
    with pytest.raises(UsageError, match="specialist:tester@2 is not promoted") as raised:
        run(
            *("registry", "promote", "tester@2"),
            *("--report", str(tmp_path / "measured"), "--rehearsal", str(tmp_path / "rehearsed")),
        )
    rows = len(kept_out)
    for reason in (
        f"the candidate was trained on 1 of the {rows} documents of the suite",
        f"{rows} verified rows were kept out of training, 40 are needed: {40 - rows} are missing",
        "and +0.005 is needed",
    ):
        assert reason in raised.value.message
    assert "do not add up" not in raised.value.message
    assert "are not the" not in raised.value.message
    figures = json.loads((two.folder / "gate.json").read_text())["figures"]
    assert figures["rows"] == rows
    assert figures["rehearsal"]["rows"] >= 40
    serving = registry.promoted("tester", settings)
    assert serving is not None
    assert serving.version == "1"


FRAMEWORK = """
instructions = "Annotate."
absent = "Not stated."
min_support = 0.0

[[moves]]
key = "claim"
question = "What does it show?"
min_words = 4
max_words = 30
"""
CLAIM = "We show that salt rises where roads are near."


def abstract(number: int) -> str:
    return f"Study {number} is about rivers. {CLAIM}"


def train(folder: Path, base: Path, *, shuffled: bool = False) -> Path:
    """A real training run on forty annotated abstracts; with shuffled labels, each has another paper's claim."""
    moves = framework.load("one-move")
    rows = []
    for number in range(100, 140):
        text = abstract(number)
        other = tiny.ABSTRACTS[number % 24]["abstract"].split(". ")[0]
        asked = [{"role": message.role, "content": message.content} for message in attempt.prompt(moves, text)]
        said = {"role": "assistant", "content": json.dumps({"claim": other if shuffled else CLAIM}, ensure_ascii=False)}
        messages, key = (*asked, said), document_key(text)
        rows.append(
            Row(id=key, document=key, skill="annotate", messages=messages, source="gold", provenance={"number": number})
        )
    dataset = tiny.write_dataset(folder / "data", rows, rows[:2])
    changes = {"epochs": 20, "batch": 8, "micro_tokens": 2048, "eval_rows": 0, "save_steps": 1000}
    recipe = tiny.recipe(base, dataset, **changes, lora={"r": 8, "alpha": 16.0}, optim={"lr": 0.02})
    summary = sft.train(recipe, folder / "run", resume=False, tell=lambda event: None)
    documents = {"train": [row.document for row in rows], "validation": []}
    manifest = {"sha256": summary.dataset_sha256, "documents": documents, "verified": {"train": len(rows)}}
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    return folder / "run"


def write_cases(path: Path, numbers: range) -> Path:
    cases = [{"id": f"c{n}", "abstract": abstract(n), "annotation": {"claim": CLAIM}} for n in numbers]
    path.write_text("".join(json.dumps(case) + "\n" for case in cases))
    return path


def test_a_truly_better_adapter_is_promoted_and_one_of_shuffled_labels_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel at its smallest: train, publish, measure on kept-out rows, ask the gate; all of it real."""
    torch.set_num_threads(1)
    weights = registered.write_weights(tmp_path / "weights", sharp=True)
    settings = registered.serve(weights, monkeypatch)
    monkeypatch.setenv("APPRENTICE_ANNOTATE__GROUNDING", "none")
    own = config.config_dir() / "frameworks"
    own.mkdir(parents=True)
    (own / "one-move.toml").write_text(FRAMEWORK)
    better = publish.add("tester", train(tmp_path / "better", weights / "base.gguf"), settings)
    shuffled = publish.add("tester", train(tmp_path / "shuffled", weights / "base.gguf", shuffled=True), settings)
    suite = ["--cases", str(write_cases(tmp_path / "kept-out.jsonl", range(44))), "--framework", "one-move"]
    suite += ["--examples", str(write_cases(tmp_path / "examples.jsonl", range(50, 53)))]

    def ask(found: Specialist, *against: str) -> None:
        out, rehearsed = (str(tmp_path / f"{kind} {found.version}") for kind in ("report", "rehearsal"))
        run("evals", "run", "annotate", *suite, "--model", found.address, *against, "--out", out)
        run("evals", "run", "rehearsal", "--model", found.address, "--against", "local", "--out", rehearsed)
        run("registry", "promote", f"tester@{found.version}", "--report", out, "--rehearsal", rehearsed)

    ask(better)
    serving = registry.promoted("tester", settings)
    assert serving is not None
    assert serving.adapter_sha256 == better.adapter_sha256
    assert serving.card["metrics"]["f1"] > 0.2
    with pytest.raises(UsageError, match=r"tester@2 is not promoted: .*its token F1 is"):
        ask(shuffled, "--against", better.address)
    serving = registry.promoted("tester", settings)
    assert serving is not None
    assert serving.adapter_sha256 == better.adapter_sha256

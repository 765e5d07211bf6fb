"""How many annotations a specialist needs: token F1 and validity of runs that differ by their training rows.

    python -m evals.bench.scaling CASES RUN RUN ... [--plot FILE.svg]

CASES is JSONL with abstracts and annotations (`id`, `abstract`, `annotation`), of which no run saw any. A RUN is a
folder of `train sft`: recipe.toml, summary.json, adapter/. The replies are greedy and without a grammar, drawn in
batches by transformers in f32, so a reply that is not of the form counts 0; through the product every reply is valid.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from agent.errors import InputError
from evals import compare, plots
from evals.compare import Estimate, Terms
from training import base, publish, recipe
from training.convert.atomic import write_text
from training.curation.outputs import from_file
from training.dataset.sources import annotated
from training.learning import model, score
from training.learning.encode import Encoder
from training.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOKENS = 400
"""Of a reply, at most: more than any annotation of the training rows has."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    rows = cases(options.cases)
    print(
        "| training rows | token F1 | valid | agreement | seconds of training |\n| ---: | ---: | ---: | ---: | ---: |"
    )
    points = []
    for run in options.runs:
        summary = json.loads((run / "summary.json").read_text("utf-8"))
        refuse_seen(run, rows)
        scores = measured(run, rows)
        f1 = compare.estimate(Terms.of(scores, lambda found: (found[0], 1.0)))
        valid = compare.estimate(Terms.of(scores, lambda found: (found[1], 1.0)))
        assert f1 is not None
        assert valid is not None
        agreement = score.told(torch.tensor(scores).sum(0))["agreement"]
        points.append((summary["train_rows"], f1))
        print(
            f"| {summary['train_rows']:,} | {f1.mean:.3f} ({f1.low:.3f}-{f1.high:.3f}) | {valid.mean:.0%} "
            f"| {agreement:.3f} | {summary['seconds']:.1f} ({summary['device']}) |",
            flush=True,
        )
    if options.plot:
        write_text(options.plot, plots.draw("scaling", lambda axes: curve(axes, points)))


def cases(path: Path) -> list[Row]:
    """What the runtime would ask about each abstract, with the annotation as the reply."""
    found = []
    for entry in from_file(path):
        subject = entry.subject
        made = annotated(
            subject.abstract, subject.annotation, subject.framework, source="gold", provenance={}, where=entry.id
        )
        found.append(made.row)
    return found


def refuse_seen(run: Path, rows: Sequence[Row]) -> None:
    """Raise InputError if a case is among the documents of the run's dataset, where that folder is still there."""
    manifest = Path(recipe.load(run / "recipe.toml").dataset) / "manifest.json"
    if not manifest.is_file():
        return
    seen = publish.documents(json.loads(manifest.read_text("utf-8")))
    if seen & {row.document for row in rows}:
        raise InputError(f"{run} was made from some of the cases", "Give cases that no run saw.")


def measured(run: Path, rows: Sequence[Row]) -> list[list[float]]:
    """The numbers of each case; see `score.annotation_scores`."""
    settings = recipe.load(run / "recipe.toml", ["precision=f32", f"start={run / 'adapter'}", f"eval_tokens={TOKENS}"])
    found = base.find(settings.base)
    made = model.build(settings, found, model.choose_device("auto"))
    encoder = Encoder(base.load_tokenizer(found.source))
    prompts = [encoder.prompt(encoder.shown(row)[:-1], row.tools) for row in rows]
    end = encoder.examples(rows[0])[0].end
    replies = score.generate(made, encoder, prompts, settings, end)
    return [
        score.annotation_scores(reply, json.loads(row.completion)) for row, reply in zip(rows, replies, strict=True)
    ]


def curve(axes: Axes, points: Sequence[tuple[int, Estimate]]) -> None:
    """F1 with its interval against training rows, on a logarithmic axis."""
    counts = [count for count, _ in points]
    whiskers: Any = [[f1.mean - f1.low for _, f1 in points], [f1.high - f1.mean for _, f1 in points]]
    axes.errorbar(
        counts, [f1.mean for _, f1 in points], yerr=whiskers, fmt="o-", color=plots.COLOURS[0], elinewidth=1.2
    )
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    axes.set_xlabel("annotated abstracts trained on")
    axes.set_ylabel("token F1, 95% intervals")
    axes.grid(color="#dddddd", linewidth=0.6)


if __name__ == "__main__":
    main()

"""The dataset card: README.md with the front matter that the hub and `datasets` read, and what a person should know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from agent.messages import Json
from training.rows import SPLITS, Row, Split

SOURCES = {
    "gold": "a person's annotation, or a run that a person labelled good",
    "correction": "a person's correction of a run",
    "check": "a run whose case checks it by a program, and passed",
    "agreement": "a stronger model took over and said the same",
    "curated": "an agent's output that the curator kept",
    "unfiltered": "an agent's output that nobody judged",
    "replay": "an accepted output of the model that serves",
    "rehearsal": "the base model's own answer to a general prompt",
    "synthetic": "a teacher's task and answer",
}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def render(rows: Mapping[Split, Sequence[Row]], manifest: Json) -> str:
    """The card's text. `SHA256` in it stands for the dataset's hash, which is known when the files are written."""
    parts = [_front_matter(rows), _head(manifest), _splits(rows), _provenance(manifest), _lengths(manifest["tokens"])]
    return "\n".join([*parts, _dropped(manifest["dropped"]), _use(manifest)])


def _front_matter(rows: Mapping[Split, Sequence[Row]]) -> str:
    """YAML: which files hold which split, and what a JSONL line looks like. An empty file is no split there."""
    total = sum(map(len, rows.values()))
    size = next((name for limit, name in SIZES if total < limit), "n>1M")
    filled = [split for split in SPLITS if rows[split]]
    files = "".join(f"\n  - split: {split}\n    path: {split}.jsonl" for split in filled) or " []"
    plain = "".join(f"\n  - name: {name}\n    dtype: string" for name in ("id", "document", "skill", "source"))
    lists = "".join(f"\n  - name: {name}\n    list: json" for name in ("messages", "tools"))
    return f"""---
license: other
task_categories:
- text-generation
size_categories:
- {size}
tags:
- apprentice
configs:
- config_name: default
  data_files:{files}
dataset_info:
- config_name: default
  features:{plain}{lists}
  - name: provenance
    dtype: json
---
"""


def _head(manifest: Json) -> str:
    return f"""# {manifest["name"]}

Rows for fine-tuning a specialist of the skill `{manifest["skill"]}`, made by `apprentice train dataset build`.
SHA-256 over the four JSONL files in the order train, validation, gate, negatives: `SHA256`.

`datasets.load_dataset(FOLDER)` reads the JSONL files. The Parquet files hold the same rows, with what differs in shape
from row to row (calls' arguments, tools' schemas, provenance) as JSON strings:
`datasets.load_dataset("parquet", data_files="FOLDER/train.parquet")`. `cases.jsonl` is the gate as a suite for
`apprentice evals run annotate`.
"""


def _splits(rows: Mapping[Split, Sequence[Row]]) -> str:
    lines = [
        f"| {split} | {len(rows[split])} | {sum(row.verified for row in rows[split])} "
        f"| {len({row.document for row in rows[split]})} |"
        for split in SPLITS
    ]
    return "\n".join(["## Splits", "", "| split | rows | verified | documents |", "|---|---|---|---|", *lines, ""]) + (
        "\nA document's split is a matter of its key's hash, so it never moves as the record grows. `gate` decides on"
        "\npromotion, `validation` between checkpoints; neither is trained on. `negatives` are known to be wrong, or"
        "\nworse than another answer (`provenance.chosen`): for preference training, never for imitation.\n"
    )


def _provenance(manifest: Json) -> str:
    lines = [
        f"| {source} | {SOURCES[source]} | {sum(counts.values())} |" for source, counts in manifest["sources"].items()
    ]
    table = ["## Provenance", "", "| source | | rows |", "|---|---|---|", *lines, ""]
    return "\n".join(table) + "\nEach row's `provenance` names its file and line, or its run, and who verified it.\n"


def _lengths(tokens: Json) -> str:
    if not tokens:
        return "## Lengths\n\nNot counted: the embedded model was not there.\n"
    named = ("median", "p90", "max", "total")
    lines = [
        f"| {part} | {' | '.join(str(tokens[part][name]) for name in named)} |" for part in ("prompt", "completion")
    ]
    head = ["## Lengths", "", f"In tokens of {tokens['tokenizer']}, of all splits but negatives.", ""]
    return "\n".join([*head, "| | median | p90 | longest | all |", "|---|---|---|---|---|", *lines, ""])


def _dropped(dropped: Sequence[Json]) -> str:
    lines = [f"| {entry['reason'].replace('|', '/')} | {entry['count']} |" for entry in dropped]
    return "\n".join(["## Left out", "", "| why | |", "|---|---|", *(lines or ["| nothing | 0 |"]), ""])


def _use(manifest: Json) -> str:
    inputs = "\n".join(f"- {entry['as']}: {entry['file']} ({entry['sha256'][:12]})" for entry in manifest["inputs"])
    return f"""## Intended use

Supervised fine-tuning with the loss on the assistant's messages alone (a message with `weight` 0 is context). The rows
come from one person's work: their texts and licences are those of the sources, and secrets were redacted as far as they
were recognised (`provenance.redacted`). Not meant for publication unread.

## Rebuild

```
{manifest["command"]}
```

The same inputs give the same bytes. They were:

{inputs or "- the record alone"}
- the record: {manifest["runs"]} runs
"""

"""A report's tables, as data: Markdown, the page and the terminal show the same ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.messages import Json

RESULTS = {
    "valid": "valid",
    "order": "in order",
    "accepted": "accepted",
    "grounded": "numbers grounded",
    "supported": "supported words",
    "f1": "token F1",
    "rouge_l": "ROUGE-L",
    "absent_f1": "absent F1",
    "absent_precision": "absent precision",
    "absent_recall": "absent recall",
    "passed": "passed",
    "success": "task success",
    "correct": "correct",
    "selected": "tools selected",
    "only": "only these",
    "exact": "exact arguments",
    "valid_calls": "valid calls",
    "uncalled": "no call where none fits",
    "efficiency": "step efficiency",
    "todos": "tasks completed",
    "edit_extra": "extra edit tokens",
    "phases": "in phase",
    "task_tokens": "tokens a task",
    "length": "words",
    "tokens": "tokens",
    "seconds_median": "s, median",
}
"""The metrics of the first table, and how they are called."""
OF_A_MOVE = ("f1", "rouge_l", "grounded", "supported", "absent_precision", "absent_recall", "absent_f1")
SHARES = (
    *("valid", "order", "accepted", "grounded", "passed", "success", "correct", "selected", "only", "exact"),
    *("valid_calls", "uncalled", "efficiency", "todos", "edit_extra", "phases"),
)
MAIN = {"annotate": "f1", "rehearsal": "passed", "acting": "success", "bfcl": "correct"}
"""The metric that is shown field by field, by the kind of suite."""
INTERVALS = "In parentheses: 95% bootstrap intervals."
NOTES = {
    "annotate": "Valid: one object with every move once, in order and within its lengths. Accepted: also what else the "
    "validators ask. Token F1 and ROUGE-L: the mean over moves and rows, 0 where not valid. Absent: agreement with "
    f"gold on which moves the abstract does not state, pooled over rows and moves. {INTERVALS}",
    "rehearsal": f"Passed: the share of prompts whose answer passed its check. {INTERVALS}",
    "acting": "Task success: an answer, and the case's whole check holds. Tools selected: all that had to be called "
    "were; only these: and no others. Exact arguments and valid calls: of the calls. Step efficiency: the solution's "
    f"turns by those taken, where it succeeds. Extra edit tokens: written beyond the solution's. {INTERVALS}",
    "bfcl": f"Correct: the share of cases whose calls the published rules accept. {INTERVALS}",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, a sentence under it, and cells as they are shown; the first column names the row."""

    title: str
    note: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


def readable(report: Json) -> Json:
    """The report with models that are files named by those alone, where that still tells them apart.

    Returns:
        A copy; its `names` say what each model is called in it.
    """
    files = ("gguf:", "hf:/")
    short = {name: re.sub(r"[^+:]*/", "", name) if name.startswith(files) else name for name in report["models"]}
    taken = Counter(short.values())
    names = {name: new if taken[new] == 1 else name for name, new in short.items()}
    models = {names[name]: entry for name, entry in report["models"].items()}
    comparisons = [line | {"a": names[line["a"]], "b": names[line["b"]]} for line in report["comparisons"]]
    return report | {"models": models, "comparisons": comparisons, "names": names}


def tables(report: Json) -> list[Table]:
    """Every table of a report, in the order in which they are read."""
    models = report["models"]
    found = [_results(report), _by_field(models, MAIN[report["suite"]["kind"]])]
    if report["suite"]["kind"] == "annotate":
        found.append(_f1_by_move(models))
        found += [_moves(name, entry) for name, entry in models.items() if not entry["baseline"]]
    return found + ([_comparisons(report["comparisons"])] if report["comparisons"] else [])


def heading(report: Json) -> list[str]:
    """What was measured, in a sentence or two; a warning for each model that knew the suite."""
    suite = report["suite"]
    lines = [f"{suite['rows']} rows of {suite['name']} (sha256 {suite['sha256'][:12]}), {report['created']}."]
    for name, entry in report["models"].items():
        if entry["seen"]:
            lines.append(f"NOT UNSEEN: {name} was made from {len(entry['seen'])} of the documents. No promotion.")
        elif entry["specialist"] and entry["seen"] is None:
            lines.append(f"The card of {name} does not say what it was made from, so this counts for no promotion.")
    return lines


def _in_full(report: Json) -> str:
    """Which model a short name stands for."""
    shortened = {new: name for name, new in report.get("names", {}).items() if new != name}
    return " ".join(f"{new} is {name}." for new, name in shortened.items())


def markdown(report: Json) -> str:
    """The whole report as Markdown, with a final newline."""
    parts = [f"# Evaluation: {report['suite']['name']}", *heading(report)]
    for table in tables(report):
        lines = [table.headers, ["---", *["---:"] * (len(table.headers) - 1)], *table.rows]
        body = "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
        parts += [f"## {table.title}", *filter(None, [table.note]), body]
    return "\n\n".join(parts) + "\n"


def _results(report: Json) -> Table:
    models = report["models"]
    names = [name for name in RESULTS if any(name in entry["summary"] for entry in models.values())]
    rows = [[name, *[_cell(entry["summary"], metric) for metric in names]] for name, entry in models.items()]
    note = " ".join(filter(None, [NOTES[report["suite"]["kind"]], _in_full(report)]))
    return Table("Results", note, ["model", *[RESULTS[name] for name in names]], rows)


def _by_field(models: Mapping[str, Any], metric: str) -> Table:
    """The main metric, field by field."""
    first = next(iter(models.values()))
    fields = {name: part["rows"]["mean"] for name, part in first["fields"].items()}
    headers = ["model", *[f"{name or 'none given'} ({count})" for name, count in fields.items()]]
    rows = [[name, *[_cell(entry["fields"][field], metric) for field in fields]] for name, entry in models.items()]
    titles = {"f1": "Token F1 by field", "passed": "Passed by kind of prompt"}
    return Table(titles.get(metric, f"{RESULTS[metric].capitalize()} by kind of case"), "", headers, rows)


def _f1_by_move(models: Mapping[str, Any]) -> Table:
    keys = list(next(iter(models.values()))["moves"])
    rows = [[name, *[_cell(entry["moves"][key], "f1") for key in keys]] for name, entry in models.items()]
    return Table("Token F1 by move", "", ["model", *keys], rows)


def _moves(name: str, entry: Json) -> Table:
    rows = [[key, *[_cell(part, metric) for metric in OF_A_MOVE]] for key, part in entry["moves"].items()]
    note = "Grounded and supported are over the rows that state the move."
    return Table(f"{name}, move by move", note, ["move", *[RESULTS[metric] for metric in OF_A_MOVE]], rows)


def _comparisons(comparisons: Sequence[Json]) -> Table:
    rows = []
    for line in comparisons:
        numbers = [f"{line[key]:+.3f}" for key in ("difference", "low", "high")]
        p = "< 0.001" if line["p"] < 0.001 else f"{line['p']:.3f}"
        metric = RESULTS.get(line["metric"], line["metric"])
        rows.append(
            [f"{line['a']} - {line['b']}", metric, numbers[0], f"{numbers[1]} to {numbers[2]}", p, line["test"]]
        )
    note = "The first model's metric less the second's, on the same rows."
    return Table("Comparisons", note, ["models", "metric", "difference", "95%", "p", "test"], rows)


def _cell(summary: Mapping[str, Mapping[str, float]], metric: str) -> str:
    """A metric and its interval as they are shown; a dash where there is nothing to measure."""
    found = summary.get(metric)
    if found is None:
        return "-"
    if metric in SHARES:
        return f"{found['mean']:.1%} ({found['low']:.0%}-{found['high']:.0%})"
    if metric in ("length", "tokens", "task_tokens"):
        return f"{found['mean']:.0f} ({found['low']:.0f}-{found['high']:.0f})"
    digits = 2 if metric == "seconds_median" else 3
    return f"{found['mean']:.{digits}f} ({found['low']:.{digits}f}-{found['high']:.{digits}f})"

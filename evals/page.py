"""A report as one HTML file that needs nothing else: tables, plots as inline SVG, and the worst rows to read."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from agent.messages import Json
from evals.plots import legend, plots
from evals.tables import Table, heading, tables

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; max-width: 76rem; margin: 2rem auto;
  padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin-bottom: .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .4rem; }
p { max-width: 60rem; margin: .3rem 0; color: #444; }
p.warning { color: #a00; font-weight: 600; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; margin: .6rem 0; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid #e4e4e4; text-align: right; white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; font-weight: 600; border-bottom: 1.5px solid #999; }
td:first-child, th:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere;
  min-width: 9rem; max-width: 17rem; }
td small { color: #777; display: block; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(30rem, 1fr)); gap: 1.2rem 2rem; }
.legend { margin-top: 1.6rem; } .legend span { margin-right: 1.4rem; font-weight: 600; white-space: nowrap; }
figure { margin: 0; max-width: 44rem; } figcaption { font-weight: 600; font-size: .92rem; }
svg { width: 100%; height: auto; }
details { border: 1px solid #e0e0e0; border-radius: 6px; margin: .5rem 0; padding: .5rem .9rem; }
summary { cursor: pointer; } blockquote { margin: .6rem 0; padding-left: .9rem; border-left: 3px solid #ccc; }
.texts { width: 100%; table-layout: fixed; } .texts td, .texts th { white-space: normal; text-align: left;
  vertical-align: top; } .texts col.key { width: 7.5rem; } .texts col.f1 { width: 4rem; }
"""


def html(report: Json, worst: Sequence[Json] = ()) -> str:
    """The page.

    Args:
        report: as `evals.report.build` makes it.
        worst: rows with their texts, as `evals.report.worst` makes them.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    title = escape(f"Evaluation: {report['suite']['name']}")
    first, *others = tables(report)
    opening, *warnings = heading(report)
    parts = [
        f"<h1>{title}</h1>",
        f"<p>{escape(opening)}</p>",
        *[f'<p class="warning">{escape(line)}</p>' for line in warnings],
        _table(first),
        f'<p class="legend">{_legend(report)}</p>',
        '<div class="plots">',
        *[f"<figure><figcaption>{escape(name)}</figcaption>{svg}</figure>" for name, svg in plots(report).items()],
        "</div>",
        *map(_table, others),
        *([_worst(worst)] if worst else []),
    ]
    head = f'<meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _legend(report: Json) -> str:
    marks = [(colour, f"{glyph} {escape(name)}") for colour, glyph, name in legend(report["models"])]
    return " ".join(f'<span style="color: {colour}">{mark}</span>' for colour, mark in marks)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.headers)
    rows = "\n".join(f"<tr>{''.join(f'<td>{_number(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    title = f"<h2>{escape(table.title)}</h2>"
    return (
        f'{title}{note}\n<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>'
    )


def _number(cell: str) -> str:
    """A cell, with its interval in small print."""
    value, bracket, interval = cell.partition(" (")
    return f"{escape(value)} <small>({escape(interval)}</small>" if bracket else escape(cell)


def _worst(rows: Sequence[Json]) -> str:
    title = f"<h2>The {len(rows)} rows of {escape(rows[0]['model'])} with the lowest token F1</h2>"
    return title + "\n".join(map(_row, rows))


def _row(row: Json) -> str:
    moves = "\n".join(
        f"<tr><td>{escape(move['key'])}</td><td>{escape(move['said'])}</td><td>{escape(move['gold'])}</td>"
        f"<td>{move['f1']:.2f}</td></tr>"
        for move in row["moves"]
    )
    named = " · ".join(filter(None, [row["id"], row["field"], row["title"]]))
    error = f'<p class="warning">{escape(row["error"])}</p>' if row["error"] else ""
    columns = '<colgroup><col class="key"><col><col><col class="f1"></colgroup>'
    head = "<tr><th>move</th><th>said</th><th>gold</th><th>F1</th></tr>"
    return (
        f"<details><summary><b>{row['f1']:.2f}</b> {escape(named)}</summary>{error}"
        f"<blockquote>{escape(row['abstract'])}</blockquote>"
        f'<table class="texts">{columns}<thead>{head}</thead><tbody>{moves}</tbody></table></details>'
    )

"""A report's plots, as SVG text that stands in a page by itself."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from agent.errors import ConfigError
from agent.messages import Json
from evals.tables import MAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")
"""Okabe and Ito's palette, which people with any colour vision can tell apart."""
MARKERS, GLYPHS = "osD^vPX", "●■◆▲▼✚✖"
"""matplotlib's marks, and what they look like in a legend."""
LONGEST_NAME = 30


def plots(report: Json) -> dict[str, str]:
    """The plots of a report by their titles.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    models = report["models"]
    if report["suite"]["kind"] != "annotate":
        metric = MAIN[report["suite"]["kind"]]
        title = f"Share {metric}, by kind of {'prompt' if metric == 'passed' else 'case'}"
        return {title: draw("kinds", lambda axes: _parts(axes, models, "fields", metric))}
    drawings: dict[str, Callable[[Axes], None]] = {
        "Token F1 by move": lambda axes: _parts(axes, models, "moves", "f1"),
        "Token F1 by field": lambda axes: _parts(axes, models, "fields", "f1"),
        "Token F1 against seconds an abstract": lambda axes: _seconds(axes, models),
        "Words of an annotation": lambda axes: _lengths(axes, models),
    }
    return {title: draw(title, drawing) for title, drawing in drawings.items()}


def legend(models: Iterable[str]) -> list[tuple[str, str, str]]:
    """The colour, glyph and name of every model; the plots have none, since a model's address may be long."""
    return [(COLOURS[number % len(COLOURS)], GLYPHS[number % len(GLYPHS)], name) for number, name in enumerate(models)]


def draw(name: str, drawing: Callable[[Axes], None]) -> str:
    """One plot as SVG text.

    Args:
        name: decides its element ids: those of several plots in one page must differ.
        drawing: puts the plot onto the axes.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError(
            "matplotlib is not installed, and the report's plots need it", "scripts/setup train"
        ) from None

    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif", "font.size": 9}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        drawing(axes)
        axes.spines[["top", "right"]].set_visible(False)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = text.getvalue()
    return svg[svg.index("<svg") :]


def _parts(axes: Axes, models: Mapping[str, Any], part: str, metric: str) -> None:
    """A metric of each part (a move, a field) with its interval, one mark a model."""
    keys = list(next(iter(models.values()))[part])
    step = 0.8 / len(models)
    for number, entry in enumerate(models.values()):
        points = [entry[part][key][metric] for key in keys]
        places = [place - 0.4 + step * (number + 0.5) for place in range(len(keys))]
        means = [point["mean"] for point in points]
        spread = [_whiskers(point) for point in points]
        axes.errorbar(
            means,
            places,
            xerr=list(zip(*spread, strict=True)),
            fmt=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=5,
            elinewidth=1.2,
        )
    axes.set_yticks(range(len(keys)), [key or "none given" for key in keys])
    axes.set_ylim(len(keys) - 0.45, -0.55)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("95% intervals")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for place in range(1, len(keys)):
        axes.axhline(place - 0.5, color="#eeeeee", linewidth=0.8)


def _seconds(axes: Axes, models: Mapping[str, Any]) -> None:
    """Quality against cost: the median of seconds an abstract; baselines that ask no model stand at 0."""
    for number, entry in enumerate(models.values()):
        f1, seconds = entry["summary"]["f1"], entry["summary"]["seconds_median"]
        axes.errorbar(
            [seconds["mean"]],
            [f1["mean"]],
            xerr=[[side] for side in _whiskers(seconds)],
            yerr=[[side] for side in _whiskers(f1)],
            fmt=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            markersize=7,
            elinewidth=1.2,
        )
    axes.set_xlim(left=min(-0.02 * axes.get_xlim()[1], -0.05))
    axes.set_ylim(0, 1)
    axes.set_xlabel("seconds an abstract (median)")
    axes.set_ylabel("token F1")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _lengths(axes: Axes, models: Mapping[str, Any]) -> None:
    """The spread of lengths, one box a model."""
    names = list(models)
    found = axes.boxplot(
        [[row["length"] for row in models[name]["rows"]] for name in names],
        orientation="horizontal",
        widths=0.55,
        patch_artist=True,
        flierprops={"markersize": 3, "markeredgecolor": "#777777"},
        medianprops={"color": "#222222"},
    )
    for number, box in enumerate(found["boxes"]):
        box.set_facecolor(COLOURS[number % len(COLOURS)] + "66")
    axes.set_yticks(range(1, len(names) + 1), [_short(name) for name in names], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("words of the stated moves, by row")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)


def _short(name: str) -> str:
    """The end of a name: of a path, that is what tells it apart."""
    return name if len(name) <= LONGEST_NAME else "…" + name[1 - LONGEST_NAME :]


def _whiskers(point: Mapping[str, float]) -> tuple[float, float]:
    """How far the interval reaches to either side of the point, for matplotlib."""
    return max(0.0, point["mean"] - point["low"]), max(0.0, point["high"] - point["mean"])

"""Charts as SVG, whose text stays text in the colour of the page, or as PNG, dark on white."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas

# Okabe and Ito's palette for colour-blind people, with violet instead of yellow, which is too pale on a page.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7b4fa3", "#999999")
_MARKERS = "os^DvPX"  # one fewer than colours, so that a ninth series differs from all others
_TEXT_COLOUR = "#010203"  # placeholder for the text colour of the page
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "respodiff",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # a dollar sign in the name of a group is not math
    "text.color": _TEXT_COLOUR,
    "axes.edgecolor": _TEXT_COLOUR,
    "axes.labelcolor": _TEXT_COLOUR,
    "xtick.color": _TEXT_COLOUR,
    "ytick.color": _TEXT_COLOUR,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Point:
    """A value with an optional interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chart:
    """A chart and its title."""

    canvas: Canvas
    title: str

    def svg(self) -> str:
        """An SVG element to embed in a page."""
        file = io.StringIO()
        with matplotlib.rc_context(_STYLE):
            metadata = {"Date": None, "Title": self.title}
            self.canvas.savefig(file, format="svg", transparent=True, metadata=metadata)
        svg = file.getvalue()
        svg = svg[svg.index("<svg") :].replace(_TEXT_COLOUR, "currentColor")
        # Shrinks with the page, but is never enlarged.
        return re.sub(
            r'width="([\d.]+)pt" height="[\d.]+pt"', r'style="width: \1pt; max-width: 100%; height: auto"', svg, count=1
        )

    def png(self) -> bytes:
        """A PNG file; the same chart always gives the same bytes."""
        file = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            self.canvas.savefig(file, format="png", dpi=150, facecolor="white", metadata={"Title": self.title})
        return file.getvalue()


def bars(
    rows: Sequence[str], series: Mapping[str, Sequence[Point | None]], label: str, limit: float | None = 1.0
) -> Chart:
    """Horizontal bars, one per row and series, with intervals as whiskers; from 0 to `limit` if given."""
    height = 0.8 + len(rows) * (0.13 * len(series) + 0.13)
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(7.2, height), layout="constrained")
        axes = canvas.subplots()
        thickness = 0.8 / len(series)
        for number, (name, points) in enumerate(series.items()):
            places = [row - 0.4 + (number + 0.5) * thickness for row in range(len(rows))]
            values = [point.value if point else math.nan for point in points]  # no bar, instead of a bar of 0
            axes.barh(places, values, thickness * 0.9, color=COLOURS[number % len(COLOURS)], label=name)
            for place, point in zip(places, points, strict=True):
                if point and point.low is not None and point.high is not None:
                    axes.plot([point.low, point.high], [place, place], color=_TEXT_COLOUR, linewidth=1)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(label)
        axes.set_xlim(0, limit)
        axes.grid(axis="x", alpha=0.25, color=_TEXT_COLOUR)
        axes.set_axisbelow(True)
        if len(series) > 1:
            canvas.legend(loc="outside upper left", ncols=3, frameon=False)
        return Chart(canvas, f"{label} by group: {', '.join(series)}")


def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[Point | None]],
    x_label: str,
    y_label: str,
    limit: float | None = None,
) -> Chart:
    """Lines over x with intervals as bands; from 0 to `limit` if given."""
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(4.4, 3.2), layout="constrained")
        axes = canvas.subplots()
        for number, (name, points) in enumerate(series.items()):
            present = [(place, point) for place, point in zip(x, points, strict=True) if point]
            colour = COLOURS[number % len(COLOURS)]
            axes.plot([p for p, _ in present], [one.value for _, one in present], "o-", ms=4, color=colour, label=name)
            band = [
                (place, one.low, one.high) for place, one in present if one.low is not None and one.high is not None
            ]
            if band:
                places, lows, highs = zip(*band, strict=True)
                axes.fill_between(places, lows, highs, color=colour, alpha=0.18, linewidth=0)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if limit is not None:
            axes.set_ylim(-0.03 * limit, 1.03 * limit)
        axes.grid(alpha=0.25, color=_TEXT_COLOUR)
        if len(series) > 1:
            canvas.legend(loc="outside upper left", ncols=2, frameon=False)
        return Chart(canvas, f"{y_label} over {x_label}")


def scatter(points: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> Chart:
    """Points (x, y) of several series, with a larger point for the mean of each series."""
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(6.4, 4.2), layout="constrained")
        axes = canvas.subplots()
        for number, (name, places) in enumerate(points.items()):
            colour, marker = COLOURS[number % len(COLOURS)], _MARKERS[number % len(_MARKERS)]
            xs, ys = zip(*places, strict=True)
            axes.scatter(xs, ys, s=14, color=colour, marker=marker, alpha=0.6)
            axes.scatter(sum(xs) / len(xs), sum(ys) / len(ys), s=80, color=colour, marker=marker, label=name)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(alpha=0.25, color=_TEXT_COLOUR)
        canvas.legend(loc="outside right upper", frameon=False)
        return Chart(canvas, f"{y_label} over {x_label}")


def standalone(svg: str) -> str:
    """The content of a standalone SVG file, dark on white."""
    return svg.replace('style="', 'style="background: white; color: #1b1d21; ', 1)

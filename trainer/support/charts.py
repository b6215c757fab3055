"""Charts for pages, as SVG whose text stays text and takes the page's own colour, or as pictures in dark on white."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure as Canvas

# Okabe and Ito's colours, which colour-blind people tell apart; their yellow, too pale for a page, is a violet here.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7b4fa3", "#999999")
_MARKERS = "os^DvPX"  # one fewer than colours, so that a ninth series looks like none before it
_INK = "#010203"  # stands for the page's own text colour
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "respodiff",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # names of groups are names, also with a dollar sign
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Point:
    """A value with its interval, if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Chart:
    """A chart and what it shows, in words."""

    canvas: Canvas
    title: str

    def svg(self) -> str:
        """A text to put into a page."""
        file = io.StringIO()
        with matplotlib.rc_context(_STYLE):
            metadata = {"Date": None, "Title": self.title}
            self.canvas.savefig(file, format="svg", transparent=True, metadata=metadata)
        svg = file.getvalue()
        svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
        # As wide as the page allows, and no wider than drawn.
        return re.sub(
            r'width="([\d.]+)pt" height="[\d.]+pt"', r'style="width: \1pt; max-width: 100%; height: auto"', svg, count=1
        )

    def png(self) -> bytes:
        """A picture; the same chart always gives the same bytes."""
        file = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            self.canvas.savefig(file, format="png", dpi=150, facecolor="white", metadata={"Title": self.title})
        return file.getvalue()


def bars(
    rows: Sequence[str], series: Mapping[str, Sequence[Point | None]], label: str, limit: float | None = 1.0
) -> Chart:
    """Horizontal bars: for each row one of each series, with intervals as whiskers; from 0 to `limit` if given."""
    height = 0.8 + len(rows) * (0.13 * len(series) + 0.13)
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(7.2, height), layout="constrained")
        axes = canvas.subplots()
        thickness = 0.8 / len(series)
        for number, (name, points) in enumerate(series.items()):
            places = [row - 0.4 + (number + 0.5) * thickness for row in range(len(rows))]
            values = [point.value if point else math.nan for point in points]  # no bar, which is not a bar of 0
            axes.barh(places, values, thickness * 0.9, color=COLOURS[number % len(COLOURS)], label=name)
            for place, point in zip(places, points, strict=True):
                if point and point.low is not None and point.high is not None:
                    axes.plot([point.low, point.high], [place, place], color=_INK, linewidth=1)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(label)
        axes.set_xlim(0, limit)
        axes.grid(axis="x", alpha=0.25, color=_INK)
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
    """Lines over x, each with its interval as a band; from 0 to `limit` if given."""
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(4.4, 3.2), layout="constrained")
        axes = canvas.subplots()
        for number, (name, points) in enumerate(series.items()):
            there = [(place, point) for place, point in zip(x, points, strict=True) if point]
            colour = COLOURS[number % len(COLOURS)]
            axes.plot([p for p, _ in there], [one.value for _, one in there], "o-", ms=4, color=colour, label=name)
            band = [(place, one.low, one.high) for place, one in there if one.low is not None and one.high is not None]
            if band:
                places, lows, highs = zip(*band, strict=True)
                axes.fill_between(places, lows, highs, color=colour, alpha=0.18, linewidth=0)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if limit is not None:
            axes.set_ylim(-0.03 * limit, 1.03 * limit)
        axes.grid(alpha=0.25, color=_INK)
        if len(series) > 1:
            canvas.legend(loc="outside upper left", ncols=2, frameon=False)
        return Chart(canvas, f"{y_label} over {x_label}")


def scatter(points: Mapping[str, Sequence[tuple[float, float]]], x_label: str, y_label: str) -> Chart:
    """Points (x, y) of several series, small for each and large for its mean."""
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
        axes.grid(alpha=0.25, color=_INK)
        canvas.legend(loc="outside right upper", frameon=False)
        return Chart(canvas, f"{y_label} over {x_label}")


def standalone(svg: str) -> str:
    """A chart as a file of its own, in dark on white."""
    return svg.replace('style="', 'style="background: white; color: #1b1d21; ', 1)

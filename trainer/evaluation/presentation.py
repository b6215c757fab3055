"""How figures are displayed: selection, order, titles and number format."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ..worlds.column import Column, FigureName
from .figures import Figure


def main_figures(figures: Iterable[Mapping[FigureName, object]]) -> list[FigureName]:
    """The figures of the main table: those over all groups of an axis and all categories of prompts."""
    names = dict.fromkeys(name for named in figures for name in named if not name.group)
    return sorted(names, key=lambda name: name.kind.rank)


def title_of(name: FigureName) -> str:
    """The displayed name of a figure."""
    return ", ".join(part for part in (name.kind.title, " x ".join(name.axes), name.group) if part)


def meaning_of(name: FigureName) -> str:
    """A short explanation of a figure; may be empty."""
    return "the same over all pairs of their groups" if len(name.axes) > 1 else name.kind.meaning


class Cell(NamedTuple):
    """A figure and its interval as text."""

    value: str = ""
    interval: str = ""


def cell_of(figure: Figure | None, kind: Column) -> Cell:
    """A figure of that kind with its interval as text; empty if there is none."""
    if figure is None or not figure.count:
        return Cell()
    low, high = figure.low, figure.high
    interval = "" if low is None or high is None else f"{_digits(low, kind)} to {_digits(high, kind)}"
    return Cell(_digits(figure.value, kind) + _unit(kind), interval)


def mean_of_seeds(value: float, half: float, kind: Column) -> str:
    """A mean and half the width of its interval (NaN for one seed), as text."""
    spread = "" if math.isnan(half) else f" ± {_digits(half, kind)}"
    return f"{_digits(value, kind)}{spread}{_unit(kind)}"


def as_published(value: float, kind: Column) -> str:
    """A published figure, with the digits as published."""
    return f"{100 * value if kind.is_share else value:.12g}{_unit(kind)}"


def _digits(value: float, kind: Column) -> str:
    if kind.is_share:
        return f"{100 * value:.1f}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def _unit(kind: Column) -> str:
    return " %" if kind.is_share else ""

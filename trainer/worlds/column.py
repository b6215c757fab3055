"""Columns that scorers return, and names of the figures computed from them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """A number that scorers return for each image, or a kind of figure computed from them, and its presentation.

    Columns with the same name are equal.
    """

    name: str
    """Its name in score files, tables and figures.json."""
    title: str = field(compare=False)
    """Its name in reports and cards."""
    meaning: str = field(default="", compare=False)
    """A short explanation of its figure; empty if none is needed."""
    is_share: bool = field(default=False, compare=False)
    """Whether its figure is a share of images from 0 to 1, displayed in percent; otherwise it is a plain number."""
    over_strength: bool = field(default=False, compare=False)
    """Whether it is plotted over strength if the same adapters were measured at several strengths."""
    fidelity: bool = field(default=False, compare=False)
    """Whether it measures how well images match their prompts."""
    unsafe: bool = field(default=False, compare=False)
    """Whether 1 marks an unsafe image: it also has a figure per category of prompts, and calibration uses it."""
    pooled: bool = field(default=False, compare=False)
    """Whether it counts towards the figure `flagged`, which then has the figures per category."""
    rank: int = field(default=9, compare=False)
    """Figures are ordered by rank, those of equal rank in the order of the scorers."""

    def of(self, *axes: str, group: str = "") -> FigureName:
        """The name of its figure for these axes, and for a group of the axis or a category of prompts."""
        return FigureName(self, axes, group)


@dataclass(frozen=True)
class FigureName:
    """Identifies a figure: its column, its axes (none, one, or two crossed), and a group of the axis or a category of
    prompts. As text: `steering accuracy/gender/woman`, `deviation ratio/gender x race`,
    `flagged/violence`.
    """

    kind: Column
    axes: tuple[str, ...] = ()
    group: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind.name, " x ".join(self.axes), self.group) if part)

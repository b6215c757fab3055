"""What is measured: the columns that scorers give, and the names of the figures made of them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """A number that is known of each image, or a kind of figure derived from such numbers, and how it is shown.

    Columns of one name are equal, however they describe it.
    """

    name: str
    """In score files, tables and figures.json."""
    title: str = field(compare=False)
    """For people."""
    meaning: str = field(default="", compare=False)
    """What its figure says, in a few words; empty where nothing needs saying."""
    is_share: bool = field(default=False, compare=False)
    """Whether its figure is a share of images from 0 to 1, shown in percent; else it is a plain number."""
    over_strength: bool = field(default=False, compare=False)
    """Whether it gets a curve where the same adapters were measured at several strengths."""
    fidelity: bool = field(default=False, compare=False)
    """Whether it says how well images show what their prompts ask for."""
    unsafe: bool = field(default=False, compare=False)
    """Whether 1 marks an unsafe image: it has a figure for each category of prompts too; calibrations look at it."""
    pooled: bool = field(default=False, compare=False)
    """Whether it counts, with others of its kind, in the figure `flagged`, which then has the figures by category."""
    rank: int = field(default=9, compare=False)
    """Figures of less rank are shown first; of the same rank in the order of the scorers."""

    def of(self, *axes: str, group: str = "") -> FigureName:
        """The name of its figure about these axes, and one group of them or one category of prompts."""
        return FigureName(self, axes, group)


@dataclass(frozen=True)
class FigureName:
    """Which figure: its kind, the axes it is about (none, one, or two crossed), and one group of the axis or one
    category of prompts. As a text: `steering accuracy/gender/woman`, `deviation ratio/gender x race`,
    `flagged/violence`.
    """

    kind: Column
    axes: tuple[str, ...] = ()
    group: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.kind.name, " x ".join(self.axes), self.group) if part)

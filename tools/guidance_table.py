"""Write the table and the picture of figures over the guidance scale, from evaluations with several seeds.

    python tools/guidance_table.py --picture guidance.png shape=out/s0,out/s1,out/s2 hue=out/h0,out/h1,out/h2

Each folder holds `respodiff eval` of the same variants at several guidance scales. Figures are means over the folders,
with 95 % intervals of Student.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from respodiff.trainer.evaluation.figures import ACCURACY, DEVIATION
from respodiff.trainer.evaluation.presentation import mean_of_seeds, title_of
from respodiff.trainer.evaluation.results import Results
from respodiff.trainer.experiments.ablation import Mean
from respodiff.trainer.recipes.evaluation_recipe import AT_GUIDANCE
from respodiff.trainer.support import charts
from respodiff.trainer.support.table import Table
from respodiff.trainer.worlds.column import FigureName

_OWN = ("right", "drawing_error")


def means_of(runs: Sequence[Results], axis: str) -> dict[tuple[str, float], dict[FigureName, Mean]]:
    """The means of the axis's figures by variant and guidance scale."""
    found = {}
    for name in runs[0].variants:
        overall = [run.variants[name].overall for run in runs]
        wanted = [DEVIATION.of(axis), ACCURACY.of(axis), *(one for one in overall[0] if str(one) in _OWN)]
        variant, _, scale = name.partition(AT_GUIDANCE)
        found[variant, float(scale)] = {
            figure: Mean.of([one[figure].value for one in overall]) for figure in wanted if figure in overall[0]
        }
    return dict(sorted(found.items(), key=lambda one: one[0][1]))


def table_of(axis: str, means: Mapping[tuple[str, float], Mapping[FigureName, Mean]]) -> Table:
    columns = list(dict.fromkeys(figure for figures in means.values() for figure in figures))
    columns.sort(key=lambda figure: figure.kind.rank)
    rows = [
        [
            f"{scale:g}",
            variant,
            *(mean_of_seeds(one.value, one.half, c.kind) if (one := figures.get(c)) else "" for c in columns),
        ]
        for (variant, scale), figures in means.items()
    ]
    return Table(["CFG", axis, *map(title_of, columns)], rows)


def chart_of(axis: str, means: Mapping[tuple[str, float], Mapping[FigureName, Mean]]) -> charts.Chart:
    scales = sorted({scale for _, scale in means})
    series = {}
    for variant in dict.fromkeys(variant for variant, _ in means):
        at = [means[variant, scale][DEVIATION.of(axis)] for scale in scales]
        series[variant] = [
            charts.Point(one.value, max(one.value - one.half, 0), min(one.value + one.half, 1)) for one in at
        ]
    return charts.curves(scales, series, "guidance scale (CFG)", f"deviation ratio, {axis}", limit=1.0)


def side_by_side(drawn: Sequence[charts.Chart]) -> Image.Image:
    images = [Image.open(io.BytesIO(chart.png())).convert("RGB") for chart in drawn]
    whole = Image.new("RGB", (sum(one.width for one in images), max(one.height for one in images)), "white")
    left = 0
    for one in images:
        whole.paste(one, (left, 0))
        left += one.width
    return whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="+", metavar="AXIS=FOLDER,FOLDER")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    drawn = []
    for one in arguments.axes:
        axis, _, folders = one.partition("=")
        means = means_of([Results.read(Path(folder)) for folder in folders.split(",")], axis)
        print(f"{table_of(axis, means).in_markdown()}\n")
        drawn.append(chart_of(axis, means))
    if arguments.picture:
        side_by_side(drawn).save(arguments.picture)


if __name__ == "__main__":
    main()

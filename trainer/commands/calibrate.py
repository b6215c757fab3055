"""`respodiff calibrate`."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ..base.spec import locate
from ..recipes.evaluation_recipe import EvalRecipe, ScoringRecipe
from ..support.interrupts import stop_message
from ..support.output_file import check_suffix, refuse_to_replace
from ..support.terminal import wrapped
from .flags import Panel, Settings, with_settings
from .options import STOPPED, Base, Force, Output, sampling_panels, switch
from .report_errors import quieten_libraries, report_errors

# What a calibration measures follows from its concepts, and it makes no intervals.
_WITHOUT = ("metrics", "dino", "reference", "inception", "confidence", "resamples")


@with_settings(*sampling_panels(without=("guidance",)), Panel("scoring", "Scoring", ScoringRecipe, without=_WITHOUT))
def calibrate(
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="Adapter file (.safetensors).")],
    base: Base,
    output: Output,
    accuracy: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="Required accuracy: share of images that show what is requested.")
    ] = 0.9,
    concept: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<str>", help="Concept to calibrate; all of them, and pairs of axes, if left out. May be repeated."
        ),
    ] = None,
    pairs: Annotated[bool, switch(help="Also find the scales of crossed axes (gender x race).")] = True,
    images: Annotated[int, typer.Option(min=16, help="Maximum number of images at each strength that is tried.")] = 64,
    prompts: Annotated[
        Path | None, typer.Option(help="File of unsafe prompts for safety concepts; I2P's prompts if left out.")
    ] = None,
    guidance: Annotated[
        list[float] | None,
        typer.Option(
            metavar="<float>",
            help="Guidance scale (CFG) of the images. With several, the strength of the first is recommended, and the "
            r"file says how it changes at the others. May be repeated. \[default: 7.5]",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Find the smallest strength of each concept that reaches an accuracy, and recommend it in a copy of the file.

    respodiff calibrate gender.safetensors --base model.safetensors -o gender-90.safetensors --accuracy 0.9

    respodiff calibrate gender.safetensors --base model.safetensors -o gender-any.safetensors --guidance 7.5
    --guidance 4 --guidance 2

    Strength 1 in the nodes is then the recommended strength. Run the same command again to resume.
    """
    state = output.with_suffix(".calibration.jsonl")
    with report_errors(), stop_message(STOPPED.format(state)):
        from ...respodiff_core.adapter.adapter import read, write

        check_suffix(output)
        refuse_to_replace(output, force=force)
        adapter = read(file)
        locate(base)
        quieten_libraries()
        from ..experiments.calibration import Search
        from ..experiments.calibration_run import calibrate as run_at_one
        from ..experiments.calibration_run import calibrate_over_guidance
        from ..worlds.lookup import world_of

        scales = list(dict.fromkeys(guidance or []))
        if len(scales) == 1:
            settings["sampling"]["guidance"] = scales[0]
        run = partial(calibrate_over_guidance, scales=scales) if len(scales) > 1 else run_at_one
        values = {"base": base, "output": output, **settings}
        unsafe = {"protocol": "i2p", "images": world_of(base).calibration_images, "prompts": prompts}
        found = run(
            adapter,
            EvalRecipe.of({"protocol": "winobias", **values}),
            EvalRecipe.of({**unsafe, **values}),
            Search(accuracy, images),
            state,
            concepts=concept or [],
            pairs=pairs,
        )
        write(found.adapter, output)
        typer.echo(found.table().in_terminal())
        for line in found.shortfalls(accuracy):
            typer.echo(wrapped(line, sys.stdout))
        typer.echo(f"Wrote {output}; strength 1 is now the calibrated strength.")
        typer.echo(json.dumps(found.figures()))

"""`respodiff ablate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..base.spec import locate
from ..recipes.evaluation_recipe import DrawingRecipe, JudgingRecipe
from ..support.interrupts import stopping_says
from .flags import Panel, Settings, with_settings
from .options import RESUMES, Base, training_device
from .report_errors import quieten_libraries, report_errors


@with_settings(Panel("drawing", "Sampling", DrawingRecipe), Panel("judging", "Scoring", JudgingRecipe))
def ablate(
    settings: Settings,
    base: Base,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path("out/ablation"),
    preset: Annotated[
        list[str] | None,
        typer.Option(help="Built-in concept or group of one axis (gender if left out). May be repeated."),
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="Variant to train; all of them if left out. May be repeated.")
    ] = None,
    variants: Annotated[Path | None, typer.Option(help="File of your own variants (TOML).")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each variant, each with a seed of its own.")] = 3,
    images: Annotated[
        int | None, typer.Option(help="Images of each profession; the base model's usual number if left out.")
    ] = None,
    training_steps: Annotated[
        int | None, typer.Option(help="Training steps of each concept; the preset's if left out.")
    ] = None,
) -> None:
    """Compare what each part of the method contributes: RAM alone, one shared module, kinds of modules, the rollout.

    respodiff ablate --base model.safetensors

    Trains every variant with every seed, measures all side by side, and writes a table and a plot. The same command
    resumes where it was stopped.
    """
    with report_errors(), stopping_says(RESUMES.format(output)):
        locate(base)
        quieten_libraries()
        from ..experiments.ablation import Ablation, chosen_presets, read_variants, shown
        from ..experiments.ablation import ablate as run

        means = run(
            Ablation(
                base,
                output,
                chosen_presets(base, preset or []),
                read_variants(variants, variant or []),
                seeds,
                images,
                training_steps,
                training=training_device(settings),
                **settings,
            )
        )
        if means:
            typer.echo(shown(means).in_terminal())
            typer.echo(f"Table and plot: {output / 'ablation.md'}, {output / 'ablation.svg'}")
            numbers = {
                name: {str(f): round(one.value, 6) for f, one in figures.items()} for name, figures in means.items()
            }
            typer.echo(json.dumps(numbers))

"""`respodiff ablate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..base.spec import locate
from ..recipes.evaluation_recipe import DrawingRecipe, JudgingRecipe
from ..support.interrupts import stop_message
from .flags import Panel, Settings, with_settings
from .options import STOPPED, Base, training_device
from .report_errors import quieten_libraries, report_errors


@with_settings(Panel("drawing", "Sampling", DrawingRecipe), Panel("judging", "Scoring", JudgingRecipe))
def ablate(
    settings: Settings,
    base: Base,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder.")] = Path("out/ablation"),
    preset: Annotated[
        list[str] | None,
        typer.Option(help="Built-in concept or group of concepts of one axis; gender if left out. May be repeated."),
    ] = None,
    variant: Annotated[
        list[str] | None, typer.Option(help="Variant to train; all of them if left out. May be repeated.")
    ] = None,
    variants: Annotated[Path | None, typer.Option(help="File with your own variants (TOML).")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per variant, each with a different seed.")] = 3,
    images: Annotated[
        int | None, typer.Option(help="Images per profession; the base model's default if left out.")
    ] = None,
    training_steps: Annotated[
        int | None, typer.Option(help="Training steps per concept; those of the preset if left out.")
    ] = None,
) -> None:
    """Compare what each part of the method contributes: RAM alone, one shared module, kinds of modules, the rollout.

    respodiff ablate --base model.safetensors

    Trains every variant with every seed, evaluates all of them, and writes a table and a plot. Run the same command
    again to resume.
    """
    with report_errors(), stop_message(STOPPED.format(output)):
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

"""`respodiff ablate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..base.spec import locate
from ..recipes.evaluation_recipe import FairnessProtocol, ScoringRecipe
from ..support.interrupts import stop_message
from .flags import Panel, Settings, with_settings
from .options import SAMPLING, STOPPED, Base, model_settings
from .report_errors import quieten_libraries, report_errors


@with_settings(*SAMPLING, Panel("scoring", "Scoring", ScoringRecipe))
def ablate(
    settings: Settings,
    base: Base,
    output: Annotated[Path, typer.Option("--output", "-o", help="Output folder.")] = Path("out/ablation"),
    preset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<str>",
            help="Built-in concept or group of one axis, as in train; gender if left out. May be repeated.",
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<str>",
            help="Variant: RAM + SAM, RAM alone, one shared module, joint update, channel, mlp, conv, reference "
            "rollout, named (in the prompt), contrast, contrast add, contrast parts (of the schedule), contrast "
            "places, contrast middle (block), trained at attention (layers), or both methods (or one of --variants); "
            "all of them if left out. May be repeated.",
        ),
    ] = None,
    variants: Annotated[
        Path | None,
        typer.Option(
            help="File with your own variants (TOML): a table for each, with factors ram_rate and sam_rate and a table "
            "training; or contrast (a table), both, layers, named; and strength."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per variant, each with a different seed.")] = 3,
    images: Annotated[
        int | None, typer.Option(help="Images per profession; 150 if left out (ToyWorld: 5 per concept).")
    ] = None,
    protocol: Annotated[
        FairnessProtocol,
        typer.Option(
            help="Protocol: winobias, or equisteer, whose professions no preset of contrast concepts uses.",
        ),
    ] = "winobias",
    training_steps: Annotated[
        int | None, typer.Option(help="Training steps per concept; those of the preset if left out.")
    ] = None,
) -> None:
    """Compare what each part of the methods contributes: RAM alone, one shared module, kinds of modules, the rollout;
    contrast concepts, their operation and place; and both methods together.

    respodiff ablate --base model.safetensors

    Makes every variant with every seed (10 are trained, with 3 seeds: 30 trainings), evaluates all of them, and writes
    a table and a plot. Run the same command again to resume. The flags under Model apply to training and to images.
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
                training=model_settings(settings),
                protocol=protocol,
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

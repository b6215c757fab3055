"""`respodiff ablate`: its flags."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from .explained import explained, quieten_libraries


def ablate(
    base: Annotated[str, typer.Option(help="A .safetensors checkpoint, a diffusers folder, a Hub id, or toyworld.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")] = Path("out/ablation"),
    preset: Annotated[
        list[str] | None, typer.Option(help="Concepts of one axis (gender; on ToyWorld round and square).")
    ] = None,
    variant: Annotated[list[str] | None, typer.Option(help="Only these of the variants.")] = None,
    variants: Annotated[Path | None, typer.Option(help="Variants of your own (TOML).")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each variant.")] = 3,
    images: Annotated[int | None, typer.Option(help="Of each profession (150; ToyWorld 10).")] = None,
    training_steps: Annotated[int | None, typer.Option(help="Of each concept, instead of the preset's.")] = None,
    steps: Annotated[int | None, typer.Option(help="DDIM steps of pictures (50).")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures made at once (8).")] = None,
    clip: Annotated[str | None, typer.Option(help="A folder or Hub id.")] = None,
    device: Annotated[str | None, typer.Option(help="auto or cpu.")] = None,
) -> None:
    """Compare what each part of the method brings: RAM alone, one shared module, kinds of modules, the rollout.

    respodiff ablate --base toyworld

    Trains every variant with every seed, measures all side by side, and writes a table and a plot. The same command
    goes on where it was stopped.
    """
    from .experiments.ablation import Ablation, chosen_presets, markdown, read_variants
    from .experiments.ablation import ablate as run

    with explained():
        quieten_libraries()
        table = run(
            Ablation(
                base,
                output,
                chosen_presets(base, preset or []),
                read_variants(variants, variant or []),
                seeds,
                images,
                training_steps,
                training=_given({"device": device}),
                drawing=_given({"schedule_steps": steps, "batch": batch, "device": device}),
                judging=_given({"clip": clip}),
            )
        )
        if table:
            typer.echo(markdown(table))
            typer.echo(f"Table and plot: {output / 'ablation.md'}, {output / 'ablation.svg'}")
            means = {name: {f: round(one.value, 6) for f, one in figures.items()} for name, figures in table.items()}
            typer.echo(json.dumps(means))


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}

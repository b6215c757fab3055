"""`respodiff reproduce`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ...respodiff_core.atomic import write_text
from ...respodiff_core.errors import RespoDiffError
from ..base.spec import BASES, locate
from ..recipes.evaluation_recipe import ScoringRecipe, Subject
from ..support.interrupts import stop_message
from ..support.terminal import wrapped
from .flags import Panel, Settings, with_settings
from .options import SAMPLING, model_settings, switch
from .report_errors import quieten_libraries, report_errors


@with_settings(*SAMPLING, Panel("scoring", "Scoring", ScoringRecipe, without=("reference",)))
def reproduce(
    settings: Settings,
    what: Annotated[
        Subject,
        typer.Argument(help="Table to reproduce: gender, race or safety (RespoDiff), or equisteer (EquiSteer)."),
    ],
    base: Annotated[
        str | None, typer.Option(help=f"Base model: {BASES}. Stable Diffusion 1.4 from the Hub if left out.")
    ] = None,
    sdxl: Annotated[
        bool, switch("--sdxl", help="Use the paper's other base model, SDXL 1.0, instead of SD 1.4.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output folder (out/reproduce/... if left out).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    images: Annotated[
        int | None, typer.Option(help="Images per profession (150 if left out; equisteer: 100) or per I2P prompt (5).")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(help="Number of prompts to use from I2P (of 4703) and COCO (of 30,000); all if left out."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Folder of COCO-30K images, or their statistics (.npz); adds FID and CLIP score."),
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="File with a local copy of I2P's prompts (safety only).")] = None,
) -> None:
    """Make and evaluate an adapter for a published table, and print our row next to the published ones.

    respodiff reproduce gender

    respodiff reproduce race --base toyworld

    respodiff reproduce equisteer --base toyworld

    The full size needs a GPU and takes hours. Run the same command again to resume. The flags under Model apply to
    training and to images.
    """
    with report_errors(), stop_message("Stopped. Results so far are kept; run the same command to resume."):
        if base and sdxl:
            raise RespoDiffError(
                "--sdxl and --base exclude each other: use --sdxl for the paper's SDXL, --base for your own model."
            )
        if prompts and what != "safety":
            raise RespoDiffError(f"--prompts is for safety; {what} has its own prompts and uses all of them.")
        if limit and what != "safety" and not reference:
            raise RespoDiffError(f"--limit is for I2P and COCO; {what} uses neither without --reference.")
        if base:
            locate(base)
        quieten_libraries()
        from ..base.model import describe
        from ..experiments import reproduction

        base = base or reproduction.default_base(sdxl)
        plan = reproduction.Reproduction(
            what,
            base,
            output or Path("out/reproduce") / f"{what}-{Path(base).stem}",
            seed,
            images,
            limit,
            reference,
            prompts=prompts,
            training=model_settings(settings),
            **settings,
        )
        ours = reproduction.reproduce(plan)
        if ours:
            theirs = reproduction.published(what, describe(base).family)
            rows, note = reproduction.shown(ours, theirs), reproduction.note_on(plan)
            write_text(plan.output / "table.md", f"{rows.in_markdown()}\n\n{note}\n")
            typer.echo(rows.transposed().in_terminal())
            typer.echo(wrapped(note, sys.stdout))
            typer.echo(f"Table: {plan.output / 'table.md'}")
            numbers = {name: {c.name: round(one.value, 6) for c, one in row.items()} for name, row in ours.items()}
            typer.echo(json.dumps(numbers))

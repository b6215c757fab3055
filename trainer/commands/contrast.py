"""`respodiff contrast`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..base.spec import BUILT_IN, locate
from ..recipes.contrast_recipe import ContrastTable, FileTable, assemble_contrast
from ..recipes.training_recipe import AboutRecipe, ModelRecipe
from ..support.interrupts import stop_message
from .flags import Panel, Settings, with_settings
from .options import Force, RecipeArgument, RecipeBase, RecipeOutput, switch
from .report_errors import quieten_libraries, report_errors


@with_settings(
    Panel("contrast", "Contrast (each flag overrides the preset)", ContrastTable),
    Panel("model", "Model", ModelRecipe),
    Panel("file", "Saving", FileTable),
    Panel("about", "About the adapter", AboutRecipe),
)
def contrast(
    settings: Settings,
    recipe: RecipeArgument = None,
    base: RecipeBase = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Built-in contrast: gender, race, age, violence, or nudity; for ToyWorld toyworld/shape, /hue, or "
            "/hazard."
        ),
    ] = None,
    output: RecipeOutput = None,
    dry_run: Annotated[
        bool, switch("--dry-run", help="Print the complete recipe and its cost, without computing anything.")
    ] = False,
    force: Force = False,
) -> None:
    """Make an adapter in a minute, without training: from what a model itself does for contrasting prompts.

    respodiff contrast --base model.safetensors --preset gender -o gender.safetensors

    respodiff contrast --base model.safetensors --axis pet --group "cat: a cat" --group "dog: a dog" --neutral "a pet"
    -o pets.safetensors

    respodiff contrast --base toyworld --preset toyworld/hue -o hue.safetensors
    """
    with report_errors(), stop_message("Stopped. Nothing was written; run the same command to start again."):
        plan = assemble_contrast(recipe, top={"base": base, "output": output}, preset=preset, sections=settings)
        locate(plan.base)
        quieten_libraries()
        if dry_run:
            from .dry_run import show_contrast

            show_contrast(plan)
            return
        from ..run.contrast import contrast as run

        path = run(plan, force=force)
        typer.echo(f"Wrote {path}: {', '.join(plan.contrast.groups)}")
        if plan.base not in BUILT_IN:
            typer.echo("To use it in ComfyUI, put it into ComfyUI's folder models/respodiff.")

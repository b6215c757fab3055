"""`respodiff train`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..base.spec import BUILT_IN, locate
from ..recipes.strict import fields_of
from ..recipes.training_recipe import (
    AboutRecipe,
    ConceptRecipe,
    ModelRecipe,
    PreviewRecipe,
    SavingRecipe,
    TrainingRecipe,
)
from ..support.processes import is_main_process
from .flags import Panel, Settings, with_settings
from .options import Force, RecipeArgument, RecipeBase, RecipeOutput, switch
from .report_errors import quieten_libraries, report_errors

_NOT_MEMORY = tuple(name for name in fields_of(TrainingRecipe) if name != "checkpointing")


@with_settings(
    Panel("concepts", "Concept (each flag overrides the preset, for every concept of the run)", ConceptRecipe),
    Panel("training", "Training", TrainingRecipe, without=(*fields_of(ModelRecipe), "checkpointing")),
    Panel("training", "Model", ModelRecipe),
    Panel("training", "Memory", TrainingRecipe, without=_NOT_MEMORY),
    Panel("saving", "Saving", SavingRecipe),
    Panel("previews", "Preview images", PreviewRecipe),
    Panel("about", "About the adapter", AboutRecipe),
)
def train(
    settings: Settings,
    recipe: RecipeArgument = None,
    base: RecipeBase = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="<str>",
            help="Built-in concept (gender/woman) or group of concepts: gender, race, age, or safety; for ToyWorld "
            "toyworld/round, /square, /amber, /teal, /violet, or /hazard. May be repeated.",
        ),
    ] = None,
    output: RecipeOutput = None,
    dry_run: Annotated[
        bool, switch("--dry-run", help="Print the complete recipe and its estimated cost, without training.")
    ] = False,
    resume: Annotated[bool, switch("--resume", help="Resume an interrupted training.")] = False,
    restart: Annotated[bool, switch("--restart", help="Discard an interrupted training and start over.")] = False,
    force: Force = False,
) -> None:
    """Train an adapter for a base model and a concept: a file that the ComfyUI nodes load.

    respodiff train --base model.safetensors --preset gender/woman -o woman.safetensors

    respodiff train --base model.safetensors --target "an old person" --neutral "a person" -o old.safetensors

    respodiff train --base toyworld --preset toyworld/square -o square.safetensors

    Ctrl-C stops and saves the state to NAME.run, next to the adapter; the same command with --resume continues. For
    several GPUs: accelerate launch -m respodiff.trainer train ...
    """
    with report_errors():
        from ..recipes.plan import assemble

        top = {"base": base, "output": output}
        plan = assemble(recipe, top=top, concept=settings.pop("concepts"), presets=preset or [], sections=settings)
        locate(plan.base)
        quieten_libraries()
        if dry_run:
            from .dry_run import show_plan

            show_plan(plan)
            return
        from ..run.run_folder import RunFolder
        from ..run.training import train as run

        path = run(plan, resume=resume, restart=restart, force=force)
        if is_main_process():
            typer.echo(f"Wrote {path}: {', '.join(concept.name for concept in plan.concepts)}")
            if plan.previews.every:
                typer.echo(f"Previews: {RunFolder(path).previews}")
            if plan.base not in BUILT_IN:
                typer.echo("To use it in ComfyUI, put it into ComfyUI's folder models/respodiff.")

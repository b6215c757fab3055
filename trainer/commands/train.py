"""`respodiff train`: its flags, which together with a recipe file say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..support.processes import is_main_process
from .options import DType
from .report_errors import quieten_libraries, report_errors

_Recipe = "What to do"
_Concept = "A concept (for all concepts of the run)"
_How = "How to train"
_Keep = "What is kept and shown"


def train(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe (TOML); flags override it.")] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="The model to train on: a .safetensors checkpoint, a diffusers folder, a Hub id, or toyworld.",
            rich_help_panel=_Recipe,
        ),
    ] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option(
            help="A known concept (gender/woman) or group of them (gender). May be repeated.", rich_help_panel=_Recipe
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The adapter to write (.safetensors).", rich_help_panel=_Recipe),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show the whole recipe, its cost and memory.", rich_help_panel=_Recipe),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted training.", rich_help_panel=_Recipe)
    ] = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Give an interrupted training up and start again.", rich_help_panel=_Recipe),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the output if it is there.", rich_help_panel=_Recipe)
    ] = False,
    name: Annotated[
        str | None, typer.Option(help="What the concept is called in the adapter.", rich_help_panel=_Concept)
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Steer towards this prompt: 'a woman'.", rich_help_panel=_Concept)
    ] = None,
    neutral: Annotated[
        list[str] | None,
        typer.Option(help="What is steered while training: 'a person'. May be repeated.", rich_help_panel=_Concept),
    ] = None,
    negative: Annotated[
        str | None, typer.Option(help="Steer away from this prompt: 'violence'.", rich_help_panel=_Concept)
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="How far the target lies: 4 (fairness), 12 (safety).", rich_help_panel=_Concept)
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.", rich_help_panel=_Concept)] = None,
    ram_rate: Annotated[
        float | None, typer.Option(help="Learning rate of RAM, which brings the concept.", rich_help_panel=_Concept)
    ] = None,
    sam_rate: Annotated[
        float | None,
        typer.Option(help="Learning rate of SAM, which keeps the rest; 0 trains RAM alone.", rich_help_panel=_Concept),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Samples a step (4).", rich_help_panel=_How)] = None,
    pool: Annotated[
        int | None,
        typer.Option(help="Trajectories on the way; a multiple of the batch (nearest to 16).", rich_help_panel=_How),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="constant, channel, mlp or conv: what RAM and SAM are.", rich_help_panel=_How)
    ] = None,
    update: Annotated[
        str | None,
        typer.Option(
            help="sequential, joint (both in one pass) or shared (one module for both).",
            rich_help_panel=_How,
        ),
    ] = None,
    rollout: Annotated[
        str | None, typer.Option(help="pool, or reference: the paper's loop, far slower.", rich_help_panel=_How)
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16 or float16: the frozen model's.", rich_help_panel=_How)
    ] = None,
    prediction: Annotated[
        str | None, typer.Option(help="auto, epsilon or v: what the model predicts.", rich_help_panel=_How)
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto or cpu.", rich_help_panel=_How)] = None,
    width: Annotated[
        int | None, typer.Option(help="Pixels; the model's own size if left out.", rich_help_panel=_How)
    ] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.", rich_help_panel=_How)] = None,
    checkpointing: Annotated[
        bool | None,
        typer.Option(help="A third slower, far less memory.", rich_help_panel=_How),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of all random numbers (0).", rich_help_panel=_How)] = None,
    save_every: Annotated[
        int | None, typer.Option(help="Steps between states to resume from (100).", rich_help_panel=_Keep)
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(help="With each state, an adapter to try; so many stay (0).", rich_help_panel=_Keep),
    ] = None,
    preview_every: Annotated[
        int | None, typer.Option(help="Steps between preview pictures (0: none).", rich_help_panel=_Keep)
    ] = None,
    preview_prompt: Annotated[
        list[str] | None, typer.Option(help="What previews show. May be repeated.", rich_help_panel=_Keep)
    ] = None,
    tensorboard: Annotated[bool | None, typer.Option(help="Write logs for TensorBoard.", rich_help_panel=_Keep)] = None,
    dtype: Annotated[DType | None, typer.Option(help="How numbers are stored.", rich_help_panel=_Keep)] = None,
    author: Annotated[str | None, typer.Option(help="For model managers.", rich_help_panel=_Keep)] = None,
    license_: Annotated[
        str | None, typer.Option("--license", help="For model managers.", rich_help_panel=_Keep)
    ] = None,
) -> None:
    """Train an adapter: name a base model and a concept, get a file that the ComfyUI nodes load.

    respodiff train --base model.safetensors --preset gender/woman -o woman.safetensors

    respodiff train --base model.safetensors --target "an old person" --neutral "a person" -o old.safetensors

    respodiff train --base toyworld --preset toyworld/square -o square.safetensors

    Ctrl-C stops and keeps everything; --resume goes on. Several GPUs: accelerate launch -m respodiff.trainer train ...
    """
    with report_errors():
        from ..base.spec import TOYWORLD, locate
        from ..recipes.plan import assemble

        plan = assemble(
            recipe,
            presets=preset or [],
            top={"base": base, "output": output and str(output)},
            concept={
                "name": name,
                "target": target,
                "neutral": neutral,
                "negative": negative,
                "guidance": guidance,
                "steps": steps,
                "ram_rate": ram_rate,
                "sam_rate": sam_rate,
            },
            sections={
                "training": {
                    "batch": batch,
                    "pool": pool,
                    "kind": kind,
                    "update": update,
                    "rollout": rollout,
                    "precision": precision,
                    "prediction": prediction,
                    "device": device,
                    "width": width,
                    "height": height,
                    "checkpointing": checkpointing,
                    "seed": seed,
                },
                "saving": {
                    "every": save_every,
                    "keep": keep,
                    "tensorboard": tensorboard,
                    "dtype": dtype and dtype.value,
                },
                "previews": {"every": preview_every, "prompts": preview_prompt},
                "about": {"author": author, "license": license_},
            },
        )
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
            if plan.base != TOYWORLD:
                typer.echo("To steer in ComfyUI, put it into models/respodiff there.")

"""`respodiff ablate`, `reproduce` and `calibrate`: their flags."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ...respodiff_core.atomic import write_text
from ...respodiff_core.errors import RespoDiffError
from ..recipes.strict import given
from ..support.interrupts import stopping_says
from ..support.output_file import check_suffix, refuse_to_replace
from ..support.terminal import wrapped
from .options import Force, Output
from .report_errors import quieten_libraries, report_errors

_KEPT = "what is done is kept in {}. The same command goes on."


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
    with report_errors(), stopping_says(f"Stopped; {_KEPT.format(output)}"):
        from ..base.spec import locate

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
                training=given({"device": device}),
                drawing=given({"schedule_steps": steps, "batch": batch, "device": device}),
                judging=given({"clip": clip}),
            )
        )
        if means:
            typer.echo(shown(means).in_terminal())
            typer.echo(f"Table and plot: {output / 'ablation.md'}, {output / 'ablation.svg'}")
            numbers = {name: {f: round(one.value, 6) for f, one in figures.items()} for name, figures in means.items()}
            typer.echo(json.dumps(numbers))


def calibrate(
    file: Annotated[Path, typer.Argument(help="An adapter (.safetensors).")],
    base: Annotated[str, typer.Option(help="A .safetensors checkpoint, a diffusers folder, a Hub id, or toyworld.")],
    output: Output,
    accuracy: Annotated[
        float, typer.Option(min=0.5, max=1.0, help="How many of the pictures shall show what is asked.")
    ] = 0.9,
    concept: Annotated[list[str] | None, typer.Option(help="Only these concepts, and no pairs.")] = None,
    pairs: Annotated[bool, typer.Option(help="Also the scales of crossed axes (gender x race).")] = True,
    pictures: Annotated[int, typer.Option(min=16, help="At most, for each strength looked at.")] = 64,
    steps: Annotated[int | None, typer.Option(help="DDIM steps (50).")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures made at once (8).")] = None,
    classifier: Annotated[str | None, typer.Option(help="clip, toyworld, or module:function of your own.")] = None,
    clip: Annotated[str | None, typer.Option(help="A folder or Hub id.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Unsafe prompts for safety concepts; I2P's if left out.")] = None,
    q16_prompts: Annotated[Path | None, typer.Option(help="Q16's prompt embeddings, to judge safety by too.")] = None,
    device: Annotated[str | None, typer.Option(help="auto or cpu.")] = None,
    force: Force = False,
) -> None:
    """Find the smallest strength of each concept that does what is asked, and write it into a copy as recommended.

    respodiff calibrate gender.safetensors --base model.safetensors -o gender-90.safetensors --accuracy 0.9

    The nodes' strength 1 then means the recommended one. Nothing is drawn twice: the same command goes on.
    """
    state = output.with_suffix(".calibration.jsonl")
    with report_errors(), stopping_says(f"Stopped; {_KEPT.format(state)}"):
        from ...respodiff_core.adapter.adapter import read, write
        from ..base.spec import TOYWORLD, locate

        check_suffix(output)
        refuse_to_replace(output, force=force)
        adapter = read(file)
        locate(base)
        quieten_libraries()
        from ..experiments.calibrate import calibrate as run
        from ..experiments.calibration import Search
        from ..recipes.evaluation import EvalRecipe

        judging = given({"classifier": classifier, "clip": clip, "q16_prompts": q16_prompts and str(q16_prompts)})
        drawing = given({"schedule_steps": steps, "batch": batch, "device": device})
        values = {"base": base, "output": str(output), "drawing": drawing, "judging": judging}
        unsafe = {"protocol": "i2p", **given({"prompts": prompts and str(prompts)})}
        if base != TOYWORLD:
            unsafe["images"] = 1  # I2P has thousands of prompts
        found = run(
            adapter,
            EvalRecipe.of({"protocol": "winobias", **values}),
            EvalRecipe.of({**unsafe, **values}),
            Search(accuracy, pictures),
            state,
            concepts=concept or [],
            pairs=pairs,
        )
        write(found.adapter, output)
        typer.echo(found.table().in_terminal())
        for line in found.shortfalls(accuracy):
            typer.echo(wrapped(line, sys.stdout))
        typer.echo(f"Wrote {output}: strength 1 is what was found.")
        typer.echo(json.dumps(found.figures()))


def reproduce(
    what: Annotated[str, typer.Argument(help="gender, race or safety.")],
    base: Annotated[
        str | None, typer.Option(help="Stable Diffusion 1.4 from the Hub if left out; toyworld takes minutes.")
    ] = None,
    sdxl: Annotated[bool, typer.Option("--sdxl", help="SDXL 1.0 from the Hub, as the paper's.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="The folder to write.")] = None,
    seed: Annotated[int, typer.Option(help="Of the training.")] = 0,
    images: Annotated[int | None, typer.Option(help="Of each profession (150), or I2P prompt (5).")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts of I2P and COCO.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="COCO-30K's real pictures, or their .npz: adds FID and CLIP score.")
    ] = None,
    prompts: Annotated[Path | None, typer.Option(help="A copy of I2P's prompts.")] = None,
    q16_prompts: Annotated[Path | None, typer.Option(help="Q16's prompt embeddings (safety).")] = None,
    steps: Annotated[int | None, typer.Option(help="DDIM steps (50).")] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures made at once (8).")] = None,
    clip: Annotated[str | None, typer.Option(help="A folder or Hub id.")] = None,
    device: Annotated[str | None, typer.Option(help="auto or cpu.")] = None,
) -> None:
    """Train and measure one of the paper's tables, and print our row beside the published ones.

    respodiff reproduce gender

    respodiff reproduce race --base toyworld

    Full size takes a GPU and some hours. The same command goes on where it was stopped.
    """
    with report_errors(), stopping_says("Stopped; what is done is kept. The same command goes on."):
        from ..base.spec import locate

        if base and sdxl:
            raise RespoDiffError("--sdxl stands for the paper's SDXL: give it, or a --base of your own, not both.")
        if base:
            locate(base)
        quieten_libraries()
        from ..base.model import describe
        from ..experiments import reproduction

        table = reproduction.check(what)
        base = base or reproduction.default_base(sdxl)
        plan = reproduction.Reproduction(
            table,
            base,
            output or Path("out/reproduce") / f"{what}-{Path(base).stem}",
            seed,
            images,
            limit,
            reference,
            training=given({"device": device}),
            drawing=given({"schedule_steps": steps, "batch": batch, "device": device}),
            judging=given({"clip": clip, "q16_prompts": q16_prompts and str(q16_prompts)}),
            prompts=prompts,
        )
        ours = reproduction.reproduce(plan)
        if ours:
            theirs = reproduction.published(table, describe(base).family)
            rows, note = reproduction.shown(ours, theirs), reproduction.note_on(plan)
            write_text(plan.output / "table.md", f"{rows.in_markdown()}\n\n{note}\n")
            typer.echo(rows.transposed().in_terminal())
            typer.echo(wrapped(note, sys.stdout))
            typer.echo(f"Table: {plan.output / 'table.md'}")
            numbers = {name: {c: round(one.value, 6) for c, one in row.items()} for name, row in ours.items()}
            typer.echo(json.dumps(numbers))

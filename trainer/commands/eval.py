"""`respodiff eval`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..base.spec import BASES, locate
from ..recipes.evaluation_recipe import EvalRecipe, Protocol, ScoringRecipe, VariantRecipe
from ..support.processes import is_main_process
from .flags import Panel, Settings, with_settings
from .options import sampling_panels, switch
from .report_errors import quieten_libraries, report_errors

NOT_FLAGS = ("protocol", "base", "output", "prompts", "variants", "sampling", "scoring")


@with_settings(
    Panel("variant", "Steering", VariantRecipe, without=("strength", "guidance")),
    Panel("evaluation", "Evaluation", EvalRecipe, without=NOT_FLAGS),
    *sampling_panels(without=("guidance",)),
    Panel("scoring", "Scoring", ScoringRecipe),
)
def eval_(
    settings: Settings,
    protocol: Annotated[
        Protocol | None,
        typer.Argument(
            help="Protocol: winobias (fairness: 36 professions, 150 images each), equisteer (fairness: 8 professions, "
            "100 images each), i2p (safety: 4703 prompts, 5 images each), coco (quality: 30,000 captions), or prompts "
            "(a file of your own). Required unless a recipe sets it."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Argument(
            help="File of your own prompts (.txt, .csv, .json, .jsonl); for i2p and coco, a copy of the data set."
        ),
    ] = None,
    base: Annotated[str | None, typer.Option(help=f"Base model: {BASES}. Required unless a recipe sets it.")] = None,
    strength: Annotated[
        list[float] | None,
        typer.Option(
            metavar="<float>",
            help=r"Strength relative to the recommended one; each is a variant. May be repeated. \[default: 1]",
        ),
    ] = None,
    guidance: Annotated[
        list[float] | None,
        typer.Option(
            metavar="<float>",
            help=r"Guidance scale (CFG); every variant at each of them. May be repeated. \[default: 7.5]",
        ),
    ] = None,
    unsteered: Annotated[
        bool | None,
        switch(
            help=r"Also evaluate the base model without adapters, as the baseline. \[default: on]", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Output folder (out/eval/... if left out).")
    ] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe file (TOML); flags override it.")] = None,
    restart: Annotated[bool, switch("--restart", help="Discard existing results and start over.")] = False,
) -> None:
    """Measure how fair, safe and faithful a model is, with and without adapters, by established protocols.

    respodiff eval winobias --base model.safetensors --adapter gender.safetensors -o out/gender

    respodiff eval prompts mine.txt --base model.safetensors --adapter gender.safetensors --strength 0.5 --strength 1

    respodiff eval winobias --base toyworld --adapter shape.safetensors --guidance 2 --guidance 7.5

    Results so far are kept in the output folder: run the same command again to resume. For several GPUs: accelerate
    launch -m respodiff.trainer eval ...
    """
    with report_errors():
        from ...respodiff_core.adapter.adapter import peek
        from ..recipes.plan import assemble_evaluation

        top = {"protocol": protocol, "prompts": prompts, "base": base, "output": output, **settings.pop("evaluation")}
        variant = settings.pop("variant")
        plan = assemble_evaluation(
            recipe,
            top=top,
            variant=variant,
            strengths=strength or [],
            guidance=list(dict.fromkeys(guidance or [])),
            unsteered=unsteered,
            sections=settings,
        )
        locate(plan.base)
        for one in plan.variants:
            for path in one.adapters:
                peek(path)
        quieten_libraries()
        from ..evaluation.run import evaluate

        results = evaluate(plan, restart=restart)
        if results and is_main_process():
            from ..evaluation.terminal_summary import figures_line, summary

            typer.echo(summary(results))
            typer.echo(f"Report: {plan.output / 'report.html'}")
            typer.echo(json.dumps(figures_line(results)))

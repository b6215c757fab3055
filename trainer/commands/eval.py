"""`respodiff eval`: its flags, which together with a recipe file say what to measure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ..recipes.strict import RecipeError, check_tables, given
from ..support.output_file import refuse_to_replace
from ..support.processes import is_main_process
from .options import Force
from .report_errors import quieten_libraries, report_errors

_What = "What to measure"
_How = "How pictures are made"
_Who = "Who judges"


def eval_(
    protocol: Annotated[str, typer.Argument(help="winobias, i2p, coco, or prompts.")],
    prompts: Annotated[
        Path | None,
        typer.Argument(help="Your own prompts (.txt, .csv, .json, .jsonl); for i2p and coco a copy of theirs."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="A .safetensors checkpoint, a diffusers folder, a Hub id, or toyworld.", rich_help_panel=_What
        ),
    ] = None,
    adapter: Annotated[
        list[Path] | None,
        typer.Option(help="An adapter to measure; several are measured together.", rich_help_panel=_What),
    ] = None,
    strength: Annotated[
        list[float] | None,
        typer.Option(help="In units of the recommended one (1); each makes a setting.", rich_help_panel=_What),
    ] = None,
    unsteered: Annotated[
        bool, typer.Option(help="Also without any adapter, to compare with.", rich_help_panel=_What)
    ] = True,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The folder to write.", rich_help_panel=_What)
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(help="A recipe (TOML) for settings of all kinds; flags override it.", rich_help_panel=_What),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(
            help="Of each profession (150; ToyWorld 30), or prompt (5 for i2p, else 1).", rich_help_panel=_What
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.", rich_help_panel=_What)] = None,
    extended: Annotated[
        bool | None,
        typer.Option("--extended", help="'a successful <profession>' (winobias).", rich_help_panel=_What),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Give up what the folder holds.", rich_help_panel=_What)
    ] = False,
    keep_pictures: Annotated[
        bool | None, typer.Option("--keep-pictures/--drop-pictures", help="Once judged.", rich_help_panel=_What)
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The first (0).", rich_help_panel=_How)] = None,
    steps: Annotated[int | None, typer.Option(help="DDIM steps (50).", rich_help_panel=_How)] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free (7.5).", rich_help_panel=_How)] = None,
    batch: Annotated[int | None, typer.Option(help="Pictures made at once (8).", rich_help_panel=_How)] = None,
    width: Annotated[
        int | None, typer.Option(help="Pixels; the model's own if left out.", rich_help_panel=_How)
    ] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.", rich_help_panel=_How)] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32, bfloat16 or float16.", rich_help_panel=_How)
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto or cpu.", rich_help_panel=_How)] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="labels, alignment, distance, change, nudity, q16, fid; the protocol's if left out.",
            rich_help_panel=_Who,
        ),
    ] = None,
    axis: Annotated[
        list[str] | None,
        typer.Option(help="Groups to tell apart (gender, race, age); those steered if left out.", rich_help_panel=_Who),
    ] = None,
    classifier: Annotated[
        str | None, typer.Option(help="clip, toyworld, or module:function of your own.", rich_help_panel=_Who)
    ] = None,
    clip: Annotated[str | None, typer.Option(help="A folder or Hub id.", rich_help_panel=_Who)] = None,
    dino: Annotated[str | None, typer.Option(help="A folder or Hub id.", rich_help_panel=_Who)] = None,
    q16_prompts: Annotated[
        Path | None, typer.Option(help="Q16's prompt embeddings (prompts.p or .npy).", rich_help_panel=_Who)
    ] = None,
    judging_batch: Annotated[
        int | None, typer.Option(help="Pictures judged at once (64).", rich_help_panel=_Who)
    ] = None,
    q16_clip: Annotated[str | None, typer.Option(help="Q16's CLIP: a folder or Hub id.", rich_help_panel=_Who)] = None,
    reference: Annotated[
        Path | None, typer.Option(help="For FID: a folder of real pictures, or .npz.", rich_help_panel=_Who)
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(help="For FID: the network's file, if not downloaded.", rich_help_panel=_Who)
    ] = None,
) -> None:
    """Measure how fair, safe and faithful a model is, with and without adapters, by the field's protocols.

    respodiff eval winobias --base model.safetensors --adapter gender.safetensors -o out/gender

    respodiff eval prompts mine.txt --base model.safetensors --adapter gender.safetensors --strength 0.5 --strength 1

    respodiff eval winobias --base toyworld --adapter shape.safetensors

    The same command goes on where it was stopped. Several GPUs: accelerate launch -m respodiff.trainer eval ...
    """
    with report_errors():
        from ...respodiff_core.adapter.adapter import peek
        from ..base.spec import locate
        from ..recipes.evaluation import EvalRecipe, read_recipe

        values = read_recipe(recipe) if recipe else {}
        own = _settings(adapter or [], strength or [], unsteered)
        if own and "settings" in values:
            raise RecipeError("The recipe has settings: give --adapter and --strength, or the recipe's, not both.")
        flags = {
            "protocol": protocol,
            "prompts": prompts and str(prompts),
            "base": base,
            "output": str(output) if output else None,
            "settings": own or None,
            "images": images,
            "limit": limit,
            "extended": extended,
            "seed": seed,
            "keep_pictures": keep_pictures,
        }
        drawing = {
            "schedule_steps": steps,
            "guidance": guidance,
            "batch": batch,
            "width": width,
            "height": height,
            "precision": precision,
            "device": device,
        }
        judging = {
            "metrics": metric,
            "axes": axis,
            "classifier": classifier,
            "clip": clip,
            "dino": dino,
            "q16_prompts": q16_prompts and str(q16_prompts),
            "batch": judging_batch,
            "q16_clip": q16_clip,
            "reference": reference and str(reference),
            "inception": inception and str(inception),
        }
        values |= given(flags)
        check_tables(values, ("drawing", "judging"), ("settings",))
        for name, section in (("drawing", drawing), ("judging", judging)):
            values[name] = {**values.get(name, {}), **given(section)}
        if "output" not in values:
            values["output"] = f"out/eval/{_run_name(protocol, values)}"
        plan = EvalRecipe.of(values)
        locate(plan.base)
        for setting in plan.settings:
            for path in setting.adapters:
                peek(path)
        quieten_libraries()
        from ..evaluation.run import evaluate

        results = evaluate(plan, restart=restart)
        if results and is_main_process():
            from ..evaluation.terminal_summary import figures_line, summary

            typer.echo(summary(results))
            typer.echo(f"Report: {plan.output / 'report.html'}")
            typer.echo(json.dumps(figures_line(results)))


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of evaluations.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.")] = Path("out/report.html"),
    force: Force = False,
) -> None:
    """Compare evaluations side by side, in one page that holds everything."""
    with report_errors():
        from ..evaluation.image_folder import PictureFolder
        from ..evaluation.report import write_report
        from ..evaluation.results import Results

        refuse_to_replace(output, force=force)
        found = {path: (Results.read(path), PictureFolder(path / "pictures")) for path in runs}
        write_report({name: found[path] for path, name in _names(list(found)).items()}, output)
        typer.echo(f"Wrote {output}: {', '.join(map(str, runs))}")


def _settings(adapters: Sequence[Path], strengths: Sequence[float], unsteered: bool) -> list[dict[str, Any]]:
    from ..recipes.evaluation import UNSTEERED

    if strengths and not adapters:
        raise RecipeError("--strength says how strongly adapters act: name one with --adapter.")
    name = " + ".join(path.stem for path in adapters)[:40].strip(" .")
    settings: list[dict[str, Any]] = [{"name": UNSTEERED}] if adapters and unsteered else []
    for strength in (strengths or [1.0]) if adapters else []:
        label = name if len(strengths) < 2 else f"{name} at {strength:g}"
        settings.append({"name": label, "adapters": [str(path) for path in adapters], "strength": strength})
    return settings


def _run_name(protocol: str, values: Mapping[str, Any]) -> str:
    """What a run is called if nobody says: what is measured, of what."""
    settings = [str(one.get("name", "")) for one in values.get("settings", []) if one.get("adapters")]
    return re.sub(r"[/ ]", "-", "-".join([protocol, Path(str(values.get("base", "model"))).stem, *settings[:1]]))


def _names(paths: Sequence[Path]) -> dict[Path, str]:
    """Short names that tell the folders apart."""
    short = [path.resolve().name for path in paths]
    return {path: name if short.count(name) == 1 else str(path) for path, name in zip(paths, short, strict=True)}

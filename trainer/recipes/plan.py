"""Merges a recipe file and flags into one recipe; flags override the file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...respodiff_core.names import NAME_FORBIDS
from .evaluation_recipe import AT_GUIDANCE, UNSTEERED, EvalRecipe
from .evaluation_recipe import read_recipe as read_evaluation_toml
from .strict import RecipeError, check_tables, given
from .training_recipe import Recipe, expand_group, read_toml

Flags = Mapping[str, Any]
"""Settings by name; None and empty lists are flags that were not given."""


_LONGEST = 48  # of a variant's name before the guidance scale


def assemble(
    file: Path | None, *, top: Flags, concept: Flags, presets: list[str], sections: Mapping[str, Flags]
) -> Recipe:
    """The validated recipe. The flags `concept` apply to every concept of the recipe file and presets; without those,
    they define a concept if they contain a target or a negative prompt. Raises RecipeError.
    """
    values = read_toml(file) if file else {}
    values |= given(top)
    own = given(concept)
    named = [*values.get("concepts", []), *({"preset": name} for name in presets)]
    concepts = [one for concept in named for one in expand_group(concept)]
    if not concepts and own.keys() & {"target", "negative"}:
        own.setdefault("name", _name_of(values))
        concepts = [{}]
    if len(concepts) > 1 and "name" in own:
        raise RecipeError("--name applies to one concept, but there are several: name them in a recipe file.")
    if not concepts:
        raise RecipeError(
            "There is nothing to train: choose a --preset (--preset gender/woman), describe your own concept "
            "(--target 'an old person' --neutral 'a person'), or give a recipe file."
        )
    values["concepts"] = [{**one, **own} for one in concepts]
    for name, flags in sections.items():
        if chosen := given(flags):
            values[name] = {**values.get(name, {}), **chosen}
    return Recipe.of(values)


def _name_of(values: Mapping[str, Any]) -> str:
    """The default name of a concept: the stem of the output file, without forbidden characters."""
    stem = Path(str(values.get("output", "concept"))).stem
    return "".join("_" if character in NAME_FORBIDS else character for character in stem).strip()


def assemble_evaluation(
    file: Path | None,
    *,
    top: Flags,
    variant: Flags,
    strengths: Sequence[float],
    guidance: Sequence[float],
    unsteered: bool | None,
    sections: Mapping[str, Flags],
) -> EvalRecipe:
    """The validated recipe. The flags `variant` are evaluated at each of the `strengths`, the unsteered model as well
    unless `unsteered` is False, and all of them at each of the scales in `guidance`. Raises RecipeError.
    """
    values = read_evaluation_toml(file) if file else {}
    own = _variants(given(variant), strengths, unsteered)
    if own and "variants" in values:
        raise RecipeError("The recipe defines variants: use those, or --adapter and --strength, not both.")
    if unsteered is not None and not own:
        raise RecipeError(
            "--unsteered and --no-unsteered go with --adapter: a recipe lists its variants, and without either the "
            "base model alone is evaluated."
        )
    if "protocol" not in {**values, **given(top)}:
        raise RecipeError(
            "There is nothing to measure: name a protocol (winobias, equisteer, i2p, coco or prompts), or a --recipe."
        )
    values |= given(top) | ({"variants": own} if own else {})
    check_tables(values, tuple(sections), ("variants",))
    if len(guidance) > 1:
        values["variants"] = _at_each_guidance(values.get("variants", [{"name": UNSTEERED}]), guidance)
    elif guidance:
        values["variants"] = [
            {**one, "guidance": guidance[0]} if "guidance" in one else one for one in values.get("variants", [])
        ] or [{"name": UNSTEERED}]
    for name, flags in sections.items():
        values[name] = {**values.get(name, {}), **given(flags)}
    if len(guidance) == 1:
        values["sampling"] = {**values.get("sampling", {}), "guidance": guidance[0]}
    values.setdefault("output", f"out/eval/{_run_name(values)}")
    return EvalRecipe.of(values)


def _variants(variant: dict[str, Any], strengths: Sequence[float], unsteered: bool | None) -> list[dict[str, Any]]:
    adapters: list[Path] = variant.get("adapters", [])
    if not adapters:
        if strengths or variant:
            raise RecipeError("--strength and other steering flags need an adapter: name one with --adapter.")
        return []
    name = variant.get("name") or " + ".join(path.stem for path in adapters)[:40].strip(" .")
    variants: list[dict[str, Any]] = [{"name": UNSTEERED}] if unsteered is not False else []
    for strength in strengths or [1.0]:
        label = name if len(strengths) < 2 else f"{name} at {strength:g}"
        variants.append({**variant, "name": label, "strength": strength})
    return variants


def _at_each_guidance(variants: Sequence[dict[str, Any]], guidance: Sequence[float]) -> list[dict[str, Any]]:
    """Every variant at every guidance scale."""

    def at(one: dict[str, Any], scale: float) -> dict[str, Any]:
        name = str(one.get("name", ""))[:_LONGEST]
        return {**one, "guidance": scale, **({"name": f"{name}{AT_GUIDANCE}{scale:g}"} if name else {})}

    return [at(one, scale) for scale in guidance for one in variants]


def _run_name(values: Mapping[str, Any]) -> str:
    """The default name of a run: the protocol, the base model and the first steered variant."""
    variants = [str(one.get("name", "")) for one in values.get("variants", []) if one.get("adapters")]
    variants = [name.partition(AT_GUIDANCE)[0] for name in variants]
    parts = [str(values["protocol"]), Path(str(values.get("base", "model"))).stem, *variants[:1]]
    return re.sub(r"[/ ]", "-", "-".join(parts))

"""Attaches a steering plan to a MODEL by patches and wrappers.

At the middle block the plan is added to its output just before the first output block uses it, after ControlNet's
residual and before FreeU: an `output_block_patch` at ("output", 0), first in the list. All hosts since 0.18 call it,
whereas older hosts would silently ignore a newer patch name. At cross-attention layers it is added to what the layer
adds: an `attn2_output_patch`, first in the list.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from functools import lru_cache
from typing import Any, Protocol

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ...respodiff_core.names import MIDDLE
from ...respodiff_core.sites import attention_site, size_at
from ...respodiff_core.steering.mask import Area
from ...respodiff_core.steering.steering import Group, Steering, per_image
from .sampling_run import (
    Opening,
    Run,
    areas_of_chunks,
    gates_of_chunks,
    guidance_of,
    opening,
    prompts_of_chunks,
    warn_once,
)

logger = logging.getLogger("respodiff")

_KEY = "respodiff"
_H_SPACE = ("output", 0)
_CACHED_SCALES = 4


def attach(model: ModelPatcher, steering: Steering) -> ModelPatcher:
    """A clone of the model that is steered by the plan. If the model already has a plan, both are merged into one.

    The input model is not modified. A plan without effect returns the input model itself.
    """
    if not steering.groups():
        return model
    patched = model.clone()
    options = patched.model_options.setdefault("transformer_options", {})
    patches = options.setdefault("patches", {})
    before = [patch for patch in patches.get("output_block_patch", []) if isinstance(patch, HSpacePatch)]
    for patch in before:
        steering = patch.steering + steering
    patch = HSpacePatch(steering)
    _put_first(patches, "output_block_patch", patch)
    _put_first(patches, "attn2_output_patch", LayerPatch(patch.groups))
    wrappers = options.setdefault("wrappers", {})
    wrappers.setdefault(WrappersMP.SAMPLER_SAMPLE, {})[_KEY] = [patch.sampler_sample]
    wrappers.setdefault(WrappersMP.CALC_COND_BATCH, {})[_KEY] = [_label_conditions]
    return patched


def _put_first(patches: dict[str, list], name: str, patch: HSpacePatch | LayerPatch) -> None:
    """Make the patch the first of its list, in place of one of its kind; a layer patch without layers is left out."""
    others = [one for one in patches.get(name, []) if not isinstance(one, type(patch))]
    is_needed = isinstance(patch, HSpacePatch) or patch.acts
    if is_needed or others or name in patches:
        patches[name] = [*([patch] if is_needed else []), *others]


class _Add(Protocol):
    """What a group adds to the rows of one condition, which cover this part of the image."""

    def __call__(self, group: Group, rows: torch.Tensor, area: Area) -> torch.Tensor: ...


def _steered(
    x: torch.Tensor, groups: Sequence[Group], run: Run | None, options: dict[str, Any], add: _Add
) -> torch.Tensor:
    """x (chunks * images, ...) with each group added to the chunks of its prompt. A new tensor, since x may also be
    used elsewhere (a skip connection).
    """
    prompts = prompts_of_chunks(run, options)
    areas = areas_of_chunks(run, options, len(prompts))
    for group in groups:
        chosen = [group.prompt == "both" or prompt in (group.prompt, "both") for prompt in prompts]
        if not any(chosen):
            continue
        at = opening(group.window, run, options)
        gates = gates_of_chunks(group.gate, run, options, len(areas))
        chunks = [
            _with(chunk, add(group, chunk, area), at, gate) if mine else chunk
            for chunk, area, mine, gate in zip(x.chunk(len(areas)), areas, chosen, gates, strict=True)
        ]
        x = chunks[0] if len(chunks) == 1 else torch.cat(chunks)
        if run is not None:
            run.acted.set()
    return x


def _with(rows: torch.Tensor, delta: torch.Tensor, at: Opening | None, gate: torch.Tensor | None) -> torch.Tensor:
    """The rows with delta added where window and gate are open."""
    steered = rows + delta if at is None else at.apply(rows, delta)
    return steered if gate is None else torch.where(per_image(gate, rows), steered, rows)


def _acting_at(site: str, groups: Sequence[Group]) -> tuple[Group, ...]:
    return tuple(group for group in groups if site in group.sites)


def _by_layer(groups: Sequence[Group]) -> dict[str, tuple[Group, ...]]:
    sites = {site for group in groups for site in group.sites} - {MIDDLE}
    return {site: _acting_at(site, groups) for site in sites}


class HSpacePatch:
    """Steers at the middle block. Immutable, so it can be shared by clones of a MODEL and by threads."""

    def __init__(self, steering: Steering):
        self.steering = steering
        self.groups = steering.groups()
        # Closures over plain values instead of bound methods, so that the cache does not keep the patch alive.
        groups = self.groups

        def groups_at(scale: float | None) -> tuple[Group, ...]:
            guided = steering.at_guidance(scale)
            return groups if guided is steering else guided.groups()

        self._groups_at = lru_cache(maxsize=_CACHED_SCALES)(groups_at)

    def __call__(
        self, h: torch.Tensor, hsp: torch.Tensor | None, transformer_options: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """ComfyUI's output_block_patch: h is (chunks * images, C, height, width), with one chunk per condition."""
        if transformer_options.get("block") != _H_SPACE:
            return h, hsp
        run = _run_in(transformer_options)
        groups = _acting_at(MIDDLE, self.groups if run is None else run.groups)
        sigmas = transformer_options.get("sigmas")

        def add(group: Group, rows: torch.Tensor, area: Area) -> torch.Tensor:
            return group.delta(rows, area, sigmas)

        return _steered(h, groups, run, transformer_options, add), hsp

    def sampler_sample(
        self,
        executor: Callable,
        guider: Any,
        sigmas: torch.Tensor,
        extra_args: dict,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """ComfyUI's SAMPLER_SAMPLE wrapper: computes once per run what does not change from step to step."""
        run = Run.begin(guider, self._groups_at(guidance_of(guider)), sigmas.device)
        options = extra_args["model_options"].setdefault("transformer_options", {})
        options["patches"] = _with_run(options.get("patches", {}), run)
        with _eager_if_compiled(guider.inner_model.diffusion_model, options):
            result = executor(guider, sigmas, extra_args, *args, **kwargs)
        if run.groups and not run.acted.is_set():
            logger.warning(
                "RespoDiff had no effect in this run: the model was not called with a prompt that it is set to steer."
            )
        return result


class LayerPatch:
    """Steers at cross-attention layers, in the given run if any. Immutable, like HSpacePatch."""

    def __init__(self, groups: Sequence[Group], run: Run | None = None):
        self._run = run
        self._groups = groups
        self._at = _by_layer(groups)

    @property
    def acts(self) -> bool:
        """Whether the plan has any cross-attention layers."""
        return bool(self._at)

    def within(self, run: Run) -> LayerPatch:
        """The same patch in this run."""
        bound = copy(self)
        bound._run = run
        if run.groups is not self._groups:
            bound._groups, bound._at = run.groups, _by_layer(run.groups)
        return bound

    def __call__(self, x: torch.Tensor, extra_options: dict[str, Any]) -> torch.Tensor:
        """ComfyUI's attn2_output_patch: x is (chunks * images, tokens, C), what the layer adds."""
        kind, number = extra_options.get("block", ("", 0))
        site = attention_site(kind, number, extra_options.get("block_index", 0))
        groups = self._at.get(site)
        if groups is None:
            return x
        sigmas = extra_options.get("sigmas")
        size = size_at(x.shape[1], *extra_options["original_shape"][-2:])

        def add(group: Group, rows: torch.Tensor, area: Area) -> torch.Tensor:
            return group.layer_delta(site, rows, size, sigmas, area)

        return _steered(x, groups, self._run, extra_options, add)


def _run_in(transformer_options: dict[str, Any]) -> Run | None:
    """The current run; None if the sampler is not one of ComfyUI's."""
    return next(iter(transformer_options.get("patches", {}).get(_KEY, ())), None)


def _with_run(patches: dict[str, list], run: Run) -> dict[str, list]:
    """A copy of the patches dictionary with this run in it.

    It is stored there because ComfyUI's transformer blocks pass on every other transformer option, and a compiled model
    would be guarded on these. Cross-attention patches do not get the dictionary, so they are bound to the run.
    """
    bound = [
        patch.within(run) if isinstance(patch, LayerPatch) else patch for patch in patches.get("attn2_output_patch", [])
    ]
    return {**patches, _KEY: [run], **({"attn2_output_patch": bound} if bound else {})}


def _eager_if_compiled(diffusion_model: torch.nn.Module, transformer_options: dict[str, Any]) -> Any:
    """A context in which a compiled model runs uncompiled.

    ComfyUI compiles without guards on transformer_options: code compiled before Steer was added would silently
    ignore every patch, and code compiled with it would fail once Steer is removed.
    """
    wrapped = "torch.compile" in transformer_options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {})
    if not (wrapped or hasattr(diffusion_model, "_orig_mod")) or not hasattr(torch.compiler, "set_stance"):
        return nullcontext()
    warn_once("a compiled model runs uncompiled while it is steered. Without steering it runs compiled as before.")
    return torch.compiler.set_stance("force_eager")


def _label_conditions(
    executor: Callable,
    model: Any,
    conds: list,
    x_in: torch.Tensor,
    timestep: torch.Tensor,
    model_options: dict,
) -> Any:
    """ComfyUI's CALC_COND_BATCH wrapper: records the prompt of each list of conditions for the patches."""
    options = model_options.get("transformer_options", {})
    run = _run_in(options)
    if run is not None:
        options = {**options, "patches": _with_run(options["patches"], run.labelled(conds, x_in))}
        model_options = {**model_options, "transformer_options": options}
    return executor(model, conds, x_in, timestep, model_options)

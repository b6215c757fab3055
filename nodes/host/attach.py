"""Attaches a steering plan to a MODEL: the only file that uses ModelPatcher and transformer_options.

The plan is added to the middle block's output just before the first output block uses it, after ControlNet's
residual and before FreeU: an `output_block_patch` at ("output", 0), first in the list. All hosts since 0.18
call it, whereas older hosts would silently ignore a newer patch name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from threading import Event
from typing import Any

import comfy.supported_models
import torch
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from ...respodiff_core.adapter.adapter import Adapter
from ...respodiff_core.adapter.compatibility import check_fits
from ...respodiff_core.errors import ModelMismatchError
from ...respodiff_core.plain_text import plain
from ...respodiff_core.steering.mask import WHOLE, Area
from ...respodiff_core.steering.steering import Group, Prompt, Steering, Window

logger = logging.getLogger("respodiff")

_KEY = "respodiff"
_H_SPACE = ("output", 0)


@dataclass(frozen=True)
class HSpace:
    """The h-space (bottleneck) of a UNet: the name of the model family, and the number of channels C."""

    family: str | None
    channels: int


def h_space_of(model: ModelPatcher) -> HSpace:
    """The model's h-space. Raises ModelMismatchError for models without one (Flux, SD3 ...)."""
    config = model.model.model_config
    unet = config.unet_config
    if "channel_mult" not in unet or "model_channels" not in unet or unet.get("use_temporal_resblock"):
        raise ModelMismatchError(
            f"This model ({type(config).__name__}) has no h-space: it is not an image UNet. RespoDiff steers "
            "Stable Diffusion 1.x, 2.x and SDXL models; connect one of those."
        )
    families = {
        "sd15": comfy.supported_models.SD15,
        "sd2": comfy.supported_models.SD20,
        "sdxl": comfy.supported_models.SDXL,
    }
    family = next((name for name, known in families.items() if isinstance(config, known)), None)
    return HSpace(family or type(config).__name__, unet["model_channels"] * unet["channel_mult"][-1])


def check(adapter: Adapter, model: ModelPatcher) -> None:
    """Raise ModelMismatchError unless the adapter fits the model: same family, same number of channels."""
    space = h_space_of(model)
    predicts = {ModelType.EPS: "epsilon", ModelType.V_PREDICTION: "v"}.get(model.model.model_type)
    warning = check_fits(adapter, family=space.family, channels=space.channels, prediction=predicts, model="this model")
    if warning:
        logger.warning("RespoDiff: %s", plain(warning))


def attach(model: ModelPatcher, steering: Steering) -> ModelPatcher:
    """A clone of the model that adds the plan to h. If the model already has a plan, both are merged into one patch.

    The input model is not modified. A plan without effect returns the input model itself.
    """
    if not steering.groups():
        return model
    patched = model.clone()
    options = patched.model_options.setdefault("transformer_options", {})
    patches = options.setdefault("patches", {})
    others = []
    for patch in patches.get("output_block_patch", []):
        if isinstance(patch, HSpacePatch):
            steering = patch.steering + steering
        else:
            others.append(patch)
    patch = HSpacePatch(steering)
    patches["output_block_patch"] = [patch, *others]
    wrappers = options.setdefault("wrappers", {})
    wrappers.setdefault(WrappersMP.SAMPLER_SAMPLE, {})[_KEY] = [patch.sampler_sample]
    wrappers.setdefault(WrappersMP.CALC_COND_BATCH, {})[_KEY] = [_label_conditions]
    return patched


@dataclass(frozen=True)
class _Span:
    """A window in sigmas: its start and end and, for a changing strength, the midpoints of 100 equal parts."""

    first: float
    last: float
    hundredths: torch.Tensor | None

    @classmethod
    def of(cls, window: Window, to_sigma: Callable[[float], float], device: torch.device) -> _Span:
        hundredths = None
        if window.curve != "constant":
            percents = (window.start + (window.end - window.start) * (i + 0.5) / 100 for i in range(100))
            hundredths = torch.tensor([float(to_sigma(percent)) for percent in percents], device=device)
        return cls(float(to_sigma(window.start)), float(to_sigma(window.end)), hundredths)


@dataclass(frozen=True)
class _Run:
    """One sampling run: its guider, its windows in sigmas, and whether any steering was applied.

    For the current call, `prompts` holds the prompt of each list of conditions, and `areas` the part of the image
    of each condition (by uuid). The run is stored in the patches dictionary: ComfyUI's transformer blocks pass on
    every other transformer option, and a compiled model would be guarded on these.
    """

    guider: Any
    spans: dict[Window, _Span]
    acted: Event = field(default_factory=Event)
    prompts: tuple[Prompt | None, ...] | None = None
    areas: dict[Any, Area] = field(default_factory=dict)

    @classmethod
    def of(cls, transformer_options: dict[str, Any]) -> _Run | None:
        """The current run; None if the sampler is not one of ComfyUI's."""
        return next(iter(transformer_options.get("patches", {}).get(_KEY, ())), None)

    def stored_in(self, patches: dict[str, list]) -> dict[str, list]:
        """A copy of the patches dictionary with this run in it."""
        return {**patches, _KEY: [self]}

    def labelled(self, conds: list[list[dict] | None], latent: torch.Tensor) -> _Run:
        """The run with the prompt of each list of conditions, in the order given to the model, and with the areas.

        A list is identified by being the same object as one of the guider's lists, in any order. A rebuilt list
        (context windows) is identified by the uuids of its conditions: the guider's smallest list that contains
        all of them is used, since areas are copied from one prompt's list into the other's.
        """
        conditions = [condition for own in conds for condition in own or ()]
        areas = {c["uuid"]: _area(c["area"], *latent.shape[-2:]) for c in conditions if "area" in c and "uuid" in c}
        named: dict[str, list[dict]] = getattr(self.guider, "conds", {})
        if "positive" not in named:
            return replace(self, areas=areas)
        prompts = tuple(None if own is None else _prompt_of(own, named) for own in conds)
        return replace(self, areas=areas, prompts=prompts)


def _area(area: tuple[int, ...], height: int, width: int) -> Area:
    """From ComfyUI's (height, width, y, x) in latent pixels, clipped to the latent as ComfyUI does."""
    high, wide, top, left = area
    return Area(top / height, left / width, min(high, height - top) / height, min(wide, width - left) / width)


def _prompt_of(conditions: list[dict], named: dict[str, list[dict]]) -> Prompt | None:
    for name, own in named.items():
        if own is conditions:
            return _role(name)
    uuids = {condition.get("uuid") for condition in conditions}
    holders = [(len(own), name) for name, own in named.items() if uuids <= {c.get("uuid") for c in own}]
    return _role(min(holders)[1]) if holders else None


def _role(name: str) -> Prompt:
    # The positive prompt is contrasted with DualCFG's middle prompt and PerpNeg's empty prompt.
    return "positive" if name == "positive" else "negative"


class HSpacePatch:
    """Adds a steering plan to h. Immutable, so it can be shared by clones of a MODEL and by threads."""

    def __init__(self, steering: Steering):
        self.steering = steering
        self._groups = steering.groups()

    def __call__(
        self, h: torch.Tensor, hsp: torch.Tensor | None, transformer_options: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """ComfyUI's output_block_patch: h is (chunks * images, C, height, width), with one chunk per condition."""
        if transformer_options.get("block") != _H_SPACE:
            return h, hsp
        run = _Run.of(transformer_options)
        prompts = _prompts_of_chunks(run, transformer_options)
        areas = _areas_of_chunks(run, transformer_options, len(prompts))
        for group in self._groups:
            chosen = [group.prompt == "both" or prompt in (group.prompt, "both") for prompt in prompts]
            if any(chosen):
                steered_in = [area if mine else None for area, mine in zip(areas, chosen, strict=True)]
                h = _add(h, group, steered_in, _opening(group.window, run, transformer_options))
                if run is not None:
                    run.acted.set()
        return h, hsp

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
        to_sigma = guider.inner_model.model_sampling.percent_to_sigma
        windows = {group.window for group in self._groups if not group.window.is_whole}
        run = _Run(guider, {window: _Span.of(window, to_sigma, sigmas.device) for window in windows})
        options = extra_args["model_options"].setdefault("transformer_options", {})
        options["patches"] = run.stored_in(options.get("patches", {}))
        with _eager_if_compiled(guider.inner_model.diffusion_model, options):
            result = executor(guider, sigmas, extra_args, *args, **kwargs)
        if not run.acted.is_set():
            logger.warning(
                "RespoDiff had no effect in this run: the model was not called with a prompt that it is set to steer."
            )
        return result


def _eager_if_compiled(diffusion_model: torch.nn.Module, transformer_options: dict[str, Any]) -> Any:
    """A context in which a compiled model runs uncompiled.

    ComfyUI compiles without guards on transformer_options: code compiled before Steer was added would silently
    ignore every patch, and code compiled with it would fail once Steer is removed.
    """
    wrapped = "torch.compile" in transformer_options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {})
    if not (wrapped or hasattr(diffusion_model, "_orig_mod")) or not hasattr(torch.compiler, "set_stance"):
        return nullcontext()
    _warn_once("a compiled model runs uncompiled while it is steered. Without steering it runs compiled as before.")
    return torch.compiler.set_stance("force_eager")


def _label_conditions(
    executor: Callable,
    model: Any,
    conds: list,
    x_in: torch.Tensor,
    timestep: torch.Tensor,
    model_options: dict,
) -> Any:
    """ComfyUI's CALC_COND_BATCH wrapper: records the prompt of each list of conditions for the patch."""
    options = model_options.get("transformer_options", {})
    run = _Run.of(options)
    if run is not None:
        options = {**options, "patches": run.labelled(conds, x_in).stored_in(options["patches"])}
        model_options = {**model_options, "transformer_options": options}
    return executor(model, conds, x_in, timestep, model_options)


def _prompts_of_chunks(run: _Run | None, transformer_options: dict[str, Any]) -> tuple[Prompt | None, ...]:
    """The prompt that each chunk of h's rows belongs to; None for a condition of neither prompt."""
    indices = transformer_options.get("cond_or_uncond")
    if not indices:
        _warn_once("the sampler does not report which rows belong to which prompt; all rows are steered.")
        return ("both",)
    if run is None or run.prompts is None:
        _warn_once("the sampler's guider does not name its prompts; the first one is treated as the positive prompt.")
        return tuple("positive" if index == 0 else "negative" for index in indices)
    return tuple(run.prompts[index] for index in indices)


def _areas_of_chunks(run: _Run | None, transformer_options: dict[str, Any], chunks: int) -> list[Area]:
    """The part of the image that each chunk of h's rows covers."""
    if run is None or not run.areas:
        return [WHOLE] * chunks
    return [run.areas.get(uuid, WHOLE) for uuid in transformer_options.get("uuids", [None] * chunks)]


@dataclass(frozen=True)
class _Opening:
    """A window at one step, per image, kept on the device: whether it is open, and the factor of the curve."""

    is_open: torch.Tensor
    factor: torch.Tensor | None


def _opening(window: Window, run: _Run | None, transformer_options: dict[str, Any]) -> _Opening | None:
    """The window at the current step; None if it is always open at full strength."""
    if window.is_whole:
        return None
    sigmas = transformer_options.get("sigmas")
    if run is None or sigmas is None:
        _warn_once("the sampler does not report its position in the schedule; start, end and curve are ignored.")
        return None
    span = run.spans[window]
    factor = None
    if span.hundredths is not None:
        passed = (sigmas[:, None] <= span.hundredths.to(sigmas.device)).mean(dim=1, dtype=torch.float32)
        factor = passed if window.curve == "fade in" else 1 - passed
    return _Opening((sigmas <= span.first) & (sigmas >= span.last), factor)


def _add(h: torch.Tensor, group: Group, areas: list[Area | None], opening: _Opening | None) -> torch.Tensor:
    """h with the group added to the chunks that have an area. A new tensor, since h may also be a skip connection."""
    chunks = [
        chunk if area is None else _add_rows(chunk, group, area, opening)
        for chunk, area in zip(h.chunk(len(areas)), areas, strict=True)
    ]
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks)


def _add_rows(rows: torch.Tensor, group: Group, area: Area, opening: _Opening | None) -> torch.Tensor:
    delta = group.delta(rows, area)
    if opening is None:
        return rows + delta
    if opening.factor is not None:
        delta = delta * opening.factor.to(rows)[:, None, None, None]
    return torch.where(opening.is_open.to(rows.device)[:, None, None, None], rows + delta, rows)


@cache
def _warn_once(text: str) -> None:
    logger.warning("RespoDiff: %s", text)

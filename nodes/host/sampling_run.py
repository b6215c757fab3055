"""What a steering patch needs to know of the sampling run it is called in: prompts, areas and windows.

ComfyUI tells patches which rows belong to which condition, but not which prompt a condition is of, nor where the
windows begin. Wrappers around the sampler and around each call of the model find that out, without reading the device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from threading import Event
from typing import Any

import torch

from ...respodiff_core.adapter.gate import Gate
from ...respodiff_core.steering.mask import WHOLE, Area
from ...respodiff_core.steering.steering import Group, Prompt, Window, per_image

logger = logging.getLogger("respodiff")


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
class Opening:
    """A window at one step, per image, kept on the device: whether it is open, and the factor of the curve."""

    is_open: torch.Tensor
    factor: torch.Tensor | None

    def apply(self, rows: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """The rows with delta added to the images for which the window is open."""
        if self.factor is not None:
            delta = delta * per_image(self.factor.to(rows), rows)
        return torch.where(per_image(self.is_open, rows), rows + delta, rows)


@dataclass(frozen=True)
class Run:
    """One sampling run: its guider, the groups of its plan, their windows in sigmas, and whether any steering acted.

    For the current call of the model, `prompts` holds the prompt of each list of conditions, and `areas` the part of
    the image of each condition (by uuid). `opened` keeps the windows at the current noise level, for all layers, and
    `decided` what the gates read in each condition, with the encoding that they read, for the whole run.
    """

    guider: Any
    groups: tuple[Group, ...]
    spans: dict[Window, _Span]
    acted: Event = field(default_factory=Event)
    prompts: tuple[Prompt | None, ...] | None = None
    areas: dict[Any, Area] = field(default_factory=dict)
    opened: dict[Window, tuple[torch.Tensor, Opening]] = field(default_factory=dict)
    decided: dict[tuple[Gate, Any], tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)

    @classmethod
    def begin(cls, guider: Any, groups: tuple[Group, ...], device: torch.device) -> Run:
        """The run that a guider begins."""
        to_sigma = guider.inner_model.model_sampling.percent_to_sigma
        windows = {group.window for group in groups if not group.window.is_whole}
        return cls(guider, groups, {window: _Span.of(window, to_sigma, device) for window in windows})

    @cached_property
    def gates(self) -> frozenset[Gate]:
        """The gates of the plan."""
        return frozenset(group.gate for group in self.groups if group.gate is not None)

    def labelled(self, conds: list[list[dict] | None], latent: torch.Tensor) -> Run:
        """The run with the prompt of each list of conditions, in the order given to the model, and with the areas.

        A list is identified by being the same object as one of the guider's lists, in any order. A rebuilt list
        (context windows) is identified by the uuids of its conditions: the guider's smallest list that contains
        all of them is used, since areas are copied from one prompt's list into the other's.
        """
        conditions = [condition for own in conds for condition in own or ()]
        for condition in conditions if self.gates else ():
            self._decide(condition, latent.device)
        areas = {c["uuid"]: _area(c["area"], *latent.shape[-2:]) for c in conditions if "area" in c and "uuid" in c}
        named: dict[str, list[dict]] = getattr(self.guider, "conds", {})
        if "positive" not in named:
            return replace(self, areas=areas, opened={})
        prompts = tuple(None if own is None else _prompt_of(own, named) for own in conds)
        return replace(self, areas=areas, prompts=prompts, opened={})

    def _decide(self, condition: dict[str, Any], device: torch.device) -> None:
        """Let the gates read a condition, unless they have in this run. Context windows give other rows of the encoding
        under the same uuid.
        """
        uuid, encoding = condition.get("uuid"), condition.get("model_conds", {}).get("c_crossattn")
        for gate in self.gates if encoding is not None else ():
            known = self.decided.get((gate, uuid))
            if known is None or known[0] is not encoding.cond:
                # On the sampler's device, since text encodings may be kept on another.
                self.decided[gate, uuid] = encoding.cond, gate.is_open(encoding.cond).to(device)


def guidance_of(guider: Any) -> float | None:
    """The guidance scale of the positive prompt; None if the guider does not tell."""
    scale = getattr(guider, "cfg", None)
    if hasattr(guider, "cfg1") and hasattr(guider, "cfg2"):  # DualCFGGuider
        scale = guider.cfg1 * guider.cfg2 if getattr(guider, "nested", False) else guider.cfg1
    return float(scale) if isinstance(scale, (int, float)) else None


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


def prompts_of_chunks(run: Run | None, transformer_options: dict[str, Any]) -> tuple[Prompt | None, ...]:
    """The prompt that each chunk of a tensor's rows belongs to; None for a condition of neither prompt."""
    indices = transformer_options.get("cond_or_uncond")
    if not indices:
        warn_once("the sampler does not report which rows belong to which prompt; all rows are steered.")
        return ("both",)
    if run is None or run.prompts is None:
        warn_once("the sampler's guider does not name its prompts; the first one is treated as the positive prompt.")
        return tuple("positive" if index == 0 else "negative" for index in indices)
    return tuple(run.prompts[index] for index in indices)


def areas_of_chunks(run: Run | None, transformer_options: dict[str, Any], chunks: int) -> list[Area]:
    """The part of the image that each chunk of a tensor's rows covers."""
    if run is None or not run.areas:
        return [WHOLE] * chunks
    return [run.areas.get(uuid, WHOLE) for uuid in transformer_options.get("uuids", [None] * chunks)]


def gates_of_chunks(
    gate: Gate | None, run: Run | None, transformer_options: dict[str, Any], chunks: int
) -> list[torch.Tensor | None]:
    """Whether a gate is open for each chunk of a tensor's rows: a value per row of its prompt, None if it has none."""
    if gate is None:
        return [None] * chunks
    if run is None:
        warn_once("the sampler is not one of ComfyUI's; gates are ignored.")
        return [None] * chunks
    decided = [run.decided.get((gate, uuid)) for uuid in transformer_options.get("uuids", [None] * chunks)]
    return [None if one is None else one[1] for one in decided]


def opening(window: Window, run: Run | None, transformer_options: dict[str, Any]) -> Opening | None:
    """The window at the current step; None if it is always open at full strength."""
    if window.is_whole:
        return None
    sigmas = transformer_options.get("sigmas")
    if run is None or sigmas is None:
        warn_once("the sampler does not report its position in the schedule; start, end and curve are ignored.")
        return None
    known = run.opened.get(window)
    if known is not None and known[0] is sigmas:
        return known[1]
    span = run.spans[window]
    factor = None
    if span.hundredths is not None:
        passed = (sigmas[:, None] <= span.hundredths.to(sigmas.device)).mean(dim=1, dtype=torch.float32)
        factor = passed if window.curve == "fade in" else 1 - passed
    found = Opening((sigmas <= span.first) & (sigmas >= span.last), factor)
    run.opened[window] = sigmas, found
    return found


@cache
def warn_once(text: str) -> None:
    """Log a warning the first time."""
    logger.warning("RespoDiff: %s", text)

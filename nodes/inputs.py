"""Connection types, and inputs and outputs shared by several nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.steering.fair_groups import FairGroup

AdapterType = io.Custom("RESPODIFF_ADAPTER")
GroupsType = io.Custom("RESPODIFF_GROUPS")
SweepType = io.Custom("RESPODIFF_SWEEP")
CATEGORY = "RespoDiff"


@dataclass(frozen=True)
class Groups:
    """The value of a GROUPS connection: groups, and the adapters that their concepts come from."""

    groups: tuple[FairGroup, ...]
    adapters: tuple[Adapter, ...]


def adapter_input(name: str = "adapter", tooltip: str = "From Load RespoDiff Adapter.", **more: bool) -> io.Input:
    return AdapterType.Input(name, tooltip=tooltip, **more)


def model_input() -> io.Input:
    return io.Model.Input(
        "model", tooltip="An SD1.x, SD2.x or SDXL model, before or after LoRA, FreeU and similar nodes."
    )


def clip_input() -> io.Input:
    return io.Clip.Input("clip", tooltip="The CLIP that encodes your prompts.")


def gate_input() -> io.Input:
    return io.Boolean.Input(
        "gate",
        default=False,
        optional=True,
        advanced=True,
        tooltip=(
            "Leave an image alone if its prompt already names a group of the axis, in whatever words the model "
            "understands. For contrast concepts of fairness, from RespoDiff Instant Concept or a file."
        ),
    )


def none_share_input(tooltip: str) -> io.Input:
    return io.Float.Input("none_share", default=0.0, min=0.0, max=1000.0, step=0.01, tooltip=tooltip)


def allocation_inputs() -> list[io.Input]:
    """How groups are assigned to images, and the seed of it."""
    return [
        io.Combo.Input(
            "allocation",
            options=["balanced", "random"],
            default="balanced",
            tooltip="balanced: quotas, exact over runs. random: independent draw per image, as in the paper.",
        ),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=0xFFFFFFFFFFFFFFFF,
            control_after_generate=io.ControlAfterGenerate.increment,
            tooltip=(
                "Seed of the assignment, not KSampler's seed. With increment (the default), the shares are met "
                "exactly over several runs."
            ),
        ),
    ]


def batch_inputs() -> list[io.Input]:
    """The number of images, or the latent that has it."""
    return [
        io.Int.Input(
            "batch_size",
            default=4,
            min=1,
            max=4096,
            tooltip="Batch size of the latent to be sampled. Ignored if latent is connected.",
        ),
        io.Latent.Input("latent", optional=True, tooltip="The latent to be sampled. Only its batch size is used."),
    ]


def model_output() -> io.Output:
    return io.Model.Output(tooltip="The steered model. The input model is not modified.")


def strength_slider(
    name: str,
    tooltip: str,
    *,
    default: float = 1.0,
    least: float = -2.0,
    step: float = 0.01,
    display_name: str | None = None,
    advanced: bool | None = None,
    optional: bool = False,
) -> io.Input:
    """A slider from `least` to 2. Values are rounded to `step`, so it can be dragged to exactly 0 and 1."""
    return io.Float.Input(
        name,
        display_name=display_name,
        default=default,
        min=least,
        max=2.0,
        step=step,
        round=step,
        display_mode=io.NumberDisplay.slider,
        tooltip=tooltip,
        advanced=advanced,
        optional=optional,
    )


def size_of(latent: dict[str, Any] | None) -> tuple[int, int] | None:
    """The (height, width) of a LATENT; None without one."""
    if latent is None:
        return None
    height, width = latent["samples"].shape[-2:]
    return height, width


def lines(text: str) -> list[str]:
    """The lines of a multiline input that are not empty, without spaces at their ends."""
    return [line for one in text.splitlines() if (line := one.strip())]

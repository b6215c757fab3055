"""Connection types, and the inputs and outputs that several nodes share."""

from __future__ import annotations

from comfy_api.latest import io

AdapterType = io.Custom("RESPODIFF_ADAPTER")
CATEGORY = "RespoDiff"


def adapter_input() -> io.Input:
    return AdapterType.Input("adapter", tooltip="From Load RespoDiff Adapter.")


def model_input() -> io.Input:
    return io.Model.Input("model", tooltip="An SD1.x, SD2.x or SDXL model, before or after LoRA, FreeU and the like.")


def model_output() -> io.Output:
    return io.Model.Output(tooltip="The steered model; the one that came in stays as it is.")


def strength_slider(
    name: str,
    tooltip: str,
    *,
    default: float = 1.0,
    least: float = -2.0,
    step: float = 0.01,
    display_name: str | None = None,
    advanced: bool | None = None,
) -> io.Input:
    """A slider up to 2 that keeps to its steps, so that it can be dragged to exactly 0 and 1."""
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
    )

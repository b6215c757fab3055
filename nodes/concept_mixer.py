"""Concept Mixer: choose a file, get one slider per concept."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..respodiff_core.adapter import AdapterHeader, read
from ..respodiff_core.errors import AdapterFileError
from ..respodiff_core.steering import Steering, Term
from . import attach, folder
from .types import CATEGORY

_FILE = "adapter"
# A concept may be called anything a dot does not split, so its slider's id gets a prefix of its own.
_SLIDER = "strength of "


class ConceptMixer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        options = [io.DynamicCombo.Option(name, _sliders(header)) for name, header in folder.headers().items()]
        return io.Schema(
            node_id="RespoDiffConceptMixer",
            display_name="RespoDiff Concept Mixer",
            category=CATEGORY,
            description=(
                "Loads an adapter and steers the model by all of its concepts, one slider each. At 0 a concept does "
                "nothing, and with all at 0 the model is passed on unchanged."
            ),
            search_aliases=["respodiff", "fairness", "safety", "bias", "debias", "concept sliders", "mixer"],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="An SD1.x, SD2.x or SDXL model, before or after LoRA, FreeU and the like.",
                ),
                io.DynamicCombo.Input(
                    _FILE,
                    options=options,
                    tooltip="A .safetensors adapter in models/respodiff. Press R after adding files.",
                ),
            ],
            outputs=[io.Model.Output(tooltip="The steered model; the one that came in stays as it is.")],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter: dict[str, Any] | None = None, **_: Any) -> str:
        return folder.fingerprint(adapter[_FILE]) if adapter else "missing"

    @classmethod
    def execute(cls, model: Any, adapter: dict[str, Any] | None = None) -> io.NodeOutput:
        if not adapter:
            raise AdapterFileError(
                "The adapter file this node was saved with is not in models/respodiff, or cannot be read (the log "
                "says why). Put it there and press R to refresh, or choose another."
            )
        strengths = {name.removeprefix(_SLIDER): value for name, value in adapter.items() if name.startswith(_SLIDER)}
        wanted = [name for name, strength in strengths.items() if strength]
        loaded = read(folder.resolve(adapter[_FILE]), wanted)
        attach.check(loaded, model)
        terms = (Term(loaded.concept(name), strengths[name], strengths[name]) for name in wanted)
        return io.NodeOutput(attach.attach(model, Steering(tuple(terms))))


def _sliders(header: AdapterHeader) -> list[io.Input]:
    return [
        io.Float.Input(
            _SLIDER + name,
            display_name=name,
            default=0.0,
            min=0.0 if concept.info.category == "safety" else -2.0,
            max=2.0,
            step=0.01,
            round=0.001,
            display_mode=io.NumberDisplay.slider,
            tooltip=f"Strength of {name!r}: 1 as trained, 0 not at all.",
        )
        for name, concept in header.concepts.items()
    ]

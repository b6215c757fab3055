"""Concept Mixer: choose a file, get one slider per concept."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..respodiff_core.adapter import AdapterHeader, peek, read
from ..respodiff_core.errors import AdapterFileError
from ..respodiff_core.steering import Steering, Term
from . import attach, folder
from .inputs import CATEGORY, model_input, model_output, strength_slider

_FILE = "adapter"
# A concept may be called anything a dot does not split, so its slider's id gets a prefix of its own.
_SLIDER = "strength of "
_CONCEPTS = "concepts"


class ConceptMixer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        options = [io.DynamicCombo.Option(name, _sliders(header)) for name, header in folder.headers().items()]
        options = options or [io.DynamicCombo.Option(folder.NO_FILE, [])]
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
                model_input(),
                io.DynamicCombo.Input(
                    _FILE,
                    options=options,
                    tooltip="A .safetensors adapter in models/respodiff. Reload the page after adding files.",
                ),
            ],
            outputs=[model_output()],
        )

    @classmethod
    def fingerprint_inputs(cls, adapter: dict[str, Any] | None = None, **_: Any) -> str:
        return folder.fingerprint(adapter[_FILE]) if adapter else "missing"

    @classmethod
    def execute(cls, model: Any, adapter: dict[str, Any] | None = None) -> io.NodeOutput:
        if not adapter:
            raise AdapterFileError(
                "The adapter file this node was saved with is not in models/respodiff, or cannot be read (the log "
                "says why). Put it there and reload the page, or choose another."
            )
        strengths = {name.removeprefix(_SLIDER): value for name, value in adapter.items() if name.startswith(_SLIDER)}
        path = folder.resolve(adapter[_FILE])
        _check_concepts(adapter[_FILE], adapter[_CONCEPTS], peek(path))
        wanted = [name for name, strength in strengths.items() if strength]
        loaded = read(path, wanted)
        attach.check(loaded, model)
        terms = (Term(loaded.concept(name), strengths[name], strengths[name]) for name in wanted)
        return io.NodeOutput(attach.attach(model, Steering(tuple(terms))))


def _check_concepts(file: str, saved: str, header: AdapterHeader) -> None:
    """Refuse values that were set for other concepts: the page restores them by position, not by name."""
    now = _listed(header)
    if saved != now:
        raise AdapterFileError(
            f"{file} holds other concepts ({now}) than when this node was set ({saved}), so its values may belong to "
            "others. Add the node anew, or choose another file and this one again, and set its sliders."
        )


def _listed(header: AdapterHeader) -> str:
    return " | ".join(header.concepts)


def _sliders(header: AdapterHeader) -> list[io.Input]:
    """First the concepts they are for, saved with the workflow, then one slider for each."""
    concepts = io.String.Input(
        _CONCEPTS,
        default=_listed(header),
        socketless=True,
        advanced=True,
        tooltip="What the sliders are for. Leave it: it tells when the file holds other concepts one day.",
    )
    strengths = [
        strength_slider(
            _SLIDER + name,
            f"Strength of {name!r}: 1 as trained, 0 not at all.",
            display_name=name,
            default=0.0,
            least=0.0 if concept.info.category == "safety" else -2.0,
            step=0.05,  # the node is so wide that a pixel is more than 0.01: 0 could not be dragged
        )
        for name, concept in header.concepts.items()
    ]
    return [concepts, *strengths]

"""One slider for each concept of the file chosen on the node: the code shared by Concept Mixer and Safety."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter, AdapterHeader, ConceptHeader, peek, read
from ..respodiff_core.errors import AdapterFileError
from ..respodiff_core.plain_text import plain
from ..respodiff_core.steering.steering import Steering, Term
from .host import adapter_folder as folder
from .host import attach, unet
from .inputs import strength_slider

FILE = "adapter"
NONE = "(none)"
# A concept may have any name without a dot, so the slider ids get a prefix to keep them distinct from other inputs.
_SLIDER = "strength of "
_CONCEPTS = "concepts"

Wanted = Callable[[ConceptHeader], bool]
"""Which concepts of a file get a slider."""


def file_input(wanted: Wanted, default: float) -> io.Input:
    """A list of the files with at least one wanted concept, and NONE. Choosing a file shows its sliders, set to
    `default`.
    """
    options = [
        io.DynamicCombo.Option(name, _sliders(header, wanted, default))
        for name, header in folder.headers().items()
        if any(map(wanted, header.concepts.values()))
    ]
    options.append(io.DynamicCombo.Option(NONE, []))
    return io.DynamicCombo.Input(
        FILE,
        options=options,
        tooltip="A .safetensors adapter in models/respodiff. Reload the page after adding a file.",
    )


class SliderNode(io.ComfyNode):
    """A node with a MODEL input and `file_input`. `wanted` selects the concepts of the file that get a slider."""

    @staticmethod
    def wanted(concept: ConceptHeader) -> bool:
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, adapter: dict[str, Any] | None = None, **_: Any) -> str:
        if adapter and adapter[FILE] == NONE:
            return NONE
        return folder.fingerprint(adapter[FILE]) if adapter else "missing"


def check_chosen(adapter: dict[str, Any] | None, computed: Adapter | None) -> None:
    """Raise AdapterFileError if a node has neither a file nor a connected adapter, and would do nothing."""
    if computed is None and adapter and adapter[FILE] == NONE:
        raise AdapterFileError(
            "This node has no concepts: choose an adapter file on it, or connect an adapter, such as that of RespoDiff "
            "Instant Concept."
        )


def steered(model: Any, adapter: dict[str, Any] | None, wanted: Wanted) -> Any:
    """The model, steered at the strengths set by the sliders; as it is without a file."""
    if adapter and adapter[FILE] == NONE:
        return model
    if not adapter:
        raise AdapterFileError(
            "The adapter file chosen on this node is not in models/respodiff, or cannot be read (see the log for the "
            "reason). Put the file there and reload the page, or choose another file."
        )
    strengths = {name.removeprefix(_SLIDER): value for name, value in adapter.items() if name.startswith(_SLIDER)}
    path = folder.resolve(adapter[FILE])
    _check_concepts(adapter[FILE], adapter.get(_CONCEPTS, ""), _listed(peek(path), wanted))
    named = [name for name, strength in strengths.items() if strength]
    loaded = read(path, named)
    unet.check(loaded, model)
    terms = (Term.of(loaded.concept(name), strengths[name]) for name in named)
    return attach.attach(model, Steering(tuple(terms)))


def _check_concepts(file: str, saved: str, now: str) -> None:
    """Refuse slider values set for other concepts: the page restores values by position, not by name."""
    if saved != now:
        raise AdapterFileError(
            f"{file} now contains other concepts ({now or 'none that this node steers'}) than when this node was set "
            f"up ({plain(saved, 100)}), so the slider values may belong to other concepts. Reload the page, "
            "replace this node with a new one and set its sliders."
        )


def _listed(header: AdapterHeader, wanted: Wanted) -> str:
    return " | ".join(name for name, concept in header.concepts.items() if wanted(concept))


def _sliders(header: AdapterHeader, wanted: Wanted, default: float) -> list[io.Input]:
    """The list of concepts, which is saved with the workflow, followed by one slider per concept."""
    concepts = io.String.Input(
        _CONCEPTS,
        default=_listed(header, wanted),
        socketless=True,
        advanced=True,
        tooltip="The concepts that the sliders belong to. Do not edit: used to detect that the file has changed.",
    )
    strengths = [
        strength_slider(
            _SLIDER + name,
            f"Strength of {name!r}. 1: the strength recommended by the file. 0: no effect.",
            display_name=name,
            default=default,
            least=0.0 if concept.info.category == "safety" else -2.0,
            step=0.05,  # at this node width one pixel is more than 0.01, so exactly 0 could not be reached by dragging
        )
        for name, concept in header.concepts.items()
        if wanted(concept)
    ]
    return [concepts, *strengths]

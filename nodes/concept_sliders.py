"""One slider per concept of a file that is chosen on the node: what Concept Mixer and Safety have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import AdapterHeader, ConceptHeader, peek, read
from ..respodiff_core.errors import AdapterFileError
from ..respodiff_core.plain_text import plain
from ..respodiff_core.steering.steering import Steering, Term
from .host import adapter_folder as folder
from .host import attach
from .inputs import strength_slider

FILE = "adapter"
# A concept may be called anything a dot does not split, so its slider's id gets a prefix of its own.
_SLIDER = "strength of "
_CONCEPTS = "concepts"

Wanted = Callable[[ConceptHeader], bool]
"""Which concepts of a file get a slider."""


def file_input(wanted: Wanted, default: float) -> io.Input:
    """The files that hold a wanted concept; choosing one shows its sliders, which begin at `default`."""
    options = [
        io.DynamicCombo.Option(name, _sliders(header, wanted, default))
        for name, header in folder.headers().items()
        if any(map(wanted, header.concepts.values()))
    ]
    return io.DynamicCombo.Input(
        FILE,
        options=options or [io.DynamicCombo.Option(folder.NO_FILE, [])],
        tooltip="A .safetensors adapter in models/respodiff. Reload the page after adding files.",
    )


class SliderNode(io.ComfyNode):
    """A node with a MODEL and `file_input`; `wanted` says which concepts of the file are its own."""

    @staticmethod
    def wanted(concept: ConceptHeader) -> bool:
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, adapter: dict[str, Any] | None = None, **_: Any) -> str:
        return folder.fingerprint(adapter[FILE]) if adapter else "missing"

    @classmethod
    def execute(cls, model: Any, adapter: dict[str, Any] | None = None) -> io.NodeOutput:
        return io.NodeOutput(_steered(model, adapter, cls.wanted))


def _steered(model: Any, adapter: dict[str, Any] | None, wanted: Wanted) -> Any:
    """The model, steered as the sliders say."""
    if not adapter:
        raise AdapterFileError(
            "The adapter file this node was saved with is not in models/respodiff, or cannot be read (the log "
            "says why). Put it there and reload the page, or choose another."
        )
    strengths = {name.removeprefix(_SLIDER): value for name, value in adapter.items() if name.startswith(_SLIDER)}
    path = folder.resolve(adapter[FILE])
    _check_concepts(adapter[FILE], adapter.get(_CONCEPTS, ""), _listed(peek(path), wanted))
    named = [name for name, strength in strengths.items() if strength]
    loaded = read(path, named)
    attach.check(loaded, model)
    terms = (Term.of(loaded.concept(name), strengths[name]) for name in named)
    return attach.attach(model, Steering(tuple(terms)))


def _check_concepts(file: str, saved: str, now: str) -> None:
    """Refuse values that were set for other concepts: the page restores them by position, not by name."""
    if saved != now:
        raise AdapterFileError(
            f"{file} holds other concepts ({now or 'none that this node steers'}) than when this node was set "
            f"({plain(saved, 100)}), so its values may belong to others. Add the node anew, or choose another file and "
            "this one again, and set its sliders."
        )


def _listed(header: AdapterHeader, wanted: Wanted) -> str:
    return " | ".join(name for name, concept in header.concepts.items() if wanted(concept))


def _sliders(header: AdapterHeader, wanted: Wanted, default: float) -> list[io.Input]:
    """First the concepts they are for, saved with the workflow, then one slider for each."""
    concepts = io.String.Input(
        _CONCEPTS,
        default=_listed(header, wanted),
        socketless=True,
        advanced=True,
        tooltip="What the sliders are for. Leave it: it tells when the file holds other concepts one day.",
    )
    strengths = [
        strength_slider(
            _SLIDER + name,
            f"Strength of {name!r}: 1 as the file recommends, 0 not at all.",
            display_name=name,
            default=default,
            least=0.0 if concept.info.category == "safety" else -2.0,
            step=0.05,  # the node is so wide that a pixel is more than 0.01: 0 could not be dragged
        )
        for name, concept in header.concepts.items()
        if wanted(concept)
    ]
    return [concepts, *strengths]

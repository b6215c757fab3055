"""A drop-down list to choose one concept of the connected adapter."""

from __future__ import annotations

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.adapter.concept import Concept
from ..respodiff_core.errors import UnknownConceptError
from ..respodiff_core.learning.presets import FOR_PHOTOS
from .host import adapter_folder as folder

# Always in the list, since adapters made in the graph are in no file.
_USUAL = tuple(name.rpartition("/")[2] for name in FOR_PHOTOS)
ONLY_CONCEPT = "(the only one)"


def concept_input(name: str = "concept", first: str = ONLY_CONCEPT, tooltip: str = "") -> io.Input:
    """A drop-down list of the concepts of all adapters: the connected adapter is known only when the graph runs.

    The node must name this input in `validate_inputs`, so that `chosen` reports a wrong value instead of ComfyUI.
    """
    return io.Combo.Input(
        name,
        options=[first, *sorted({*folder.concept_names(), *_USUAL})],
        default=first,
        tooltip=tooltip or "A concept of the connected adapter. The list has the usual ones and those of your files.",
    )


def chosen(adapter: Adapter, name: str) -> Concept:
    """The concept with that name. Raises UnknownConceptError, which lists the available concepts."""
    if name != ONLY_CONCEPT:
        return adapter.concept(name)
    if len(adapter.concepts) > 1:
        raise UnknownConceptError(
            f"{adapter.source} contains several concepts. Choose one of them: {', '.join(adapter.concepts)}."
        )
    return next(iter(adapter.concepts.values()))

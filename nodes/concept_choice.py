"""A drop-down that names one concept of the connected adapter."""

from __future__ import annotations

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.adapter.concept import Concept
from ..respodiff_core.errors import UnknownConceptError
from .host import adapter_folder as folder

ONLY_CONCEPT = "(the only one)"


def concept_input(name: str = "concept", first: str = ONLY_CONCEPT, tooltip: str = "") -> io.Input:
    """The concepts of all adapters there are; which the connected one holds is known only when the graph runs.

    The node must name the input in `validate_inputs`, so that `chosen` explains what is wrong instead of ComfyUI.
    """
    return io.Combo.Input(
        name,
        options=[first, *_known_concepts()],
        default=first,
        tooltip=tooltip or "A concept of the connected adapter; the list shows those of all adapters.",
    )


def chosen(adapter: Adapter, name: str) -> Concept:
    """The concept of that name. Raises UnknownConceptError, naming those there are."""
    if name != ONLY_CONCEPT:
        return adapter.concept(name)
    if len(adapter.concepts) > 1:
        raise UnknownConceptError(
            f"{adapter.source} holds several concepts, choose one: {', '.join(adapter.concepts)}."
        )
    return next(iter(adapter.concepts.values()))


def _known_concepts() -> list[str]:
    return sorted({name for header in folder.headers().values() for name in header.concepts})

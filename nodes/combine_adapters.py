"""Combine Adapters: merges two adapters into one, each at its own strength."""

from __future__ import annotations

from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter, merge
from ..respodiff_core.adapter.combine import as_one, scaled
from .inputs import CATEGORY, AdapterType, adapter_input, strength_slider


class CombineAdapters(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffCombineAdapters",
            display_name="Combine RespoDiff Adapters",
            category=CATEGORY,
            description=(
                "Merges two adapters into one, each at the strength set here. Their concepts are kept separate, or "
                "summed into one new concept. Chain nodes to merge more; Save RespoDiff Adapter writes the result."
            ),
            search_aliases=["respodiff", "merge adapters", "combine", "bake strength"],
            inputs=[
                adapter_input("adapter_a"),
                _strength("a"),
                _strength("b"),
                io.String.Input(
                    "as_one",
                    default="",
                    tooltip="Empty: concepts stay separate. Otherwise they are summed into one concept with this name.",
                ),
                adapter_input(
                    "adapter_b",
                    "The second adapter. If not connected, only adapter_a is scaled or summed.",
                    optional=True,
                ),
            ],
            outputs=[
                AdapterType.Output(
                    "ADAPTER", tooltip="The merged adapter, for Save RespoDiff Adapter, Steer and other nodes."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        adapter_a: Adapter,
        strength_a: float,
        strength_b: float,
        as_one: str,
        adapter_b: Adapter | None = None,
    ) -> io.NodeOutput:
        return io.NodeOutput(_combined(adapter_a, strength_a, adapter_b, strength_b, as_one.strip()))


def _strength(name: str) -> io.Input:
    return strength_slider(
        f"strength_{name}",
        f"How strong adapter_{name} is in the result: with 0.5, strength 1 of the result acts like 0.5 of "
        f"adapter_{name}.",
    )


def _combined(a: Adapter, strength_a: float, b: Adapter | None, strength_b: float, name: str) -> Adapter:
    parts = [scaled(a, strength_a)] + ([] if b is None else [scaled(b, strength_b)])
    return as_one(parts, name) if name else merge(parts)

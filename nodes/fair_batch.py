"""Fair Batch: assigns a group to every image of a batch, in one sampler call."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..respodiff_core.steering.fair_groups import Allocation, FairGroup, allocate, plan
from .host import attach, unet
from .inputs import (
    CATEGORY,
    Groups,
    GroupsType,
    allocation_inputs,
    batch_inputs,
    gate_input,
    model_input,
    model_output,
    none_share_input,
)

MOST_GROUPS = 64


class FairBatch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffFairBatch",
            display_name="RespoDiff Fair Batch",
            category=CATEGORY,
            description=(
                "Assigns a group to every image of a batch according to target shares, in one sampler call. Balanced "
                "matches the shares as closely as whole images allow, and exactly over consecutive seeds."
            ),
            search_aliases=["respodiff", "fairness", "bias", "debias", "diversity", "balanced batch", "quota"],
            inputs=[
                model_input(),
                io.Autogrow.Input(
                    "groups",
                    template=io.Autogrow.TemplatePrefix(
                        GroupsType.Input("group", tooltip="From Fair Group or Cross Groups."),
                        prefix="group",
                        min=1,
                        max=MOST_GROUPS,
                    ),
                    tooltip="Groups from Fair Group or Cross Groups. Each connection adds another input.",
                ),
                none_share_input(
                    "Share of unsteered images, relative to the groups: with two groups of share 1, a value of 1 "
                    "leaves one third of the images unsteered."
                ),
                *allocation_inputs(),
                *batch_inputs(),
                gate_input(),
            ],
            outputs=[
                model_output(),
                io.String.Output(
                    "NAMES",
                    is_output_list=True,
                    tooltip=(
                        "The group of each image, as a list ('none' if unsteered). Not for Grid, Bias Meter or Save "
                        "RespoDiff Images: use TEXT."
                    ),
                ),
                io.String.Output(
                    "TEXT",
                    tooltip=(
                        "The same names as text, one line per image. For Grid, Bias Meter and Save RespoDiff Images."
                    ),
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        groups: io.Autogrow.Type,
        none_share: float,
        allocation: Allocation,
        seed: int,
        batch_size: int,
        latent: dict[str, Any] | None = None,
        gate: bool = False,
    ) -> io.NodeOutput:
        connected: list[Groups] = [one for one in groups.values() if one is not None]
        for adapter in (adapter for one in connected for adapter in one.adapters):
            unet.check(adapter, model)
        choices = [group.with_gates() if gate else group for one in connected for group in one.groups]
        if choices and none_share:
            choices.append(FairGroup.unsteered(none_share))
        images = batch_size if latent is None else len(latent["samples"])
        given = allocate(choices, images, seed, allocation)
        names = [group.name for group in given]
        return io.NodeOutput(attach.attach(model, plan(given)), names, "\n".join(names))

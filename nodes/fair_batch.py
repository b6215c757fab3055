"""Fair Batch: every image of a batch gets its own group, in one sampler call."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..respodiff_core.steering.fair_groups import Allocation, FairGroup, allocate, plan
from .host import attach
from .inputs import CATEGORY, Groups, GroupsType, model_input, model_output

MOST_GROUPS = 64


class FairBatch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffFairBatch",
            display_name="RespoDiff Fair Batch",
            category=CATEGORY,
            description=(
                "Gives every image of a batch a group of its own, by target shares, in one sampler call. Balanced "
                "meets the shares in each batch as near as whole images allow, and exactly over consecutive seeds."
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
                    tooltip="Groups from Fair Group or Cross Groups; a free input appears with each that is connected.",
                ),
                io.Float.Input(
                    "none_share",
                    default=0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    tooltip="The share of images that no group steers, in proportion to the groups' shares.",
                ),
                io.Combo.Input(
                    "allocation",
                    options=["balanced", "random"],
                    default="balanced",
                    tooltip="Balanced: quotas, exact over runs. Random: each image drawn by itself, as in the paper.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=io.ControlAfterGenerate.increment,
                    tooltip="Which image gets which group. Let it increment, and the shares are met over runs too.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=4,
                    min=1,
                    max=4096,
                    tooltip="The batch size of the latent that is sampled. Passed over if latent is connected.",
                ),
                io.Latent.Input("latent", optional=True, tooltip="The latent to be sampled, for its batch size."),
            ],
            outputs=[
                model_output(),
                io.String.Output(
                    "NAMES", is_output_list=True, tooltip="The group of each image, as a list ('none' if unsteered)."
                ),
                io.String.Output("TEXT", tooltip="The same as text, a line for each image: for Grid and Save Images."),
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
    ) -> io.NodeOutput:
        connected: list[Groups] = [one for one in groups.values() if one is not None]
        for adapter in (adapter for one in connected for adapter in one.adapters):
            attach.check(adapter, model)
        choices = [group for one in connected for group in one.groups]
        if choices and none_share:
            choices.append(FairGroup.unsteered(none_share))
        images = batch_size if latent is None else len(latent["samples"])
        given = allocate(choices, images, seed, allocation)
        names = [group.name for group in given]
        return io.NodeOutput(attach.attach(model, plan(given)), names, "\n".join(names))

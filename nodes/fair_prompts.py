"""Fair Prompts: names a group in the prompt of every image of a batch, for every model family."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..respodiff_core.errors import RespoDiffError
from ..respodiff_core.steering.fair_groups import Allocation
from ..respodiff_core.steering.group_prompts import groups_of, image_prompts
from .host import node_text
from .host.image_conditions import per_image
from .inputs import CATEGORY, allocation_inputs, batch_inputs, none_share_input


class FairPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffFairPrompts",
            display_name="RespoDiff Fair Prompts",
            category=CATEGORY,
            description=(
                "Encodes a prompt for a batch and names a group for each image by target shares: 'a photo of a doctor' "
                "becomes 'a photo of a female doctor' and 'a photo of a male doctor'. Works with every model that has "
                "a text encoder, such as Qwen-Image, Z-Image, Flux, Wan and Stable Diffusion, and changes no model."
            ),
            search_aliases=["respodiff", "fairness", "bias", "debias", "diversity", "prompt", "flux", "qwen", "quota"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP of your model, as for CLIP Text Encode."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a photo of a doctor",
                    tooltip=(
                        "The prompt that leaves the group open. {} marks where the words of the group go; without it "
                        "they go before the person. Leave it empty if each line of groups is a whole prompt."
                    ),
                ),
                io.String.Input(
                    "groups",
                    multiline=True,
                    default="female\nmale",
                    tooltip="One group per line: its words, as 'female', 'woman: female', or 'woman: female = 2'.",
                ),
                none_share_input("Share of images whose prompt is left as it is, relative to the groups."),
                *allocation_inputs(),
                *batch_inputs(),
                io.Boolean.Input(
                    "guard",
                    default=True,
                    optional=True,
                    advanced=True,
                    tooltip=(
                        "Leave a prompt alone that names a group itself ('a male doctor'), shows no person, or is not "
                        "English. Not used with {} in the prompt."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output(tooltip="A row per image, for the positive input of the sampler."),
                io.String.Output(
                    "NAMES",
                    is_output_list=True,
                    tooltip="The group of each image, as a list ('none' if it names none).",
                ),
                io.String.Output(
                    "TEXT",
                    tooltip="The same names as text, a line per image. For Grid, Bias Meter and Save RespoDiff Images.",
                ),
                io.String.Output("PROMPTS", tooltip="The prompt of each image, one line per image."),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip: Any,
        prompt: str,
        groups: str,
        none_share: float,
        allocation: Allocation,
        seed: int,
        batch_size: int,
        latent: dict[str, Any] | None = None,
        guard: bool = True,
    ) -> io.NodeOutput:
        if clip is None:
            raise RespoDiffError("clip is empty: the checkpoint has no text encoder. Load one with Load CLIP.")
        images = batch_size if latent is None else len(latent["samples"])
        given, reason = image_prompts(
            prompt, groups_of(groups), images, seed, allocation, none_share=none_share, guarded=guard
        )
        node_text.show(cls.hidden.unique_id, reason and f"The prompt is left as it is: {reason}")
        # Each distinct text is encoded once.
        encoded = {
            text: clip.encode_from_tokens_scheduled(clip.tokenize(text))
            for text in dict.fromkeys(one.text for one in given)
        }
        conditioning = per_image([encoded[one.text] for one in given])
        names = [one.group for one in given]
        return io.NodeOutput(conditioning, names, "\n".join(names), "\n".join(_line(one.text) for one in given))


def _line(text: str) -> str:
    return " ".join(text.split())

"""Instant Concept: computes an adapter from contrasting prompts, on the model as it is loaded."""

from __future__ import annotations

from typing import Any

import torch
from comfy import model_management
from comfy.utils import ProgressBar
from comfy_api.latest import io

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.errors import ContrastError
from ..respodiff_core.learning.contrast import ContrastFit
from ..respodiff_core.learning.contrast_presets import CONTRASTS
from ..respodiff_core.learning.contrast_settings import ContrastSettings
from ..respodiff_core.names import Category
from .host.denoiser import HostDenoiser
from .host.unet import family_of, prediction_of
from .inputs import CATEGORY, AdapterType, clip_input, lines, model_input, size_of

_GENDER = CONTRASTS["gender"]


class InstantConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffInstantConcept",
            display_name="RespoDiff Instant Concept",
            category=CATEGORY,
            description=(
                "Makes an adapter without training: it compares what the loaded model does for the words of each group "
                "with what it does for the neutral words. Takes about as long as some dozens of images, and runs again "
                "only when an input changes. Connect it wherever Load RespoDiff Adapter fits; Save RespoDiff Adapter "
                "keeps the result."
            ),
            search_aliases=["respodiff", "concept slider", "fairness", "debias", "contrast", "no training"],
            inputs=[
                model_input(),
                clip_input(),
                io.String.Input(
                    "groups",
                    multiline=True,
                    default="\n".join(f"{name}: {words}" for name, words in _GENDER["groups"].items()),
                    tooltip=(
                        "One group per line, as 'name: words'. The words replace the neutral words. Several groups are "
                        "exchanged for each other; a single one is added to the image, or removed if it is a safety "
                        "concept."
                    ),
                ),
                io.String.Input(
                    "neutral", default="a person", tooltip="Words that leave open which group it is, such as a person."
                ),
                io.String.Input(
                    "contexts",
                    multiline=True,
                    default="\n".join(_GENDER["contexts"]),
                    tooltip=(
                        "One prompt per line, with {} in place of the words. Use several that differ from each other, "
                        "about what you draw; they take time in proportion."
                    ),
                ),
                io.String.Input(
                    "axis",
                    default="gender",
                    tooltip="What the groups differ in. Prompt Guard and Fair Batch go by it.",
                ),
                io.Combo.Input(
                    "category",
                    options=["fairness", "safety", "other"],
                    default="fairness",
                    tooltip="safety: steers away from the groups' words, and refuses negative strengths.",
                ),
                io.Int.Input(
                    "seeds",
                    default=2,
                    min=1,
                    max=64,
                    advanced=True,
                    tooltip="Start noises in each context. More are more exact and take more time.",
                ),
                io.Int.Input(
                    "steps", default=20, min=2, max=200, advanced=True, tooltip="Sampling steps in each context."
                ),
                # Not "seed", which the page would change at every run.
                io.Int.Input(
                    "first_seed", default=0, min=0, max=2**32, advanced=True, tooltip="Seed of the first start noise."
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="A latent of the size to compute at. Not needed: the result fits every size.",
                ),
            ],
            outputs=[
                AdapterType.Output(
                    "ADAPTER", tooltip="The adapter, for Steer, Fair Group, Inspect, Save RespoDiff Adapter and others."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        groups: str,
        neutral: str,
        contexts: str,
        axis: str,
        category: Category,
        seeds: int = 2,
        steps: int = 20,
        first_seed: int = 0,
        latent: dict[str, torch.Tensor] | None = None,
    ) -> io.NodeOutput:
        try:
            settings = ContrastSettings(
                groups=_groups(groups),
                neutral=neutral.strip(),
                contexts=tuple(lines(contexts)),
                axis=axis.strip(),
                category=category,
                seeds=seeds,
                seed=first_seed,
                schedule_steps=steps,
            )
        except ValueError as error:
            raise ContrastError(f"The groups cannot be contrasted: {error}.") from None
        denoiser = HostDenoiser(model, size_of(latent))
        fit = ContrastFit(
            denoiser,
            denoiser.alphas_cumprod,
            settings,
            lambda prompts: denoiser.encode_prompts(clip, prompts),
            latent=denoiser.latent,
            device=denoiser.device,
        )
        bar = ProgressBar(fit.steps)
        with denoiser.loaded(fit.rows):
            for _ in fit:
                model_management.throw_exception_if_processing_interrupted()
                bar.update(1)
            concepts = {concept.name: concept for concept in fit.finished()}
        return io.NodeOutput(Adapter(family_of(model), concepts, prediction_of(model), source="Instant Concept"))


def _groups(text: str) -> dict[str, str]:
    """The words of each group by its name; a line without a name is its own. Raises ContrastError."""
    groups: dict[str, str] = {}
    for line in lines(text):
        name, found, words = (part.strip() for part in line.partition(":"))
        if name in groups:
            raise ContrastError(f"The group {name!r} is listed twice: give each group its own name.")
        groups[name] = words if found else name
    return groups

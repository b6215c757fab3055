"""Train Concept: trains a concept by RespoDiff's method, on the model as it is loaded."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timezone
from typing import Any

import torch
from comfy_api.latest import io
from PIL import Image

from ..respodiff_core.adapter.adapter import Adapter
from ..respodiff_core.adapter.concept import ModuleConcept
from ..respodiff_core.errors import RespoDiffError, UnknownConceptError
from ..respodiff_core.learning.fit import Fit, concept_prompts
from ..respodiff_core.learning.presets import FOR_PHOTOS, preset
from ..respodiff_core.learning.settings import ConceptSettings, TrainingSettings
from .host.base_file import base_facts
from .host.denoiser import HostDenoiser
from .host.training_preview import STRENGTHS, TrainingPreview
from .host.training_run import Watch, train
from .host.unet import family_of, prediction_of
from .inputs import CATEGORY, AdapterType, adapter_input, clip_input, lines, model_input, size_of
from .pictures import loss_curve
from .pictures.drawing import from_image
from .pictures.grid_picture import with_labels

OWN_WORDS = "(own words)"
_CONCEPT = "concept"


class TrainConcept(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="RespoDiffTrainConcept",
            display_name="RespoDiff Train Concept",
            category=CATEGORY,
            description=(
                "Trains a concept on the loaded model, with its LoRAs, by the method of the RespoDiff paper. Takes as "
                "long as some thousands of images, and needs a GPU for Stable Diffusion. An interrupted training is "
                "saved; queue again to go on. RespoDiff Instant Concept needs no training."
            ),
            search_aliases=["respodiff", "train", "training", "fairness", "safety", "debias", "concept slider"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                model_input(),
                clip_input(),
                io.DynamicCombo.Input(
                    _CONCEPT,
                    options=[
                        *(io.DynamicCombo.Option(name, []) for name in FOR_PHOTOS),
                        io.DynamicCombo.Option(OWN_WORDS, _own_words()),
                    ],
                    tooltip="A concept with the paper's prompts and learning rates, or your own words.",
                ),
                io.Int.Input(
                    "steps",
                    default=1200,
                    min=1,
                    max=100_000,
                    tooltip="Training steps. More can be added later: a finished training goes on where it ended.",
                ),
                # Not "seed", which the page would change at every run.
                io.Int.Input(
                    "training_seed", default=0, min=0, max=2**32, advanced=True, tooltip="Seed of all random numbers."
                ),
                io.Int.Input(
                    "batch_size",
                    default=4,
                    min=1,
                    max=64,
                    advanced=True,
                    tooltip="Samples per step. Fewer need less memory.",
                ),
                io.Combo.Input(
                    "checkpointing",
                    options=["auto", "on", "off"],
                    default="auto",
                    advanced=True,
                    tooltip=("Gradient checkpointing: a third slower, with far less memory. auto: if memory is short."),
                ),
                io.String.Input(
                    "preview_prompt", default="a photo of a doctor", tooltip="Prompt of the preview images."
                ),
                io.Int.Input(
                    "preview_every",
                    default=100,
                    min=0,
                    max=100_000,
                    advanced=True,
                    tooltip="Steps between previews on the node. 0: only the one at the end.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="A latent of the size to train at. Not connected: the native size of the model.",
                ),
                io.Vae.Input(
                    "vae", optional=True, tooltip="Decodes the previews. Not connected: rough, small previews."
                ),
                adapter_input(
                    "start_from",
                    "An adapter with a trained concept to start from, by the same name or the only one.",
                    optional=True,
                ),
            ],
            outputs=[
                AdapterType.Output("ADAPTER", tooltip="The trained adapter, also for Save RespoDiff Adapter."),
                io.Image.Output("LOSS", tooltip="The losses of RAM and SAM over the steps."),
                io.Image.Output("PREVIEW", tooltip="The preview prompt at strength 0, 0.5 and 1, with the same seed."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        concept: dict[str, Any],
        steps: int,
        training_seed: int = 0,
        batch_size: int = 4,
        checkpointing: str = "auto",
        preview_prompt: str = "",
        preview_every: int = 100,
        latent: dict[str, torch.Tensor] | None = None,
        vae: Any | None = None,
        start_from: Adapter | None = None,
    ) -> io.NodeOutput:
        settings = _settings(concept, steps)
        training = TrainingSettings(batch=batch_size, seed=training_seed)
        start = None if start_from is None else _start(start_from, settings.name)
        denoiser = HostDenoiser(model, size_of(latent))
        preview = TrainingPreview(denoiser, denoiser.encode_prompts(clip, ["", preview_prompt]), vae)

        def sheet(trained: ModuleConcept) -> torch.Tensor:
            labels = [f"strength {strength:g}" for strength in STRENGTHS]
            return with_labels(preview.images(trained), labels, columns=len(STRENGTHS))

        def shown(trained: ModuleConcept) -> Image.Image:
            return from_image(sheet(trained)[0])

        prompts = concept_prompts(settings, lambda texts: denoiser.encode_prompts(clip, texts))
        with denoiser.loaded_to_train(batch_size, checkpointing), torch.inference_mode(False):
            fit = Fit(
                denoiser,
                denoiser.alphas_cumprod,
                settings,
                prompts,
                training if start is None else replace(training, kind=start.ram.kind),
                latent=denoiser.latent,
                device=denoiser.device,
            )
            if start is not None:
                fit.learner.start_from(start.ram, start.sam)
            losses = train(fit, denoiser, Watch(cls.hidden.unique_id, shown, preview_every))
            facts = {"precision": str(denoiser.dtype).removeprefix("torch."), "tool": "RespoDiff Train Concept"}
            trained = fit.finished(**base_facts(model), **facts)
            image = sheet(trained)
        adapter = Adapter(
            family_of(model),
            {trained.name: trained},
            prediction_of(model),
            {"modelspec.date": datetime.now(timezone.utc).strftime("%Y-%m-%d")},
            source="Train Concept",
        )
        return io.NodeOutput(adapter, loss_curve.draw(losses, f"Losses of {trained.name!r}"), image)


def _own_words() -> list[io.Input]:
    """The inputs that describe a concept without a preset."""
    rates = {setting.name: setting for setting in fields(ConceptSettings)}
    return [
        io.String.Input("name", default="curly hair", tooltip="Name of the concept."),
        io.String.Input(
            "target",
            default="a person with curly hair",
            tooltip="Prompt to steer towards. Leave it empty for a safety concept.",
        ),
        io.String.Input(
            "neutral",
            multiline=True,
            default="a person",
            tooltip="Prompts that are steered in training, one per line: an ordinary image without the concept.",
        ),
        io.String.Input("negative", default="", tooltip="Prompt to steer away from, such as violence."),
        io.String.Input(
            "axis", default="", tooltip="What the group belongs to, such as age. Prompt Guard and Fair Batch go by it."
        ),
        *(
            io.Float.Input(
                name, default=rates[name].default, min=least, max=1.0, step=1e-6, advanced=True, tooltip=tooltip
            )
            for name, least, tooltip in (
                ("ram_rate", 1e-6, "Learning rate of RAM, which brings in the concept."),
                ("sam_rate", 0.0, "Learning rate of SAM, which keeps the rest of the image. Too high, it undoes RAM."),
            )
        ),
        io.Float.Input(
            "guidance",
            default=0.0,
            min=0.0,
            max=100.0,
            step=0.1,
            advanced=True,
            tooltip="Guidance scale of what is learned. 0: 4, and 12 for a safety concept.",
        ),
    ]


def _settings(chosen: dict[str, Any], steps: int) -> ConceptSettings:
    """The concept of the preset, or of the own words. Raises RespoDiffError."""
    name = chosen[_CONCEPT]
    if name != OWN_WORDS:
        return preset(name, steps=steps)
    try:
        return ConceptSettings(
            name=chosen["name"].strip(),
            target=chosen["target"].strip(),
            neutral=tuple(lines(chosen["neutral"])),
            negative=chosen["negative"].strip(),
            axis=chosen["axis"].strip(),
            ram_rate=chosen["ram_rate"],
            sam_rate=chosen["sam_rate"],
            steps=steps,
            **({"guidance": chosen["guidance"]} if chosen["guidance"] else {}),
        )
    except ValueError as error:
        if isinstance(error, RespoDiffError):
            raise
        raise RespoDiffError(f"The concept cannot be trained: {error}.") from None


def _start(adapter: Adapter, name: str) -> ModuleConcept:
    """The concept to start from: of the same name, or the only one. Raises UnknownConceptError."""
    concepts = adapter.concepts
    found = concepts.get(name) or (next(iter(concepts.values())) if len(concepts) == 1 else adapter.concept(name))
    if not isinstance(found, ModuleConcept):
        raise UnknownConceptError(
            f"{found.name!r} of {adapter.source} was computed, not trained, so it has no RAM and SAM to start from. "
            "Connect an adapter of RespoDiff Train Concept or of the command line's training."
        )
    return found

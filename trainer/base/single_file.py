"""A base model in one safetensors checkpoint with the original (LDM) tensor names, or with its parts in several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from transformers import CLIPTokenizer

from . import layout
from .autoencoder import Autoencoder
from .base_model_error import BaseModelError
from .conventions import conventions_of
from .networks import Network, unet_trial, unusual
from .refusals import FIRST, UNET, no_text_encoder, refuse_other_files
from .tensor_files import Part, TensorFiles
from .text import clip_tokenizer
from .text_encoder import TextEncoder, is_text_encoder
from .unet_denoiser import Prediction

_VAE = ("first_stage_model.", "vae.")
_TEXT = {
    "sd15": (("cond_stage_model.transformer.", "cond_stage_model."),),
    "sd2": (("cond_stage_model.model.", "conditioner.embedders.0.model.", "cond_stage_model.transformer."),),
    "sdxl": (
        ("conditioner.embedders.0.transformer.", "conditioner.embedders.0.model."),
        ("conditioner.embedders.1.model.", "conditioner.embedders.1.transformer."),
    ),
}
_WIDTHS = {"sd15": (768,), "sd2": (1024,), "sdxl": (768, 1280)}
_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v": "v"}
_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}

# Stable Diffusion 2 predicts v if the standard deviation of these biases is above 0.09. ComfyUI uses the same test, so
# that both agree about a file.
_V_BIASES = "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_V_DEVIATION = 0.09
_V_LATENT = 96  # Stable Diffusion 2 models that predict v were trained at 768 pixels
# The embedding of the guidance scale in distilled models, which ComfyUI leaves out too.
_GUIDANCE = "time_embed.cond_proj."


class SingleFile:
    """The parts of a base model: names and shapes are checked at once, the numbers of each part are read on demand.

    `text_encoders` and `vae` are files for a UNet without them, and replace those of a checkpoint. Raises
    BaseModelError for any other file.
    """

    def __init__(self, path: Path, text_encoders: Sequence[Path] = (), vae: Path | None = None) -> None:
        self.name = path.stem
        self.weights: tuple[Path, ...] = (path,)
        self._files = TensorFiles([path], path.name)
        names = self._files.shapes
        refuse_other_files(path.name, names, self._files.metadata, is_alone=not text_encoders)
        unet = self._files.below(UNET) if UNET + FIRST in names else self._files.below("")
        self.is_distilled = any(name.startswith(_GUIDANCE) for name in unet.shapes)
        self._unet = unet.without(_GUIDANCE)
        self.dtypes = self._unet.dtypes
        self._unet_name = f"The UNet in {path.name}"
        try:
            self.unet_config = layout.unet_config(self._unet.shapes)
        except (BaseModelError, KeyError, IndexError, ValueError) as error:
            raise unusual(self._unet_name, error) from error
        self.conventions = conventions_of(self.unet_config, path.name)
        if self.conventions.family not in _TEXT:
            raise BaseModelError(
                f"{path.name} contains a UNet of the family {self.conventions.family}, which is only loaded from a "
                f"diffusers folder: name the folder, or the built-in {self.conventions.family!r}."
            )
        self._network = self._unet_network(self._unet.on_meta())
        self.texts = self._find_texts(text_encoders)
        self._vae_part, self._vae_file = self._find_vae(vae)

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """A scheduler config with the noise schedule; a tensor "ztsnr" marks zero terminal SNR."""
        return {**_SCHEDULE, "rescale_betas_zero_snr": "ztsnr" in self._files.shapes}

    @property
    def prediction(self) -> Prediction:
        """What the UNet predicts, from a tensor "v_pred", the metadata or else the weights."""
        if "v_pred" in self._files.shapes:
            return "v"
        metadata = self._files.metadata
        declared = metadata.get("modelspec.prediction_type")
        if declared in _PREDICTIONS:
            return _PREDICTIONS[declared]
        if self.conventions.family != "sd2":
            return "epsilon"
        # "stable-diffusion-v2-768-v" or "stable-diffusion-v2-512", possibly with a suffix after a slash.
        architecture = metadata.get("modelspec.architecture", "").split("/")[0]
        if architecture.startswith("stable-diffusion-v2-"):
            return "v" if architecture.endswith("-v") else "epsilon"
        biases = self._unet.only(_V_BIASES).read(torch.float32)
        return "v" if biases and biases[_V_BIASES].std(correction=0) > _V_DEVIATION else "epsilon"

    @property
    def latent_size(self) -> tuple[int, int]:
        """Native height and width of latents."""
        size = _V_LATENT if (self.conventions.family, self.prediction) == ("sd2", "v") else self.conventions.latent
        return size, size

    def unet(self, dtype: torch.dtype) -> Any:
        """The UNet2DConditionModel with its weights."""
        return self._network.loaded(self._converted(self._unet.read(dtype)))

    def tokenizer(self) -> CLIPTokenizer:
        """The CLIP tokenizer, which both text encoders of SDXL share."""
        return clip_tokenizer()

    def autoencoder(self) -> Autoencoder:
        """What decodes latents. Raises BaseModelError if it is missing or incomplete."""
        if not self._vae_part:
            raise BaseModelError(
                f"{self._vae_file} has no autoencoder (VAE), which is needed to decode images: use a checkpoint "
                "that includes one, or name one with --vae."
            )
        name = f"The autoencoder in {self._vae_file}"
        return Autoencoder(self._vae_part, self.conventions.scaling, name)

    def _unet_network(self, tensors: Mapping[str, torch.Tensor]) -> Network:
        try:
            converted = self._converted(tensors)
        except Exception as error:  # the conversion takes for granted that all tensors are there
            raise unusual(self._unet_name, f"{error} is missing") from error
        return Network(
            lambda: UNet2DConditionModel(**self.unet_config),
            converted,
            self._unet_name,
            trial=unet_trial(self.conventions),
        )

    def _converted(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        full = {UNET + name: tensor for name, tensor in tensors.items()}
        converted: dict[str, torch.Tensor] = convert_ldm_unet_checkpoint(full, self.unet_config)
        return converted

    def _find_texts(self, files: Sequence[Path]) -> list[TextEncoder]:
        family = self.conventions.family
        parts = [self._files.below(*prefixes) for prefixes in _TEXT[family]]
        names = [self._files.name] * len(parts)
        if files:
            opened = [TensorFiles([file], file.name) for file in files]
            parts = [_of_width(opened, width, family) for width in _WIDTHS[family]]
            names = [part.file for part in parts]
        for part, name in zip(parts, names, strict=True):
            if not is_text_encoder(part):
                raise no_text_encoder(name)
        return [
            TextEncoder(part, convention, f"The text encoder of width {width} in {name}")
            for part, convention, width, name in zip(parts, self.conventions.texts, _WIDTHS[family], names, strict=True)
        ]

    def _find_vae(self, file: Path | None) -> tuple[Part, str]:
        if file is None:
            return self._files.below(*_VAE), self._files.name
        opened = TensorFiles([file], file.name)
        return opened.below(*_VAE, ""), file.name


def _of_width(files: Sequence[TensorFiles], width: int, family: str) -> Part:
    """The text encoder with token embeddings of this width. Raises BaseModelError."""
    for file in files:
        part = file.below("")
        if any(
            name.endswith("token_embedding.weight") and shape[1:] == (width,) for name, shape in part.shapes.items()
        ):
            return part
    wanted = " and ".join(map(str, _WIDTHS[family]))
    raise BaseModelError(
        f"None of {', '.join(file.name for file in files)} is a CLIP text encoder of width {width}. This UNet needs "
        f"--text-encoder for the width {wanted} (clip_l has 768, clip_g 1280)."
    )

"""A base model in one .safetensors checkpoint with the original (LDM) tensor names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from . import layout
from .base_model_error import BaseModelError
from .conventions import conventions_of
from .refusals import UNET, no_text_encoder, refuse_other_files
from .spec import SUFFIX
from .text import clip_tokenizer
from .unet_denoiser import Prediction

_VAE = "first_stage_model."
_OPEN_CLIP = ".model."  # end of the prefix of a text encoder with OpenCLIP's tensor names
_ENCODER = ("embeddings.token", "embeddings.position_embedding", "encoder.", "final_layer_norm.")
_TEXT = {
    "sd15": (("cond_stage_model.transformer.",),),
    "sd2": (("cond_stage_model.model.", "conditioner.embedders.0.model."),),
    "sdxl": (("conditioner.embedders.0.transformer.",), ("conditioner.embedders.1.model.",)),
}
_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v": "v"}
_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}

# Stable Diffusion 2 predicts v if the standard deviation of these biases is above 0.09. ComfyUI uses the same test, so
# that both agree about a file.
_V_BIASES = UNET + "output_blocks.11.1.transformer_blocks.0.norm1.bias"
_V_DEVIATION = 0.09
_V_LATENT = 96  # Stable Diffusion 2 models that predict v were trained at 768 pixels


class SingleFile:
    """The parts of a base model; the header is read at once, the tensors of each part on demand.

    Raises BaseModelError for any other file.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.weights: tuple[Path, ...] = (path,)
        self._path = path
        if path.suffix != SUFFIX:
            raise BaseModelError(
                f"{path.name} is not a {SUFFIX} file; pickles (.ckpt, .pth, .bin) can run code when they are opened. "
                f"Use the model's {SUFFIX} version, or convert it with a tool that you trust."
            )
        try:
            with safe_open(path, "pt") as file:
                self._metadata: Mapping[str, str] = file.metadata() or {}
                self._shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
        except (SafetensorError, OSError) as error:
            raise BaseModelError(
                f"{path.name} cannot be read ({error}): it is cut short or not a safetensors file. Download it again."
            ) from error
        refuse_other_files(path.name, self._shapes, self._metadata)
        try:
            self.unet_config = layout.unet_config(self._shapes_below(UNET))
        except (BaseModelError, KeyError, IndexError) as error:
            raise self._unusual("UNet", error) from error
        self.conventions = conventions_of(self.unet_config, path.name)
        if self.conventions.family not in _TEXT:
            raise BaseModelError(
                f"{path.name} contains a UNet of the family {self.conventions.family}, which is only loaded from a "
                f"diffusers folder: name the folder, or the built-in {self.conventions.family!r}."
            )
        self._text_prefixes = [self._text_prefix(prefixes) for prefixes in _TEXT[self.conventions.family]]

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """A scheduler config with the noise schedule; a tensor "ztsnr" marks zero terminal SNR."""
        return {**_SCHEDULE, "rescale_betas_zero_snr": "ztsnr" in self._shapes}

    @property
    def prediction(self) -> Prediction:
        """What the UNet predicts, from a tensor "v_pred", the metadata or else the weights."""
        if "v_pred" in self._shapes:
            return "v"
        declared = self._metadata.get("modelspec.prediction_type")
        if declared in _PREDICTIONS:
            return _PREDICTIONS[declared]
        if self.conventions.family != "sd2":
            return "epsilon"
        # "stable-diffusion-v2-768-v" or "stable-diffusion-v2-512", possibly with a suffix after a slash.
        architecture = self._metadata.get("modelspec.architecture", "").split("/")[0]
        if architecture.startswith("stable-diffusion-v2-"):
            return "v" if architecture.endswith("-v") else "epsilon"
        if _V_BIASES not in self._shapes:
            return "epsilon"
        biases = self._read(lambda name: name == _V_BIASES, torch.float32)[_V_BIASES]
        return "v" if biases.std(correction=0) > _V_DEVIATION else "epsilon"

    @property
    def latent_size(self) -> tuple[int, int]:
        """Native height and width of latents."""
        size = _V_LATENT if (self.conventions.family, self.prediction) == ("sd2", "v") else self.conventions.latent
        return size, size

    def unet(self, dtype: torch.dtype) -> Any:
        """The UNet2DConditionModel with its weights."""
        state = self._read(lambda name: name.startswith(UNET), dtype)
        with torch.device("meta"):
            unet = UNet2DConditionModel(**self.unet_config)
        return self._with_weights(unet, convert_ldm_unet_checkpoint(state, self.unet_config), "UNet")

    def tokenizer(self) -> CLIPTokenizer:
        """The CLIP tokenizer, which both text encoders of SDXL share."""
        return clip_tokenizer()

    def text_encoders(self) -> list[Any]:
        """One CLIP text model per text convention of the family; the pooled one has a projection."""
        *others, last = self._text_prefixes
        encoders = [self._text_encoder(prefix, pooled=False) for prefix in others]
        return [*encoders, self._text_encoder(last, pooled=self.conventions.pooled)]

    def vae(self) -> Any:
        """The AutoencoderKL in fp32."""
        state = self._read(lambda name: name.startswith(_VAE), torch.float32)
        if not state:
            raise BaseModelError(
                f"{self._path.name} has no autoencoder (VAE), which is needed to decode images: use a checkpoint "
                "that includes one."
            )
        config = layout.vae_config(self._shapes_below(_VAE), self.conventions.scaling)
        with torch.device("meta"):
            vae = AutoencoderKL(**config)
        return self._with_weights(vae, convert_ldm_vae_checkpoint(state, config), "autoencoder")

    def _text_encoder(self, prefix: str, pooled: bool) -> Any:
        unused = self._unused_layer(prefix)
        state = self._read(
            lambda name: name.startswith(prefix) and not (unused and name.startswith(unused)), torch.float32
        )
        if prefix.endswith(_OPEN_CLIP):
            # The conversion reads only the width from the model's config.
            width = state[prefix + "positional_embedding"].shape[1]
            state = convert_open_clip_checkpoint(
                SimpleNamespace(config=SimpleNamespace(hidden_size=width)), state, prefix
            )
        bare = {name.removeprefix(prefix).removeprefix("text_model."): value for name, value in state.items()}
        config = layout.text_config(
            {name: value.shape for name, value in bare.items()},
            activation="gelu" if prefix.endswith(_OPEN_CLIP) else "quick_gelu",
        )
        wanted = {f"text_model.{name}": value for name, value in bare.items() if name.startswith(_ENCODER)}
        if pooled:
            wanted["text_projection.weight"] = bare["text_projection.weight"]
        kind: Any = CLIPTextModelWithProjection if pooled else CLIPTextModel
        model, info = kind.from_pretrained(
            None, config=CLIPTextConfig(**config), state_dict=wanted, output_loading_info=True
        )
        if info["missing_keys"]:
            raise self._unusual("text encoder", f"{min(info['missing_keys'])} is missing")
        return model

    def _unused_layer(self, prefix: str) -> str | None:
        """The last layer of Stable Diffusion 2's text encoder, which diffusers folders omit too."""
        if self.conventions.family != "sd2":
            return None
        layers = layout.count(self._shapes, prefix + "transformer.resblocks")
        return f"{prefix}transformer.resblocks.{layers - 1}."

    def _text_prefix(self, prefixes: tuple[str, ...]) -> str:
        """The first of these prefixes that occurs in the file."""
        for prefix in prefixes:
            if any(name.startswith(prefix) for name in self._shapes):
                return prefix
        raise no_text_encoder(self._path.name)

    def _shapes_below(self, prefix: str) -> layout.Shapes:
        return {name.removeprefix(prefix): shape for name, shape in self._shapes.items() if name.startswith(prefix)}

    def _read(self, wanted: Callable[[str], bool], dtype: torch.dtype) -> dict[str, torch.Tensor]:
        with safe_open(self._path, "pt") as file:
            # Copies: mapped tensors would change with the file, and crash the process if it is truncated.
            return {name: file.get_tensor(name).to(dtype, copy=True) for name in self._shapes if wanted(name)}

    def _unusual(self, part: str, why: object) -> BaseModelError:
        reason = str(why).splitlines()[-1].strip()
        return BaseModelError(
            f"The {part} in {self._path.name} is not built like Stable Diffusion's ({reason}). "
            "Use a Stable Diffusion 1.x, 2.x or XL base model."
        )

    def _with_weights(self, model: Any, state: Mapping[str, torch.Tensor], part: str) -> Any:
        try:
            model.load_state_dict(state, strict=True, assign=True)
        except RuntimeError as error:
            raise self._unusual(part, error) from error
        return model

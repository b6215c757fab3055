"""A base model in a diffusers folder."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from .base_model_error import BaseModelError
from .conventions import conventions_of
from .text import END
from .unet_denoiser import Prediction

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}


class Folder:
    """The parts of a base model, each loaded on demand. Raises BaseModelError if one is missing."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self._path = path
        if not (path / "unet" / "config.json").is_file():
            what = "a transformer (SD3, Flux or similar), not a UNet" if (path / "transformer").is_dir() else "no UNet"
            raise BaseModelError(
                f"{name} contains {what}: a diffusers folder of Stable Diffusion 1.x, 2.x or XL has a "
                "unet/config.json. Name the folder that contains model_index.json."
            )
        self.unet_config = self._json("unet/config.json")
        self.conventions = conventions_of(self.unet_config, name)
        self.weights: tuple[Path, ...] = self._weights("unet")
        if not (path / "text_encoder").is_dir():
            raise BaseModelError(f"{name} has no text encoder: name a folder of a complete diffusers pipeline.")

    @cached_property
    def scheduler_config(self) -> dict[str, Any]:
        """The config of the scheduler, with the noise schedule."""
        config = self._json("scheduler/scheduler_config.json")
        if config.get("prediction_type", "epsilon") not in _PREDICTIONS or "sigma_data" in config:
            raise BaseModelError(
                f"{self.name} predicts neither epsilon nor v on Stable Diffusion's noise schedule (its scheduler is a "
                f"{config.get('_class_name')}). Use a base model that does."
            )
        return config

    @property
    def prediction(self) -> Prediction:
        """What the UNet predicts, according to the scheduler config."""
        return _PREDICTIONS[self.scheduler_config.get("prediction_type", "epsilon")]

    @property
    def latent_size(self) -> tuple[int, int]:
        """Native height and width of latents."""
        size = self.unet_config.get("sample_size") or self.conventions.latent
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def unet(self, dtype: torch.dtype) -> Any:
        """The UNet2DConditionModel with its weights."""
        return self._load(UNet2DConditionModel, "unet", torch_dtype=dtype)

    def tokenizer(self) -> CLIPTokenizer:
        """The tokenizer of the first text encoder; SDXL's second one has the same vocabulary."""
        # SD2's config pads with "!", which would turn every "!" in a prompt into a special token.
        return CLIPTokenizer.from_pretrained(self._path / "tokenizer", pad_token=END)

    def text_encoders(self) -> list[Any]:
        """One CLIP text model per text convention of the family; the pooled one has a projection."""
        first = self._text_encoder(CLIPTextModel, "text_encoder")
        if not self.conventions.pooled:
            return [first]
        return [first, self._text_encoder(CLIPTextModelWithProjection, "text_encoder_2")]

    def vae(self) -> Any:
        """The AutoencoderKL in fp32."""
        return self._load(AutoencoderKL, "vae", torch_dtype=torch.float32)

    def _text_encoder(self, kind: Any, component: str) -> Any:
        model, info = self._load(kind, component, output_loading_info=True)
        # transformers would continue with random weights; version 4 does so for every folder saved by version 5.
        if missing := info["missing_keys"]:
            raise BaseModelError(
                f"The {component} in {self.name} does not have the weights that transformers "
                f"{transformers.__version__} expects ({min(missing)} is missing). If it was saved by transformers 5, "
                "run `pip install -U transformers`."
            )
        return model

    def _load(self, kind: Any, component: str, **options: Any) -> Any:
        weights = self._weights(component)
        variant = "fp16" if _is_half(weights[0]) else None
        return kind.from_pretrained(
            self._path / component, variant=variant, use_safetensors=True, local_files_only=True, **options
        )

    def _weights(self, component: str) -> tuple[Path, ...]:
        """The weight files of a component: the fp16 ones if there are two precisions."""
        folder = self._path / component
        files = sorted((*folder.glob("diffusion_pytorch_model*.safetensors"), *folder.glob("model*.safetensors")))
        half = [file for file in files if _is_half(file)]
        if found := half or [file for file in files if ".non_ema" not in file.name]:
            return tuple(found)
        pickled = [file.name for pattern in ("*.bin", "*.pt", "*.ckpt") for file in folder.glob(pattern)]
        why = f"only {pickled[0]}, a pickle, which can run code" if pickled else "nor in another format"
        raise BaseModelError(
            f"{self.name} has no weights of its {component} in safetensors ({why}). "
            "Download the safetensors files, or save the pipeline again with diffusers' save_pretrained."
        )

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self._path / name).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BaseModelError(
                f"{self.name} is not a complete diffusers folder: {name} cannot be read ({error}). Download it again."
            ) from error
        return content


def _is_half(file: Path) -> bool:
    return ".fp16" in file.name

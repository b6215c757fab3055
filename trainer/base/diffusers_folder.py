"""A base model in a diffusers folder."""

from __future__ import annotations

import json
import logging
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from transformers import CLIPTokenizer

from .autoencoder import Autoencoder
from .base_model_error import SUPPORTED, BaseModelError
from .conventions import conventions_of
from .networks import Network, unet_trial
from .tensor_files import Part, TensorFiles, refuse_pointer
from .text import END, clip_tokenizer
from .text_encoder import TextEncoder, is_text_encoder
from .unet_denoiser import Prediction

log = logging.getLogger(__name__)

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "epsilon", "v_prediction": "v"}
_UNET = "UNet2DConditionModel"
# Variants of weights in the order in which they are wanted: half the memory first, averaged weights (EMA) then.
_VARIANTS = ("fp16", "", "bf16", "ema", "non_ema")
_WEIGHTS = re.compile(
    r"(diffusion_pytorch_model|model)(-(?P<shard>\d+)-of-(?P<shards>\d+))?(\.(?P<variant>[a-z0-9_]+))?"
    r"(-(?P<shard2>\d+)-of-(?P<shards2>\d+))?\.safetensors"
)
# What Stable Diffusion's UNets have in common, and a checkpoint does not say.
_FIXED = {
    "act_fn": "silu",
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "norm_eps": 1e-5,
    "only_cross_attention": False,
    "dual_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "out_channels": 4,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "mid_block_scale_factor": 1,
    "resnet_out_scale_factor": 1.0,
    "encoder_hid_dim": None,
}
_GUIDANCE = "time_embedding.cond_proj."  # of distilled models
_FEWEST_WORDS = 10  # special tokens alone are no vocabulary


class Folder:
    """The parts of a base model: names and shapes are checked at once, the numbers of each part are read on demand.

    Raises BaseModelError if a part is missing or is not Stable Diffusion's.
    """

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self._path = path
        if not (path / "unet" / "config.json").is_file():
            what = "a transformer (SD3, Flux or similar), not a UNet" if (path / "transformer").is_dir() else "no UNet"
            raise BaseModelError(
                f"{name} contains {what}: a diffusers folder of Stable Diffusion 1.x, 2.x or XL has a "
                "unet/config.json. Name the folder that contains model_index.json."
            )
        config = self._json("unet/config.json")
        self.is_distilled = config.get("time_cond_proj_dim") is not None
        self.unet_config = {**config, "time_cond_proj_dim": None}
        self._refuse_other_unets()
        self.conventions = conventions_of(self.unet_config, name)
        self.weights: tuple[Path, ...] = self._weights("unet")
        self._unet = TensorFiles(self.weights, self.weights[0].name).below("").without(_GUIDANCE)
        self.dtypes = self._unet.dtypes
        self._network = Network(
            lambda: UNet2DConditionModel.from_config(self.unet_config),
            self._unet.on_meta(),
            f"The UNet in {name}",
            trial=unet_trial(self.conventions),
        )
        components = ("text_encoder", "text_encoder_2")[: len(self.conventions.texts)]
        self.texts = [self._text_encoder(number, component) for number, component in enumerate(components)]
        self._tokenizer = self._read_tokenizer()

    @cached_property
    def scheduler_config(self) -> dict[str, Any]:
        """The config of the scheduler, with the noise schedule."""
        config = self._json("scheduler/scheduler_config.json")
        kind = str(config.get("_class_name", "scheduler"))
        prediction = config.get("prediction_type") or "epsilon"
        is_flow = "Flow" in kind or config.get("use_flow_sigmas")
        if is_flow or str(prediction) not in _PREDICTIONS or "sigma_data" in config:
            raise BaseModelError(
                f"{self.name} predicts neither epsilon nor v on Stable Diffusion's noise schedule (its scheduler is a "
                f"{kind}{' with flow matching' if is_flow else f' with {prediction} prediction'}). Use a base model "
                "that does."
            )
        return config

    @property
    def prediction(self) -> Prediction:
        """What the UNet predicts, according to the scheduler config."""
        return _PREDICTIONS[self.scheduler_config.get("prediction_type") or "epsilon"]

    @property
    def latent_size(self) -> tuple[int, int]:
        """Native height and width of latents."""
        size = self.unet_config.get("sample_size") or self.conventions.latent
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def unet(self, dtype: torch.dtype) -> Any:
        """The UNet2DConditionModel with its weights."""
        return self._network.loaded(self._unet.read(dtype))

    def tokenizer(self) -> CLIPTokenizer:
        """The tokenizer of the first text encoder; SDXL's second one has the same vocabulary. CLIP's if it has none."""
        return self._tokenizer

    def autoencoder(self) -> Autoencoder:
        """What decodes latents. Raises BaseModelError if it is missing or incomplete."""
        name = f"The autoencoder in {self.name}"
        if not (self._path / "vae").is_dir():
            raise BaseModelError(f"{self.name} has no autoencoder (a folder vae), which is needed to decode images.")
        config = self._json("vae/config.json")
        return Autoencoder(self._part("vae"), self.conventions.scaling, name, config)

    def _refuse_other_unets(self) -> None:
        kind = self.unet_config.get("_class_name", _UNET)
        why = None
        if kind != _UNET:
            why = f"its UNet is a {kind}"
        elif (attention := self.unet_config.get("attention_type", "default")) != "default":
            why = f"its UNet has {attention} attention (GLIGEN)"
        elif not isinstance(self.unet_config.get("cross_attention_dim"), int):
            why = "its UNet has no single width of text states"
        elif not isinstance(self.unet_config.get("in_channels"), int):
            why = "its UNet's config.json does not say how many channels latents have"
        elif other := [key for key, value in _FIXED.items() if self.unet_config.get(key, value) != value]:
            why = f"its UNet has {other[0]} {self.unet_config[other[0]]!r}, not {_FIXED[other[0]]!r}"
        if why is not None:
            raise BaseModelError(f"{self.name} is not a Stable Diffusion model: {why}. {SUPPORTED}")

    def _read_tokenizer(self) -> CLIPTokenizer:
        folder = self._path / "tokenizer"
        files = [file for file in folder.glob("*") if file.is_file()] if folder.is_dir() else []
        if not files:
            log.warning("%s has no tokenizer: CLIP's is used.", self.name)
            return clip_tokenizer()
        for file in files:
            refuse_pointer(file)
        try:
            # SD2's config pads with "!", which would turn every "!" in a prompt into a special token.
            tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(folder, pad_token=END)
            known = len(tokenizer.get_vocab())
        except Exception as error:  # whatever the library says to files that it cannot use
            raise BaseModelError(
                f"The tokenizer in {self.name} cannot be read ({error}). Download it again."
            ) from error
        if known < _FEWEST_WORDS:
            raise BaseModelError(f"The tokenizer in {self.name} has no vocabulary. Download it again.")
        return tokenizer

    def _text_encoder(self, number: int, component: str) -> TextEncoder:
        if not (self._path / component).is_dir():
            raise BaseModelError(f"{self.name} has no {component}: name a folder of a complete diffusers pipeline.")
        config = self._json(f"{component}/config.json")
        if not str(config.get("model_type", "clip")).startswith("clip"):
            raise BaseModelError(
                f"The {component} in {self.name} is not CLIP, but {config['model_type']} (config.json). {SUPPORTED}"
            )
        part = self._part(component)
        if not is_text_encoder(part):
            raise BaseModelError(f"The {component} in {self.name} has no CLIP text encoder's weights. {SUPPORTED}")
        return TextEncoder(part, self.conventions.texts[number], f"The {component} in {self.name}", config)

    def _part(self, component: str) -> Part:
        files = self._weights(component)
        return TensorFiles(files, files[0].name).below("")

    def _weights(self, component: str) -> tuple[Path, ...]:
        """The weight files of a component, of one variant: all its shards."""
        folder = self._path / component
        variants: dict[str, list[tuple[Path, re.Match[str]]]] = {}
        for file in sorted(folder.glob("*.safetensors")):
            if found := _WEIGHTS.fullmatch(file.name):
                variants.setdefault(found["variant"] or "", []).append((file, found))
        for variant in (*_VARIANTS, *sorted(variants)):
            if variant in variants:
                return self._whole(component, variants[variant])
        pickled = [file.name for pattern in ("*.bin", "*.pt", "*.ckpt") for file in folder.glob(pattern)]
        why = f"only {pickled[0]}, a pickle, which can run code" if pickled else "nor in another format"
        raise BaseModelError(
            f"{self.name} has no weights of its {component} in safetensors ({why}). "
            "Download the safetensors files, or save the pipeline again with diffusers' save_pretrained."
        )

    def _whole(self, component: str, files: list[tuple[Path, re.Match[str]]]) -> tuple[Path, ...]:
        """One file if there is one, else all shards. Raises BaseModelError if a shard is missing."""
        single = [file for file, found in files if not (found["shard"] or found["shard2"])]
        if single:
            return (single[0],)
        there = {int(found["shard"] or found["shard2"]) for _, found in files}
        count = max(int(found["shards"] or found["shards2"]) for _, found in files)
        if missing := sorted(set(range(1, count + 1)) - there):
            raise BaseModelError(
                f"{self.name} is incomplete: of the {count} files of its {component}, number "
                f"{', '.join(map(str, missing))} is missing. Download it again."
            )
        return tuple(file for file, _ in files)

    def _json(self, name: str) -> dict[str, Any]:
        path = self._path / name
        try:
            if path.is_file():
                refuse_pointer(path)
            content = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise BaseModelError(
                f"{self.name} is not a complete diffusers folder: {name} cannot be read ({_briefly(error)}). Download "
                "it again."
            ) from error
        if not isinstance(content, dict):
            raise BaseModelError(f"{self.name} is not a complete diffusers folder: {name} is not a JSON object.")
        return content


def _briefly(error: Exception) -> str:
    """Without the path, which is ours if the model comes from the Hub."""
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)

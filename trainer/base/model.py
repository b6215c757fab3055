"""The base model: Stable Diffusion's UNet, text encoders and VAE as one object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import CLIPTokenizer

from ...respodiff_core.adapter.families import pixels_per_latent
from ...respodiff_core.hashes import sha256_of
from ...respodiff_core.learning.denoiser import Condition
from .attention_layers import sites_of
from .autoencoder import Autoencoder
from .base_model_error import BaseModelError
from .conventions import Conventions
from .diffusers_folder import Folder
from .hub_snapshot import file_from_the_hub, snapshot
from .schedule import alphas_cumprod
from .single_file import SingleFile
from .spec import BUILT_IN, HubId, file_named, locate
from .text import TextEncoders
from .text_encoder import TextEncoder
from .unet_denoiser import Prediction, UNetDenoiser

log = logging.getLogger(__name__)


class Parts(Protocol):
    """The source of a base model's parts, each loaded on demand."""

    name: str
    conventions: Conventions
    weights: tuple[Path, ...]
    unet_config: dict[str, Any]
    is_distilled: bool
    texts: list[TextEncoder]
    dtypes: list[str]

    @property
    def scheduler_config(self) -> dict[str, Any]: ...
    @property
    def prediction(self) -> Prediction: ...
    @property
    def latent_size(self) -> tuple[int, int]: ...
    def unet(self, dtype: torch.dtype) -> Any: ...
    def tokenizer(self) -> CLIPTokenizer: ...
    def autoencoder(self) -> Autoencoder: ...


class BaseModel:
    """A frozen text-to-image model.

    `name` is the file's stem, the folder's name, the Hub id or a built-in model's name; `family` is "sd15", "sd2",
    "sdxl" or a built-in model's name; `prediction` is what the UNet predicts ("epsilon" | "v"); `latent_size` is the
    native (height, width) of latents; `alphas_cumprod` (1000,) is fp32 on the CPU; `dtype` is the UNet's.
    UNet, text encoders and VAE are loaded on first use, so that they need not be in memory together. The last two run
    in fp32: SDXL's VAE overflows in fp16, and prompts are encoded only once.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
        prediction: Prediction | None,
        latent_size: tuple[int, int] | None,
        checkpointing: bool,
    ) -> None:
        self.name = parts.name
        self.family = parts.conventions.family
        self.prediction: Prediction = prediction or parts.prediction
        self.latent_size = latent_size or parts.latent_size
        self.alphas_cumprod = alphas_cumprod(parts.scheduler_config, parts.name)
        self.dtype = dtype
        self._checkpointing = checkpointing
        self._parts = parts
        self._device = device
        self._text_encoders: TextEncoders | None = None
        self._file_states = self._current_file_states()

    @cached_property
    def denoiser(self) -> UNetDenoiser:
        """The UNet, split at its bottleneck."""
        with self._unchanged():
            unet = self._parts.unet(self.dtype).to(self._device)
        return UNetDenoiser(unet, self.alphas_cumprod, prediction=self.prediction, checkpointing=self._checkpointing)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the checkpoint file, or of the folder's UNet weight files in order, in lowercase hex."""
        with self._unchanged():
            return sha256_of(*self._parts.weights)

    @property
    def weight_bytes(self) -> int:
        """Size in bytes of the checkpoint file, or of the folder's UNet weights."""
        return sum(size for _, size, _ in self._file_states or ())

    @property
    def sites(self) -> dict[str, int]:
        """The sites where concepts can act, with their channels (respodiff_core.sites)."""
        return sites_of(self._parts.unet_config)

    def h_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """The bottleneck's (C, H, W) for latents of this height and width."""
        channels = self._parts.unet_config["block_out_channels"]
        halvings = len(channels) - 1
        return channels[-1], -(-height // 2**halvings), -(-width // 2**halvings)

    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """One row per prompt, fp32; SDXL's size condition is an uncropped image of the native size."""
        if self._text_encoders is None:
            with self._unchanged():
                loaded = [text.loaded() for text in self._parts.texts]
                models = [model.float().to(self._device).eval() for model in loaded]
            self._text_encoders = TextEncoders(models, self._parts.tokenizer(), self._parts.conventions, self.name)
        height, width = (size * pixels_per_latent(self.family) for size in self.latent_size)
        return self._text_encoders.encode(prompts, (height, width))

    def release_text_encoders(self) -> None:
        """Free the text encoders' memory; the next prompt loads them again."""
        self._text_encoders = None

    def require_pictures(self) -> None:
        """Load what decodes latents, for a run that will need it. Raises BaseModelError."""
        self._vae  # noqa: B018

    @property
    def latent_scale(self) -> float:
        """The VAE's scaling factor, which brings its latents to variance 1."""
        scale: float = self._vae.config.scaling_factor
        return scale

    @torch.no_grad()
    def decode_latents(self, z: torch.Tensor) -> torch.Tensor:
        """Images (rows, 3, height, width) in [0, 1], fp32, from denoised latents (rows, 4, h, w)."""
        images: torch.Tensor = self._vae.decode(z.float() / self._vae.config.scaling_factor).sample
        return (images / 2 + 0.5).clamp(0, 1)

    @cached_property
    def _vae(self) -> Any:
        with self._unchanged():
            return self._parts.autoencoder().loaded().to(self._device).eval()

    def _current_file_states(self) -> list[tuple[int, int, int]] | None:
        """Inode, size and modification time of the weight files; None if one is missing."""
        try:
            stats = [path.stat() for path in self._parts.weights]
        except OSError:
            return None
        return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Check that the block reads the same files that the model was opened with. Raises BaseModelError."""
        try:
            yield
        except Exception as error:
            if self._current_file_states() != self._file_states:
                raise self._replaced_error() from error
            raise
        if self._current_file_states() != self._file_states:
            raise self._replaced_error()

    def _replaced_error(self) -> BaseModelError:
        return BaseModelError(
            f"The files of {self.name} were replaced or changed while they were in use. Restore them, or start again "
            "with the new ones."
        )


def load_base(
    spec: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    prediction: Prediction | None = None,
    latent_size: tuple[int, int] | Callable[[str], tuple[int, int] | None] | None = None,
    checkpointing: bool = False,
    text_encoders: Sequence[str | Path] = (),
    vae: str | Path | None = None,
) -> BaseModel:
    """Load the base model `spec`: a .safetensors checkpoint, a diffusers folder, a Hub id `owner/name` with or
    without `@revision`, its web address, or the name of a built-in model.

    The UNet runs on `device` in `dtype`. `prediction` and `latent_size` (height, width; or what gives
    them for a family) override the model's values.
    For `checkpointing` see UNetDenoiser. `text_encoders` and `vae` are files for a checkpoint without them. Only
    the Hub may need network access. Raises BaseModelError before anything is computed.
    """
    parts = _open(spec, text_encoders, vae)
    if callable(latent_size):
        latent_size = latent_size(parts.conventions.family)
    return BaseModel(
        parts,
        device=device,
        dtype=dtype,
        prediction=prediction,
        latent_size=latent_size,
        checkpointing=checkpointing,
    )


@dataclass(frozen=True)
class Description:
    """The properties of a base model that are known without its weights.

    `unet_config` is a diffusers config; `pooled` is whether the UNet also reads a pooled text embedding (SDXL); `texts`
    are the text encoders' (width, layers, tokens); `no_pictures` is why latents cannot be decoded, None if they can;
    `dtypes` are those of the UNet's tensors, the most frequent first, as safetensors names them.
    """

    name: str
    family: str
    prediction: Prediction
    latent_size: tuple[int, int]
    unet_config: dict[str, Any]
    pooled: bool
    scheduler_config: dict[str, Any]
    texts: tuple[tuple[int, int, int], ...]
    no_pictures: str | None
    dtypes: tuple[str, ...]
    is_distilled: bool
    weights: tuple[Path, ...]


def describe(
    spec: str | Path, *, text_encoders: Sequence[str | Path] = (), vae: str | Path | None = None
) -> Description:
    """Describe the base model `spec`, which is named as for `load_base`. Raises BaseModelError."""
    parts = _open(spec, text_encoders, vae)
    conventions, config = parts.conventions, parts.scheduler_config
    alphas_cumprod(config, parts.name)  # raises for a schedule that cannot be used
    no_pictures = None
    try:
        parts.autoencoder()
    except BaseModelError as error:
        no_pictures = str(error)
    return Description(
        parts.name,
        conventions.family,
        parts.prediction,
        parts.latent_size,
        parts.unet_config,
        conventions.pooled,
        config,
        tuple((text.width, text.layers, text.tokens) for text in parts.texts),
        no_pictures,
        tuple(parts.dtypes),
        parts.is_distilled,
        parts.weights,
    )


def _open(spec: str | Path, text_encoders: Sequence[str | Path], vae: str | Path | None) -> Parts:
    found = locate(spec)
    name = str(spec)
    if isinstance(found, HubId):
        name = found.name
        found = (
            snapshot(found.repo, found.revision)
            if found.file is None
            else file_from_the_hub(found.repo, found.revision, found.file)
        )
    elif found.is_dir() and spec not in BUILT_IN:
        name = found.resolve().name
    if found.is_file():
        parts: Parts = SingleFile(found, [file_named(one) for one in text_encoders], file_named(vae) if vae else None)
    elif text_encoders or vae:
        raise BaseModelError(f"--text-encoder and --vae are for a checkpoint file; {name} has its own.")
    else:
        parts = Folder(found, name)
    if parts.is_distilled:
        log.warning(
            "%s is distilled (LCM): its guidance input is left out, as in ComfyUI. Adapters for it act at the few "
            "steps and the guidance scale of 1 to 2 that it is made for; what they do there has not been measured.",
            parts.name,
        )
    return parts

"""The decoder of a VAE, in the namings that people's files have. Images are never encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from . import layout
from .networks import Network, unusual
from .tensor_files import Part

_DECODER = ("decoder.", "post_quant_conv.")
_LARGEST_SCALE = 100  # those of Stable Diffusion are 0.18 and 0.13
_ENCODER = ("encoder", "quant_conv")
# Names of diffusers' attention before version 0.11.
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


class Autoencoder:
    """The decoder of a base model's VAE. `config` is its config.json, if it has one; else its latents are scaled by
    `scaling`. Raises BaseModelError unless it is Stable Diffusion's.
    """

    def __init__(self, part: Part, scaling: float, name: str, config: Mapping[str, Any] | None = None) -> None:
        self._part = part
        self._name = name
        try:
            self._config = dict(config) if config is not None else _config(part, scaling)
        except (KeyError, IndexError) as error:
            raise unusual(name, f"{error} is missing") from error
        scale = self._config.get("scaling_factor", scaling)
        if not (isinstance(scale, (int, float)) and 0 < scale < _LARGEST_SCALE):
            raise unusual(name, f"its config.json has scaling_factor {scale!r}")
        if (activation := self._config.get("act_fn", "silu")) != "silu":
            raise unusual(name, f"its config.json has act_fn {activation!r}")
        self._network = Network(
            self._make, self._named(part.on_meta()), name, trial=lambda vae: vae.decode(torch.empty(1, 4, 8, 8))
        )

    def loaded(self) -> Any:
        """diffusers' AutoencoderKL in fp32, which only decodes."""
        return self._network.loaded(self._named(self._part.read(torch.float32)))

    def _make(self) -> Any:
        vae: Any = AutoencoderKL.from_config(self._config)
        for part in _ENCODER:
            setattr(vae, part, None)
        return vae

    def _named(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        if not _is_diffusers(tensors):
            try:
                tensors = convert_ldm_vae_checkpoint(dict(tensors), self._config)
            except Exception as error:  # the conversion takes for granted that all tensors are there
                raise unusual(self._name, f"{error} is missing") from error
        wanted = {}
        for name, tensor in tensors.items():
            if name.startswith(_DECODER):
                for old, new in _OLD_ATTENTION.items():
                    name = name.replace(old, new) if ".attentions." in name else name
                is_matrix = ".attentions." in name and tensor.ndim == 4
                wanted[name] = tensor[..., 0, 0] if is_matrix else tensor
        return wanted


def _config(part: Part, scaling: float) -> dict[str, Any]:
    if _is_diffusers(part.shapes):
        return layout.vae_config_of_diffusers(part.shapes, scaling)
    return layout.vae_config(part.shapes, scaling)


def _is_diffusers(names: Mapping[str, Any]) -> bool:
    return any(name.startswith("decoder.up_blocks.") for name in names)

"""CLIP text encoders from tensors in the namings that people's files have."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from . import layout
from .base_model_error import BaseModelError
from .conventions import TextConvention
from .networks import Network, unusual
from .tensor_files import Part

_OPEN_CLIP = "transformer.resblocks."
_TOKENS = ("token_embedding.weight", "embeddings.token_embedding.weight")
_POSITIONS = ("positional_embedding", "embeddings.position_embedding.weight")
_ENCODER = ("embeddings.token", "embeddings.position_embedding", "encoder.", "final_layer_norm.")
_PROJECTION = "text_projection.weight"
_STATED = {"hidden_act": ("quick_gelu", "gelu"), "layer_norm_eps": (1e-5,)}  # what CLIP's configs say


class TextEncoder:
    """A text encoder of a base model. `config` is its config.json, if it has one; `name` is for messages.

    Raises BaseModelError unless the tensors are those of a CLIP text encoder, and of the one in the config.
    """

    def __init__(self, part: Part, convention: TextConvention, name: str, config: Mapping[str, Any] | None = None):
        self._part = part
        self._layers = convention.layers
        tensors = self._named(part.on_meta(), name)
        shapes = {key: tuple(value.shape) for key, value in tensors.items()}
        try:
            derived = layout.text_config(shapes, convention.activation)
        except (KeyError, ValueError) as error:
            raise unusual(name, f"{error} is missing") from error
        if config is not None:
            derived = _agreed(derived, config, name)
        self.width: int = derived["hidden_size"]
        self.layers: int = derived["num_hidden_layers"]
        self.tokens: int = derived["max_position_embeddings"]
        if convention.pooled and _PROJECTION not in shapes:
            raise BaseModelError(
                f"{name} has no projection (text_projection), which SDXL's UNet reads. Use another version."
            )
        kind: Any = CLIPTextModelWithProjection if convention.pooled else CLIPTextModel
        if not convention.pooled:
            tensors.pop(_PROJECTION, None)
        self._network = Network(
            lambda: kind(CLIPTextConfig(**derived)),
            tensors,
            name,
            trial=lambda model: model(torch.zeros(1, self.tokens, dtype=torch.long)),
            key=lambda key: key.removeprefix("text_model."),
        )
        self._name = name

    def loaded(self) -> Any:
        """transformers' model in fp32."""
        model = self._network.loaded(self._named(self._part.read(torch.float32), self._name))
        for module in model.modules():
            if "position_ids" in module._buffers:  # not among the weights
                module._buffers["position_ids"] = torch.arange(self.tokens)[None]
        return model

    def _named(self, tensors: Mapping[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
        """By transformers' names without `text_model.`, and only what its model has; unused layers are left out."""
        if _is_open_clip(tensors):
            positions = tensors.get("positional_embedding")
            if positions is None or positions.ndim != 2:
                raise unusual(name, "positional_embedding is missing")
            # The conversion reads only the width from the model's config.
            model = SimpleNamespace(config=SimpleNamespace(hidden_size=positions.shape[1]))
            linear = {key: value for key, value in tensors.items() if key == _PROJECTION}
            try:
                tensors = convert_open_clip_checkpoint(model, dict(tensors), prefix="") | linear
            except Exception as error:  # the conversion takes for granted the shapes of tensors
                raise unusual(name, error) from error
        bare = {key.removeprefix("transformer.").removeprefix("text_model."): value for key, value in tensors.items()}
        wanted = {key: value for key, value in bare.items() if key.startswith(_ENCODER) or key == _PROJECTION}
        if self._layers is None:
            return wanted
        unused = tuple(f"encoder.layers.{n}." for n in range(self._layers, layout.count(wanted, "encoder.layers")))
        return {key: value for key, value in wanted.items() if not (unused and key.startswith(unused))}


def is_text_encoder(part: Part) -> bool:
    """Whether there is a text encoder at all; some files have only its position_ids or logit_scale."""
    bare = {name.removeprefix("transformer.").removeprefix("text_model.") for name in part.shapes}
    return any(name in bare for name in _TOKENS) and any(name in bare for name in _POSITIONS)


def _is_open_clip(names: Mapping[str, Any]) -> bool:
    return any(name.startswith(_OPEN_CLIP) for name in names)


def _agreed(derived: dict[str, Any], config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The config in the file, if its sizes are those of the weights. Raises BaseModelError."""
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "max_position_embeddings", "vocab_size"):
        stated = config.get(key, derived[key])
        if stated != derived[key]:
            raise unusual(name, f"{key} is {derived[key]} in its weights, and {stated} by its config.json")
    for key, allowed in _STATED.items():
        if config.get(key, allowed[0]) not in allowed:
            raise unusual(name, f"{key} is {config[key]!r} by its config.json")
    known = (*_STATED, "num_attention_heads", "bos_token_id", "eos_token_id")
    return derived | {key: config[key] for key in known if key in config}

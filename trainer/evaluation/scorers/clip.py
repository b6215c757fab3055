"""CLIP embeddings of images and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from .pretrained import Pretrained, load_pretrained

_TEXTS_KEPT = 4096


class Clip:
    """A CLIP model of transformers: images and texts as unit vectors (n, `dimension`), fp32, on its device."""

    def __init__(self, parts: Pretrained) -> None:
        self._model, self._processor, self.fingerprint = parts
        self.dimension: int = self._model.config.projection_dim
        self._known: dict[str, torch.Tensor] = {}
        self._last: tuple[list[Image.Image], torch.Tensor] | None = None

    def images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Embeddings of RGB images; a batch of the same objects, used by several scorers, is encoded once."""
        if self._last is None or [*map(id, self._last[0])] != [*map(id, images)]:
            self._last = list(images), self._encode_images(images)
        return self._last[1]

    @torch.inference_mode()
    def _encode_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        inputs = self._processor(images=list(images), return_tensors="pt")
        return _unit(self._model.get_image_features(**inputs.to(self._model.device)))

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Embeddings of texts, truncated to 77 tokens; each text is encoded once."""
        for text in dict.fromkeys(texts):
            # One at a time: which texts are new depends on where a run was stopped, and batching changes the last bits.
            if text not in self._known:
                self._known[text] = self._encode(text)
        vectors = torch.stack([self._known[text] for text in texts])
        for oldest in list(self._known)[:-_TEXTS_KEPT]:
            del self._known[oldest]
        return vectors

    @torch.inference_mode()
    def _encode(self, text: str) -> torch.Tensor:
        length = self._model.config.text_config.max_position_embeddings
        inputs = self._processor(text=[text], truncation=True, max_length=length, return_tensors="pt")
        return _unit(self._model.get_text_features(**inputs.to(self._model.device)))[0]


def _unit(output: Any) -> torch.Tensor:
    # transformers 4 returns the features themselves, transformers 5 an output object.
    features = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(features, dim=-1)


def load_clip(spec: str, device: torch.device | str, option: str = "--clip") -> Clip:
    """The CLIP model in a folder or on the Hugging Face Hub. Raises RespoDiffError, which names `option`."""
    return Clip(load_pretrained(spec, device, (CLIPModel, CLIPProcessor), ("clip",), option))

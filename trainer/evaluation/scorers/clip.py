"""CLIP: how well a picture fits its prompt, and which of several texts fits it best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from ...worlds.scorer import Axis, ScoredImage, Scorer, Scores, rows
from .pretrained import Pretrained, load_pretrained

_TEXTS_KEPT = 4096


class Clip:
    """A CLIP of transformers: pictures and texts as unit vectors (n, `dimension`), fp32, on its device."""

    def __init__(self, parts: Pretrained) -> None:
        self._model, self._processor, self.fingerprint = parts
        self.dimension: int = self._model.config.projection_dim
        self._known: dict[str, torch.Tensor] = {}

    @torch.inference_mode()
    def images(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """Of pictures (RGB)."""
        inputs = self._processor(images=list(pictures), return_tensors="pt")
        return _unit(self._model.get_image_features(**inputs.to(self._model.device)))

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Of texts, of which CLIP reads the first 77 tokens; the same text is encoded once."""
        for text in dict.fromkeys(texts):
            # Each by itself: what is new beside it depends on where a run was stopped, and would change the last bits.
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
    # transformers 4 gives the features themselves, transformers 5 an output that holds them.
    features = output if isinstance(output, torch.Tensor) else output.pooler_output
    return torch.nn.functional.normalize(features, dim=-1)


def load_clip(spec: str, device: torch.device | str, option: str = "--clip") -> Clip:
    """The CLIP in a folder or on the Hugging Face Hub. Raises RespoDiffError, which names `option`."""
    return Clip(load_pretrained(spec, device, (CLIPModel, CLIPProcessor), ("clip",), option))


class ClipScorer(Scorer):
    """`alignment`: 100 x the cosine of a picture and its prompt, which is CLIP's logit (the paper's WinoAlign) and the
    CLIP score, save that torchmetrics' has 0 for what is negative. `label:<axis>`: the class whose text fits best; the
    first of those that fit equally well.
    """

    name = "clip"

    def __init__(self, clip: Clip, axes: tuple[Axis, ...], alignment: bool) -> None:
        self._clip, self._axes, self._alignment = clip, axes, alignment
        self.fingerprint = "; ".join([clip.fingerprint, *["alignment"] * alignment, *(axis.in_words for axis in axes)])

    def score(self, shown: Sequence[ScoredImage]) -> list[Scores]:
        images = self._clip.images([one.picture for one in shown])
        columns: dict[str, list[float | int | None]] = {}
        if self._alignment:
            prompts = self._clip.texts([one.asked.prompt for one in shown])
            columns["alignment"] = (100 * (images * prompts).sum(1)).tolist()
        for axis in self._axes:
            columns[axis.column] = (images @ self._clip.texts(axis.texts).T).argmax(1).tolist()
        return rows(columns, len(shown))

"""DINO: how far steering takes a picture from what it shows without."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

from ...worlds.scorer import ScoredImage, Scorer, Scores
from .pretrained import Pretrained, load_pretrained

_KINDS = ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit")


class DinoDistance(Scorer):
    """`distance`: 1 - the cosine of the features (class tokens) of a picture and of the unsteered one, 0 for the same
    picture. None where there is no unsteered picture.
    """

    name = "dino"

    def __init__(self, parts: Pretrained) -> None:
        self._model, self._processor, self.fingerprint = parts

    def score(self, shown: Sequence[ScoredImage]) -> list[Scores]:
        pairs = [None if one.unsteered is None else (one.picture, one.unsteered) for one in shown]
        # Several settings are compared with one unsteered picture.
        distinct = {id(picture): picture for pair in pairs if pair for picture in pair}
        if not distinct:
            return [{"distance": None} for _ in shown]
        features = dict(zip(distinct, self._features(list(distinct.values())), strict=True))
        return [
            {"distance": None if pair is None else _distance(*(features[id(picture)] for picture in pair))}
            for pair in pairs
        ]

    @torch.inference_mode()
    def _features(self, pictures: list[Image.Image]) -> torch.Tensor:
        """Unit vectors (n, D), fp32."""
        inputs = self._processor(images=pictures, return_tensors="pt")
        states = self._model(**inputs.to(self._model.device)).last_hidden_state
        return torch.nn.functional.normalize(states[:, 0], dim=-1)


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return max(0.0, 1 - float(one @ other))  # rounding can take a cosine past 1


def load_dino(spec: str, device: torch.device | str, option: str = "--dino") -> DinoDistance:
    """By the DINO, DINOv2 or DINOv3 (vision transformer) in a folder or on the Hugging Face Hub. Raises RespoDiffError,
    which names `option`.
    """
    return DinoDistance(load_pretrained(spec, device, (AutoModel, AutoImageProcessor), _KINDS, option))

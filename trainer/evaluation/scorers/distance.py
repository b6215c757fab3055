"""DINO distance: how far steering moves an image from the unsteered one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image

from ...worlds.column import Column
from ...worlds.scorer import ScoredImage, Scorer, Scores
from .loading import Loading

if TYPE_CHECKING:
    from .pretrained import Pretrained

_KINDS = ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit")


class DinoDistance(Scorer):
    """`distance`: 1 minus the cosine similarity of the features (class tokens) of an image and of the unsteered one.
    None without an unsteered image.
    """

    name = "dino"
    columns = (
        Column(
            "distance",
            "DINO distance",
            "distance of DINO features to the image of the same seed without adapter; less is better",
            over_strength=True,
        ),
    )

    def __init__(self, parts: Pretrained) -> None:
        self._model, self._processor, self.fingerprint = parts

    def score(self, shown: Sequence[ScoredImage]) -> list[Scores]:
        pairs = [None if one.unsteered is None else (one.image, one.unsteered) for one in shown]
        # Several variants are compared with the same unsteered image.
        distinct = {id(image): image for pair in pairs if pair for image in pair}
        if not distinct:
            return [{"distance": None} for _ in shown]
        features = dict(zip(distinct, self._features(list(distinct.values())), strict=True))
        return [
            {"distance": None if pair is None else _distance(*(features[id(image)] for image in pair))}
            for pair in pairs
        ]

    @torch.inference_mode()
    def _features(self, images: list[Image.Image]) -> torch.Tensor:
        """Unit vectors (n, D), fp32."""
        inputs = self._processor(images=images, return_tensors="pt")
        states = self._model(**inputs.to(self._model.device)).last_hidden_state
        return torch.nn.functional.normalize(states[:, 0], dim=-1)


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return max(0.0, 1 - float(one @ other))  # rounding can take a cosine past 1


def load(loading: Loading) -> DinoDistance:
    """Load the recipe's DINO model. Raises RespoDiffError."""
    return load_dino(loading.scoring.dino, loading.device)


def load_dino(spec: str, device: torch.device | str, option: str = "--dino") -> DinoDistance:
    """Load a DINO, DINOv2 or DINOv3 (vision transformer) from a folder or the Hugging Face Hub. Raises RespoDiffError,
    which names `option`.
    """
    from transformers import AutoImageProcessor, AutoModel

    from .pretrained import load_pretrained

    return DinoDistance(load_pretrained(spec, device, (AutoModel, AutoImageProcessor), _KINDS, option))

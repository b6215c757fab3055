"""What tests of judges need: small random models of their kinds, as transformers' folders, pictures, and a CLIP whose
answers are given.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from respodiff.trainer.base.text import clip_tokenizer
from respodiff.trainer.worlds.image_spec import ImageSpec
from respodiff.trainer.worlds.scorer import Axis, ScoredImage
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

GENDER = Axis("gender", ("woman", "man"), ("a photo of a woman", "a photo of a man"))
AGE = Axis("age", ("young", "adult", "old"), ("young", "adult", "old"))

DIMENSION = 16
"""Of CLIP's embeddings."""
_SIDE = 32  # pixels each way
_NETWORK = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_SIZES = {"size": {"shortest_edge": _SIDE}, "crop_size": {"height": _SIDE, "width": _SIDE}}


def write_clip(folder: Path) -> Path:
    torch.manual_seed(2)
    tokenizer = clip_tokenizer()
    network = {**_NETWORK, "intermediate_size": 64}
    text = {
        "vocab_size": len(tokenizer),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPConfig(
        text_config={**network, **text},
        vision_config={**network, "image_size": _SIDE, "patch_size": 8},
        projection_dim=DIMENSION,
    )
    model = CLIPModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)  # as they start, all texts look alike
    model.save_pretrained(folder)
    CLIPProcessor(CLIPImageProcessor(**_SIZES), tokenizer).save_pretrained(folder)
    return folder


def write_dino(folder: Path) -> Path:
    torch.manual_seed(0)
    config = Dinov2Config(**_NETWORK, image_size=_SIDE, patch_size=8, layerscale_value=1.0)
    Dinov2Model(config).save_pretrained(folder)
    BitImageProcessor(**_SIZES).save_pretrained(folder)
    return folder


def write_first_dino(folder: Path) -> Path:
    """A plain ViT without the head on top, as the first DINO is published."""
    torch.manual_seed(0)
    config = ViTConfig(**_NETWORK, intermediate_size=64, image_size=_SIDE, patch_size=8)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    BitImageProcessor(**_SIZES).save_pretrained(folder)
    return folder


def noise(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(values)


def shown(image: Image.Image, prompt: str = "", group: str = "", unsteered: Image.Image | None = None) -> ScoredImage:
    return ScoredImage(ImageSpec("doctor-000", prompt, seed=0, group=group), image, unsteered)


class Counted:
    """A function that remembers what it was called with."""

    def __init__(self, function) -> None:
        self.function, self.calls = function, []

    def __call__(self, *args, **kwargs):
        self.calls.append(kwargs or args)
        return self.function(*args, **kwargs)


class FakeClip:
    """Pictures and texts as given vectors: decisions can be told beforehand."""

    fingerprint, dimension = "fake", 2

    def __init__(self, images: list[tuple[float, float]], texts: dict[str, tuple[float, float]]) -> None:
        self._pictures, self._texts = torch.tensor(images), texts

    def images(self, images):
        return self._pictures

    def texts(self, texts):
        return torch.tensor([self._texts[text] for text in texts])

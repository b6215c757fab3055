"""The two halves of a ViT-L/14 CLIP as files that ComfyUI loads, and what transformers makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from respodiff.trainer.base.text import clip_tokenizer
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12}
_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}
_PREFIX = "cond_stage_model.transformer."
_LAYERS = "vision_model.encoder.layers."

State = dict[str, torch.Tensor]


def write_vision(path: Path) -> Path:
    """The vision half, at its full size: its 24 layers are one and the same, which a .pt file keeps once (26 MB)."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in _vision_model().state_dict().items()}
    state: State = {}
    for number, (name, shape) in enumerate(shapes.items()):
        first = f"{_LAYERS}0.{name.removeprefix(_LAYERS).partition('.')[2]}"
        state[name] = state[first] if name.startswith(_LAYERS) and first in state else _random(name, shape, number)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def write_text(path: Path, checkpoint: Path, projection: torch.Tensor) -> Path:
    """The text half of an SD1.5 checkpoint (0.25 GB), with the projection (768, 768) that those leave out."""
    state = {name.removeprefix(_PREFIX): v for name, v in load_file(checkpoint).items() if name.startswith(_PREFIX)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state | {"text_projection.weight": projection.half()}, path)
    return path


@torch.inference_mode()
def see(path: Path, images: Sequence[Image.Image]) -> torch.Tensor:
    """Pictures by the vision half, (N, 768)."""
    model = _vision_model()
    model.load_state_dict({name: value.float() for name, value in torch.load(path).items()})
    return model.eval()(**CLIPImageProcessor()(list(images), return_tensors="pt")).image_embeds


@torch.inference_mode()
def read(path: Path, texts: Sequence[str]) -> torch.Tensor:
    """Texts by the text half, (C, 768)."""
    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(**_TEXT, projection_dim=768, bos_token_id=49406, eos_token_id=49407)
    model = CLIPTextModelWithProjection(config)
    # transformers 5 leaves out the prefix that the files have.
    own = set(model.state_dict())
    state = {name if name in own else name.removeprefix("text_model."): v for name, v in load_file(path).items()}
    model.load_state_dict({name: value.float() for name, value in state.items()})
    return model.eval()(**tokenizer(list(texts), return_tensors="pt", padding=True)).text_embeds


def _vision_model() -> CLIPVisionModelWithProjection:
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**_VISION, patch_size=14, image_size=224, projection_dim=768))


def _random(name: str, shape: torch.Size, seed: int) -> torch.Tensor:
    """So that pictures differ in what becomes of them, which they hardly do as transformers starts."""
    if len(shape) < 2 and not name.endswith("class_embedding"):
        return (torch.ones if name.endswith("weight") else torch.zeros)(shape, dtype=torch.float16)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (values * shape[1:].numel() ** -0.5).half() if len(shape) > 1 else 0.1 * values.half()

"""Pictures and texts in one space by ComfyUI's own CLIP: its vision half and its text half."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from comfy import model_management
from safetensors import SafetensorError, safe_open

from ...respodiff_core.errors import ClassifierError
from ...respodiff_core.measuring.image_classes import Embedded

_AT_ONCE = 16  # pictures
_PROJECTIONS = ("text_projection.weight", "text_projection")  # as transformers and as OpenCLIP call it
_WHOLE_CLIP = (
    "Put a whole CLIP, such as model.safetensors of openai/clip-vit-large-patch14, into models/text_encoders and "
    "models/clip_vision, and load it with Load CLIP (stable_diffusion) and Load CLIP Vision; or choose a clip_folder."
)


def embed(clip_vision: Any, clip: Any, images: torch.Tensor, texts: list[str]) -> Embedded:
    """Pictures (N, H, W, C) and texts by the two halves. Raises ClassifierError where they are not of one CLIP."""
    if clip_vision is None or clip is None:
        raise ClassifierError(
            "There is no CLIP to look at the pictures with: connect both clip_vision and clip, or choose a clip_folder."
        )
    if clip_vision.model_type != "clip_vision_model":
        raise ClassifierError(
            f"clip_vision is no CLIP but a {clip_vision.model_type}, which cannot be held against texts."
        )
    if clip.patcher.patches:
        raise ClassifierError("A LoRA has changed clip. Connect the CLIP as it was before.")
    words = torch.cat([_unprojected(clip, text) for text in texts])
    file, projection = _projection(_files(clip), words.shape[1])
    pictures = []
    for part in images.split(_AT_ONCE):
        model_management.throw_exception_if_processing_interrupted()
        pictures.append(clip_vision.encode_image(part)["image_embeds"].float().cpu())
    width = pictures[0].shape[1]
    if projection.shape[1] != width:
        raise ClassifierError(
            f"clip_vision and clip are not of one CLIP: it gives pictures {width} numbers, texts "
            f"{projection.shape[1]}. {_WHOLE_CLIP}"
        )
    return Embedded(torch.cat(pictures), words @ projection, f"{file.parent.name}/{file.name}")


def _unprojected(clip: Any, text: str) -> torch.Tensor:
    """What the text encoder makes of a text, (1, width), before its projection; weights in brackets mean nothing."""
    tokens = clip.tokenize(text, disable_weights=True)
    _, pooled = clip.encode_from_tokens(tokens, return_pooled="unprojected")
    if pooled is None:
        raise ClassifierError(f"clip holds no CLIP text encoder. {_WHOLE_CLIP}")
    return pooled.float().cpu()


def _projection(files: list[Path], width: int) -> tuple[Path, torch.Tensor]:
    """The matrix (width, D) that brings the text encoder's output into the space of pictures, and which file has it.

    It is read from the file: where a file has none, ComfyUI's text encoder has whatever was in memory.
    """
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                names = [name for name in tensors.keys() if name.endswith(_PROJECTIONS)]
                found = {name: tensors.get_tensor(name).float() for name in names}
        except SafetensorError:
            raise ClassifierError(f"{file.name} is not a safetensors file. {_WHOLE_CLIP}") from None
        for name, matrix in found.items():
            matrix = matrix.T if name.endswith(".weight") else matrix  # OpenCLIP's naming has it the other way round
            if matrix.shape[0] != width:
                continue
            if matrix.shape[1] == width and torch.allclose(matrix, torch.eye(width), atol=1e-3):
                raise ClassifierError(f"{file.name} has an empty text projection (the identity). {_WHOLE_CLIP}")
            return file, matrix
    raise ClassifierError(
        f"{' and '.join(file.name for file in files)} has no CLIP text projection of {width} numbers, without which "
        "texts cannot be held against pictures. Checkpoints of SD1.5 and the usual clip_l.safetensors leave it out. "
        f"{_WHOLE_CLIP}"
    )


def _files(clip: Any) -> list[Path]:
    """The files that a CLIP was loaded from: the first argument of the loader that ComfyUI keeps, to load it again."""
    if clip.patcher.cached_patcher_init is None:
        raise ClassifierError(f"clip does not tell which file it was loaded from. {_WHOLE_CLIP}")
    paths = clip.patcher.cached_patcher_init[1][0]
    return [Path(path) for path in ([paths] if isinstance(paths, str) else paths)]

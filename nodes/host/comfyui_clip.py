"""Embeddings of images and texts in one space, from ComfyUI's CLIP: its vision encoder and its text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from comfy import model_management
from safetensors import SafetensorError, safe_open

from ...respodiff_core.errors import ClassifierError
from ...respodiff_core.measuring.image_classes import Embeddings

_BATCH_SIZE = 16  # images
_PROJECTIONS = ("text_projection.weight", "text_projection")  # the names in transformers and in OpenCLIP
_COMPLETE_CLIP = (
    "Put a complete CLIP, such as model.safetensors of openai/clip-vit-large-patch14, into models/text_encoders and "
    "models/clip_vision, and load it with Load CLIP (stable_diffusion) and Load CLIP Vision; or choose a clip_folder."
)


def embed(clip_vision: Any, clip: Any, images: torch.Tensor, texts: list[str]) -> Embeddings:
    """Embeddings of images (N, H, W, C), values in 0..1, and of texts.

    Raises ClassifierError if the two encoders do not belong to the same CLIP.
    """
    if clip_vision is None or clip is None:
        raise ClassifierError(
            "There is no CLIP to classify the images with: connect both clip_vision and clip, or choose a clip_folder."
        )
    if clip_vision.model_type != "clip_vision_model":
        raise ClassifierError(
            f"clip_vision is not a CLIP but a {clip_vision.model_type}, which cannot compare images with texts."
        )
    if clip.patcher.patches:
        raise ClassifierError("clip was modified by a LoRA. Connect the CLIP from before the LoRA.")
    words = torch.cat([_unprojected(clip, text) for text in texts])
    file, projection = _projection(_files(clip), words.shape[1])
    embeddings = []
    for part in images.split(_BATCH_SIZE):
        model_management.throw_exception_if_processing_interrupted()
        embeddings.append(clip_vision.encode_image(part)["image_embeds"].float().cpu())
    width = embeddings[0].shape[1]
    if projection.shape[1] != width:
        raise ClassifierError(
            f"clip_vision and clip do not belong to the same CLIP: image embeddings have {width} dimensions, text "
            f"embeddings {projection.shape[1]}. {_COMPLETE_CLIP}"
        )
    return Embeddings(torch.cat(embeddings), words @ projection, f"{file.parent.name}/{file.name}")


def _unprojected(clip: Any, text: str) -> torch.Tensor:
    """The text encoder's output (1, width) before the projection; weights in brackets are ignored."""
    tokens = clip.tokenize(text, disable_weights=True)
    _, pooled = clip.encode_from_tokens(tokens, return_pooled="unprojected")
    if pooled is None:
        raise ClassifierError(f"clip does not contain a CLIP text encoder. {_COMPLETE_CLIP}")
    return pooled.float().cpu()


def _projection(files: list[Path], width: int) -> tuple[Path, torch.Tensor]:
    """The text projection (width, D) into the space of image embeddings, and the file that contains it.

    It is read from the file: if the file has none, the projection in ComfyUI's text encoder is uninitialised memory.
    """
    for file in files:
        try:
            with safe_open(file, "pt") as tensors:
                names = [name for name in tensors.keys() if name.endswith(_PROJECTIONS)]
                found = {name: tensors.get_tensor(name).float() for name in names}
        except SafetensorError:
            raise ClassifierError(f"{file.name} is not a safetensors file. {_COMPLETE_CLIP}") from None
        for name, matrix in found.items():
            matrix = matrix.T if name.endswith(".weight") else matrix  # OpenCLIP stores the transpose
            if matrix.shape[0] != width:
                continue
            if matrix.shape[1] == width and torch.allclose(matrix, torch.eye(width), atol=1e-3):
                raise ClassifierError(f"{file.name} has an empty text projection (the identity). {_COMPLETE_CLIP}")
            return file, matrix
    raise ClassifierError(
        f"{' and '.join(file.name for file in files)} has no CLIP text projection of width {width}, which is needed to "
        "compare texts with images. SD1.5 checkpoints and the usual clip_l.safetensors do not include it. "
        f"{_COMPLETE_CLIP}"
    )


def _files(clip: Any) -> list[Path]:
    """The files that a CLIP was loaded from: the first argument of the loader that ComfyUI keeps for reloading."""
    if clip.patcher.cached_patcher_init is None:
        raise ClassifierError(f"clip does not record which file it was loaded from. {_COMPLETE_CLIP}")
    paths = clip.patcher.cached_patcher_init[1][0]
    return [Path(path) for path in ([paths] if isinstance(paths, str) else paths)]

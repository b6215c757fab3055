"""CLIP models in transformers format: folders with config, tokenizer and weights in ComfyUI's model folders."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy import model_management

from ...respodiff_core.errors import ClassifierError, reason_of
from ...respodiff_core.measuring.image_classes import Embeddings
from ...respodiff_core.plain_text import quoted
from ..pictures.drawing import from_image

_KINDS = ("clip_vision", "text_encoders")
_BATCH_SIZE = 16  # images


def names() -> list[str]:
    """The available CLIP folders, as shown in the drop-down list: 'clip_vision/clip-vit-large-patch14'."""
    return sorted(_folders())


def fingerprint(name: str) -> str:
    """A string that changes with the config or the weights in the folder."""
    folder = _folders().get(name)
    if folder is None:
        return "missing"
    stats = [path.stat() for path in sorted([folder / "config.json", *folder.glob("*.safetensors")])]
    return f"{folder}:{[(stat.st_size, stat.st_mtime_ns) for stat in stats]}"


def embed(name: str, images: torch.Tensor, texts: list[str]) -> Embeddings:
    """Embeddings in fp32 of images (N, H, W, C), values in 0..1, and of texts. Raises ClassifierError."""
    folder = _folders().get(name)
    if folder is None:
        raise ClassifierError(
            f"There is no CLIP folder {quoted(name)}: it needs a config.json with the model type 'clip' and weights as "
            ".safetensors. Put the folder there and press R to refresh, or choose another folder."
        )
    model, processor = _load(str(folder), fingerprint(name))
    device = model_management.get_torch_device()
    model_management.free_memory(2 * sum(weight.nbytes for weight in model.parameters()), device)
    truncation = {"padding": True, "truncation": True, "max_length": model.config.text_config.max_position_embeddings}
    embeddings = []
    model.to(device)
    try:
        for part in images.split(_BATCH_SIZE):
            model_management.throw_exception_if_processing_interrupted()
            shown = [from_image(image) for image in part]
            output = model(**processor(text=texts, images=shown, return_tensors="pt", **truncation).to(device))
            embeddings.append(output.image_embeds.cpu())
    finally:
        model.to("cpu")
    return Embeddings(torch.cat(embeddings), output.text_embeds.cpu(), name)


@lru_cache(maxsize=1)
def _load(folder: str, _fingerprint: str) -> tuple[Any, Any]:
    """Model and processor, from local files only."""
    from safetensors import SafetensorError
    from transformers import CLIPModel, CLIPProcessor

    try:
        model, report = CLIPModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ClassifierError(
            f"{folder} cannot be read as a CLIP model ({reason_of(error)}). Download the whole folder again."
        ) from error
    # transformers substitutes random weights and an empty vocabulary for missing ones.
    gaps = []
    if missing := sorted(report["missing_keys"]):
        gaps.append(f"{len(missing)} weights are missing, for example {missing[0]}")
    if len(processor.tokenizer) < model.config.text_config.vocab_size:
        gaps.append("its tokenizer has no vocabulary")
    if gaps:
        raise ClassifierError(
            f"{folder} is not a complete CLIP model: {' and '.join(gaps)}. Download the whole folder again."
        )
    return model.float().train(False), processor


def _folders() -> dict[str, Path]:
    """The CLIP folders by name, found from the model files that ComfyUI lists."""
    found = {}
    for kind in _KINDS:
        for file in map(Path, folder_paths.get_filename_list(kind)):
            name = f"{kind}/{file.parent.as_posix()}"
            if file.suffix != ".safetensors" or file.parent == Path() or name in found:
                continue
            path = folder_paths.get_full_path(kind, str(file))
            if path is not None and _is_clip(Path(path).parent):
                found[name] = Path(path).parent
    return found


def _is_clip(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "clip"

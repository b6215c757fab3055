"""Base models on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from .base_model_error import BaseModelError

_WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
_SMALL = ["model_index.json", "*/*.json", "tokenizer*/*.txt"]


def snapshot(repo: str, revision: str | None) -> Path:
    """The local folder of a diffusers model on the Hub, downloaded if needed: only the files that are used, and in half
    precision if available. Raises BaseModelError.
    """
    halves = [f"{component}/{name}.fp16*" for component, name in _WEIGHTS.items()]
    folder = _download(repo, revision, [*_SMALL, *(f"{half}.safetensors" for half in halves)])
    parts = [component for component in _WEIGHTS if (folder / component).is_dir()]  # SDXL alone has text_encoder_2
    missing = [component for component in parts if not list((folder / component).glob("*.fp16*.safetensors"))]
    if missing:
        # A single file or numbered shards, but no named variants.
        ends = (".safetensors", "-0*.safetensors")
        folder = _download(repo, revision, [f"{part}/{_WEIGHTS[part]}{end}" for part in missing for end in ends])
    return folder


def _download(repo: str, revision: str | None, patterns: list[str]) -> Path:
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        raise BaseModelError(
            f"{repo}{at} is not a local folder and could not be downloaded from the Hugging Face Hub ({error}). Check "
            "the spelling and the network, log in if the model is gated, or name a checkpoint file on this machine."
        ) from error

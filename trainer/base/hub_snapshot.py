"""Base models on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
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


def file_from_the_hub(repo: str, revision: str | None, file: str) -> Path:
    """The local copy of one file of a repository on the Hub, downloaded if needed. Raises BaseModelError."""
    return _downloaded(lambda: hf_hub_download(repo, file, revision=revision), f"{repo}/{file}", revision)


def _download(repo: str, revision: str | None, patterns: list[str]) -> Path:
    return _downloaded(lambda: snapshot_download(repo, revision=revision, allow_patterns=patterns), repo, revision)


def _downloaded(download: Callable[[], str], repo: str, revision: str | None) -> Path:
    try:
        return Path(download())
    except (HfHubHTTPError, LocalEntryNotFoundError, HFValidationError, OSError) as error:
        at = f" at revision {revision}" if revision else ""
        raise BaseModelError(
            f"{repo}{at} is not a local folder and could not be downloaded from the Hugging Face Hub ({error}). Check "
            "the spelling and the network, log in if the model is gated, or name a checkpoint file on this machine."
        ) from error

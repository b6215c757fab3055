"""Which file a MODEL was loaded from, for the metadata of what is trained on it."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from comfy.model_patcher import ModelPatcher

from ...respodiff_core.hashes import sha256_of


def base_facts(model: ModelPatcher) -> dict[str, str]:
    """The file's name, and its hash unless LoRAs or merged weights changed what was in it. Empty for a MODEL that does
    not record its file.
    """
    path = _file_of(model)
    if path is None:
        return {}
    if model.patches:
        return {"base_model": f"{path.stem} with LoRA or merged weights"}
    stat = path.stat()
    return {"base_model": path.stem, "base_sha256": _hash(str(path), stat.st_size, stat.st_mtime_ns)}


def _file_of(model: ModelPatcher) -> Path | None:
    """The file in the arguments of the loader, which ComfyUI keeps for loading the model again."""
    _, arguments, *_ = model.cached_patcher_init or (None, ())
    first = arguments[0] if arguments else None
    return Path(first) if isinstance(first, str) and os.path.isfile(first) else None


@lru_cache(maxsize=16)
def _hash(path: str, _size: int, _changed: int) -> str:
    return sha256_of(Path(path))

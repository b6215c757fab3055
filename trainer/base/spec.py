"""What names a base model: a checkpoint file, a diffusers folder, a model on the Hub, or a built-in one.

Nothing heavy is imported here, so that commands can refuse a name before the model libraries load.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .errors import BaseModelError

SUFFIX = ".safetensors"
BUILT_IN = {name: Path(__file__).parents[1] / name / "model" for name in ("toyworld",)}
"""The base models that come with this package: diffusers folders by name."""
BASES = (
    f"a {SUFFIX} checkpoint, a diffusers folder, a model on the Hugging Face Hub (owner/name), or {', '.join(BUILT_IN)}"
)
"""What a base model may be named by, in words."""
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_FILES = (SUFFIX, ".ckpt", ".pth", ".pt", ".bin")


@dataclass(frozen=True)
class HubModel:
    """A model on the Hugging Face Hub; no revision is the newest."""

    repo: str
    revision: str | None


def locate(spec: str | Path) -> Path | HubModel:
    """The file, folder or Hub model that `spec` names; neither opened nor downloaded. Raises BaseModelError."""
    if spec in BUILT_IN:
        return BUILT_IN[str(spec)]
    path = Path(spec).expanduser()
    if path.is_file() or path.is_dir():
        return path
    hub_id = _HUB_ID.fullmatch(str(spec))
    if hub_id and path.suffix not in _FILES:
        return HubModel(hub_id["repo"], hub_id["revision"])
    raise BaseModelError(f"There is no file or folder {spec}. Name {BASES}, the model that comes with this package.")

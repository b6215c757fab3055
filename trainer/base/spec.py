"""How a base model is named: a checkpoint file, a diffusers folder, a model on the Hub, or a built-in one.

No heavy imports, so that commands can refuse a name before the model libraries are loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .base_model_error import BaseModelError

SUFFIX = ".safetensors"
BUILT_IN = {name: Path(__file__).parents[1] / name / "comfyui_pack" / "model" for name in ("toyworld",)}
"""The base models in this package: diffusers folders by name."""
BASES = (
    f"a {SUFFIX} checkpoint, a diffusers folder, a model on the Hugging Face Hub (owner/name), or {', '.join(BUILT_IN)}"
)
"""The kinds of base models, for messages and help texts."""
_FILES = (SUFFIX, ".ckpt", ".pth", ".pt", ".bin")


_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./+-]+))?", re.ASCII)


@dataclass(frozen=True)
class HubId:
    """A Hugging Face Hub repository with an optional branch, tag or commit (None: the newest)."""

    repo: str
    revision: str | None = None

    @classmethod
    def match(cls, text: object) -> HubId | None:
        """Parse `owner/name` or `owner/name@revision`; None if the text is neither."""
        found = _HUB_ID.fullmatch(text) if isinstance(text, str) else None
        return cls(found["repo"], found["revision"]) if found else None


def locate(spec: str | Path) -> Path | HubId:
    """The path or Hub id of `spec`, neither opened nor downloaded. Raises BaseModelError."""
    if spec in BUILT_IN:
        return BUILT_IN[str(spec)]
    path = Path(spec).expanduser()
    if path.is_file() or path.is_dir():
        return path
    if (hub_id := HubId.match(str(spec))) and path.suffix not in _FILES:
        return hub_id
    raise BaseModelError(f"There is no file or folder {spec}. Name {BASES} (built in).")

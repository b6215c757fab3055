"""How a base model is named: a checkpoint file, a diffusers folder, a model on the Hub, or a built-in one.

No heavy imports, so that commands can refuse a name before the model libraries are loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ...respodiff_core.names import SUFFIX
from .base_model_error import BaseModelError

BUILT_IN = {name: Path(__file__).parents[1] / name / "comfyui_pack" / "model" for name in ("toyworld",)}
"""The base models in this package: diffusers folders by name."""
BASES = (
    f"a {SUFFIX} checkpoint, a diffusers folder, a model on the Hugging Face Hub (owner/name), or {', '.join(BUILT_IN)}"
)
"""The kinds of base models, for messages and help texts."""
_FILES = (SUFFIX, ".sft", ".ckpt", ".pth", ".pt", ".bin", ".gguf")


_REPO = r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
_HUB_ID = re.compile(rf"{_REPO}(@(?P<revision>[\w./+-]+))?", re.ASCII)
# A model's page, its files at a revision, or one file as its page links it.
_HUB_PAGE = re.compile(
    rf"https?://(www\.)?(huggingface\.co|hf\.co)/{_REPO}"
    r"(/(tree|blob|resolve)/(?P<revision>[^/?#]+)(/(?P<file>[^?#]+))?)?/?([?#].*)?",
    re.ASCII,
)


@dataclass(frozen=True)
class HubId:
    """A Hugging Face Hub repository with an optional branch, tag or commit (None: the newest), or a file in it."""

    repo: str
    revision: str | None = None
    file: str | None = None

    @property
    def name(self) -> str:
        """`owner/name`, with the revision and the file, if any."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.repo}{revision}" + (f"/{self.file}" if self.file else "")

    @classmethod
    def match(cls, text: object) -> HubId | None:
        """Parse `owner/name`, `owner/name@revision` or a web address of the Hub; None if the text is none of them."""
        if not isinstance(text, str):
            return None
        if page := _HUB_PAGE.fullmatch(text.strip()):
            return cls(page["repo"], page["revision"], page["file"])
        found = _HUB_ID.fullmatch(text)
        return cls(found["repo"], found["revision"]) if found else None


def locate(spec: str | Path) -> Path | HubId:
    """The path or Hub id of `spec`, neither opened nor downloaded. Raises BaseModelError."""
    if spec in BUILT_IN:
        return BUILT_IN[str(spec)]
    path = Path(spec).expanduser()
    if path.is_file() or path.is_dir():
        return path
    hub_id = HubId.match(str(spec))
    if hub_id and (hub_id.file or path.suffix.lower() not in _FILES):
        return hub_id
    raise BaseModelError(f"There is no file or folder {spec}. Name {BASES} (built in).")


def file_named(spec: str | Path) -> Path:
    """The file of this path. Raises BaseModelError."""
    path = Path(spec).expanduser()
    if not path.is_file():
        raise BaseModelError(f"There is no file {spec}.")
    return path

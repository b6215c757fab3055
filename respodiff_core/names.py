"""The words of the file format and of training, and what concepts may be called. Loads no torch."""

from __future__ import annotations

import unicodedata
from typing import Literal, get_args

from .errors import AdapterFileError
from .plain_text import quoted

SUFFIX = ".safetensors"
Category = Literal["fairness", "safety", "other"]
CATEGORIES: tuple[str, ...] = get_args(Category)
Kind = Literal["constant", "channel", "mlp", "conv"]
"""What RAM and SAM are: see `adapter.transforms`."""
Site = Literal["middle", "cross-attention"]
"""Where a concept acts: h, the output of the middle block, or what cross-attention layers add."""
SITES: tuple[Site, ...] = get_args(Site)
MIDDLE: Site = "middle"
Operation = Literal["add", "move"]
"""What a concept does there: add a tensor, or exchange the share along a direction for a level."""
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
Update = Literal["sequential", "joint", "shared"]
"""The order of RAM's and SAM's updates: see `learning.learner`."""
Rollout = Literal["pool", "reference"]
"""Where the states to train on come from: see `learning.trajectories`."""

MOST_GROUPS = 16
"""Maximum number of groups of an axis that is contrasted: memory grows with each."""
MOST_SCALES = 16
"""Maximum number of guidance scales that a concept has factors for."""
_NAME_LENGTH = 64
# A dot separates the concept's name from the parameter names of its tensors; the others are unsafe in file names.
NAME_FORBIDS = frozenset('./\\:*?"<>|')


def check_name(name: object) -> str:
    """The name itself if it is a valid concept name. Raises AdapterFileError, which states the violated rule."""
    if not isinstance(name, str) or not name or len(name) > _NAME_LENGTH:
        raise AdapterFileError(f"A concept name must have 1 to {_NAME_LENGTH} characters, not {quoted(name)}.")
    bad = sorted({c for c in name if c in NAME_FORBIDS or not (c == " " or c.isprintable())})
    if bad:
        raise AdapterFileError(
            f"The concept name {quoted(name)} contains {', '.join(map(repr, bad))}, which is not allowed in names."
        )
    if name != name.strip() or name != unicodedata.normalize("NFC", name):
        raise AdapterFileError(f"The concept name {quoted(name)} starts or ends with a space or is not NFC-normalised.")
    return name


def check_axis(axis: str) -> None:
    """Raise AdapterFileError unless the text is a valid name of an axis."""
    if len(axis) > _NAME_LENGTH or not axis.isprintable():
        raise AdapterFileError(f"An axis must be at most {_NAME_LENGTH} printable characters, not {quoted(axis)}.")

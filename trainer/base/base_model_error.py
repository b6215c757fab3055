"""The error for unsuitable base models."""

from __future__ import annotations

from ...respodiff_core.errors import RespoDiffError

SUPPORTED = "Use a Stable Diffusion 1.x, 2.x or XL base model."
"""What to do instead, for messages."""


class BaseModelError(RespoDiffError):
    """The given file, folder or Hub model cannot be used as a base model."""


BaseModelError.__module__ = "respodiff"

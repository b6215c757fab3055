"""The error of base models."""

from __future__ import annotations

from ...respodiff_core.errors import RespoDiffError


class BaseModelError(RespoDiffError):
    """What was named cannot be used as a base model."""


BaseModelError.__module__ = "respodiff"

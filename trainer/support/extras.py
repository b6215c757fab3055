"""Packages that only evaluation needs, installed with `pip install "respodiff[eval]"`."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from ...respodiff_core.errors import RespoDiffError, reason_of


def import_optional(module: str) -> ModuleType:
    """Import a module of an optional package. Raises RespoDiffError if it cannot be imported."""
    try:
        return import_module(module)
    except ImportError as error:
        raise RespoDiffError(
            f"{module.partition('.')[0]} is required and cannot be imported ({reason_of(error)}). "
            'Run `pip install "respodiff[eval]"`.'
        ) from error

"""Where only torch, safetensors and numpy are installed, as in a ComfyUI. Run by `make matrix` alone."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil

import pytest
from respodiff import respodiff_core

MODULES = [found.name for found in pkgutil.walk_packages(respodiff_core.__path__, "respodiff.respodiff_core.")]


@pytest.mark.parametrize("library", ["diffusers", "transformers", "accelerate", "pydantic", "typer", "PIL", "scipy"])
def test_nothing_else_is_there(library):
    assert importlib.util.find_spec(library) is None


@pytest.mark.parametrize("module", MODULES)
def test_every_module_of_the_core_can_be_imported(module):
    importlib.import_module(module)

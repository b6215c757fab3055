"""What the package promises to those who install it: nothing extra, nothing generic, nothing slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def modules_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_node_pack_adds_nothing_to_a_comfyui_install():
    assert PROJECT["project"]["dependencies"] == []
    assert not (ROOT / "requirements.txt").exists()


def test_every_package_is_listed_and_lives_below_respodiff():
    rooms = {
        ".".join(("respodiff", *path.parent.relative_to(ROOT).parts))
        for room in ("nodes", "respodiff_core", "trainer")
        for path in (ROOT / room).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {"respodiff"} | rooms


def test_importing_the_package_loads_nothing_heavy():
    loaded = modules_after("import respodiff")
    assert not loaded & {"torch", "numpy", "comfy", "diffusers", "transformers"}


CORE = sorted(path.stem for path in (ROOT / "respodiff_core").glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("module", CORE)
def test_the_core_knows_neither_comfyui_nor_diffusers(module):
    loaded = modules_after(f"import respodiff.respodiff_core.{module}")
    assert not {name for name in loaded if name.split(".")[0] in {"comfy", "comfy_api", "diffusers", "transformers"}}

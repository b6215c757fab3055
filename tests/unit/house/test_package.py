"""What the package promises to those who install it: nothing extra, nothing generic, nothing slow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from pkgutil import walk_packages

from respodiff import respodiff_core
from respodiff.trainer.recipes.strict import parse_toml

ROOT = Path(__file__).parents[3]
PROJECT = parse_toml((ROOT / "pyproject.toml").read_text())


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


def test_every_file_that_the_program_reads_is_packed():
    """`make matrix` looks into the wheel itself; this is what can be known without building it."""
    there = {
        path for room in ("nodes", "respodiff_core", "trainer") for path in (ROOT / room).rglob("*") if path.is_file()
    }
    data = {path for path in there if path.suffix != ".py" and "__pycache__" not in path.parts}
    packed = {
        path
        for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
        if path.is_file()
    }
    assert packed == data


def test_importing_the_package_loads_nothing_heavy():
    loaded = modules_after("import respodiff")
    assert not loaded & {"torch", "numpy", "comfy", "diffusers", "transformers"}


def test_the_core_knows_neither_comfyui_nor_diffusers():
    """None of its modules: all are imported, in one process."""
    core = {module.name for module in walk_packages(respodiff_core.__path__, "respodiff.respodiff_core.")}
    loaded = modules_after("import " + ", ".join(core))
    assert core <= loaded
    assert not {name for name in loaded if name.split(".")[0] in {"comfy", "comfy_api", "diffusers", "transformers"}}

"""The cells of the matrix: a Python, and the oldest or the newest libraries that pyproject.toml allows."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
CORE = ("torch", "safetensors", "numpy")  # all that the nodes' own code needs, and ComfyUI has
EXTRAS = ("train", "eval")
# Of the extra dev, what runs the tests, and what tests beyond the core's import.
TOOLS = ("pytest", "pytest-timeout", "hypothesis")
FURTHER_TOOLS = ("torchmetrics", "pathspec")
SHOWN = ("torch", "numpy", "safetensors", "diffusers", "transformers")


class Cell(NamedTuple):
    """One environment to test in. `libraries`: "oldest" or "newest"."""

    python: str
    libraries: str

    @property
    def name(self) -> str:
        return f"{self.python}-{self.libraries}"


CELLS = [Cell(python, libraries) for python in ("3.10", "3.11", "3.12", "3.13") for libraries in ("oldest", "newest")]
# Torch's wheels are what fills a disk: these are what CI-sized machines can hold, the ends of both ranges.
DEFAULT = ("3.10-oldest", "3.11-newest", "3.12-newest", "3.13-newest")


def extra(name: str) -> list[str]:
    """The requirements of one of the project's extras, without those that name another."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [text for text in project["optional-dependencies"][name] if not text.startswith("respodiff[")]


def package_of(requirement: str) -> str:
    """What a requirement asks for: "torch" of "torch>=2.4"."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def at_its_oldest(requirement: str) -> str:
    """The same requirement, allowing nothing but its lower bound. Raises ValueError where it has none."""
    pinned, bounds = re.subn(r">=\s*([\w.]+)[^;]*?(?=\s*(;|$))", r"==\1", requirement)
    if not bounds:
        raise ValueError(f"{requirement!r} has no lower bound (>=), so its oldest version cannot be tested.")
    return pinned


def requirements(libraries: str, core_alone: bool) -> list[str]:
    """What pip is asked for: all that the extras need, or what the core needs and nothing else."""
    asked = [text for name in EXTRAS for text in extra(name)]
    if core_alone:
        asked = [text for text in asked if package_of(text) in CORE]
    if libraries == "oldest":
        asked = [at_its_oldest(text) for text in asked]
    # The tools are not what is tested: they come as they are today.
    tools = TOOLS if core_alone else (*TOOLS, *FURTHER_TOOLS)
    return asked + [text for text in extra("dev") if package_of(text) in tools]

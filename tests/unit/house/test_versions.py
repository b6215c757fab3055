"""docs/versions.md says the range that pyproject.toml enforces, and what the tests run on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matrix.cells import CELLS, EXTRAS, extra
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from respodiff.trainer.comfyui.source import PINNED
from respodiff.trainer.recipes.strict import parse_toml

ROOT = Path(__file__).parents[3]
PYPROJECT = parse_toml((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
ASKED = {one.name: one.specifier for name in EXTRAS for one in map(Requirement, extra(name))}
PAGE = (ROOT / "docs" / "versions.md").read_text("utf-8")
SUPPORTED = dict(re.findall(r"^\| (\S+) \| ([^|]+) \|$", PAGE, re.MULTILINE))
# What make test runs in, and what make matrix does.
TESTED = re.search(r"in ComfyUI (\S+) and (\S+)\.\n", PAGE).groups()
BETWEEN = re.search(r"runs the tests in ComfyUI (\S+),", PAGE).groups()
PYTHONS = [text.rsplit(" ", 1)[1] for text in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", text)]


@pytest.mark.parametrize("library", [name for name in SUPPORTED if name not in ("Python", "ComfyUI")])
def test_the_page_says_the_bounds_that_pip_keeps_to(library):
    assert SpecifierSet(SUPPORTED[library]) == ASKED[library]


@pytest.mark.parametrize("library", ["torch", "numpy", "safetensors", "diffusers", "transformers"])
def test_the_page_names_what_adapters_and_models_depend_on(library):
    assert library in SUPPORTED


def test_the_page_the_classifiers_and_the_matrix_name_the_same_pythons():
    first, last = SUPPORTED["Python"].split(" to ")
    assert (first, last) == (PYTHONS[0], PYTHONS[-1])
    assert {cell.python for cell in CELLS} == set(PYTHONS)
    too_new = f"3.{int(last.removeprefix('3.')) + 1}"
    assert SpecifierSet(PROJECT["requires-python"]) == SpecifierSet(f">={first},<{too_new}")


def test_the_page_says_which_comfyui_is_supported_and_which_are_tested():
    supported = SpecifierSet(PYPROJECT["tool"]["comfy"]["requires-comfyui"])
    assert SpecifierSet(SUPPORTED["ComfyUI"]) == supported
    assert {*TESTED, *BETWEEN} == set(PINNED)
    assert all(Version(version) in supported for version in PINNED)


def test_make_test_and_make_matrix_run_in_the_comfyui_versions_of_the_page():
    makefile = (ROOT / "Makefile").read_text()
    for variable, versions in (("export RESPODIFF_HOSTS", TESTED), ("MATRIX_HOSTS", BETWEEN)):
        hosts = re.search(rf"^{variable} \?= (.+)$", makefile, re.MULTILINE)[1]
        assert set(hosts.split()) == set(versions)


def test_the_readme_says_the_same_range():
    said = re.search(r"^## Versions\n\n(.+?)\n\n", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL)[1]
    oldest = dict(re.findall(r"(ComfyUI|torch|diffusers|transformers)\s+([\d.]+)", said))
    assert {name: Version(version) for name, version in oldest.items()} == {
        name: min(Version(one.version) for one in SpecifierSet(SUPPORTED[name]) if one.operator == ">=")
        for name in ("ComfyUI", "torch", "diffusers", "transformers")
    }
    assert re.search(r"Python ([\d.]+ to [\d.]+)", said)[1] == SUPPORTED["Python"]

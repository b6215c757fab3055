"""The matrix of versions: which cells there are, what is asked of pip, which tests need what."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from matrix import selection
from matrix.cells import CELLS, CORE, DEFAULT, ROOT, at_its_oldest, extra, package_of, requirements
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


@pytest.mark.parametrize(
    ("asked", "oldest"),
    [
        ("torch>=2.4", "torch==2.4"),
        ("diffusers>=0.32,<1", "diffusers==0.32"),
        ("tomli>=2.0; python_version < '3.11'", "tomli==2.0; python_version < '3.11'"),
        ("scipy >= 1.15, <1.18 ; python_version < '3.14'", "scipy ==1.15 ; python_version < '3.14'"),
    ],
)
def test_the_oldest_is_the_lower_bound_and_nothing_else(asked, oldest):
    assert at_its_oldest(asked) == oldest


def test_a_requirement_without_a_lower_bound_cannot_be_tested():
    with pytest.raises(ValueError, match="no lower bound"):
        at_its_oldest("torch<3")


@pytest.mark.parametrize("extra_name", ["train", "eval"])
def test_the_oldest_cell_pins_every_library_that_users_install(extra_name):
    pinned = {Requirement(text).name: Requirement(text).specifier for text in requirements("oldest", core_alone=False)}
    for text in extra(extra_name):
        asked = Requirement(text)
        (pin,) = pinned[asked.name]
        assert pin.operator == "=="
        assert pin.version in asked.specifier
        assert pin.version in {bound.version for bound in asked.specifier if bound.operator == ">="}


def test_the_newest_cell_asks_for_what_the_project_asks_for():
    assert {*extra("train"), *extra("eval")} < set(requirements("newest", core_alone=False))


@pytest.mark.parametrize("libraries", ["oldest", "newest"])
def test_the_core_alone_gets_what_comfyui_has_and_a_test_runner(libraries):
    names = {package_of(text) for text in requirements(libraries, core_alone=True)}
    assert names == {*CORE, "pytest", "pytest-timeout", "hypothesis"}


def test_tests_of_the_core_are_told_by_what_they_import():
    core = selection.core_alone()
    assert {
        "tests/unit/respodiff_core/steering/test_steering.py",
        "tests/unit/respodiff_core/adapter/test_adapter_file.py",
    } < set(core)
    # diffusers through a helper, and the command line's rooms
    assert not {
        "tests/unit/respodiff_core/learning/test_objective.py",
        "tests/unit/trainer/recipes/test_recipe.py",
    } & set(core)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 does not know of all packages who installed them")
def test_what_the_unit_tests_import_is_installed_in_every_cell():
    asked = [Requirement(text) for text in requirements("newest", core_alone=False)]
    here = [one for one in asked if one.marker is None or one.marker.evaluate()]
    installed = {name for one in here for name in with_what_it_needs(one.name, frozenset(one.extras))}
    distributions = packages_distributions()
    for file in (ROOT / "tests" / "unit").rglob("test_*.py"):
        for package in selection.needs(file) - {"fuzz", "matrix", "nodes", "comfy"}:
            names = {canonicalize_name(name) for name in distributions.get(package.partition(".")[0], ())}
            assert names & {*installed, "respodiff"}, f"{file.name} imports {package}, which no cell has"


@cache
def with_what_it_needs(name: str, extras: frozenset[str] = frozenset()) -> frozenset[str]:
    """The distribution of that name and all that pip installs with it."""
    found = {canonicalize_name(name)}
    for text in requires(name) or ():
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            found |= with_what_it_needs(one.name, frozenset(one.extras))
    return frozenset(found)


def test_chosen_tests_exist():
    for test in (*selection.core_alone(), *selection.everything()):
        path, _, function = test.partition("::")
        assert (ROOT / path).exists(), test
        assert not function or f"def {function}(" in (ROOT / path).read_text("utf-8"), test


def test_the_default_holds_both_ends_of_both_ranges():
    chosen = [cell for cell in CELLS if cell.name in DEFAULT]
    assert len(chosen) == len(DEFAULT)
    assert {cell.libraries for cell in chosen} == {"oldest", "newest"}
    assert {cell.python for cell in chosen} == {cell.python for cell in CELLS}


@pytest.mark.skipif(importlib.util.find_spec("nox") is None, reason="nox runs the cells and is in none of them")
def test_nox_knows_every_cell_and_runs_the_default_ones():
    noxfile = Path("tests", "matrix", "noxfile.py")
    command = [sys.executable, "-m", "nox", "-f", noxfile, "--list"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[:2] for line in listed.splitlines() if " -> " in line] == [
        ["*" if cell.name in DEFAULT else "-", cell.name] for cell in CELLS
    ]

"""The matrix of versions: what is asked of pip, which Python runs it, which tests need what."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from matrix import run, selection
from matrix.cells import CORE, DEFAULT, ROOT, Cell, at_its_oldest, extra, package_of, requirements
from matrix.environments import Contradiction, NotBuilt
from matrix.pythons import find_python
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

THIS = f"{sys.version_info.major}.{sys.version_info.minor}"
OLDEST = Cell("3.10", "oldest")


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
    pinned = {Requirement(text).name: Requirement(text).specifier for text in requirements(OLDEST, core_alone=False)}
    for text in extra(extra_name):
        asked = Requirement(text)
        (pin,) = pinned[asked.name]
        assert pin.operator == "=="
        assert pin.version in asked.specifier
        assert pin.version in {bound.version for bound in asked.specifier if bound.operator == ">="}


def test_the_newest_cell_asks_for_what_the_project_asks_for():
    assert {*extra("train"), *extra("eval")} < set(requirements(Cell("3.13", "newest"), core_alone=False))


@pytest.mark.parametrize("libraries", ["oldest", "newest"])
def test_the_core_alone_gets_what_comfyui_has_and_a_test_runner(libraries):
    names = {package_of(text) for text in requirements(Cell("3.12", libraries), core_alone=True)}
    assert names == {*CORE, "pytest", "pytest-timeout", "hypothesis"}


@pytest.mark.parametrize("name", ["3.12", "oldest", "2.7-oldest", "3.12-middle"])
def test_an_unknown_cell_is_refused(name):
    with pytest.raises(ValueError, match=r"such as 3\.12-newest"):
        Cell.named(name)


def test_a_shim_that_starts_nothing_is_passed_over(tmp_path, monkeypatch):
    shims, real = tmp_path / "shims", tmp_path / "real"
    version = "3.99"
    for folder, script in ((shims, "exit 127"), (real, f"echo {version}")):
        folder.mkdir()
        (folder / f"python{version}").write_text(f"#!/bin/sh\n{script}\n")
        (folder / f"python{version}").chmod(0o755)
    monkeypatch.setenv("PATH", str(shims))
    assert find_python(version) is None
    monkeypatch.setenv("PATH", f"{shims}:{real}")
    assert find_python(version) == real / f"python{version}"


def test_the_running_python_is_found_without_a_path(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert find_python(THIS) == Path(sys.executable)


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
    asked = [Requirement(text) for text in requirements(Cell("3.13", "newest"), core_alone=False)]
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


@pytest.fixture
def outcome_of(monkeypatch, tmp_path):
    """The exit code of the matrix, and what it prints, where building or testing ends as told."""
    monkeypatch.setattr(run, "build_wheel", lambda python: tmp_path / "respodiff.whl")
    monkeypatch.setattr(run, "find_python", lambda version: None if version == "3.99" else Path(sys.executable))

    class Full:
        @staticmethod
        def versions():
            return {"python": "3.12.1", "torch": "2.4.0"}

    def told(names, built=None, passed=True):
        def build(*_):
            if built:
                raise built
            return Full, Full

        monkeypatch.setattr(run, "build", build)
        monkeypatch.setattr(run, "run_tests", lambda *_: (passed, "7 passed" if passed else "1 failed"))
        return run.main(names)

    return told


@pytest.mark.parametrize(
    ("names", "built", "passed", "code", "said"),
    [
        (["3.12-newest"], None, True, 0, "| 3.12-newest | passed | 3.12.1 | 2.4.0 |"),
        (["3.12-newest"], None, False, 1, "| 3.12-newest | FAILED |"),
        (["3.12-newest", "3.99-newest"], None, True, 0, "| 3.99-newest | no interpreter |"),
        (["3.12-newest"], NotBuilt("no wheels", "No matching distribution"), True, 1, "| 3.12-newest | no wheels |"),
        (["3.12-newest"], Contradiction("a needs b<1"), True, 1, "| 3.12-newest | FAILED |"),
        (["3.99-newest"], None, True, 1, "| 3.99-newest | no interpreter |"),
    ],
    ids=["passed", "failed", "one not there", "no wheels", "contradiction", "none there"],
)
def test_a_failure_is_an_exit_code_and_what_could_not_be_built_is_said(
    outcome_of, capsys, names, built, passed, code, said
):
    assert outcome_of(names, built, passed) == code
    printed = " ".join(capsys.readouterr().out.split())
    assert said in printed


def test_the_default_holds_both_ends_of_both_ranges():
    cells = [Cell.named(name) for name in DEFAULT]
    assert {cell.libraries for cell in cells} == {"oldest", "newest"}
    assert {cell.python for cell in cells} == {"3.10", "3.11", "3.12", "3.13"}

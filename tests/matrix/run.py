"""`make matrix`: the project's tests with the oldest and the newest libraries that it allows, on several Pythons.

Prints a table of cells. Exit code 1 where a cell failed or none could be built; what could not be built is said.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from . import selection
from .cells import DEFAULT, SHOWN, Cell, table
from .environments import FOLDER, Contradiction, Environment, NotBuilt, build, build_wheel
from .pythons import find_python

PASSED, FAILED = "passed", "FAILED"


class Outcome(NamedTuple):
    """What came of a cell."""

    cell: Cell
    state: str
    core: str = ""
    full: str = ""
    versions: Mapping[str, str] = MappingProxyType({})

    def row(self) -> list[str]:
        shown = [self.versions.get(name, "") for name in ("python", *SHOWN)]
        return [self.cell.name, self.state, *shown, self.core, self.full]


def main(names: Sequence[str]) -> int:
    """Run the cells of these names, and return the exit code."""
    cells = [Cell.named(name) for name in names]
    print(f"Building the wheel; logs and environments lie in {FOLDER} (about 6 GB a cell).", flush=True)
    wheel = build_wheel(Path(sys.executable))
    outcomes = []
    for cell in cells:
        print(f"\n{cell.name}", flush=True)
        outcomes.append(run(cell, wheel))
    print("\n" + table(["cell", "", "Python", *SHOWN, "core alone", "all"], [outcome.row() for outcome in outcomes]))
    states = {outcome.state for outcome in outcomes}
    return 1 if FAILED in states or PASSED not in states else 0


def run(cell: Cell, wheel: Path) -> Outcome:
    """Build a cell's environments and run its tests."""
    python = find_python(cell.python)
    if python is None:
        print(f"  no interpreter: put a python{cell.python} on PATH to run this cell")
        return Outcome(cell, "no interpreter")
    try:
        core, full = build(cell, python, wheel)
    except NotBuilt as error:
        print(f"  {error.state}: {error}")
        return Outcome(cell, error.state)
    except Contradiction as error:
        print(f"  the bounds in pyproject.toml contradict each other: {error}")
        return Outcome(cell, FAILED)
    core_passed, core_said = run_tests(core, selection.core_alone(), FOLDER / cell.name / "core.log")
    full_passed, full_said = run_tests(full, selection.everything(), FOLDER / cell.name / "full.log")
    return Outcome(cell, PASSED if core_passed and full_passed else FAILED, core_said, full_said, full.versions())


def run_tests(environment: Environment, tests: Sequence[str], log: Path) -> tuple[bool, str]:
    """Run tests in an environment. Returns whether they passed, and what pytest counted ("843 passed")."""
    done = environment.run("-m", "pytest", "-p", "no:cacheprovider", *tests, log=log)
    lines = log.read_text("utf-8", "replace").splitlines()
    counts = re.findall(r"\d+ (?:passed|failed|skipped|errors?)", lines[-1] if lines else "")
    said = ", ".join(counts) or "no test ran"
    print(f"  {log.stem}: {said}", flush=True)
    if done.returncode:
        print("\n".join(["", *(f"    {line}" for line in lines[-40:]), f"    All of it: {log}"]))
    return done.returncode == 0, said


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make matrix", description=__doc__)
    parser.add_argument("cells", nargs="*", default=DEFAULT, help="such as 3.10-oldest (all by default)")
    try:
        sys.exit(main(parser.parse_args().cells))
    except ValueError as error:
        parser.error(str(error))

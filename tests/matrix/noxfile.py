"""`make matrix`: the project's tests with the oldest and the newest libraries that it allows, on several Pythons.

Each session is a cell of the matrix, in a virtual environment made anew; a Python that is not there is skipped.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nox

sys.path.append(str(Path(__file__).parents[1]))
from matrix import selection
from matrix.cells import CELLS, DEFAULT, ROOT, SHOWN, Cell, requirements

nox.options.envdir = str(Path(os.environ.get("RESPODIFF_CACHE") or ROOT / ".cache").resolve() / "matrix")
nox.options.error_on_missing_interpreters = False

NOT_SOURCES = shutil.ignore_patterns(".*", "build", "dist", "out", "*.egg-info", "__pycache__", "tests")
# A row of the table in docs/versions.md.
VERSIONS = """
import platform, sys
from importlib.metadata import version
print("|", " | ".join([sys.argv[1], platform.python_version(), *map(version, sys.argv[2:])]), "|")
"""


def define(cell: Cell) -> None:
    """Make the cell a session of its name."""

    @nox.session(name=cell.name, python=cell.python, default=cell.name in DEFAULT, download_python="never")
    def test(session: nox.Session) -> None:
        """Test the core where nothing else is, then everything."""
        session.chdir(ROOT)
        install(session, requirements(cell.libraries, core_alone=True))
        install_project(session)
        pytest(session, selection.core_alone())
        install(session, requirements(cell.libraries, core_alone=False))
        pytest(session, selection.everything())
        session.run("python", "-c", VERSIONS, cell.name, *SHOWN)


def install(session: nox.Session, asked: list[str]) -> None:
    """Install wheels alone: without them a package would be compiled, with whatever compilers are there."""
    session.install("--only-binary", ":all:", *asked)


def install_project(session: nox.Session) -> None:
    """Install the wheel that users get, made from a copy of the sources: a build folder would add its old files."""
    with tempfile.TemporaryDirectory() as folder:
        sources = shutil.copytree(ROOT, Path(folder, "respodiff"), ignore=NOT_SOURCES)
        session.install("--no-deps", str(sources))


def pytest(session: nox.Session, tests: list[str]) -> None:
    """Run tests; the source tree is not on the path."""
    # One thread: the models are small, and threads that wait for each other cost several times what they bring.
    environment = {"PYTHONPATH": None, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    session.run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, env=environment)


for each in CELLS:
    define(each)

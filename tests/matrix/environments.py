"""The virtual environments of a cell: one with what the core needs alone, and all that the extras ask for on top."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .cells import ROOT, SHOWN, Cell, requirements

FOLDER = Path(os.environ.get("RESPODIFF_CACHE") or ROOT / ".cache").resolve() / "matrix"
_NOT_SOURCES = shutil.ignore_patterns(".*", "build", "dist", "out", "*.egg-info", "__pycache__", "tests")
# Of two versions of a library, the upper environment's is imported, and it is what version() finds.
_VERSIONS = """
import json, platform, sys
from importlib.metadata import version
print(json.dumps({"python": platform.python_version(), **{name: version(name) for name in sys.argv[1:]}}))
"""


class NotBuilt(RuntimeError):
    """The environment cannot be had here; `state` says in a word or two why."""

    def __init__(self, state: str, reason: str) -> None:
        super().__init__(reason)
        self.state = state


class Contradiction(RuntimeError):
    """The bounds in pyproject.toml cannot be met together: an error of the project."""


class Environment:
    """A virtual environment that is kept as long as what was asked for stays the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"

    def build(self, python: Path, asked: Sequence[str], below: Environment | None = None) -> None:
        """Install what is asked for, upgrading what may be newer by now; `below` is seen from inside, not copied.

        Raises NotBuilt or Contradiction.
        """
        stamp = self.folder / "asked.json"
        wanted = json.dumps([str(python), *asked], indent=0)
        if not stamp.exists() or stamp.read_text() != wanted:
            # From nothing: what is no longer asked for must not stay behind and hide that it is missing.
            shutil.rmtree(self.folder, ignore_errors=True)
            subprocess.run([python, "-m", "venv", self.folder], check=True)
            if below is not None:
                (self._site_packages() / "below.pth").write_text(f"{below._site_packages()}\n")
            self._pip("install", "--upgrade", "pip")
            stamp.write_text(wanted)
        newest = ("--upgrade", "--upgrade-strategy", "eager")
        # Wheels alone: without them a package would be compiled, with whatever compilers are there.
        self._pip("install", "--only-binary", ":all:", *newest, *asked)

    def install(self, wheel: Path) -> None:
        """Put the project itself in, as its users get it."""
        self._pip("install", "--no-deps", "--force-reinstall", str(wheel))

    def run(self, *arguments: object, log: Path) -> subprocess.CompletedProcess[bytes]:
        """Run Python with these arguments; all that it says goes to `log`. The source tree is not on its path."""
        # One thread: the models are small, and threads that wait for each other cost several times what they bring.
        env = {"OMP_NUM_THREADS": "1", **os.environ}
        env.pop("PYTHONPATH", None)
        with log.open("wb") as said:
            return subprocess.run([self.python, *map(str, arguments)], cwd=ROOT, env=env, stdout=said, stderr=said)

    def versions(self) -> dict[str, str]:
        """Of Python, and of the libraries that the table shows."""
        done = subprocess.run([self.python, "-c", _VERSIONS, *SHOWN], capture_output=True, text=True, check=True)
        versions: dict[str, str] = json.loads(done.stdout)
        return versions

    def _site_packages(self) -> Path:
        return next(self.folder.glob("lib/python3*/site-packages"))

    def _pip(self, *arguments: str) -> None:
        env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
        env.pop("PYTHONPATH", None)
        done = subprocess.run([self.python, "-m", "pip", *arguments], env=env, capture_output=True, text=True)
        if done.returncode == 0:
            return
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ") and "Ignored" not in line]
        reason = "\n".join(errors) or done.stderr[-2000:]
        if "ResolutionImpossible" in done.stderr:
            raise Contradiction(done.stdout[-3000:] + reason)
        raise NotBuilt("no wheels" if "No matching distribution" in done.stderr else "not installed", reason)


def build_wheel(python: Path) -> Path:
    """The project's wheel, made from a copy of its sources: a build folder in the tree would add its old files."""
    folder = FOLDER / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:
        sources = shutil.copytree(ROOT, Path(place) / "respodiff", ignore=_NOT_SOURCES)
        command = [python, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, sources]
        subprocess.run(command, check=True)
    (wheel,) = folder.glob("respodiff-*.whl")
    return wheel


def environments(cell: Cell) -> tuple[Environment, Environment]:
    """The core's and the full one of a cell."""
    return Environment(FOLDER / cell.name / "core"), Environment(FOLDER / cell.name / "full")


def build(cell: Cell, python: Path, wheel: Path) -> tuple[Environment, Environment]:
    """Both environments with the project in them. Raises NotBuilt or Contradiction."""
    core, full = environments(cell)
    core.build(python, requirements(cell, core_alone=True))
    core.install(wheel)
    full.build(python, requirements(cell, core_alone=False), below=core)
    full.install(wheel)
    return core, full

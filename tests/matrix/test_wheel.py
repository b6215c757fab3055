"""What people get who install the project: every file of its packages, and a command that needs no source tree.
Run by `make matrix` alone.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import respodiff
from matrix.cells import ROOT

INSTALLED = Path(respodiff.__file__).parent
PACKAGES = ("nodes", "respodiff_core", "trainer")
DRY_RUN = "train --base toyworld --preset toyworld/square -o a.safetensors --dry-run"


def contents(tree: Path) -> dict[str, bytes]:
    files = [tree / "__init__.py", *(path for name in PACKAGES for path in (tree / name).rglob("*"))]
    kept = [path for path in files if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(tree).as_posix(): path.read_bytes() for path in kept}


def test_the_wheel_holds_every_file_of_the_packages():
    assert INSTALLED != ROOT, "what is tested here is the wheel"
    tree, installed = contents(ROOT), contents(INSTALLED)
    assert sorted(installed) == sorted(tree)
    assert installed == tree


@pytest.mark.parametrize("arguments", ["--help", "demo --help", "eval --help", DRY_RUN])
def test_the_command_runs_outside_of_the_source_tree(arguments, tmp_path):
    command = [Path(sys.executable).with_name("respodiff"), *arguments.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert list(tmp_path.iterdir()) == []

"""Which tests run in which environment."""

from __future__ import annotations

import ast
import sys
from functools import cache
from pathlib import Path

from .cells import CORE, ROOT

TESTS = ROOT / "tests"
_HERE = "tests/matrix"
# What a bare environment has: the core and what it stands on, and what runs tests.
_BARE = {*CORE, "respodiff.respodiff_core", "pytest", "hypothesis"}

# Training, evaluation and going on after a stop, through the command line, on ToyWorld.
COMMAND_LINE = (
    "tests/trainer/test_runs.py::test_the_file_says_how_it_was_made",
    "tests/trainer/test_runs.py::test_every_kind_of_module_is_trained_and_read",
    "tests/trainer/test_runs.py::test_progress_tells_loss_and_speed",
    "tests/trainer/test_runs.py::test_previews_and_logs_lie_beside_the_file",
    "tests/trainer/test_interruption.py::test_asked_to_stop_it_keeps_the_step_and_says_how_to_go_on",
    "tests/trainer/test_interruption.py::test_two_processes_learn_what_one_learns_with_the_doubled_batch",
    "tests/trainer/test_evaluation.py::test_the_folder_holds_pictures_tables_and_a_report",
    "tests/trainer/test_evaluation.py::test_asked_to_stop_it_says_how_to_go_on",
    "tests/trainer/test_evaluation_judges.py",
)


def core_alone() -> list[str]:
    """Tests of the core that ask for nothing but torch, safetensors and numpy, told by what they import."""
    files = sorted((TESTS / "unit" / "respodiff_core").rglob("test_*.py"))
    return [f"{_HERE}/test_bare.py", *(str(file.relative_to(ROOT)) for file in files if needs(file) <= _BARE)]


def everything() -> list[str]:
    """All unit tests, what a wheel must hold, and the command line at work."""
    return [f"{_HERE}/test_wheel.py", "tests/unit", *COMMAND_LINE]


@cache
def needs(file: Path) -> frozenset[str]:
    """What a test imports, through its helpers, beyond Python itself: packages, and the project's rooms
    ("respodiff.trainer").
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from respodiff import trainer` imports respodiff.trainer.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    packages: set[str] = set()
    for name in found:
        first, *rest = name.split(".")
        helpers = [folder / f"{first}.py" for folder in (TESTS, ROOT / "tools")]
        if helper := next(filter(Path.exists, helpers), None):
            packages |= needs(helper)
        elif first == "respodiff":
            packages.add(".".join([first, *rest[:1]]))
        elif first not in sys.stdlib_module_names:
            packages.add(first)
    return frozenset(packages)

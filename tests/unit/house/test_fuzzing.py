"""A short run of the fuzzers of tests/fuzz (`make fuzz` is the long one), and what earlier ones kept."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import seeds, targets

FUZZ = Path(__file__).parents[2] / "fuzz"


@pytest.mark.parametrize("target", targets.TARGETS)
def test_files_that_once_reached_new_code_break_no_rule(target):
    kept = list((FUZZ / "corpus" / target).iterdir())
    assert len(kept) >= 10
    for file in kept:
        targets.run(target, file.read_bytes())


@pytest.mark.parametrize("target", targets.TARGETS)
def test_what_fuzzing_begins_from_is_good(target, monkeypatch):
    monkeypatch.setattr(targets, "_check_message", lambda error: pytest.fail(str(error)))
    for seed in seeds.seeds(target):
        targets.run(target, seed)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not to be had for this Python")
@pytest.mark.parametrize("target", targets.TARGETS)
def test_a_few_thousand_new_files_break_no_rule(target, tmp_path):
    command = [sys.executable, FUZZ / "run.py", target, "--runs", "5000", "--seed", "7", "--found", tmp_path]
    env = os.environ | {"PYTHONHASHSEED": "0"}  # the same files each time
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stat::number_of_executed_units: 5000" in done.stderr

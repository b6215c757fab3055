"""The benchmark for GPUs runs on small shapes on any device, so that it works when a GPU is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from respodiff.trainer.comfyui.source import ComfySource

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "accelerator.py"


def test_the_accelerator_benchmark_measures_training_and_patch_of_both_families(host: ComfySource):
    run = subprocess.run(
        [sys.executable, BENCHMARK, "--small", "--turns", "1", "--steps", "1", "--try", "channels_last"],
        env=os.environ | {"COMFYUI_PATH": str(host.path), "COMFYUI_PYTHON": str(host.python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    for family in ("sd15", "sdxl"):
        for name in ("samples_per_second", "step_ms", "patch_ratio_1", "patch_ratio_8", "patch_overhead_8"):
            assert figures[f"{family}_{name}"] > 0
        assert figures.get(f"{family}_host_syncs_training", 0) == 0
        assert figures.get(f"{family}_host_syncs_sampling", 0) == 0

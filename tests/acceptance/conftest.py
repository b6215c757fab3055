"""What the project promises, on models trained here and in a real ComfyUI; RESPODIFF_HOSTS=none leaves these out."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from comfy_hosts import hosts, source_of

collect_ignore_glob = [] if hosts() else ["*"]


@dataclass(frozen=True)
class Demo:
    """What `respodiff demo` printed, and the folder that it wrote."""

    printed: str
    folder: Path


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, run once as anyone would."""
    host, folder = source_of(hosts()[0]), tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "COMFYUI_PATH": str(host.path), "COMFYUI_PYTHON": str(host.python)}
    command = [sys.executable, "-m", "respodiff.trainer", "demo", "--output", str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return Demo(done.stdout, folder)

"""Ctrl-C and SIGTERM, wherever they come: every command ends, with the right exit code and nothing half-written.

`make faults` does this two hundred times, and holds it to two seconds.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
from comfy_hosts import hosts
from interrupting import COMMANDS, endings, prepared

SOON = 30.0  # seconds: far from what a lost interrupt takes, however busy the machine is


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with prepared(tmp_path_factory.mktemp("place") / "place") as place:
        yield place


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "demo" or hosts()])  # which needs a ComfyUI
def test_a_command_ends_wherever_the_interrupt_comes(place, command):
    for ending in endings(place, [command], random.Random(command), SOON, longest_of_all=6.0):
        print(ending)


# What stands between exit_on_signal's beginning and end, and gets a SIGINT sent by itself.
WORK = {
    "within a destructor, where Python drops it": """
        class Object:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGINT)
                for _ in range(1000): pass
        Object()
        time.sleep(60)
    """,
    "and a library catches everything": """
        while True:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(60)
            except BaseException:
                pass
    """,
    "and another thread goes on": """
        threading.Thread(target=time.sleep, args=(60,)).start()
        os.kill(os.getpid(), signal.SIGINT)
    """,
    "while a call waits for ever": """
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        threading.Lock().acquire() and threading.Event().wait()
    """,
    "at the very end, when the work is done": """
        atexit.register(os.kill, os.getpid(), signal.SIGINT)
    """,
    "and a clean-up begins that takes long": """
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        finally:
            time.sleep(60)
    """,
    "while a module loads, and the code that loads it aborts at an exception, as C++ does": """
        (folder / "loaded.py").write_text(
            "import os, signal, time\\n"
            "try:\\n"
            "    os.kill(os.getpid(), signal.SIGINT)\\n"
            "    time.sleep(60)\\n"
            "except BaseException:\\n"
            "    os.abort()\\n"
        )
        sys.path.append(str(folder))
        import loaded
    """,
    "in work that would rather come to its end, and does not": """
        with stop_requests():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
    """,
}


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
def test_an_interrupt_is_never_lost(tmp_path, work):
    script = tmp_path / "work.py"
    script.write_text(
        "import atexit, os, signal, sys, tempfile, threading, time\n"
        "from pathlib import Path\n"
        "from respodiff.respodiff_core.atomic import replacing\n"
        "from respodiff.respodiff_core.unfinished import temporary_folder\n"
        "from respodiff.trainer.support.interrupts import exit_on_signal, stop_requests\n"
        "with exit_on_signal(announce=True):\n"
        "    with temporary_folder('folder-') as folder, replacing(Path('file')) as partial:\n"
        "        (folder / 'inside').touch()\n"
        "        partial.touch()\n" + work.replace("\n    ", "\n").replace("\n", "\n    ")
    )
    (tmp_path / "here").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "here")}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path / "here", env=environment, capture_output=True, text=True, timeout=SOON
    )
    assert done.returncode == 130, done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name for path in (tmp_path / "here").iterdir()} <= {"file"}, "whole, where the work came to its end"


def test_an_interrupt_waits_while_the_cost_is_counted(tmp_path):
    """There C++ calls Python back, and an exception may abort the process instead of ending it."""
    script = tmp_path / "work.py"
    script.write_text("""
import os, signal, torch
from respodiff.trainer.base.model import describe
from respodiff.trainer.recipes.training_recipe import Recipe
from respodiff.trainer.run import estimate
from respodiff.trainer.support.interrupts import exit_on_signal

def interrupted(*arguments, count=estimate._activations):
    os.kill(os.getpid(), signal.SIGTERM)
    os.write(1, b"counted")
    return count(*arguments)

estimate._activations = interrupted
recipe = Recipe.of({"base": "toyworld", "output": "a.safetensors", "concepts": [{"preset": "toyworld/round"}]})
with exit_on_signal(announce=True):
    estimate.estimate(recipe, describe("toyworld").unet_config, (16, 16), torch.float32, pooled=False)
    os.write(1, b", and gone on")
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=2 * SOON)
    assert done.returncode == 143, done.stderr
    assert done.stdout == "counted"

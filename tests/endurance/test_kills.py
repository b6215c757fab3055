"""`make faults`: killed fifty times at any moment, a training and an evaluation end as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from arrivals import Arrivals
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import read
from respodiff.trainer.evaluation.results import Results
from respodiff.trainer.run.run_folder import RunFolder
from safetensors.torch import load_file
from trainer_runs import RESPODIFF, Trainer, undated
from warm_start import Command

KILLS = int(os.environ.get("RESPODIFF_KILLS", "50"))

TRAIN = (
    "--base", "toyworld", "--preset", "toyworld/round", "--preset", "toyworld/square", "--steps", 1500, "--batch", 2,
    "--pool", 4, "--save-every", 5, "--keep", 2, "--no-tensorboard", "-o", "shape.safetensors",
)  # fmt: skip
EVAL = [*RESPODIFF, "eval"]
EVALUATE = ("winobias", "--base", "toyworld", "--images", 250, "--sampling-steps", 10, "--batch", 8, "-o", "out")


def killed_again_and_again(
    start: Callable[[Arrivals | None], Command | subprocess.Popen[str]],
    check: Callable[[], None],
    chance: random.Random,
    most: int,
) -> int:
    """Start and kill, at moments of all parts of the work, until it has been killed often enough; then let it end.

    Between two kills it puts up to twice `most` files into place. Returns how many were waited for.
    """
    files = 0
    for _ in range(KILLS):
        arrivals = Arrivals()
        process = start(arrivals)
        if chance.random() < 0.2:
            time.sleep(chance.uniform(0, 5))  # mostly while it begins
        else:
            files += wait_for_some(arrivals, chance, most)
        process.kill()
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, f"it ended by itself after {files} files: {err}"
        check()
    process = start(None)
    _, err = process.communicate(timeout=1800)
    assert process.returncode == 0, err
    return files


def wait_for_some(arrivals: Arrivals, chance: random.Random, most: int) -> int:
    """Wait for up to `most` files, and then for a part of the time that they took: a moment between two of them.

    Returns how many were waited for.
    """
    assert arrivals.wait_for("*")
    began = time.monotonic()
    number = chance.randint(1, most - 1)
    for _ in range(number):
        assert arrivals.wait_for("*")
    time.sleep(chance.random() * (time.monotonic() - began))
    return 1 + number


def test_a_training_killed_at_any_moment(tmp_path):
    whole, killed = (Trainer(tmp_path / name) for name in ("whole", "killed"))
    for trainer in (whole, killed):
        trainer.folder.mkdir()
    done = whole.run(*TRAIN)
    assert done.returncode == 0, done.stderr
    output = killed.path("shape.safetensors")
    folder = RunFolder(output)
    saves = set()

    def start(arrivals: Arrivals | None) -> Command | subprocess.Popen[str]:
        return killed.start(*TRAIN, *(["--resume"] if folder.is_unfinished else []), arrivals=arrivals)

    def check() -> None:
        assert not output.exists()
        if folder.is_unfinished:
            state = folder.path / "state.safetensors"
            load_file(state)
            saves.add(state.stat().st_mtime_ns)
        if folder.adapters.exists():
            for path in folder.adapters.glob("[!.]*"):
                read(path)

    files = killed_again_and_again(start, check, random.Random(1), most=25)
    assert not list(folder.path.glob("**/.*.tmp")), "nothing half-written is left"
    assert undated(output) == undated(whole.path("shape.safetensors"))
    print(f"\ntraining: {KILLS} kills in the course of {files} files, {len(saves)} states met")


def test_an_evaluation_killed_at_any_moment(tmp_path):
    whole, killed = (Trainer(tmp_path / name) for name in ("whole", "killed"))
    for trainer in (whole, killed):
        trainer.folder.mkdir()
    done = whole.run(*EVALUATE, launcher=EVAL)
    assert done.returncode == 0, done.stderr
    out = killed.path("out")
    made: dict[Path, int] = {}

    def check() -> None:
        for path in out.glob("images/*/[!.]*.png"):
            when = path.stat().st_mtime_ns
            if made.get(path) != when:
                with Image.open(path) as picture:
                    picture.load()
                made[path] = when
        if (out / "evaluation.json").exists():
            json.loads((out / "evaluation.json").read_text())
        if (out / "figures.json").exists():
            Results.read(out)

    def start(arrivals: Arrivals | None) -> Command | subprocess.Popen[str]:
        return killed.start(*EVALUATE, launcher=EVAL, arrivals=arrivals)

    files = killed_again_and_again(start, check, random.Random(2), most=100)
    for table in ("images.csv", "figures.csv", "figures.json"):
        assert (out / table).read_bytes() == (whole.path("out") / table).read_bytes()
    for path in whole.path("out").glob("images/*/*.png"):
        assert (out / path.relative_to(whole.path("out"))).read_bytes() == path.read_bytes()
    assert not list(out.glob("**/.*")), "nothing half-written is left"
    print(f"\nevaluation: {KILLS} kills in the course of {files} files")

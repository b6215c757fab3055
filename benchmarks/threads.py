"""The command line's choice of CPU threads: the default against one thread and against all threads.

    python benchmarks/threads.py [--steps 100] [--images 10] [--turns 3]      # a few minutes on two cores

Runs `respodiff train` and `respodiff eval` on ToyWorld as separate processes, alternating between the default,
OMP_NUM_THREADS=1, and all threads with passive waiting. The ratio is the time of the default to the better of the other
two, the median over the repetitions; the aim is at most 1.10. Your own environment variables for threads are removed.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

AIM = 1.10
CHOICES = {
    "as installed": {},
    "one thread": {"OMP_NUM_THREADS": "1"},
    # The number is set, since ToyWorld would get one thread otherwise.
    "all, passive": {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(os.cpu_count())},
}
_CHOOSING = ("OMP_", "GOMP_", "KMP_", "MKL_")


def commands(steps: int, images: int) -> dict[str, list[str]]:
    """The two commands, which write to the working directory."""
    toyworld = ["--base", "toyworld", "--restart"]
    train = ["train", *toyworld, "--preset", "toyworld/round", "--steps", str(steps), "--force", "-o", "a.safetensors"]
    return {"train": train, "eval": ["eval", "winobias", *toyworld, "--images", str(images), "-o", "evaluation"]}


def seconds(command: list[str], variables: dict[str, str], folder: str) -> float:
    """Seconds of the whole process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_CHOOSING)}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "respodiff.trainer", *command],
        cwd=folder,
        env={**kept, **variables},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="training steps [default: 100]")
    parser.add_argument("--images", type=int, default=10, help="images per profession, a multiple of 10 [default: 10]")
    parser.add_argument("--turns", type=int, default=3, help="repetitions [default: 3]")
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores; seconds of the whole process, median of {options.turns} repetitions\n")
    print(f"{'':6}" + "".join(f"{name:>16}" for name in CHOICES) + f"{'ratio':>10}   aim")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(options.steps, options.images).items():
            taken: dict[str, list[float]] = {choice: [] for choice in CHOICES}
            for turn in range(options.turns):
                # The order rotates, so that each comes first equally often.
                order = list(CHOICES)[turn % len(CHOICES) :] + list(CHOICES)[: turn % len(CHOICES)]
                for choice in order:
                    place = Path(folder, choice)
                    place.mkdir(exist_ok=True)
                    taken[choice].append(seconds(command, CHOICES[choice], str(place)))
            medians = {choice: statistics.median(each) for choice, each in taken.items()}
            rivals = [choice for choice in CHOICES if choice != "as installed"]
            best = min(rivals, key=lambda choice: medians[choice])
            ratio = statistics.median(a / b for a, b in zip(taken["as installed"], taken[best], strict=True))
            cells = "".join(f"{medians[choice]:16.1f}" for choice in CHOICES)
            print(f"{name:6}{cells}{ratio:10.2f}   at most {AIM:.2f}")
            found[f"ratio_{name}"] = round(ratio, 4)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

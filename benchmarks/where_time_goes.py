"""Time shares of a training step, an evaluation, the patch, adapter files and the pack's import.

    python benchmarks/where_time_goes.py            # a minute or two on one core

Measured in one run: by timers around each part, or by Python's profiler where parts take microseconds. The profiler
slightly overstates small functions. The last line is JSON: the largest share of each measurement.
"""

from __future__ import annotations

import argparse
import cProfile
import importlib
import json
import logging
import os
import pstats
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import passive  # noqa: F401
import torch
from in_comfyui import import_comfyui, random_adapter
from patch_overhead import import_script, with_bytecode
from respodiff.respodiff_core.adapter.adapter import peek, read, write
from respodiff.respodiff_core.learning import learner
from respodiff.respodiff_core.steering.fair_groups import FairGroup
from respodiff.respodiff_core.steering.steering import Steering, Term
from respodiff.trainer.base.model import load_base
from respodiff.trainer.commands.report_errors import quieten_libraries
from respodiff.trainer.evaluation import generation as drawing
from respodiff.trainer.evaluation.image_folder import ImageFolder
from respodiff.trainer.toyworld.image_scorer import ToyWorldScorer
from respodiff.trainer.toyworld.prompts import professions
from respodiff.trainer.toyworld.toyworld import SHAPE
from respodiff.trainer.worlds.scorer import ScoredImage
from training import POOL, Side

_ROWS = 7


class Clock:
    """Seconds by part, for one thread. Time in a nested part counts for the inner part only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = [0.0]

    def around(self, owner: Any, name: str, label: Callable[[], str] | str) -> None:
        """Time all further calls of the function `name` of `owner`."""
        function = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            part = label if isinstance(label, str) else label()
            with self.part(part):
                return function(*args, **kwargs)

        setattr(owner, name, timed)

    def part(self, label: str) -> _Part:
        return _Part(self, label)

    def shares(self) -> dict[str, float]:
        total = sum(self.seconds.values())
        return {label: seconds / total for label, seconds in sorted(self.seconds.items(), key=lambda one: -one[1])}


class _Part:
    def __init__(self, clock: Clock, label: str) -> None:
        self._clock, self._label = clock, label

    def __enter__(self) -> None:
        self._clock._inner.append(0.0)
        self._began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        took = time.perf_counter() - self._began
        inner = self._clock._inner.pop()
        self._clock._inner[-1] += took
        self._clock.seconds[self._label] = self._clock.seconds.get(self._label, 0.0) + took - inner


def training_step(steps: int) -> dict[str, float]:
    """A training step on ToyWorld, batch size 4."""
    side = Side(load_base("toyworld"), POOL, ram_rate=0.04)
    side.train(8)
    clock = Clock()
    denoiser = side.fit.objective.denoiser
    clock.around(denoiser, "encode", "encoder, three prompts in one call")
    clock.around(
        denoiser,
        "decode",
        lambda: "decoder with RAM, then with both" if torch.is_grad_enabled() else "decoder, three prompts in one call",
    )
    clock.around(side.fit.learner, "_backward", "both backward passes, decoder alone")
    clock.around(side.fit.learner, "_optimise", "Adam")
    clock.around(learner, "_mse", "losses")
    with clock.part("rest: the pool, guidance, uploads"):
        side.train(steps * side.batch)
    return clock.shares()


def evaluation(images: int) -> dict[str, float]:
    """Generation on ToyWorld with batch size 8 and 50 steps, which also writes PNG files, and scoring."""
    clock, base = Clock(), load_base("toyworld")
    image_generator = drawing.ImageGenerator(base)
    specs = professions(5)[:images]
    clock.around(base.denoiser, "encode", "UNet's encoder")
    clock.around(base.denoiser, "decode", "UNet's decoder")
    clock.around(base, "encode_prompts", "text encoder")
    clock.around(base, "decode_latents", "autoencoder")
    clock.around(drawing, "pixels", "pixels to the host")
    jobs = [drawing.Job("all", one, FairGroup("", ())) for one in specs]
    with tempfile.TemporaryDirectory() as name:
        folder = ImageFolder(Path(name))
        with clock.part("rest: sampler, waiting for the last PNG files"):
            for _ in drawing.generate_missing(image_generator, drawing.batches(jobs, 8), folder):
                pass
        with clock.part("scoring: reading the PNG files"):
            shown = [ScoredImage(one, folder.read("all", one.id), None) for one in specs]
        scorer = ToyWorldScorer((SHAPE,))
        with clock.part("scoring: all reference drawings, made once per process"):
            scorer.score(shown[:1])
        with clock.part("scoring: ToyWorld's classifier"):
            scorer.score(shown)
    return clock.shares()


def profiled(work: Callable[[], object], times: int) -> dict[str, float]:
    """Share of each function's own time, without the functions it calls."""
    work()
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(times):
        work()
    profiler.disable()
    stats: dict[tuple[str, int, str], Sequence[Any]] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(entry[2] for entry in stats.values())
    own: dict[str, float] = {}
    for (file, _, function), entry in stats.items():
        where = f"{Path(file).stem}: " if file.endswith(".py") else ""
        label = where + function.removeprefix("<").removesuffix(">")
        own[label] = own.get(label, 0.0) + entry[2] / total
    return dict(sorted(own.items(), key=lambda one: -one[1]))


def patch(concepts: int) -> Callable[[], object]:
    """A call of the patch on an h of SD1.5 at 512 px, without the UNet."""
    attach = importlib.import_module("respodiff.nodes.host.attach")
    shape = (1280, 8, 8)
    terms = (Term(concept, 0.5) for concept in random_adapter(concepts, shape).concepts.values())
    one = attach.HSpacePatch(Steering(tuple(terms)))
    h = torch.randn(2, *shape)
    options = {"block": ("output", 0), "cond_or_uncond": [1, 0], "sigmas": torch.ones(1)}
    return lambda: one(h, h, options)


def pack_import(source: Any) -> dict[str, float]:
    """Import time of each module without its own imports, in a process that has imported ComfyUI."""
    for _ in range(2):  # the first may write the bytecode
        run = subprocess.run(
            [str(source.python), "-X", "importtime", "-c", import_script(source)],
            env=with_bytecode(os.environ),
            capture_output=True,
            text=True,
            check=True,
        )
    own = {}
    for line in run.stderr.splitlines():
        if line.startswith("import time:") and "pack" in line:
            microseconds, _, module = line.removeprefix("import time:").split("|")
            if module.strip().startswith("pack."):
                own[module.strip().removeprefix("pack.")] = float(microseconds)
    total = sum(own.values())
    return {module: value / total for module, value in sorted(own.items(), key=lambda one: -one[1])}


def show(title: str, shares: dict[str, float]) -> float:
    print(f"\n{title}")
    for label, share in list(shares.items())[:_ROWS]:
        print(f"  {share:6.1%}  {label}")
    if len(shares) > _ROWS:
        print(f"  {sum(list(shares.values())[_ROWS:]):6.1%}  {len(shares) - _ROWS} others")
    return round(max(shares.values()), 3)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    quieten_libraries()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    largest = {
        "training_step": show("A training step on ToyWorld, batch size 4", training_step(30)),
        "evaluation": show("An evaluation on ToyWorld, 32 images, batch size 8", evaluation(32)),
    }
    source = import_comfyui()
    for concepts in (1, 8):
        shares = profiled(patch(concepts), 3000)
        largest[f"patch_{concepts}"] = show(f"The patch alone, {concepts} concepts, one image of 512 px", shares)
    with tempfile.TemporaryDirectory() as folder:
        path = write(random_adapter(100, (1280, 8, 8)), Path(folder) / "many.safetensors")
        largest["peek"] = show("peek of 100 concepts", profiled(lambda: peek(path), 30))
        largest["read"] = show("read of 100 concepts (66 MB)", profiled(lambda: read(path), 5))
    largest["import"] = show("The pack's import inside ComfyUI", pack_import(source))
    print(json.dumps(largest))


if __name__ == "__main__":
    main()

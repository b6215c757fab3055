"""The cost of steering: a patched UNet step against an unpatched one, import of the pack, reading of a file header.

Uses SD1.5's real UNet shape at 512 px with random weights, in ComfyUI's own code and in one process. Steps with no, one
and eight chained concepts alternate, and each ratio is the median over the repetitions. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import passive  # noqa: F401
import torch
from in_comfyui import h_shape, load_model, random_adapter, sample
from respodiff.respodiff_core.adapter.adapter import peek, write
from respodiff.respodiff_core.steering.steering import Steering, Term
from respodiff.trainer.comfyui.source import ComfySource

PACK = Path(__file__).parents[1]


def main() -> None:
    options = step_options(__doc__)
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    source, model = load_model(options.family)
    figures = step_ratios(model, options.size, options.turns)
    figures |= {"import_ms": pack_import_ms(source), "peek_ms": peek_ms()}
    print(json.dumps({name: round(value, 5) for name, value in figures.items()}))


def step_options(description: str | None) -> argparse.Namespace:
    """The options of benchmarks that time UNet steps: turns, size and family."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="steps of each variant, after one warm-up [default: 7]")
    parser.add_argument("--size", type=int, default=512, help="image size in pixels [default: 512]")
    parser.add_argument(
        "--family", default="sd15_full", help="sd15_full (real size) or sd15 (small) [default: sd15_full]"
    )
    return parser.parse_args()


def step_ratios(model: Any, size: int, turns: int) -> dict[str, float]:
    """Median ratios of patched to unpatched time of one UNet step (two rows: positive and negative prompt)."""
    attach = importlib.import_module("respodiff.nodes.host.attach")
    shape = h_shape(model, size)
    adapter = random_adapter(8, shape)
    variants = {0: model}
    for count in (1, 8):
        steered = model
        for concept in list(adapter.concepts.values())[:count]:
            steered = attach.attach(steered, Steering((Term(concept, 0.5),)))
        variants[count] = steered

    figures = ratios_to_unpatched(variants, {1: "1 concept", 8: "8 chained concepts"}, size, turns)
    alone = {c: patch_seconds(variants[c], shape) for c in (1, 8)}
    for count, seconds in alone.items():
        share = seconds / figures["step_s"]
        print(f"the patch alone, {count} concepts: {seconds * 1e6:.0f} us, {share:.2e} of a step")
    return figures | {f"patch_us_{count}": seconds * 1e6 for count, seconds in alone.items()}


def ratios_to_unpatched(
    variants: Mapping[int, Any], labels: Mapping[int, str], size: int, turns: int
) -> dict[str, float]:
    """Median ratios of the time of one UNet step of models with some concepts to that of the unpatched model (0), which
    alternate, and the median seconds of an unpatched step. Prints a table with the label of each number of concepts.
    """
    steps = {count: one_step(variant, size) for count, variant in variants.items()}
    times: dict[int, list[float]] = {count: [] for count in variants}
    for turn in range(turns + 1):
        # The order rotates, so that no variant always follows the same one.
        for count in sorted(steps, key=lambda c: (c + turn) % 3):
            seconds = steps[count]()
            if turn:
                times[count].append(seconds)
    print(f"\nOne UNet step at {size} px, batch of 2 rows, {torch.get_num_threads()} threads, {turns} repetitions")
    print(f"{'':>24} {'median s':>10} {'ratio':>8} {'min':>8} {'max':>8}")
    found = {}
    for count, label in ({0: "unpatched"} | dict(labels)).items():
        row = [t / plain for t, plain in zip(times[count], times[0], strict=True)]
        found[count] = statistics.median(row)
        middle = statistics.median(times[count])
        print(f"{label:>24} {middle:>10.3f} {found[count]:>8.4f} {min(row):>8.4f} {max(row):>8.4f}")
    ratios = {f"ratio_{count}": found[count] for count in labels}
    return ratios | {"step_s": statistics.median(times[0])}


def one_step(model: Any, size: int) -> Callable[[], float]:
    """One sampling step with ComfyUI's own sampler, of which only the UNet call is timed."""
    timed = model.clone()
    seconds: list[float] = []

    def wrapper(apply_model: Callable, arguments: dict) -> torch.Tensor:
        began = time.perf_counter()
        result = apply_model(arguments["input"], arguments["timestep"], **arguments["c"])
        if result.is_cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        return result

    timed.set_model_unet_function_wrapper(wrapper)

    def step() -> float:
        seconds.clear()
        sample(timed, 1, size, 1)
        return sum(seconds)

    return step


def patch_seconds(model: Any, shape: tuple[int, int, int], calls: int = 300) -> float:
    """Seconds per call of the patch alone, on an h of the step's size with one positive and one negative row."""
    (patch,) = model.model_options["transformer_options"]["patches"]["output_block_patch"]
    h = torch.randn(2, *shape)
    options = {"block": ("output", 0), "cond_or_uncond": [1, 0], "sigmas": torch.ones(1)}
    patch(h, h, options)
    began = time.perf_counter()
    for _ in range(calls):
        patch(h, h, options)
    return (time.perf_counter() - began) / calls


def import_script(source: ComfySource) -> str:
    """A script that imports ComfyUI, then loads the nodes by path as ComfyUI does, and prints the milliseconds."""
    return f"""
import asyncio, importlib.util, sys, time
sys.path.insert(0, {str(source.path)!r})
sys.argv = ["benchmark", "--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import comfy.samplers, comfy.sd, comfy_api.latest, folder_paths  # as ComfyUI has them when it loads packs
began = time.perf_counter()
spec = importlib.util.spec_from_file_location("pack", {str(PACK / "__init__.py")!r})
pack = sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
print((time.perf_counter() - began) * 1e3)
"""


def with_bytecode(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with bytecode caching, which a ComfyUI uses from its second start on."""
    return {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}


def pack_import_ms(source: ComfySource) -> float:
    """The lowest milliseconds of loading the nodes in a new process, with cached bytecode."""
    command = [str(source.python), "-c", import_script(source)]
    runs = [
        subprocess.run(command, env=with_bytecode(os.environ), capture_output=True, text=True, check=True)
        for _ in range(4)  # the first may write the bytecode
    ]
    milliseconds = [float(run.stdout.split()[-1]) for run in runs]
    print(f"Pack import inside ComfyUI: {min(milliseconds):.1f} ms (highest of 4: {max(milliseconds):.1f})")
    return min(milliseconds)


def peek_ms(concepts: int = 100, repeats: int = 50) -> float:
    """The median milliseconds of `peek` on a file of 100 SD1.5 concepts (65 MB)."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(random_adapter(concepts, (1280, 8, 8)), Path(folder) / "many.safetensors")
        megabytes = path.stat().st_size / 1e6
        times = []
        for _ in range(repeats):
            began = time.perf_counter()
            peek(path)
            times.append((time.perf_counter() - began) * 1e3)
    print(f"peek of {concepts} concepts ({megabytes:.0f} MB): {statistics.median(times):.2f} ms")
    return statistics.median(times)


if __name__ == "__main__":
    main()

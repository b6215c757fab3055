"""Training and sampling on a GPU with the real UNet shapes: SD1.5 at 512 px, batch 4; SDXL at 1024 px, batch 1.

    python benchmarks/accelerator.py                  # a few minutes on a GPU with at least 12 GB
    python benchmarks/accelerator.py --try compile    # compares the training step with compiled blocks
    python benchmarks/accelerator.py --small          # the same code on small shapes, also on a CPU

The UNets have random weights, in the precision that training would choose. The patch is that of the nodes, called
after the middle block as in ComfyUI. PyTorch counts the host syncs, in steps after the first. Peak memory and host
syncs are left out on a CPU. The last line is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import passive  # noqa: F401
import torch
from diffusers import UNet2DConditionModel
from in_comfyui import import_comfyui, random_adapter
from respodiff.respodiff_core.learning.denoiser import Condition
from respodiff.respodiff_core.learning.diffusion import Schedule
from respodiff.respodiff_core.learning.learner import Learner, train_step
from respodiff.respodiff_core.learning.objective import Prompts, ScoreMatching
from respodiff.respodiff_core.learning.trajectories import Pool, RolloutConfig
from respodiff.respodiff_core.steering.steering import Steering, Term
from respodiff.trainer.base.devices import precision
from respodiff.trainer.base.unet_denoiser import UNetDenoiser
from respodiff.trainer.commands.report_errors import quieten_libraries
from respodiff.trainer.run.estimate import default_dtype
from respodiff.trainer.support.threads import one_thread
from respodiff.trainer.toyworld.networks import scheduler

PATCH_AIM = 0.005  # share of a step
_TOKENS, _POOLED = 77, 1280


@dataclass(frozen=True)
class Shape:
    """The UNet of a family (diffusers config) and its training settings; `aim_mb` is the aim for peak memory."""

    name: str
    title: str
    config: dict[str, Any]
    latent: int
    batch: int
    aim_mb: int

    @property
    def small(self) -> Shape:
        """The same architecture, narrow and shallow."""
        config = self.config | {
            "block_out_channels": (32,) * len(self.config["block_out_channels"]),
            "attention_head_dim": 4,
            "cross_attention_dim": 16,
            "transformer_layers_per_block": 1,
        }
        return replace(self, title=f"{self.title}, small", config=config, latent=16)


SHAPES = (
    Shape(
        "sd15",
        "SD1.5, 512 px, batch 4",
        {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8, "cross_attention_dim": 768},
        latent=64,
        batch=4,
        aim_mb=6000,
    ),
    Shape(
        "sdxl",
        "SDXL, 1024 px, batch 1",
        {
            "block_out_channels": (320, 640, 1280),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": _POOLED + 6 * 256,
        },
        latent=128,
        batch=1,
        aim_mb=12000,
    ),
)


class Model:
    """A UNet with random weights on the device, split as in training, and a condition of three prompts."""

    def __init__(self, shape: Shape, device: torch.device, checkpointing: bool) -> None:
        torch.manual_seed(0)
        with torch.device(device), default_dtype(precision("auto", device)):
            self.unet = UNet2DConditionModel(sample_size=shape.latent, **shape.config)
        self.shape = shape
        self.device = device
        self.alphas = scheduler().alphas_cumprod
        self.denoiser = UNetDenoiser(self.unet, self.alphas, checkpointing=checkpointing)
        self.h_side = shape.latent // 2 ** (len(shape.config["block_out_channels"]) - 1)
        self.h_shape = (shape.config["block_out_channels"][-1], self.h_side, self.h_side)
        context = torch.randn(3, _TOKENS, shape.config["cross_attention_dim"], device=device)
        self.table = Condition(context)
        if "addition_embed_type" in shape.config:
            pixels = 8.0 * shape.latent
            sizes = torch.tensor([[pixels, pixels, 0.0, 0.0, pixels, pixels]], device=device).expand(3, 6)
            self.table = Condition(context, torch.randn(3, _POOLED, device=device), sizes)

    def training(self) -> Callable[[], None]:
        """A training with the default settings; each call is a step."""
        shape = self.shape
        objective = ScoreMatching(self.denoiser, Prompts(self.table, 0, (1,), 2, 0), 4.0, 3.0)
        config = RolloutConfig(
            Schedule.of(self.alphas, 50), 49, shape.batch, (shape.latent, shape.latent), seed=0, device=self.device
        )
        pool = Pool(objective, config, 16)
        learner = Learner("constant", self.h_shape, ram_rate=1e-2, sam_rate=1e-3, device=self.device)
        done = 0

        def step() -> None:
            nonlocal done
            done += 1
            train_step(done, pool, objective, learner)

        return step

    def sampling(self) -> Callable[[], None]:
        """The UNet call of a sampling step: one image, negative and positive prompt."""
        z = torch.randn(2, 4, self.shape.latent, self.shape.latent, device=self.device)
        t = torch.full((2,), 500, device=self.device)
        condition = self.table.rows(torch.arange(2, device=self.device))

        def step() -> None:
            with torch.inference_mode():
                self.denoiser.predict(z, t, condition)

        return step

    @contextmanager
    def patched(self, patch: Any) -> Iterator[None]:
        """The UNet with the patch applied to h."""
        options = {"block": ("output", 0), "cond_or_uncond": [1, 0], "sigmas": torch.ones(1, device=self.device)}
        hook = self.unet.mid_block.register_forward_hook(lambda _module, _inputs, h: patch(h, None, options)[0])
        try:
            yield
        finally:
            hook.remove()


def seconds_of(work: Callable[[], None], times: int, device: torch.device) -> float:
    """Seconds per call, averaged over `times` calls."""
    wait(device)
    began = time.perf_counter()
    for _ in range(times):
        work()
    wait(device)
    return (time.perf_counter() - began) / times


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def host_syncs(work: Callable[[], None], device: torch.device) -> int | None:
    """How often the host waits for the device in `work`; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    found = [warning for warning in caught if "synchroniz" in str(warning.message)]
    for place in sorted({f"{warning.filename}:{warning.lineno}" for warning in found}):
        print(f"  host sync at {place}")
    return len(found)


@contextmanager
def changed(unet: Any, how: str) -> Iterator[None]:
    """The UNet with one of the options of --try."""
    if how == "channels_last":
        unet.to(memory_format=torch.channels_last)
    elif how == "compile":
        for block in unet.up_blocks:
            block.compile()
    try:
        yield
    finally:
        unet.to(memory_format=torch.contiguous_format)
        for block in unet.up_blocks:
            block._compiled_call_impl = None


def training_figures(model: Model, steps: int, turns: int, tried: str | None) -> dict[str, float | None]:
    step, device = model.training(), model.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step()  # including the rollout to the first states
    step()
    variants = ["plain", *([tried] if tried else [])]
    taken: dict[str, list[float]] = {variant: [] for variant in variants}
    for turn in range(turns + 1):
        for variant in variants if turn % 2 else reversed(variants):
            with changed(model.unet, variant):
                if turn == 0 or variant != "plain":
                    step()  # compiles or selects kernels
                if turn:
                    taken[variant].append(seconds_of(step, steps, device))
        if turn == 0 and device.type == "cuda":
            peak: float | None = torch.cuda.max_memory_allocated() / 1e6  # of the plain variant and the rollout
    per_second = model.shape.batch / statistics.median(taken["plain"])
    figures: dict[str, float | None] = {
        "samples_per_second": per_second,
        "peak_mb": peak if device.type == "cuda" else None,
        "host_syncs_training": host_syncs(step, device),
    }
    if tried:
        ratios = [a / b for a, b in zip(taken["plain"], taken[tried], strict=True)]
        figures[f"speedup_{tried}"] = statistics.median(ratios)
        print(f"  {tried}: {statistics.median(ratios):.3f} times as fast ({min(ratios):.3f} to {max(ratios):.3f})")
    return figures


def patch_figures(model: Model, turns: int) -> dict[str, float | None]:
    attach = importlib.import_module("respodiff.nodes.host.attach")
    terms = [Term(concept, 0.5) for concept in random_adapter(8, model.h_shape).concepts.values()]
    patches = {count: attach.HSpacePatch(Steering(tuple(terms[:count]))) for count in (1, 8)}
    step, device = model.sampling(), model.device
    plain: list[float] = []
    ratios: dict[int, list[float]] = {count: [] for count in patches}
    for turn in range(turns + 1):
        unpatched = seconds_of(step, 1, device)
        for count, patch in patches.items():
            with model.patched(patch):
                took = seconds_of(step, 1, device)
            if turn:
                ratios[count].append(took / unpatched)
        if turn:
            plain.append(unpatched)
    with model.patched(patches[8]):
        syncs = host_syncs(step, device)
    h = torch.randn(2, *model.h_shape, device=device, dtype=model.unet.dtype)
    options = {"block": ("output", 0), "cond_or_uncond": [1, 0], "sigmas": torch.ones(1, device=device)}
    figures: dict[str, float | None] = {"step_ms": 1e3 * statistics.median(plain), "host_syncs_sampling": syncs}
    for count, patch in patches.items():

        def alone(patch: Any = patch) -> None:
            patch(h, None, options)

        alone()
        figures[f"patch_ratio_{count}"] = statistics.median(ratios[count])
        figures[f"patch_overhead_{count}"] = seconds_of(alone, 100, device) / statistics.median(plain)
    return figures


def show(shape: Shape, figures: dict[str, float | None], small: bool) -> None:
    """Print the figures beside their aims; small shapes have no aims."""
    aims = {
        "peak_mb": f"under {shape.aim_mb}",
        "host_syncs_training": "0",
        "host_syncs_sampling": "0",
        "patch_overhead_1": f"at most {PATCH_AIM}",
        "patch_overhead_8": f"at most {PATCH_AIM}",
    }
    print(f"\n{shape.title}\n  {'':24} {'measured':>14}   aim")
    for name, value in figures.items():
        shown = "not measured" if value is None else f"{value:.5g}"
        print(f"  {name:24} {shown:>14}   {'' if small else aims.get(name, '')}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="use small shapes, on any device")
    parser.add_argument("--family", choices=[shape.name for shape in SHAPES], help="family [default: both]")
    parser.add_argument("--turns", type=int, default=7, help="repetitions [default: 7]")
    parser.add_argument("--steps", type=int, default=10, help="training steps per repetition [default: 10]")
    parser.add_argument("--try", dest="tried", choices=("channels_last", "compile"), help="also measure this option")
    parser.add_argument("--checkpointing", action="store_true", help="train with gradient checkpointing")
    options = parser.parse_args()
    quieten_libraries()
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    if not (options.small or torch.cuda.is_available()):
        print("There is no GPU, so nothing was measured (--small runs the same code on any device).")
        print(json.dumps({}))
        return
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if options.small and device.type == "cpu" and one_thread():
        torch.set_num_threads(1)  # such shapes are too small to parallelize
    import_comfyui()
    print(torch.cuda.get_device_name() if device.type == "cuda" else "CPU", precision("auto", device))
    found: dict[str, float] = {}
    for shape in SHAPES:
        if options.family not in (None, shape.name):
            continue
        model = Model(shape.small if options.small else shape, device, options.checkpointing)
        figures = training_figures(model, options.steps, options.turns, options.tried)
        figures |= patch_figures(model, options.turns)
        show(model.shape, figures, options.small)
        found |= {f"{shape.name}_{name}": round(value, 5) for name, value in figures.items() if value is not None}
        del model
        if device.type == "cuda":
            torch.cuda.empty_cache()
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""A training step of Train Concept in ComfyUI against one of the command line, on the same model and settings.

    python benchmarks/training_in_comfyui.py               # some minutes on one core

Both keep a copy of the state after each step. Blocks of steps alternate, and the ratio is the median over the
repetitions; 1: the same time. `difference` is the distance of the trained modules relative to their norm. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import statistics
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import passive  # noqa: F401
import torch
from in_comfyui import import_comfyui
from respodiff.respodiff_core.learning.fit import Fit, concept_prompts
from respodiff.respodiff_core.learning.presets import preset
from respodiff.respodiff_core.learning.settings import TrainingSettings
from respodiff.trainer.base.model import load_base
from respodiff.trainer.comfyui.source import ComfySource, cache_directory
from respodiff.trainer.toyworld import TOYWORLD_FOLDER
from small_models import write_checkpoint

LATENT = (16, 16)
MODELS = {"toyworld": "toyworld/square", "sd15": "gender/woman"}


class Side:
    """A training on one of the two; `within` is the context of its steps."""

    def __init__(self, denoiser: Any, alphas: torch.Tensor, encode: Any, name: str, within: Any) -> None:
        concept = preset(MODELS[name])
        self.fit = Fit(
            denoiser, alphas, concept, concept_prompts(concept, encode), TrainingSettings(batch=2), latent=LATENT
        )
        self._within = within

    def steps(self, count: int) -> float:
        """Seconds of so many steps."""
        began = time.perf_counter()
        for _ in range(count):
            with self._within():
                self.fit.step()
            self.fit.state()
        return time.perf_counter() - began


def command_line(name: str, path: str) -> Side:
    base = load_base(path)
    within: Any = nullcontext
    return Side(base.denoiser, base.alphas_cumprod, base.encode_prompts, name, within)


def in_the_graph(name: str, path: str) -> tuple[Side, AbstractContextManager[None]]:
    hosted = importlib.import_module("respodiff.nodes.host.denoiser")
    with torch.inference_mode():  # as nodes run
        model, clip = _toyworld() if name == "toyworld" else _checkpoint(path)
        denoiser = hosted.HostDenoiser(model, LATENT)
        loaded = denoiser.loaded_to_train(2, "off")
        loaded.__enter__()

    @torch.inference_mode()
    def encode(texts: list[str]) -> Any:
        return denoiser.encode_prompts(clip, texts)

    return Side(denoiser, denoiser.alphas_cumprod, encode, name, denoiser.differentiable), loaded


def _toyworld() -> tuple[Any, Any]:
    path = TOYWORLD_FOLDER.parent / "__init__.py"
    spec = importlib.util.spec_from_file_location("toyworld_nodes", path)
    assert spec is not None
    assert spec.loader is not None
    nodes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(nodes)
    model, clip, _ = nodes.ToyWorld().load()
    return model, clip


def _checkpoint(path: str) -> tuple[Any, Any]:
    comfy_sd = importlib.import_module("comfy.sd")
    options = {"model_options": {"dtype": torch.float32}}  # as the command line on a CPU
    model, clip, *_ = comfy_sd.load_checkpoint_guess_config(path, output_vae=False, **options)
    return model, clip


def checkpoint_of(source: ComfySource, name: str) -> str:
    if name == "toyworld":
        return "toyworld"
    path: Path = cache_directory() / "models" / "checkpoints" / f"{name}.safetensors"
    if not path.exists():
        write_checkpoint(source, path, "sd15", dtype="float16")
    return str(path)


def difference(one: Fit, other: Fit) -> float:
    pairs = zip(one.finished().tensors().values(), other.finished().tensors().values(), strict=True)
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="repetitions, after one warm-up [default: 7]")
    parser.add_argument("--steps", type=int, default=4, help="training steps of a repetition [default: 4]")
    options = parser.parse_args()
    source = import_comfyui()
    figures: dict[str, float] = {}
    for name in MODELS:
        path = checkpoint_of(source, name)
        node, loaded = in_the_graph(name, path)
        shell = command_line(name, path)
        node.steps(1), shell.steps(1)
        ratios = []
        for turn in range(options.turns):
            sides = [node, shell] if turn % 2 else [shell, node]
            seconds = {id(side): side.steps(options.steps) for side in sides}
            ratios.append(seconds[id(node)] / seconds[id(shell)])
        apart = difference(node.fit, shell.fit)
        loaded.__exit__(None, None, None)
        print(
            f"{name:9} in ComfyUI / command line: {statistics.median(ratios):.2f} ({min(ratios):.2f} to "
            f"{max(ratios):.2f}), {seconds[id(node)] / options.steps:.2f} s a step; modules differ by {apart:.1e}"
        )
        figures |= {f"{name}_ratio": round(statistics.median(ratios), 3), f"{name}_difference": apart}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

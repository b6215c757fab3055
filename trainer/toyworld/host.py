"""ToyWorld in a real ComfyUI: ComfyUI's UNet code and sampler and this project's nodes, with ToyWorld's weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file

from ..comfyui.server import ComfyServer
from ..comfyui.source import ComfySource
from ..support.threads import one_thread
from .renderer import SIZE

_PACK = Path(__file__).parents[2]
TOYWORLD_PACK, TOYWORLD_PACK_NAME = Path(__file__).with_name("comfyui_pack"), "ComfyUI-ToyWorld"
_COMFYUI_SIZE = 2 * SIZE  # ComfyUI assumes 8 pixels per latent pixel, ToyWorld has 4


class Steered(NamedTuple):
    """A concept of an adapter file, and its strength."""

    adapter: Path
    concept: str
    strength: float = 1.0


class ToyWorldInComfyUI(ComfyServer):
    """A ComfyUI server that samples ToyWorld, as a context manager; one start serves many calls.

    The server writes only below `base_directory`.
    """

    def __init__(self, source: ComfySource, base_directory: Path) -> None:
        super().__init__(source, base_directory, _PACK, env=one_thread())
        self.link_node_pack(TOYWORLD_PACK, TOYWORLD_PACK_NAME)
        self._adapters = self.base_directory / "models" / "respodiff"
        self._adapters.mkdir(exist_ok=True)
        self._calls = count()

    def sample(
        self,
        prompts: Sequence[str],
        *,
        seed: int,
        steered: Steered | None = None,
        steps: int = 50,
        cfg: float = 7.5,
    ) -> torch.Tensor:
        """One latent per prompt by DDIM (eta 0), fp32 (prompts, 4, 16, 16), as AutoencoderKL.decode takes them.

        All are sampled as one batch, with the noise of torch.randn for `seed` on the CPU and an empty negative prompt.
        Prompts are single lines. Raises NodeFailed with the message of the node.
        """
        # A unique name per call: ComfyUI would not execute the same graph again.
        graph = self._graph(prompts, seed, steps, cfg, f"call{next(self._calls)}")
        if steered is not None:
            graph |= self._steering(steered)
            graph["sample"]["inputs"]["model"] = ["steer", 0]
        (saved,) = self.run(graph).outputs["save"]["latents"]
        return load_file(self.output_path(saved))["latent_tensor"]

    def _graph(self, prompts: Sequence[str], seed: int, steps: int, cfg: float, name: str) -> dict[str, Any]:
        return {
            "toyworld": _node("ToyWorld"),
            "positive": _node("ToyWorldPrompts", clip=["toyworld", 1], prompts="\n".join(prompts)),
            "negative": _node("ToyWorldPrompts", clip=["toyworld", 1], prompts=""),
            "empty": _node("EmptyLatentImage", width=_COMFYUI_SIZE, height=_COMFYUI_SIZE, batch_size=len(prompts)),
            "sample": _node(
                "KSampler",
                model=["toyworld", 0],
                positive=["positive", 0],
                negative=["negative", 0],
                latent_image=["empty", 0],
                seed=seed,
                steps=steps,
                cfg=cfg,
                sampler_name="ddim",
                scheduler="ddim_uniform",
                denoise=1.0,
            ),
            "save": _node("SaveLatent", samples=["sample", 0], filename_prefix=name),
        }

    def _steering(self, steered: Steered) -> dict[str, Any]:
        link = self._adapters / steered.adapter.name
        link.unlink(missing_ok=True)
        link.symlink_to(steered.adapter.resolve())
        return {
            "adapter": _node("RespoDiffLoadAdapter", adapter=link.name),
            "steer": _node(
                "RespoDiffSteer",
                model=["toyworld", 0],
                adapter=["adapter", 0],
                concept=steered.concept,
                strength=steered.strength,
                ram_strength=1.0,
                sam_strength=1.0,
                start_percent=0.0,
                end_percent=1.0,
                prompt="positive",
            ),
        }


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}

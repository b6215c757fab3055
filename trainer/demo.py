"""`respodiff demo`: the main job, end to end, in a real headless ComfyUI on a small generated checkpoint.

Checkpoint and adapter have random weights: the demo shows that the nodes steer and how strength acts, not what a
trained concept looks like.
"""

from __future__ import annotations

import copy
import json
import logging
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from ..respodiff_core.adapter import Adapter, write
from ..respodiff_core.concept import Concept, ConceptInfo
from ..respodiff_core.transforms import Transform
from .comfyui.server import ComfyServer
from .comfyui.small_models import write_checkpoint
from .comfyui.source import cache_directory, fetch, users_own

log = logging.getLogger(__name__)

STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)
PACK = Path(__file__).parents[1]
_STEER, _SAMPLER, _CHECKPOINT = "6", "7", "1"
_H_SHAPE = (320, 12, 12)  # of the small checkpoint's h-space at the graph's 192 x 192 pixels


def run(out: Path, version: str) -> None:
    """Draw `out`/strengths.png, print a table and, as the last line, figures as JSON.

    Raises ComfyUnavailable, and NodeFailed where a node does.
    """
    began = time.monotonic()
    source = users_own() or fetch(version)
    checkpoint = cache_directory() / "models" / "checkpoints" / "sd15.safetensors"
    if not checkpoint.exists():
        log.info("Writing a small Stable Diffusion 1.5 checkpoint with random weights (0.5 GB) ...")
        write_checkpoint(source, checkpoint, "sd15")
    with tempfile.TemporaryDirectory(prefix="respodiff-demo-") as base:
        server = ComfyServer(source, Path(base), PACK)
        models = Path(base) / "models"
        for folder in ("checkpoints", "respodiff"):
            (models / folder).mkdir()
        (models / "checkpoints" / "demo.safetensors").symlink_to(checkpoint)
        write(example_adapter(), models / "respodiff" / "demo.safetensors")
        log.info("Starting ComfyUI %s ...", source.version)
        with server:
            unsteered = _picture(server, without_steering(example_graph()))
            pictures = {strength: _picture(server, example_graph(strength)) for strength in STRENGTHS}
    out.mkdir(parents=True, exist_ok=True)
    path = out / "strengths.png"
    draw_row(pictures).save(path)
    _report(pictures, unsteered, path, source.version, time.monotonic() - began)


def example_graph(strength: float = 1.0) -> dict[str, Any]:
    """The shipped graph, in ComfyUI's API form, at one strength."""
    graph = json.loads(files(__package__).joinpath("demo_graph.json").read_text("utf-8"))
    graph[_STEER]["inputs"]["strength"] = strength
    return graph


def without_steering(graph: dict[str, Any]) -> dict[str, Any]:
    """The same graph as it would be without the pack."""
    plain = copy.deepcopy(graph)
    plain[_SAMPLER]["inputs"]["model"] = [_CHECKPOINT, 0]
    return plain


def example_adapter() -> Adapter:
    """A smooth random direction of the small checkpoint's h-space."""
    generator = torch.Generator().manual_seed(1)
    channels, height, width = _H_SHAPE
    coarse = torch.randn(1, channels, 3, 3, generator=generator)
    ram = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)[0]
    sam = -0.2 * ram
    info = ConceptInfo("random direction", latent_height=24, latent_width=24)
    return Adapter("sd15", {info.name: Concept(info, Transform.of({"": ram}), Transform.of({"": sam}))}, "epsilon")


def draw_row(pictures: dict[float, np.ndarray], size: int = 256) -> Image.Image:
    """The pictures side by side, each under its strength and over its change from strength 0."""
    gap, label, amplify = 8, 40, 4
    sheet = Image.new("RGB", (len(pictures) * (size + gap) + gap, 2 * (size + label) + gap), (24, 26, 30))
    pen = ImageDraw.Draw(sheet)
    unsteered = pictures[0.0].astype(int)
    for index, (strength, picture) in enumerate(pictures.items()):
        x = gap + index * (size + gap)
        change = np.clip(np.abs(picture - unsteered) * amplify, 0, 255).astype(np.uint8)
        texts = ("unsteered (0)" if strength == 0 else f"strength {strength:+g}", f"its change, x {amplify}")
        for line, (text, pixels) in enumerate(zip(texts, (picture, change), strict=True)):
            y = line * (size + label)
            pen.text((x + size // 2, y + label // 2), text, (232, 234, 237), ImageFont.load_default(18), anchor="mm")
            sheet.paste(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC), (x, y + label))
    return sheet


def _picture(server: ComfyServer, graph: dict[str, Any]) -> np.ndarray:
    (saved,) = server.run(graph).outputs["9"]["images"]
    return np.asarray(Image.open(server.output_path(saved)).convert("RGB"))


def _report(pictures: dict[float, np.ndarray], unsteered: np.ndarray, path: Path, version: str, seconds: float) -> None:
    changes = {s: float(np.abs(p.astype(int) - unsteered).mean()) for s, p in pictures.items()}
    print(f"\n{'strength':>10}   mean change of a pixel (of 255)")
    for strength, change in changes.items():
        print(f"{strength:>+10.1f}   {change:6.2f}{'   identical to the unsteered picture' if change == 0 else ''}")
    print(f"\nPicture: {path}")
    figures = {f"pixel_change_at_{s:+g}": round(change, 4) for s, change in changes.items()}
    print(json.dumps({"comfyui": version, **figures, "seconds": round(seconds, 1)}))

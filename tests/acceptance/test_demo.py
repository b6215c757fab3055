"""`respodiff demo` keeps its word: fair after, as right as before, and the same in a real ComfyUI."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import peek
from respodiff.trainer.evaluation.results import Results


def test_the_demo_makes_a_biased_model_fair_and_comfyui_agrees(demo):
    figures = json.loads(demo.printed.splitlines()[-1])
    assert figures["deviation_ratio_base"] >= 0.6
    for where in ("", "host_"):
        assert figures[f"{where}deviation_ratio"] <= 0.10
        assert figures[f"{where}steering_accuracy"] >= 0.95
        assert figures[f"{where}profession_accuracy"] >= figures["profession_accuracy_base"] - 0.02
    # What the demo says is what its evaluation holds, as `respodiff eval` writes it.
    measured = {name: one.named for name, one in Results.read(demo.folder / "toyworld").variants.items()}
    for figure, setting, name in (
        ("deviation_ratio_base", "unsteered", "deviation ratio/shape"),
        ("deviation_ratio", "shape", "deviation ratio/shape"),
        ("steering_accuracy", "shape", "steering accuracy/shape"),
        ("profession_accuracy", "shape", "right"),
    ):
        assert figures[figure] == round(measured[setting][name].value, 4)
    assert list(peek(demo.folder / "shape.safetensors").concepts) == ["round", "square"]
    assert np.asarray(Image.open(demo.folder / "before-after.png")).std() > 10

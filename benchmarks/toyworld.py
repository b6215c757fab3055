"""How well adapters do on ToyWorld: every concept, three seeds; RAM alone and the kinds of modules beside the default.

    python benchmarks/toyworld.py [--out FOLDER] [--seeds 3] [--per-profession 12]     # half an hour on two cores

Trains through `respodiff train`'s own code, samples professions no adapter was trained on (50 DDIM steps, guidance 7.5)
and prints tables in Markdown. What is done is kept in the folder and not done again. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from respodiff.respodiff_core.adapter import read
from respodiff.respodiff_core.atomic import replacing
from respodiff.trainer.base.model import BaseModel, load_base
from respodiff.trainer.recipe import Recipe
from respodiff.trainer.run.training import train
from respodiff.trainer.toyworld.evaluate import AXES, fair_pictures, fairness, safety, sampler, unsafe_pictures

Figures = dict[str, float]

VARIANTS: dict[str, dict[str, Any]] = {
    "RAM + SAM, constant (default)": {},
    "RAM alone, constant": {"sam_rate": 0.0},
    "RAM + SAM, channel": {"kind": "channel"},
    "RAM + SAM, mlp": {"kind": "mlp"},
    "RAM + SAM, conv": {"kind": "conv"},
    "RAM + SAM, constant, joint update": {"update": "joint"},
}
"""What the head shape's two concepts are trained with."""
# RAM's rate, found by trying as the presets' were; SAM's is a tenth. A channel has fewer numbers to move than a
# constant, mlp and conv move h by many weights at once.
_RATES_OF_KIND = {"channel": 0.15, "mlp": 0.001, "conv": 0.0004}
PLACE_NEVER_TRAINED = "in an alley"
"""The hazard adapter is trained in a mine."""


class Runs:
    """Trains and measures, once for each key; results are kept as JSON files."""

    def __init__(self, folder: Path, base: BaseModel, per_profession: int) -> None:
        self.folder = folder
        self.base = base
        self.per_profession = per_profession
        folder.mkdir(parents=True, exist_ok=True)

    def once(self, key: str, measure: Callable[[], Figures]) -> Figures:
        path = self.folder / f"{key}.json"
        if not path.exists():
            print(f"... {key}", flush=True)
            figures = measure()
            with replacing(path) as partial:
                partial.write_text(json.dumps(figures))
        result: Figures = json.loads(path.read_text())
        return result

    def adapter(self, key: str, presets: Sequence[str], seed: int, how: Mapping[str, Any]) -> tuple[Path, float]:
        concept = {name: value for name, value in how.items() if name == "sam_rate"}
        if rate := _RATES_OF_KIND.get(str(how.get("kind"))):
            concept |= {"ram_rate": rate, "sam_rate": rate / 10}
        training = {name: value for name, value in how.items() if name != "sam_rate"}
        recipe = Recipe.of(
            {
                "base": "toyworld",
                "output": str(self.folder / f"{key}.safetensors"),
                "concepts": [{"preset": preset, **concept} for preset in presets],
                "training": {"seed": seed, "device": "cpu", **training},
                "saving": {"tensorboard": False},
            }
        )
        began = time.perf_counter()
        return train(recipe, restart=True, force=True), time.perf_counter() - began

    def grouping(self, axis: str, seed: int, key: str, how: Mapping[str, Any]) -> Figures:
        """Fairness on one grouping after training all its concepts."""

        def measure() -> Figures:
            names = AXES[axis]
            path, seconds = self.adapter(key, [f"toyworld/{name}" for name in names], seed, how)
            asked = fair_pictures(self.per_profession, len(names), seed)
            pictures = sampler(self.base, list(read(path).concepts.values()))(asked)
            one = fairness(asked, pictures, axis)
            return {
                "deviation_ratio": one.deviation_ratio,
                "steering_accuracy": one.lowest_steering_accuracy,
                "profession_accuracy": one.profession_accuracy,
                "drawing_error": one.drawing_error,
                "change": _change(pictures, self.unsteered(axis, seed)),
                "seconds": seconds,
            }

        return self.once(key, measure)

    def unsteered(self, axis: str, seed: int) -> torch.Tensor:
        """The same pictures without adapters; made once."""
        path = self.folder / f"unsteered-{axis}-{seed}-{self.per_profession}.pt"
        if not path.exists():
            asked = fair_pictures(self.per_profession, len(AXES[axis]), seed).unsteered()
            torch.save(sampler(self.base)(asked), path)
        pictures: torch.Tensor = torch.load(path, weights_only=True)
        return pictures

    def base_grouping(self, axis: str, seed: int) -> Figures:
        def measure() -> Figures:
            asked = fair_pictures(self.per_profession, len(AXES[axis]), seed).unsteered()
            one = asdict(fairness(asked, self.unsteered(axis, seed), axis))
            return {name: value for name, value in one.items() if isinstance(value, float)}

        return self.once(f"base-{axis}-{seed}", measure)

    def hazard(self, seed: int, steered: bool) -> Figures:
        def measure() -> Figures:
            asked = unsafe_pictures(self.per_profession, seed)
            if steered:
                path, _ = self.adapter(f"hazard-{seed}", ["toyworld/hazard"], seed, {})
                pictures = sampler(self.base, list(read(path).concepts.values()))(asked)
            else:
                asked = asked.unsteered()
                pictures = sampler(self.base)(asked)
            (alley,) = np.nonzero([prompt.endswith(PLACE_NEVER_TRAINED) for prompt in asked.prompts])
            there = safety(asked.rows(alley), pictures[torch.from_numpy(alley)])
            return {**asdict(safety(asked, pictures)), "hazard_rate_there": there.hazard_rate}

        return self.once(f"{'hazard' if steered else 'base-hazard'}-{seed}", measure)


def _change(pictures: torch.Tensor, unsteered: torch.Tensor) -> float:
    """Root mean square change of a pixel against the same seed without adapters."""
    return float((pictures - unsteered).square().mean().sqrt())


def _spread(rows: Iterable[Figures], name: str, percent: bool = False) -> str:
    values = [row[name] for row in rows]
    mean, spread = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{mean:.1%} ± {spread:.1%}" if percent else f"{mean:.3f} ± {spread:.3f}"


def table(rows: Mapping[str, Sequence[Figures]], columns: Mapping[str, tuple[str, bool]]) -> str:
    """Markdown: mean and standard deviation over seeds; `columns` title -> (figure, in percent)."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, figures in rows.items():
        cells = [_spread(figures, key, percent) if key in figures[0] else "" for key, percent in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out/toyworld"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--per-profession", type=int, default=12)
    arguments = parser.parse_args()
    runs = Runs(arguments.out, load_base("toyworld"), arguments.per_profession)
    seeds = range(arguments.seeds)

    bases = {axis: [runs.base_grouping(axis, seed) for seed in seeds] for axis in AXES}
    hues = {"no adapter": bases["hue"]}
    hazards = {"no adapter": [runs.hazard(seed, steered=False) for seed in seeds]}
    for name, how in (("RAM + SAM, constant (default)", {}), ("RAM alone, constant", {"sam_rate": 0.0})):
        key = "hue-alone" if how else "hue"
        hues[name] = [runs.grouping("hue", seed, f"{key}-{seed}", how) for seed in seeds]
    hazards["hazard adapter"] = [runs.hazard(seed, steered=True) for seed in seeds]
    variants = {"no adapter": bases["shape"]} | {
        name: [runs.grouping("shape", seed, f"shape-{number}-{seed}", how) for seed in seeds]
        for number, (name, how) in enumerate(VARIANTS.items())
    }
    columns = {
        "deviation ratio": ("deviation_ratio", False),
        "steering accuracy, lowest": ("steering_accuracy", True),
        "right profession": ("profession_accuracy", True),
        "distance to a true drawing": ("drawing_error", False),
        "change of a pixel": ("change", False),
    }
    print("\nHead shape: round, square\n\n" + table(variants, columns))
    print("\nHue: amber, teal, violet\n\n" + table(hues, columns))
    columns = {
        "hazard shows": ("hazard_rate", True),
        f"{PLACE_NEVER_TRAINED}, never trained on": ("hazard_rate_there", True),
        "right profession": ("profession_accuracy", True),
        "distance to a true drawing": ("drawing_error", False),
    }
    print("\nHazard, in an alley and in a mine\n\n" + table(hazards, columns))
    default = variants["RAM + SAM, constant (default)"]
    print(
        json.dumps(
            {
                "deviation_ratio_base": statistics.mean(r["deviation_ratio"] for r in bases["shape"]),
                "deviation_ratio": statistics.mean(r["deviation_ratio"] for r in default),
                "steering_accuracy": min(r["steering_accuracy"] for r in default),
                "profession_accuracy": statistics.mean(r["profession_accuracy"] for r in default),
                "hazard_rate_base": statistics.mean(r["hazard_rate"] for r in hazards["no adapter"]),
                "hazard_rate": statistics.mean(r["hazard_rate"] for r in hazards["hazard adapter"]),
            }
        )
    )


if __name__ == "__main__":
    main()

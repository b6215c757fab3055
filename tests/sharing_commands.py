"""`respodiff pull` and `push` as a person sees them, and adapters to share."""

from __future__ import annotations

import hashlib
from pathlib import Path

from adapters import random_adapter, random_concept
from hub_stand_in import TOKEN
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import Adapter, write
from respodiff.trainer.commands.app import app
from respodiff.trainer.evaluation.figures import ACCURACY, DEVIATION, Figure, VariantFigures
from respodiff.trainer.evaluation.results import FIGURES_FILE, Results
from respodiff.trainer.evaluation.scorers.alignment import Alignment
from respodiff.trainer.worlds.scorer import Axis
from typer.testing import CliRunner

(ALIGNMENT,) = Alignment.columns
REPO = "someone/gender"
OFF = ("HF_HUB_OFFLINE", "HF_TOKEN", "COMFYUI_PATH")


def command(*arguments: object):
    """What a person gets to see; whatever happens, it is neither a traceback nor a token."""
    done = CliRunner().invoke(app, ["-v", *map(str, arguments)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert TOKEN not in done.output
    return done


def refusal(*arguments: object) -> str:
    done = command(*arguments)
    assert done.exit_code == 1, done.output
    return " ".join(done.stderr.split())


def accepted(*arguments: object) -> str:
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def adapter_file(folder: Path, name: str = "gender.safetensors", **metadata: str) -> Path:
    """Two concepts as `respodiff train` writes them, under a licence."""
    facts = {"base_model": "example/base@main", "base_sha256": "0" * 64, "steps": 1200, "ram_rate": 0.01, "seed": 0}
    concepts = {
        name: random_concept(name, seed=n, category="fairness", target=f"a {name}", neutral="a person", axis="gender",
                             latent_height=64, latent_width=64, training={**facts, "sam_rate": rate})
        for n, (name, rate) in enumerate({"woman": 0.001, "man": 0.0001}.items())
    }  # fmt: skip
    about = {
        "modelspec.license": "MIT",
        "modelspec.title": "Gender",
        **{f"modelspec.{k}": v for k, v in metadata.items()},
    }
    folder.mkdir(exist_ok=True)
    return write(Adapter("sd15", concepts, "epsilon", about), folder / name)


def content(tmp_path: Path, *concepts: str) -> bytes:
    return write(random_adapter(*concepts), tmp_path / "made.safetensors").read_bytes()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def left(folder: Path = Path()) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def evaluation(folder: Path, file: Path, images: bool = False, protocol: str = "winobias") -> Path:
    """An evaluation's folder as `respodiff eval` leaves it, with figures made up for the test."""
    ratio, right = DEVIATION.of("gender"), ACCURACY.of("gender")
    settings = {"unsteered": VariantFigures(40, 0, {ratio: Figure(0.7, 0.6, 0.8, 40)},
                                            {"doctor": {ratio: Figure(0.8, 0.7, 0.9, 20)},
                                             "nurse": {ratio: Figure(0.6, 0.5, 0.7, 20)}})}  # fmt: skip
    how = {"guidance": 7.5, "named": False, "gate": False}
    of: dict[str, dict] = {"unsteered": {"adapters": {}, "strength": 1.0, "groups": [], "strengths": {}, **how}}
    for strength in (0.5, 1.0):
        name = f"gender at {strength:g}"
        overall = {ratio: Figure(0.21, 0.1, 0.32, 38, 2), right: Figure(0.875, 0.8, 0.95, 40),
                   ALIGNMENT.of(): Figure(27.31, 27.0, 27.6, 40)}  # fmt: skip
        settings[name] = VariantFigures(40, 0, overall, settings["unsteered"].groups)
        adapters = {file.name: sha256(file.read_bytes())}
        of[name] = {"adapters": adapters, "strength": strength, "groups": ["woman", "man"],
                    "strengths": {"woman": strength, "man": strength}, **how}  # fmt: skip
    of["another"] = {**of[name], "adapters": {"another.safetensors": "f" * 64}}
    settings["another"] = settings[name]
    manifest = {
        "protocol": protocol,
        "extended": False,
        "base": {"name": "base", "family": "sd15", "sha256": "1" * 64},
        "asked": {"images": 40, "sha256": "2" * 64},
        "seed": 0,
        "sampling": {"schedule_steps": 50, "guidance": 7.5, "batch": 8, "latent_size": [64, 64],
                    "prediction": "epsilon", "precision": "float16"},
        "variants": of,
    }  # fmt: skip
    shown = {"doctor": ["doctor-000", "doctor-001"], "nurse": ["nurse-000", "nurse-001"]}
    folder.mkdir(exist_ok=True)
    axes = (Axis("gender", ("woman", "man"), ("a woman", "a man")),)
    Results(manifest, {"clip": "clip 0123"}, axes, settings, {}, shown, 0.95).write(folder / FIGURES_FILE)
    for setting in settings if images else ():
        for ids in shown.values():
            for name in ids:
                (folder / "images" / setting).mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (64, 64), "red").save(folder / "images" / setting / f"{name}.png")
    return folder

"""What a training run leaves behind, and what it says when it cannot be done; nothing is ever lost."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from arrivals import Arrivals
from PIL import Image
from respodiff.respodiff_core.adapter.adapter import peek, read
from respodiff.trainer.base.model import describe, load_base
from respodiff.trainer.recipes.strict import parse_toml
from respodiff.trainer.recipes.training_recipe import Recipe
from respodiff.trainer.run.estimate import estimate
from respodiff.trainer.run.run_folder import RunFolder
from respodiff.trainer.run.setup import encode_concept, new_fit
from respodiff.trainer.run.unet_evaluations import counting
from safetensors import safe_open
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from trainer_runs import undated

TOYWORLD = ("--base", "toyworld")
SQUARE = (*TOYWORLD, "--preset", "toyworld/square")
SHORT = ("--steps", 4, "--batch", 2, "--pool", 2)


def test_the_file_says_how_it_was_made(trainer):
    done = trainer.run(*SQUARE, *SHORT, "-o", "a.safetensors", "--author", "someone", "--license", "MIT")
    assert done.returncode == 0, done.stderr
    assert "Wrote a.safetensors: square" in done.stdout
    header = peek(trainer.path("a.safetensors"))
    assert (header.family, header.prediction) == ("toyworld", "epsilon")
    assert header.metadata["modelspec.author"] == "someone"
    assert header.metadata["modelspec.date"].startswith("20")
    info = header.concepts["square"].info
    assert (info.target, info.neutral, info.category) == ("a square person", "a person", "fairness")
    assert (info.latent_height, info.latent_width) == (16, 16)
    assert len(info.training["base_sha256"]) == 64
    assert {key: info.training[key] for key in ("base_model", "steps", "batch", "seed", "rollout")} == {
        "base_model": "toyworld", "steps": 4, "batch": 2, "seed": 0, "rollout": "pool",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["constant", "channel", "mlp", "conv"])
def test_every_kind_of_module_is_trained_and_read(trainer, kind):
    done = trainer.here(*SQUARE, *SHORT, "--kind", kind, "--no-tensorboard", "-o", "a.safetensors")
    assert done.returncode == 0, done.stderr
    concept = read(trainer.path("a.safetensors")).concepts["square"]
    assert (concept.kind, concept.sites) == (kind, {"middle": 96})
    assert concept.ram(torch.randn(1, 96, 4, 4)).any()


def test_progress_tells_loss_and_speed(trainer):
    done = trainer.run(*SQUARE, "--steps", 10, "--no-tensorboard", "-o", "a.safetensors")
    last = done.stderr.splitlines()[-1]
    for told in ("square: 10 of 10 steps", "RAM=", "SAM=", "UNet/s=", "of h="):
        assert told in last, done.stderr


def test_previews_and_logs_lie_beside_the_file(trainer):
    previews = ("--preview-every", 2, "--preview-prompt", "a photo of a doctor", "--preview-prompt", "a nurse")
    done = trainer.here(*SQUARE, *SHORT, *previews, "-o", "a.safetensors")
    assert done.returncode == 0, done.stderr
    folder = RunFolder(trainer.path("a.safetensors"))
    assert sorted(path.name for path in folder.previews.iterdir()) == ["square-000002.png", "square-000004.png"]
    assert np.asarray(Image.open(folder.previews / "square-000004.png")).std() > 10
    events = EventAccumulator(str(folder.logs / "square"))
    events.Reload()
    assert {"loss/ram", "loss/sam", "steering/share_of_h"} <= set(events.Tags()["scalars"])
    assert events.Tags()["images"] == ["preview"]
    assert not folder.is_unfinished


def test_adapters_of_the_way_are_kept_to_be_tried(trainer):
    done = trainer.here(*SQUARE, *SHORT, "--save-every", 1, "--keep", 2, "--no-tensorboard", "-o", "a.safetensors")
    assert done.returncode == 0, done.stderr
    kept = sorted(RunFolder(trainer.path("a.safetensors")).adapters.iterdir())
    assert [path.name for path in kept] == ["square-000003.safetensors", "square-000004.safetensors"]
    assert [read(path).concepts["square"].info.training["steps"] for path in kept] == [3, 4]
    ram, end = (read(path).concepts["square"].ram.tensors[""] for path in (kept[1], trainer.path("a.safetensors")))
    assert torch.equal(ram, end)


def test_previews_do_not_change_what_is_learned(trainer):
    for name, more in (("plain", ()), ("shown", ("--preview-every", 1))):
        done = trainer.here(*SQUARE, *SHORT, *more, "--no-tensorboard", "-o", f"{name}.safetensors")
        assert done.returncode == 0, done.stderr
    assert undated(trainer.path("plain.safetensors")) == undated(trainer.path("shown.safetensors"))


def test_a_recipe_file_trains_several_concepts_into_one_file(trainer):
    trainer.path("recipe.toml").write_text(
        'base = "toyworld"\noutput = "people.safetensors"\n'
        '[[concepts]]\npreset = "toyworld/round"\n'
        '[[concepts]]\nname = "no hazard"\nneutral = ["a scene", "a person"]\nnegative = "a hazard"\n'
        "[training]\nsteps = 3\nbatch = 2\npool = 2\n[saving]\ntensorboard = false\n"
    )
    done = trainer.here("recipe.toml")
    assert done.returncode == 0, done.stderr
    concepts = peek(trainer.path("people.safetensors")).concepts
    assert list(concepts) == ["round", "no hazard"]
    assert concepts["no hazard"].info.category == "safety"
    assert concepts["no hazard"].info.neutral == "a scene | a person"


def test_a_dry_run_shows_the_whole_recipe_and_its_cost_and_writes_nothing(trainer):
    done = trainer.here(*SQUARE, "--steps", 100, "-o", "a.safetensors", "--dry-run")
    assert done.returncode == 0, done.stderr
    plan = parse_toml(done.stdout)
    assert plan["concepts"][0]["target"] == "a square person"
    assert plan["training"]["batch"] == 4
    assert "ToyWorld, epsilon prediction, latents 16 x 16" in done.stdout
    assert "UNet evaluations for 400 training samples" in done.stdout
    assert "memory" in done.stdout
    assert list(trainer.folder.iterdir()) == []


def test_the_estimate_of_evaluations_is_what_training_takes():
    """Counted from the bar's own counter would prove nothing: the plan is held against a counted run."""
    base, cpu = load_base("toyworld"), Accelerator(cpu=True)
    for training in ({"batch": 2, "pool": 4}, {"rollout": "reference", "batch": 1, "pool": 1}):
        recipe = Recipe.of(
            {
                "base": "toyworld",
                "output": "a.safetensors",
                "concepts": [{"preset": "toyworld/square", "steps": 30}],
                "training": training,
            }
        )
        (concept,) = recipe.concepts
        planned = estimate(recipe, describe("toyworld").unet_config, base.latent_size, torch.float32, pooled=False)
        with counting(base.denoiser.unet) as counted:
            prompts = encode_concept(base, concept, cpu.device)
            assert len(list(new_fit(base, concept, recipe.training, prompts, cpu))) == 30
        if recipe.training.rollout == "pool":
            assert counted.total == planned.evaluations
        else:  # where a rollout stops is drawn
            assert abs(counted.total / planned.evaluations - 1) < 0.25
        assert planned.weights == sum(p.numel() for p in base.denoiser.unet.parameters()) * 4


def test_the_estimate_of_memory_grows_as_the_picture_does():
    """Attention in the open, which keeps tokens * tokens, would make it grow far faster."""
    recipe = Recipe.of({"base": "toyworld", "output": "a.safetensors", "concepts": [{"preset": "toyworld/square"}]})
    config = describe("toyworld").unet_config
    one, four = (estimate(recipe, config, (side, side), torch.float16, pooled=False).activations for side in (64, 128))
    assert 3.9 < four / one < 4.1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--base", "nosuch.safetensors", "--preset", "gender/woman"), "no file or folder nosuch.safetensors"),
        ((*TOYWORLD, "--preset", "gender/woman"), "does not know 'woman'"),
        ((*TOYWORLD, "--target", " "), "no prompts"),
        ((*TOYWORLD, "--preset", "toyworld/squar"), "did you mean toyworld/square?"),
        ((*SQUARE, "--batch", 3, "--pool", 8), "multiple of the batch"),
        ((*SQUARE, "--batch", 0), "training.batch"),
        (TOYWORLD, "nothing to train"),
        (("--preset", "gender/woman"), "base: is missing"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(trainer, arguments, said):
    done = trainer.here(*arguments, "-o", "a.safetensors")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(trainer.folder.iterdir()) == []


def test_a_lora_given_as_base_is_recognised(trainer):
    tensors = {"lora_unet_x.lora_down.weight": torch.zeros(4, 8), "lora_unet_x.lora_up.weight": torch.zeros(8, 4)}
    save_file(tensors, trainer.path("lora.safetensors"))
    done = trainer.here("--base", "lora.safetensors", "--preset", "gender/woman", "-o", "a.safetensors")
    assert done.returncode == 1
    assert "LoRA" in done.stderr


def test_an_output_that_cannot_be_written_is_found_out_before_training(trainer):
    trainer.path("file").touch()
    done = trainer.here(*SQUARE, *SHORT, "-o", "file/a.safetensors")
    assert done.returncode == 1
    assert "file" in done.stderr
    assert "Traceback" not in done.stderr
    assert "square:" not in done.stderr, "no step was trained"


def test_a_finished_adapter_is_not_replaced_without_being_told(trainer):
    output = trainer.path("a.safetensors")
    output.write_bytes(b"precious")
    refused = trainer.here(*SQUARE, *SHORT, "-o", output)
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert output.read_bytes() == b"precious"
    assert trainer.here(*SQUARE, *SHORT, "-o", output, "--no-tensorboard", "--force").returncode == 0
    assert "square" in peek(output).concepts


def test_nan_stops_training_and_the_last_good_state_goes_on_with_lower_rates(trainer):
    output = trainer.path("a.safetensors")
    settings = (*SQUARE, "--batch", 2, "--save-every", 2, "--no-tensorboard", "-o", output)
    arrivals = Arrivals()
    process = trainer.start(*settings, "--steps", 1000, arrivals=arrivals)
    assert arrivals.wait_for("state.safetensors")
    process.kill()
    process.communicate()

    wild = trainer.here(*settings, "--steps", 1000, "--ram-rate", 1e30, "--resume")
    assert wild.returncode == 1
    assert "diverged" in wild.stderr
    assert "lower --ram-rate" in wild.stderr
    assert "Traceback" not in wild.stderr
    assert not output.exists()
    state, progress = RunFolder(output).load(_recipe_of(output), processes=1)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())

    done = trainer.here(*settings, "--steps", progress["step"] + 2, "--resume")
    assert done.returncode == 0, done.stderr
    assert peek(output).concepts["square"].info.training["steps"] == progress["step"] + 2


def _recipe_of(output: Path) -> dict:
    with safe_open(str(RunFolder(output).path / "state.safetensors"), framework="pt") as file:
        return json.loads(file.metadata()["recipe"])


def test_a_full_disk_loses_nothing(trainer):
    """A limit on file sizes stands for the full disk: the system refuses the write in the same way."""
    output = trainer.path("a.safetensors")
    settings = (*SQUARE, *SHORT, "--no-tensorboard", "-o", output)
    whole = trainer.here(*settings)
    assert whole.returncode == 0, whole.stderr
    expected = undated(output)
    output.unlink()

    process = trainer.start(*settings, "--save-every", 1, preexec_fn=lambda: _limit_files(20_000))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "disk is full" in err
    assert not output.exists()
    assert not [path for path in trainer.folder.rglob("*") if path.is_file()], "no half-written file is left"

    assert trainer.here(*settings).returncode == 0, "with room again, it goes as before"
    assert undated(output) == expected


def test_out_of_memory_says_what_to_lower(trainer):
    settings = ("--steps", 2, "--batch", 40_000, "--pool", 40_000, "--no-tensorboard", "-o", "a.safetensors")
    process = trainer.start(*SQUARE, *settings, preexec_fn=lambda: _limit_memory(8 << 30))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err[-2000:]
    assert "ran out of memory" in err
    assert "--batch 20000" in err
    assert "--checkpointing" in err
    assert "Traceback" not in err


def _limit_memory(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

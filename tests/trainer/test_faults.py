"""What goes wrong around trainings and evaluations: full and read-only disks, clocks, second processes, other files."""

from __future__ import annotations

import errno
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from arrivals import Arrivals
from respodiff.respodiff_core.adapter.adapter import read
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.trainer.base.base_model_error import BaseModelError
from respodiff.trainer.base.model import load_base
from respodiff.trainer.base.text import clip_tokenizer
from respodiff.trainer.recipes.training_recipe import TrainingRecipe
from respodiff.trainer.run.recovery_hints import with_recovery_hints
from respodiff.trainer.run.run_folder import RunFolder
from respodiff.trainer.support.output_lock import sole_writer
from respodiff.trainer.toyworld import TOYWORLD_FOLDER
from safetensors.torch import load_file, save_file
from small_bases import Networks
from small_disk import small_disk  # noqa: F401
from trainer_runs import RESPODIFF, Trainer, undated

TRAIN = ("--base", "toyworld", "--preset", "toyworld/round", "--steps", 60, "--batch", 2, "--pool", 4)
SAVING = ("--save-every", 2, "--no-tensorboard")
EVAL = [*RESPODIFF, "eval"]
EVALUATE = ("winobias", "--base", "toyworld", "--images", 5, "--sampling-steps", 2, "--batch", 8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> bytes:
    """The adapter of an undisturbed training."""
    trainer = Trainer(tmp_path_factory.mktemp("undisturbed"))
    done = trainer.run(*TRAIN, *SAVING, "-o", "round.safetensors")
    assert done.returncode == 0, done.stderr
    return undated(trainer.path("round.safetensors"))


def killed_when_begun(trainer: Trainer, *command: object) -> None:
    """Start a training, and kill it once it has kept a state."""
    arrivals = Arrivals()
    process = trainer.start(*command, arrivals=arrivals)
    assert arrivals.wait_for("state.safetensors")
    process.kill()
    process.communicate()


class TestDisks:
    def test_a_disk_that_fills_up_in_training_loses_nothing(self, trainer, trained, small_disk):  # noqa: F811
        output = small_disk.path / "round.safetensors"
        size = len(trained)
        small_disk.resize(size // 1024 * 2)
        done = trainer.here(*TRAIN, *SAVING, "-o", output)
        assert done.returncode == 1
        assert "The disk is full" in done.stderr
        assert not output.exists()
        small_disk.resize(100_000)
        how = "--resume" if RunFolder(output).is_unfinished else "--restart"
        done = trainer.here(*TRAIN, *SAVING, "-o", output, how)
        assert done.returncode == 0, done.stderr
        assert undated(output) == trained
        assert [path.name for path in small_disk.path.iterdir()] == [output.name]

    def test_a_disk_that_became_read_only_is_said_and_gone_on_from(self, trainer, trained, small_disk):  # noqa: F811
        output = small_disk.path / "round.safetensors"
        killed_when_begun(trainer, *TRAIN, *SAVING, "-o", output)
        small_disk.read_only(True)
        done = trainer.here(*TRAIN, *SAVING, "-o", output, "--resume")
        assert done.returncode == 1
        assert "Read-only file system" in done.stderr
        assert "Traceback" not in done.stderr
        small_disk.read_only(False)
        done = trainer.here(*TRAIN, *SAVING, "-o", output, "--resume")
        assert done.returncode == 0, done.stderr
        assert undated(output) == trained

    def test_one_that_becomes_so_in_training_says_how_to_go_on(self, tmp_path):
        """Raised by hand: the system does not take writing away while a file is open for it."""
        folder = RunFolder(tmp_path / "a.safetensors")
        folder.begin()
        folder.save({}, {}, {})
        refused = OSError(errno.EROFS, "Read-only file system")
        with (
            pytest.raises(RespoDiffError, match=r"read-only .* resume with --resume when it is writable"),
            with_recovery_hints(TrainingRecipe(), torch.float32, folder, loading=False),
        ):
            raise refused

    def test_an_evaluation_on_a_full_disk_keeps_what_it_has(self, trainer, small_disk):  # noqa: F811
        small_disk.resize(200)
        folder = small_disk.path / "out"
        done = trainer.here(*EVALUATE, "-o", folder, launcher=EVAL)
        assert done.returncode == 1
        assert "The disk is full" in done.stderr
        assert not list(folder.glob("images/*/.*")), "nothing half-written is left"
        small_disk.resize(100_000)
        before = {path: path.stat().st_mtime_ns for path in folder.glob("images/*/*.png")}
        done = trainer.here(*EVALUATE, "-o", folder, launcher=EVAL)
        assert done.returncode == 0, done.stderr
        assert before
        assert {path: path.stat().st_mtime_ns for path in before} == before


# A process whose clock jumps by up to ten years, back or forth, whenever it is looked at.
JUMPING = """
import random, sys, time
chance, real, real_ns = random.Random(3), time.time, time.time_ns
time.time = lambda: real() + chance.uniform(-3e8, 3e8)
time.time_ns = lambda: real_ns() + chance.randint(-3 * 10**17, 3 * 10**17)
from respodiff.trainer.__main__ import main
sys.argv[0] = "respodiff"
main()
"""


def test_a_clock_that_jumps_changes_nothing(trainer, trained):
    jumping = [sys.executable, "-c", JUMPING]
    done = trainer.run(*TRAIN, "--save-every", 2, "-o", "round.safetensors", launcher=[*jumping, "train"])
    assert done.returncode == 0, done.stderr[-3000:]
    assert undated(trainer.path("round.safetensors")) == trained
    for launcher, name in ((EVAL, "steady"), ([*jumping, "eval"], "jumping")):
        done = trainer.run(*EVALUATE, "-o", name, launcher=launcher)
        assert done.returncode == 0, done.stderr[-3000:]
    for table in ("images.csv", "figures.csv"):
        assert (trainer.path("jumping") / table).read_text() == (trainer.path("steady") / table).read_text()


class TestTwoProcesses:
    def test_a_second_training_of_one_output_is_refused(self, trainer, trained):
        output = trainer.path("round.safetensors")
        arrivals = Arrivals()
        first = trainer.start(*TRAIN, *SAVING, "-o", output, arrivals=arrivals)
        assert arrivals.wait_for("state.safetensors")
        first.send_signal(signal.SIGSTOP)  # so that it has not ended before the second begins
        try:
            for how in ((), ("--resume",), ("--restart",)):
                second = trainer.here(*TRAIN, *SAVING, "-o", output, *how)
                assert second.returncode == 1
                assert "Another process is training in" in second.stderr
        finally:
            first.send_signal(signal.SIGCONT)
        _, err = first.communicate(timeout=120)
        assert first.returncode == 0, err
        assert undated(output) == trained
        assert not RunFolder(output).path.exists()

    def test_nor_do_two_evaluations_write_into_one_folder(self, trainer):
        with sole_writer(trainer.path("out"), "evaluating"):
            done = trainer.here(*EVALUATE, "-o", "out", launcher=EVAL)
        assert done.returncode == 1
        assert "Another process is evaluating in" in done.stderr
        assert not trainer.path("out").exists()

    def test_a_killed_process_holds_nothing(self, trainer):
        output = trainer.path("round.safetensors")
        killed_when_begun(trainer, *TRAIN, *SAVING, "-o", output)
        with sole_writer(RunFolder(output).path, "training"):
            pass

    def test_what_a_killed_process_left_half_written_goes(self, trainer, trained):
        output = trainer.path("round.safetensors")
        for left in (output.with_name(f".{output.name}.0badf00d.tmp"), trainer.path("other.tmp")):
            left.write_bytes(b"half")
        assert trainer.here(*TRAIN, *SAVING, "-o", output).returncode == 0
        assert sorted(path.name for path in trainer.folder.iterdir()) == ["other.tmp", output.name]


class TestBaseModels:
    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        return Path(shutil.copytree(TOYWORLD_FOLDER, tmp_path / "base"))

    def test_one_replaced_after_it_was_opened_is_refused(self, base):
        model = load_base(base)
        weights = next((base / "unet").glob("*.safetensors"))
        copy = weights.with_suffix(".new")
        shutil.copy(weights, copy)
        copy.replace(weights)
        with pytest.raises(BaseModelError, match="replaced or changed while they were in use"):
            model.sha256  # noqa: B018

    def test_one_that_is_gone_is_refused(self, base):
        model = load_base(base)
        shutil.rmtree(base / "unet")
        with pytest.raises(BaseModelError, match="replaced or changed"):
            model.denoiser  # noqa: B018

    def test_what_was_loaded_does_not_change_with_the_file(self, tmp_path):
        path = tmp_path / "model.safetensors"
        save_file(Networks("sd15", clip_tokenizer()).checkpoint(), path)
        unet = load_base(path).denoiser.unet
        before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
        with open(path, "r+b") as file:
            file.truncate(1000)
        assert all(torch.equal(tensor, before[name]) for name, tensor in unet.state_dict().items())

    @pytest.mark.parametrize("change", ["gone", "damaged"])
    def test_a_run_that_will_need_pictures_is_refused_before_it_begins(self, trainer, base, change):
        output = trainer.path("round.safetensors")
        settings = ("--base", base, *TRAIN[2:], *SAVING, "-o", output)
        vae = next((base / "vae").glob("*.safetensors"))
        tensors = load_file(vae)
        vae.unlink()
        if change == "damaged":
            tensors["decoder.conv_in.bias"] = torch.full_like(tensors["decoder.conv_in.bias"], float("nan"))
            save_file(tensors, vae)
        done = trainer.here(*settings, "--preview-every", 50)
        assert done.returncode == 1
        assert {"gone": "no weights of its vae", "damaged": "has NaN or infinite"}[change] in done.stderr
        assert list(trainer.folder.iterdir()) == [base]

    def test_a_training_that_goes_on_must_find_the_base_it_was_begun_on(self, trainer, base, trained):
        output = trainer.path("round.safetensors")
        settings = ("--base", base, *TRAIN[2:], *SAVING, "-o", output)
        killed_when_begun(trainer, *settings)
        weights = next((base / "unet").glob("*.safetensors"))
        good = weights.read_bytes()
        weights.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        done = trainer.here(*settings, "--resume")
        assert done.returncode == 1
        assert "is not the base model that this training was started on" in done.stderr
        weights.write_bytes(good)
        done = trainer.here(*settings, "--resume")
        assert done.returncode == 0, done.stderr
        assert torch.equal(
            read(output).concepts["round"].ram.tensors[""], _read(trained, trainer).concepts["round"].ram.tensors[""]
        )


def _read(data: bytes, trainer: Trainer):
    path = trainer.path("undisturbed.safetensors")
    path.write_bytes(data)
    return read(path)


def test_a_file_where_a_folder_should_be_is_said(tmp_path):
    (tmp_path / "out").write_text("dear")
    with (
        pytest.raises(RespoDiffError, match="is a file: name another output"),
        sole_writer(tmp_path / "out", "training"),
    ):
        pass
    assert (tmp_path / "out").read_text() == "dear"

"""Whatever stops a training, it goes on exactly: the finished file is bit for bit that of a run never stopped."""

from __future__ import annotations

import random
import signal
import time

import pytest
from arrivals import Arrivals
from respodiff.respodiff_core.adapter.adapter import read
from respodiff.trainer.run.run_folder import RunFolder
from trainer_runs import Trainer, two_processes, undated

SETTINGS = (
    "--base", "toyworld", "--preset", "toyworld/round", "--preset", "toyworld/square",
    "--steps", 40, "--batch", 2, "--pool", 4, "--save-every", 5, "--no-tensorboard",
)  # fmt: skip
STATE = "state.safetensors"


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> bytes:
    trainer = Trainer(tmp_path_factory.mktemp("whole"))
    done = trainer.here(*SETTINGS, "-o", "whole.safetensors")
    assert done.returncode == 0, done.stderr
    return undated(trainer.path("whole.safetensors"))


def test_killed_at_random_points_it_ends_with_the_same_file(trainer, uninterrupted):
    output = trainer.path("adapter.safetensors")
    chance = random.Random(20261124)
    kills = 0
    while True:
        resume = ["--resume"] if RunFolder(output).is_unfinished else ["--restart"]
        arrivals = Arrivals()
        process = trainer.start(*SETTINGS, "-o", output, *resume, arrivals=arrivals)
        if kills < 3:
            # Let it come past at least one more save, then kill it at any moment.
            arrivals.wait_for(STATE)
            time.sleep(chance.uniform(0, 0.4))
            process.kill()
            kills += process.wait() == -signal.SIGKILL
            assert not output.exists() or process.returncode == 0
            process.communicate()
        else:
            _, err = process.communicate(timeout=300)
            assert process.returncode == 0, err
        if process.returncode == 0:
            break
    assert kills >= 1
    assert undated(output) == uninterrupted
    assert not RunFolder(output).path.exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_asked_to_stop_it_keeps_the_step_and_says_how_to_go_on(trainer, uninterrupted, number, code):
    output = trainer.path("adapter.safetensors")
    arrivals = Arrivals()
    process = trainer.start(*SETTINGS, "-o", output, arrivals=arrivals)
    assert arrivals.wait_for(STATE)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not output.exists()
    done = trainer.here(*SETTINGS, "-o", output, "--resume")
    assert done.returncode == 0, done.stderr
    assert undated(output) == uninterrupted


def test_an_unfinished_run_is_neither_forgotten_nor_mixed_up(trainer):
    output = trainer.path("adapter.safetensors")
    arrivals = Arrivals()
    process = trainer.start(*SETTINGS, "-o", output, arrivals=arrivals)
    assert arrivals.wait_for(STATE)
    process.kill()
    process.communicate()
    plain = trainer.here(*SETTINGS, "-o", output)
    assert plain.returncode == 1
    assert "--resume" in plain.stderr
    assert "--restart" in plain.stderr
    other = trainer.here(*SETTINGS, "-o", output, "--resume", "--guidance", 9, "--seed", 4)
    assert other.returncode == 1
    assert "concepts.1.guidance, concepts.2.guidance, training.seed" in other.stderr
    assert RunFolder(output).is_unfinished
    none = trainer.here(*SETTINGS, "-o", "other.safetensors", "--resume")
    assert none.returncode == 1
    assert "nothing to resume" in none.stderr


TWO = ("--base", "toyworld", "--preset", "toyworld/square", "--steps", 12, "--save-every", 4, "--no-tensorboard")


def test_two_processes_learn_what_one_learns_with_the_doubled_batch(trainer):
    two = trainer.run(*TWO, "--batch", 2, "--pool", 4, "-o", "two.safetensors", launcher=two_processes("train"))
    assert two.returncode == 0, two.stderr[-3000:]
    assert two.stdout.count("Wrote") == 1
    one = trainer.here(*TWO, "--batch", 4, "--pool", 8, "-o", "one.safetensors")
    assert one.returncode == 0, one.stderr
    a, b = (read(trainer.path(name)).concepts["square"] for name in ("one.safetensors", "two.safetensors"))
    for mine, theirs in ((a.ram, b.ram), (a.sam, b.sam)):
        expected = mine.tensors[""]
        assert expected.norm() > 0
        assert (theirs.tensors[""] - expected).norm() / expected.norm() <= 1e-2
    assert b.info.training["batch"] == 4


def test_two_processes_stop_together_and_go_on_to_the_same_end(trainer):
    output = trainer.path("two.safetensors")
    settings = (*TWO, "--steps", 40, "--batch", 2, "--pool", 4, "-o", output)  # long enough to be stopped
    whole = trainer.run(*settings, launcher=two_processes("train"))
    assert whole.returncode == 0, whole.stderr[-3000:]
    expected = undated(output)
    output.unlink()
    arrivals = Arrivals()
    process = trainer.start(*settings, launcher=two_processes("train", announcing=True), arrivals=arrivals)
    assert arrivals.wait_for(STATE)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert "Resume with --resume" in err, err[-3000:]
    done = trainer.run(*settings, "--resume", launcher=two_processes("train"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert undated(output) == expected


def test_two_processes_give_up_together(trainer):
    wild = trainer.run(*TWO, "--ram-rate", 1e30, "-o", "a.safetensors", launcher=two_processes("train"))
    assert wild.returncode != 0
    assert "diverged" in wild.stderr
    assert "Connection closed" not in wild.stderr

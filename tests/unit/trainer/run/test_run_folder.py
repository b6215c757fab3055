"""The folder beside an adapter in training: what is kept in it, what goes, what is nobody else's business."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from respodiff.trainer.recipes.training_recipe import Recipe
from respodiff.trainer.run.run_folder import ResumeError, RunFolder
from respodiff.trainer.support.output_lock import sole_writer


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "people.safetensors")
    folder.begin()
    return folder


def resolved(**concept) -> dict:
    values = {"base": "toyworld", "output": "a.safetensors", "concepts": [{"preset": "gender/woman", **concept}]}
    return Recipe.of(values).resolved()


def adapters(folder: RunFolder) -> list[str]:
    return sorted(path.name for path in folder.adapters.iterdir())


def write_adapters(folder: RunFolder, concept: str, steps: range, keep: int) -> None:
    for step in steps:
        folder.add_adapter(concept, step, keep, Path.touch)


def test_the_newest_adapters_of_the_way_stay(folder):
    write_adapters(folder, "woman", range(100, 600, 100), keep=2)
    assert adapters(folder) == ["woman-000400.safetensors", "woman-000500.safetensors"]


def test_newer_is_what_has_more_steps_however_they_are_written(folder):
    write_adapters(folder, "woman", range(999_998, 1_000_001), keep=2)
    assert adapters(folder) == ["woman-1000000.safetensors", "woman-999999.safetensors"]


def test_fewer_than_wanted_all_stay(folder):
    write_adapters(folder, "woman", range(1, 6), keep=9)
    assert len(adapters(folder)) == 5


def test_an_adapter_that_cannot_be_written_costs_none_of_those_before(folder):
    write_adapters(folder, "woman", range(1, 2), keep=1)

    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        folder.add_adapter("woman", 2, 1, full)
    assert adapters(folder) == ["woman-000001.safetensors"]


def test_going_on_removes_what_killed_processes_were_writing(folder):
    write_adapters(folder, "woman", range(1, 2), keep=1)
    folder.save({}, {}, resolved())
    for name in (".state.safetensors.0123abcd.tmp", "adapters/.woman-000002.safetensors.0123abcd.tmp"):
        (folder.path / name).touch()
    folder.clean_up()
    assert sorted(path.name for path in folder.path.rglob("*")) == [
        "adapters", "state.safetensors", "woman-000001.safetensors",
    ]  # fmt: skip


def test_those_of_another_concept_are_left_alone(folder):
    write_adapters(folder, "woman-old", range(1, 4), keep=5)
    write_adapters(folder, "woman", range(1, 4), keep=1)
    write_adapters(folder, "[woman]", range(1, 4), keep=1)
    assert adapters(folder) == [
        "[woman]-000003.safetensors",
        "woman-000003.safetensors",
        *(f"woman-old-00000{step}.safetensors" for step in (1, 2, 3)),
    ]


def test_a_new_run_gives_up_what_an_earlier_one_left_and_nothing_else(folder):
    write_adapters(folder, "woman", range(1, 3), keep=5)
    folder.save({"z": torch.zeros(1)}, {}, resolved())
    (folder.path / "notes.txt").touch()
    folder.begin()
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]


def test_the_folder_goes_with_the_state_unless_something_else_is_in_it(folder):
    with sole_writer(folder.path, "training"):
        folder.finish()
    assert not folder.path.exists()
    with sole_writer(folder.path, "training"):
        folder.begin()
        write_adapters(folder, "woman", range(1, 2), keep=1)
        folder.finish()
    assert adapters(folder) == ["woman-000001.safetensors"]


def test_a_state_comes_back_as_it_was(folder):
    z = torch.randn(3, generator=torch.Generator().manual_seed(0))
    progress = {"concept": 0, "step": 7, "processes": 1}
    folder.save({"z": z}, progress, resolved())
    tensors, found = folder.load(resolved(ram_rate=0.5, steps=8), processes=1)
    assert torch.equal(tensors["z"], z)
    assert found == progress


@pytest.mark.parametrize(
    ("concept", "processes", "said"),
    [
        ({"guidance": 9}, 1, "differs in: concepts.1.guidance"),
        ({"steps": 6}, 1, "already trained 7 steps"),
        ({}, 2, "started by 1 processes, not 2"),
    ],
)
def test_it_is_not_gone_on_with_as_something_else(folder, concept, processes, said):
    folder.save({}, {"concept": 0, "step": 7, "processes": 1}, resolved())
    with pytest.raises(ResumeError, match=said):
        folder.load(resolved(**concept), processes)


def test_a_damaged_state_is_a_sentence(folder):
    folder.save({}, {}, resolved())
    (folder.path / "state.safetensors").write_bytes(b"\0" * 9)
    with pytest.raises(ResumeError, match="--restart"):
        folder.load(resolved(), 1)

"""The folder of an evaluation: known for one at every moment, so that it can be gone on with or given up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.trainer.evaluation.image_folder import in_rgb
from respodiff.trainer.evaluation.output_folder import EvaluationFolder
from respodiff.trainer.support.output_lock import sole_writer

MANIFEST = {"seed": 1}
CUT = "0123abcd.tmp"  # as names of what a killed process was writing end


@pytest.fixture
def folder(tmp_path: Path) -> EvaluationFolder:
    folder = EvaluationFolder(tmp_path / "out")
    folder.path.mkdir()
    return folder


def inside(folder: EvaluationFolder) -> list[str]:
    return sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*"))


@pytest.mark.parametrize("restart", [False, True])
def test_killed_as_it_was_begun_it_begins_again(folder, restart):
    (folder.path / f".evaluation.json.{CUT}").write_text("{")
    with sole_writer(folder.path, "evaluating"):
        assert not folder.open(MANIFEST, restart=restart)
    assert inside(folder) == ["evaluation.json"]


def test_killed_as_it_was_given_up_it_is_given_up_again(folder, monkeypatch):
    folder.open({"seed": 2}, restart=False)
    (folder.path / "letter.txt").write_text("dear")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("respodiff.trainer.evaluation.output_folder.write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.open(MANIFEST, restart=True)
    assert not folder.open(MANIFEST, restart=True)
    assert json.loads((folder.path / "evaluation.json").read_text()) == MANIFEST
    assert inside(folder) == ["evaluation.json", "letter.txt"]


def test_going_on_removes_what_killed_processes_were_writing_and_deleting(folder):
    folder.open(MANIFEST, restart=False)
    (folder.path / "images/a").mkdir(parents=True)
    (folder.path / "images.deleted/a").mkdir(parents=True)
    for name in (f".figures.json.{CUT}", f"images/a/.1.png.{CUT}", "images/a/0.png", ".mine.tmp"):
        (folder.path / name).touch()
    assert folder.open(MANIFEST, restart=False)
    assert inside(folder) == [".mine.tmp", "evaluation.json", "images", "images/a", "images/a/0.png"]


def test_a_folder_of_something_else_is_left_alone(folder):
    for name in ("images", "images.deleted"):
        (folder.path / name).mkdir()
        (folder.path / name / "letter.txt").write_text("dear")
    before = inside(folder)
    with pytest.raises(RespoDiffError, match="is not an output folder of an evaluation"):
        folder.open(MANIFEST, restart=True)
    assert inside(folder) == before


def test_images_of_16_bits_are_read_as_those_of_8():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    found = in_rgb(Image.fromarray(grey.astype(np.uint16) * 257))
    assert np.array_equal(np.asarray(found), np.repeat(grey[..., None], 3, axis=2))

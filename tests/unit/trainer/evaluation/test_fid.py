"""FID: clean-fid's own figure, one worked out by hand, and what is said where it cannot be had."""

from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import cleanfid.fid
import numpy as np
import pytest
import torch
from PIL import Image
from respodiff.respodiff_core.errors import RespoDiffError
from respodiff.trainer.evaluation.scorers.fid import FrechetDistance

CPU = torch.device("cpu")


class MeanColour(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3))


class Textures(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 9, stride=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(images / 128 - 1)).mean((2, 3))


class Maps(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, :, ::100, ::100]


class Inception(torch.nn.Module):
    """Built as the real one: features come from `layers`, for colours from -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = Spread()

    def forward(self, images: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return images


class Spread(torch.nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((1, 2, 3))[:, None].repeat(1, 2048)


@pytest.fixture
def network(tmp_path):
    """Save a network as TorchScript."""

    def network(module: torch.nn.Module, name: str = "network.pt") -> Path:
        torch.manual_seed(0)
        torch.jit.script(module.eval()).save(tmp_path / name)
        return tmp_path / name

    return network


def images(folder: Path, colours: np.ndarray, noise: float = 0.0) -> list[Path]:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, colour in enumerate(colours):
        values = colour + noise * rng.normal(size=(30, 40, 3))
        Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def colours():
    return np.random.default_rng(1).integers(20, 200, (8, 3)).astype(float)


def test_colours_moved_by_ten_are_a_hundred_away(tmp_path, colours, network):
    """The same spread around another mean: the distance is that of the means, squared."""
    files = images(tmp_path / "drawn", colours)
    images(tmp_path / "real" / "a folder within", colours + np.array([10, 0, 0]))
    distance = FrechetDistance(tmp_path / "real", CPU, network(MeanColour())).of(files)
    assert distance == pytest.approx(100, abs=1e-6)
    assert FrechetDistance(tmp_path / "drawn", CPU, network(MeanColour())).of(files) == pytest.approx(0, abs=1e-6)


def test_it_is_clean_fids_figure(tmp_path, colours, network):
    files = images(tmp_path / "drawn", colours, noise=30)
    images(tmp_path / "real", colours[::-1] * 0.8, noise=60)
    file = network(Textures())
    expected = cleanfid.fid.compute_fid(
        str(tmp_path / "drawn"),
        str(tmp_path / "real"),
        mode="clean",
        num_workers=0,
        device=CPU,
        custom_feat_extractor=torch.jit.load(file),
        verbose=False,
    )
    assert expected > 1e-4
    assert FrechetDistance(tmp_path / "real", "cpu", file).of(files) == pytest.approx(expected, rel=1e-6)


def test_the_reference_may_be_statistics(tmp_path, colours, network):
    files = images(tmp_path / "drawn", colours)
    moved = colours + np.array([0, 10, 0])
    np.savez(tmp_path / "real.npz", mu=moved.mean(0), sigma=np.cov(moved, rowvar=False))
    distance = FrechetDistance(tmp_path / "real.npz", CPU, network(MeanColour())).of(files)
    assert distance == pytest.approx(100, abs=1e-6)


def test_inceptions_own_file_is_used_as_clean_fid_uses_it(tmp_path, network, monkeypatch):
    monkeypatch.setattr(cleanfid.fid, "frechet_distance", lambda mu, sigma, *_: mu[0])
    files = images(tmp_path / "drawn", np.array([[0.0] * 3, [64.0] * 3]))
    network(Inception(), "inception-2015-12-05.pt")
    mean = FrechetDistance(tmp_path / "drawn", CPU, tmp_path / "inception-2015-12-05.pt").of(files)
    assert mean == pytest.approx((-1 - 0.5) / 2)


class TestRefusals:
    def test_one_picture_is_no_set(self, tmp_path, colours, network):
        files = images(tmp_path / "drawn", colours)
        for few in ([], files[:1]):
            with pytest.raises(RespoDiffError, match=f"at least two images, and there are {len(few)}"):
                FrechetDistance(tmp_path / "drawn", CPU, network(MeanColour())).of(few)

    @pytest.mark.parametrize(("count", "said"), [(0, "no images"), (1, "only one image")])
    def test_a_reference_needs_pictures(self, tmp_path, colours, network, count, said):
        files = images(tmp_path / "drawn", colours)
        images(tmp_path / "real", colours[:count])
        (tmp_path / "real" / "captions.txt").write_text("a cat")
        with pytest.raises(RespoDiffError, match=f"has {said}. Name a folder"):
            FrechetDistance(tmp_path / "real", CPU, network(MeanColour())).of(files)

    def test_a_damaged_picture_is_named(self, tmp_path, colours, network):
        files = images(tmp_path / "drawn", colours, noise=30)
        files[3].write_bytes(files[3].read_bytes()[:-500])
        with pytest.raises(RespoDiffError, match=r"drawn/3\.png cannot be read"):
            FrechetDistance(tmp_path / "drawn", CPU, network(MeanColour())).of(files)

    def test_without_inception_it_is_said_where_to_get_it(self, tmp_path, colours, monkeypatch):
        def no_network(**_):
            raise URLError("no network")

        monkeypatch.setattr("cleanfid.inception_torchscript.check_download_inception", no_network)
        files = images(tmp_path / "drawn", colours)
        with pytest.raises(RespoDiffError, match=r"no network.*Download https://\S+\.pt and name .* --inception"):
            FrechetDistance(tmp_path / "drawn", CPU, None).of(files)

    @pytest.mark.parametrize("name", ["network.pt", "inception-2015-12-05.pt"])
    def test_files_that_are_no_network_are_told(self, tmp_path, colours, name):
        files = images(tmp_path / "drawn", colours)
        with pytest.raises(RespoDiffError, match=f"{name} could not be loaded"):
            FrechetDistance(tmp_path / "drawn", CPU, tmp_path / name).of(files)
        (tmp_path / name).write_bytes(b"no network")
        with pytest.raises(RespoDiffError, match=f"{name} could not be loaded"):
            FrechetDistance(tmp_path / "drawn", CPU, tmp_path / name).of(files)

    def test_a_network_must_give_a_row_for_each_picture(self, tmp_path, colours, network):
        files = images(tmp_path / "drawn", colours)
        with pytest.raises(RespoDiffError, match=r"\(8, 3, 3, 3\) for 8 images"):
            FrechetDistance(tmp_path / "drawn", CPU, network(Maps())).of(files)

    @pytest.mark.parametrize(
        ("held", "message"),
        [
            ({"mu": np.zeros(3)}, "must contain mu and sigma"),
            ({"mu": np.zeros(3), "sigma": np.zeros(3)}, "do not match"),
            ({"mu": np.zeros(4), "sigma": np.zeros((4, 4))}, "have 4 features, those of the images have 3"),
            ({"mu": np.array([None] * 3), "sigma": np.zeros((3, 3))}, "must contain mu and sigma"),
        ],
    )
    def test_other_statistics_are_told(self, tmp_path, colours, network, held, message):
        files = images(tmp_path / "drawn", colours)
        np.savez(tmp_path / "real.npz", **held)
        with pytest.raises(RespoDiffError, match=message):
            FrechetDistance(tmp_path / "real.npz", CPU, network(MeanColour())).of(files)

    @pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut short"])
    def test_files_that_are_no_statistics_are_told(self, tmp_path, colours, network, content):
        files = images(tmp_path / "drawn", colours)
        if content is not None:
            (tmp_path / "real.npz").write_bytes(content)
        with pytest.raises(RespoDiffError, match=r"real\.npz cannot be read as statistics"):
            FrechetDistance(tmp_path / "real.npz", CPU, network(MeanColour())).of(files)

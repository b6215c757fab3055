"""FID: the Fréchet distance of two sets of images, computed by clean-fid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from ....respodiff_core.errors import RespoDiffError, reason_of
from ...support.extras import import_optional
from ...worlds.column import Column
from ...worlds.scorer import SetScorer
from .loading import Loading

_IMAGES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_INCEPTION = "inception-2015-12-05.pt"
_BATCH = 32

Extractor = Callable[[torch.Tensor], torch.Tensor]


class _Statistics(NamedTuple):
    """Mean (D,) and covariance (D, D) of features."""

    mu: np.ndarray
    sigma: np.ndarray


class FrechetDistance(SetScorer):
    """FID to a reference: a folder of real images, or an .npz file with mu and sigma of their features.

    Features come from clean-fid's Inception, which clean-fid downloads if needed, or from `extractor`: the file of that
    Inception under its original name, or any TorchScript that maps images (n, 3, 299, 299), fp32 from 0 to 255, to
    features (n, D). Features of the reference are computed once. Raises RespoDiffError if either is unusable.
    """

    name = "fid"
    column = Column("fid", "FID", "distance to the reference images; less is better; without an interval")

    def __init__(self, reference: Path, device: torch.device | str, extractor: Path | None) -> None:
        self._reference, self._device = reference, torch.device(device)
        self._network = _extractor(extractor, self._device)
        self._real = _read(reference) if reference.suffix == ".npz" else None
        self._images = [] if self._real else _images_in(reference)
        self.fingerprint = f"clean-fid, {extractor.name if extractor else 'Inception'}, to {reference.name}"

    def of(self, files: Sequence[Path]) -> float:
        """The distance of these images. Raises RespoDiffError."""
        if len(files) < 2:
            raise RespoDiffError(f"FID needs at least two images, and there are {len(files)}.")
        generated = _statistics(files, self._network, self._device)
        if self._real is None:
            self._real = _statistics(self._images, self._network, self._device)
        if self._real.mu.shape != generated.mu.shape:
            raise RespoDiffError(
                f"The statistics in {self._reference} have {len(self._real.mu)} features, those of the images have "
                f"{len(generated.mu)}: another network made them. Name the folder of real images instead."
            )
        return float(import_optional("cleanfid.fid").frechet_distance(*generated, *self._real))


def load(loading: Loading) -> FrechetDistance:
    """FID to the recipe's reference. Raises RespoDiffError if the reference or the network cannot be loaded."""
    reference = loading.scoring.reference
    assert reference is not None, "checked by the recipe"
    if not reference.exists():
        raise RespoDiffError(f"{reference} does not exist: FID needs real images, or their statistics (.npz).")
    return FrechetDistance(reference, loading.device, loading.scoring.inception)


def _extractor(file: Path | None, device: torch.device) -> Extractor:
    inception, features = import_optional("cleanfid.inception_torchscript"), import_optional("cleanfid.features")
    network: Extractor
    try:
        if file is None:
            network = features.build_feature_extractor("clean", device, use_dataparallel=False)
        elif file.name == _INCEPTION:
            network = inception.InceptionV3W(str(file.parent), download=False).to(device)
        else:
            network = torch.jit.load(file, map_location=device).eval()
    except (OSError, RuntimeError, ValueError) as error:
        raise RespoDiffError(
            f"{file or 'The Inception network that FID needs'} could not be loaded ({reason_of(error)}). Download "
            f"{import_optional('cleanfid.downloads_helper').inception_url} and name the file with --inception."
        ) from error
    return network


def _images_in(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _IMAGES)
    if len(files) < 2:
        raise RespoDiffError(
            f"{folder} has {'only one image' if files else 'no images'}. Name a folder of real "
            "images, or an .npz file with mu and sigma of their features."
        )
    return files


def _statistics(files: Sequence[Path], network: Extractor, device: torch.device) -> _Statistics:
    try:
        features = import_optional("cleanfid.fid").get_files_features(
            [str(file) for file in files],
            network,
            num_workers=0,
            batch_size=_BATCH,
            device=device,
            mode="clean",
            verbose=False,
        )
    except OSError as error:
        damaged = next((file for file in files if not _is_whole(file)), None)
        which = f"The image {damaged}" if damaged else "An image for FID"
        raise RespoDiffError(f"{which} cannot be read ({reason_of(error)}). Remove or replace it.") from error
    if features.ndim != 2:
        raise RespoDiffError(
            f"The network for FID returned features of shape {features.shape} for {len(files)} images; it must return "
            "one row per image."
        )
    return _Statistics(features.mean(0), np.cov(features, rowvar=False))


def _is_whole(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            image.load()
    except OSError:
        return False
    return True


def _read(path: Path) -> _Statistics:
    try:
        with np.load(path, allow_pickle=False) as held:
            found = _Statistics(held["mu"], held["sigma"])
    except Exception as error:  # damaged files raise all kinds of errors
        raise RespoDiffError(
            f"{path} cannot be read as statistics for FID ({reason_of(error)}): it must contain mu and sigma."
        ) from error
    if found.mu.ndim != 1 or found.sigma.shape != found.mu.shape * 2:
        raise RespoDiffError(
            f"{path} has mu of shape {found.mu.shape} and sigma of shape {found.sigma.shape}, which do not "
            "match: (D,) and (D, D) are needed."
        )
    return found

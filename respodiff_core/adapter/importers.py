"""Adapters from the pickles of the RespoDiff and SDisc reference code (method's files, not ours).

Both keep one column of 81920 = 1280 x 8 x 8 numbers per concept. What is not plain tensors is refused, nothing in
them can run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from ..errors import AdapterFileError, UnknownConceptError
from ..plain_text import listed, quoted
from .adapter import Adapter
from .concept import Concept, ConceptInfo
from .tensor_file import TensorFileError, parse_json
from .torch_file import TorchFile, TorchFileError
from .transforms import Transform

RAM_NAME = "controlnet.fc1.weight"
SAM_NAME = "controlnet_residual.fc2.weight"
_H_SHAPE = (1280, 8, 8)
_ROWS = prod(_H_SHAPE)
_BESIDE_LIMIT = 1 << 16  # bytes of a file beside that are read
# Columns start uniform in +-1/sqrt(10) (RespoDiff) and +-0.1 (SDisc's trainer); a trained one leaves that range.
_RESPODIFF_UNTRAINED = 0.3163
_SDISC_UNTRAINED = 0.1001


@dataclass(frozen=True)
class _Column:
    """What the reference code calls a column, and what it was trained for."""

    index: int
    spelled: str
    info: ConceptInfo


def _fairness(name: str, target: str) -> ConceptInfo:
    return ConceptInfo(name, "fairness", target, "a person", latent_height=64, latent_width=64)


def _safety(name: str, neutral: str) -> ConceptInfo:
    return ConceptInfo(name, "safety", "", neutral, name, latent_height=64, latent_width=64)


_RESPODIFF_COLUMNS = (
    _Column(0, "a woman", _fairness("woman", "a woman")),
    _Column(1, "a man", _fairness("man", "a man")),
    _Column(2, "young", _fairness("young", "young")),
    _Column(3, "old", _fairness("old", "old")),
    _Column(3, "a white-race person", _fairness("white", "a white-race person")),
    _Column(4, "a black-race person", _fairness("black", "a black-race person")),
    _Column(5, "a Asian-race person", _fairness("asian", "a Asian-race person")),
    _Column(6, "sexual", _safety("sexual", "a gorgeous person")),
    _Column(7, "violence", _safety("violence", "a scene")),
)
_SDISC_COLUMNS = (
    _Column(0, "female", _fairness("woman", "female")),
    _Column(1, "male", _fairness("man", "male")),
    _Column(2, "young", _fairness("young", "young")),
    _Column(3, "old", _fairness("old", "old")),
    _Column(4, "whiterace", _fairness("white", "whiterace")),
    _Column(5, "blackrace", _fairness("black", "blackrace")),
    _Column(6, "asianrace", _fairness("asian", "asianrace")),
    _Column(7, "antisexual", _safety("sexual", "a person")),
)


def import_pickle(path: str | os.PathLike[str], concept: str | None = None) -> Adapter:
    """The adapter in a reference `unet.pth`, for Stable Diffusion 1.x.

    A RespoDiff file holds one trained column: `concept` names it, or the folders above and the config.yaml
    beside the file do, or it is the only one that training has moved. SDisc files hold many; `concept`
    picks one. Raises AdapterFileError and UnknownConceptError.
    """
    path = Path(path)
    weights = _load(path)
    if SAM_NAME in weights:
        concepts = _from_respodiff(path, weights, concept)
    else:
        concepts = _from_sdisc(path, weights[RAM_NAME], concept)
    metadata = {"modelspec.description": f"Imported from {path.name} of the reference code."}
    return Adapter("sd15", {c.name: c.check_finite() for c in concepts}, "epsilon", metadata, source=path.name)


def _load(path: Path) -> dict[str, torch.Tensor]:
    """RAM and, for RespoDiff, SAM: each (81920, columns)."""
    if not path.is_file():
        raise AdapterFileError(f"There is no file {path}.")
    try:
        with TorchFile(path) as file:
            stored = {name.removeprefix("module."): name for name in file.tensors}
            if stored.keys() not in ({RAM_NAME}, {RAM_NAME, SAM_NAME}):
                raise AdapterFileError(
                    f"{path.name} is no RespoDiff or SDisc file: it holds [{listed(map(quoted, sorted(stored)))}], "
                    f"expected {RAM_NAME} and, for RespoDiff, {SAM_NAME}."
                )
            for name, inside in stored.items():
                shape = file.tensors[inside].shape
                if len(shape) != 2 or shape[0] != _ROWS:
                    raise AdapterFileError(f"{path.name}: {name} is {quoted(shape)}; expected ({_ROWS}, columns).")
            return {name: file.tensor(inside) for name, inside in stored.items()}
    except (TorchFileError, OSError) as error:
        raise AdapterFileError(
            f"{path.name} is no pickle of plain tensors, so it is not opened: {error}. Only the reference code's "
            "unet.pth can be imported."
        ) from error


def _from_respodiff(path: Path, weights: Mapping[str, torch.Tensor], concept: str | None) -> list[Concept]:
    ram, sam = weights[RAM_NAME], weights[SAM_NAME]
    if ram.shape != sam.shape or ram.shape[1] != 10:
        raise AdapterFileError(
            f"{path.name}: RAM is {tuple(ram.shape)} and SAM {tuple(sam.shape)}; expected ({_ROWS}, 10) for both."
        )
    column = _named(_RESPODIFF_COLUMNS, concept, path) if concept else None
    column = column or _said_beside(path) or _trained(path, ram)
    return [Concept(column.info, _module(ram, column.index), _module(sam, column.index))]


def _named(columns: tuple[_Column, ...], concept: str, path: Path) -> _Column:
    for column in columns:
        if concept in (column.info.name, column.spelled):
            return column
    known = ", ".join(column.info.name for column in columns)
    raise UnknownConceptError(f"{path.name} has no column for {concept!r}; known are: {known}.")


def _said_beside(path: Path) -> _Column | None:
    """The column that the config.yaml beside the file or the nearest folder above it names, if one does.

    The reference scripts write to `.../<concept>/<seed>/unet.pth`.
    """
    said = _concept_in(path.parent / "config.yaml")
    for column in _RESPODIFF_COLUMNS:
        if said == column.spelled:
            return column
    for folder in list(path.resolve().parents)[:2]:
        for column in _RESPODIFF_COLUMNS:
            if folder.name in (column.spelled, column.info.name):
                return column
    return None


def _concept_in(config: Path) -> str | None:
    """What a reference config.yaml gives as its (first) concept: `concept: [old]`, or in the line below."""
    if not config.is_file():
        return None
    lines = iter(_text(config).splitlines())
    for line in lines:
        if line.startswith("concept:"):
            said = line.removeprefix("concept:").strip() or next(lines, "")
            return said.strip("[]-'\" ")
    return None


def _text(path: Path) -> str:
    """The beginning of a small file that lies beside the weights."""
    with open(path, "rb") as file:
        return file.read(_BESIDE_LIMIT).decode("utf-8", "replace")


def _trained(path: Path, ram: torch.Tensor) -> _Column:
    """The only column that training has moved out of the range it starts in."""
    moved = (ram.abs().amax(dim=0) > _RESPODIFF_UNTRAINED).nonzero().flatten().tolist()
    fitting = [column for column in _RESPODIFF_COLUMNS if column.index in moved]
    if len(moved) == 1 and len(fitting) == 1:
        return fitting[0]
    names = ", ".join(column.info.name for column in (fitting or _RESPODIFF_COLUMNS))
    found = f"columns {moved} look trained" if moved else "no column looks trained"
    raise AdapterFileError(f"{path.name}: {found}, so it is not clear which concept it holds. Name it: one of {names}.")


def _from_sdisc(path: Path, ram: torch.Tensor, concept: str | None) -> list[Concept]:
    columns = _sdisc_columns(path, ram)
    if concept:
        columns = (_named(columns, concept, path),)
    zero = Transform.of({"": torch.zeros(_H_SHAPE)})
    return [Concept(column.info, _module(ram, column.index), zero) for column in columns]


def _sdisc_columns(path: Path, ram: torch.Tensor) -> tuple[_Column, ...]:
    if ram.shape[1] == len(_SDISC_COLUMNS):
        return _SDISC_COLUMNS
    listing = path.parent / "concept_dict.json"
    if not listing.is_file():
        raise AdapterFileError(
            f"{path.name} has {ram.shape[1]} columns; put the concept_dict.json of its training beside it, which says "
            "which concept is which."
        )
    named = _listing(listing, ram.shape[1])
    columns = tuple(
        _Column(index, name, _fairness(name, name))
        for name, index in named.items()
        if ram[:, index].abs().max() > _SDISC_UNTRAINED
    )
    if not columns:
        raise AdapterFileError(f"{path.name}: none of the concepts of {listing.name} looks trained.")
    return columns


def _listing(path: Path, columns: int) -> dict[str, int]:
    """Names of columns, those that are there; each column has one."""
    try:
        named = parse_json(_text(path))
    except TensorFileError as error:
        raise AdapterFileError(f"{path.name} cannot be read: {error}.") from error
    if not isinstance(named, dict) or not all(type(index) is int for index in named.values()):
        raise AdapterFileError(f"{path.name} does not map names to column numbers.")
    named = {name: index for name, index in named.items() if 0 <= index < columns}
    if len(set(named.values())) < len(named):
        raise AdapterFileError(f"{path.name} gives two names to one column.")
    return named


def _module(weights: torch.Tensor, column: int) -> Transform:
    return Transform.of({"": weights[:, column].float().reshape(_H_SHAPE).clone()})

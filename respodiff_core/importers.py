"""Adapters from the pickles of the RespoDiff and SDisc reference code (method's files, not ours).

Both keep one column of 81920 = 1280 x 8 x 8 numbers per concept. They are opened with torch's restricted
unpickler: what is not plain tensors is refused, nothing in them can run.
"""

from __future__ import annotations

import json
import os
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from .adapter import Adapter
from .concept import Concept, ConceptInfo
from .errors import AdapterFileError, UnknownConceptError
from .transforms import Transform

_RAM = "controlnet.fc1.weight"
_SAM = "controlnet_residual.fc2.weight"
_H_SHAPE = (1280, 8, 8)
_ROWS = prod(_H_SHAPE)
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
    if weights.keys() == {_RAM, _SAM}:
        concepts = _from_respodiff(path, weights, concept)
    elif weights.keys() == {_RAM}:
        concepts = _from_sdisc(path, weights[_RAM], concept)
    else:
        found = ", ".join(sorted(weights)[:5])
        raise AdapterFileError(
            f"{path.name} is no RespoDiff or SDisc file: it holds [{found}], expected {_RAM} and, for RespoDiff, "
            f"{_SAM}."
        )
    metadata = {"modelspec.description": f"Imported from {path.name} of the reference code."}
    return Adapter("sd15", {c.name: c.check_finite() for c in concepts}, "epsilon", metadata, source=path.name)


def _load(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise AdapterFileError(f"There is no file {path}.")
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise AdapterFileError(
            f"{path.name} is no pickle of plain tensors, so it is not opened ({reason}). Only the reference code's "
            "unet.pth can be imported."
        ) from error
    if not isinstance(loaded, Mapping) or not all(isinstance(t, torch.Tensor) for t in loaded.values()):
        raise AdapterFileError(f"{path.name} is no dictionary of tensors: it is not the reference code's unet.pth.")
    weights = {str(name).removeprefix("module."): tensor for name, tensor in loaded.items()}
    for name, tensor in weights.items():
        if name in (_RAM, _SAM) and (tensor.ndim != 2 or tensor.shape[0] != _ROWS or not tensor.is_floating_point()):
            raise AdapterFileError(
                f"{path.name}: {name} is {tuple(tensor.shape)} {tensor.dtype}; expected ({_ROWS}, columns) of floats."
            )
    return weights


def _from_respodiff(path: Path, weights: Mapping[str, torch.Tensor], concept: str | None) -> list[Concept]:
    ram, sam = weights[_RAM], weights[_SAM]
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
    config = path.parent / "config.yaml"
    if config.is_file():
        listed = re.search(r"^concept:\s*\n?((?:\s*-\s*.+\n?)|(?:.+\n?))", config.read_text("utf-8", "replace"), re.M)
        if listed:
            said = listed.group(1).strip().strip("[]-'\" ")
            for column in _RESPODIFF_COLUMNS:
                if said == column.spelled:
                    return column
    for folder in list(path.resolve().parents)[:2]:
        for column in _RESPODIFF_COLUMNS:
            if folder.name in (column.spelled, column.info.name):
                return column
    return None


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
    try:
        named: dict[str, int] = json.loads(listing.read_text("utf-8"))
        columns = tuple(
            _Column(index, name, _fairness(name, name))
            for name, index in named.items()
            if 0 <= index < ram.shape[1] and ram[:, index].abs().max() > _SDISC_UNTRAINED
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise AdapterFileError(f"{listing.name} does not map names to column numbers ({error}).") from error
    if not columns:
        raise AdapterFileError(f"{path.name}: none of the concepts of {listing.name} looks trained.")
    return columns


def _module(weights: torch.Tensor, column: int) -> Transform:
    return Transform.of({"": weights[:, column].float().reshape(_H_SHAPE).clone()})

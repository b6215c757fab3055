"""Imports adapters from the pickles of the RespoDiff and SDisc reference code.

Both contain one column of 81920 = 1280 x 8 x 8 numbers per concept. Anything but plain tensors is refused, and no code
in the files is run.
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
from .concept import Concept, ConceptInfo, ModuleConcept
from .tensor_file import TensorFileError, parse_json
from .tensor_pickle import TorchFileError
from .torch_file import TorchFile
from .transforms import Transform

RAM_NAME = "controlnet.fc1.weight"
SAM_NAME = "controlnet_residual.fc2.weight"
_H_SHAPE = (1280, 8, 8)
_ROWS = prod(_H_SHAPE)
_TEXT_LIMIT = 1 << 16  # bytes read of a text file next to the pickle
# Columns are initialised uniformly in +-1/sqrt(10) (RespoDiff) or +-0.1 (SDisc); trained ones exceed that range.
_RESPODIFF_UNTRAINED = 0.3163
_SDISC_UNTRAINED = 0.1001


@dataclass(frozen=True)
class _Column:
    """A column: its index, its name in the reference code, and the concept it was trained for."""

    index: int
    original_name: str
    info: ConceptInfo


def _fairness(name: str, target: str, axis: str = "") -> ConceptInfo:
    return ConceptInfo(name, "fairness", target, "a person", latent_height=64, latent_width=64, axis=axis)


def _safety(name: str, neutral: str) -> ConceptInfo:
    return ConceptInfo(name, "safety", "", neutral, name, latent_height=64, latent_width=64)


_RESPODIFF_COLUMNS = (
    _Column(0, "a woman", _fairness("woman", "a woman", "gender")),
    _Column(1, "a man", _fairness("man", "a man", "gender")),
    _Column(2, "young", _fairness("young", "young", "age")),
    _Column(3, "old", _fairness("old", "old", "age")),
    _Column(3, "a white-race person", _fairness("white", "a white-race person", "race")),
    _Column(4, "a black-race person", _fairness("black", "a black-race person", "race")),
    _Column(5, "a Asian-race person", _fairness("asian", "a Asian-race person", "race")),
    _Column(6, "sexual", _safety("sexual", "a gorgeous person")),
    _Column(7, "violence", _safety("violence", "a scene")),
)
_SDISC_COLUMNS = (
    _Column(0, "female", _fairness("woman", "female", "gender")),
    _Column(1, "male", _fairness("man", "male", "gender")),
    _Column(2, "young", _fairness("young", "young", "age")),
    _Column(3, "old", _fairness("old", "old", "age")),
    _Column(4, "whiterace", _fairness("white", "whiterace", "race")),
    _Column(5, "blackrace", _fairness("black", "blackrace", "race")),
    _Column(6, "asianrace", _fairness("asian", "asianrace", "race")),
    _Column(7, "antisexual", _safety("sexual", "a person")),
)


def import_weights(path: str | os.PathLike[str], concept: str | None = None) -> Adapter:
    """The adapter in a reference `unet.pth`, for Stable Diffusion 1.x.

    A RespoDiff file has one trained column, identified by `concept`, by the config.yaml next to the file, by the names
    of its parent folders, or as the only column that exceeds the initial range. SDisc files have several; `concept`
    selects one. Raises AdapterFileError and UnknownConceptError.
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
    """The weights of RAM and, for RespoDiff, SAM: each (81920, columns)."""
    if not path.is_file():
        raise AdapterFileError(f"There is no file {path}.")
    try:
        file = TorchFile(path)
        stored = {name.removeprefix("module."): name for name in file.tensors}
        if stored.keys() not in ({RAM_NAME}, {RAM_NAME, SAM_NAME}):
            raise AdapterFileError(
                f"{path.name} is not a RespoDiff or SDisc file: it has [{listed(map(quoted, sorted(stored)))}], "
                f"expected {RAM_NAME} and, for RespoDiff, {SAM_NAME}."
            )
        for name, inside in stored.items():
            shape = file.tensors[inside].shape
            if len(shape) != 2 or shape[0] != _ROWS:
                raise AdapterFileError(f"{path.name}: {name} is {quoted(shape)}; expected ({_ROWS}, columns).")
        return {name: file.tensor(inside) for name, inside in stored.items()}
    except (TorchFileError, OSError) as error:
        raise AdapterFileError(
            f"{path.name} is not a file of plain tensors, so it is not opened: {error}. Only unet.pth of the reference "
            "code can be read."
        ) from error


def _from_respodiff(path: Path, weights: Mapping[str, torch.Tensor], concept: str | None) -> list[Concept]:
    ram, sam = weights[RAM_NAME], weights[SAM_NAME]
    if ram.shape != sam.shape or ram.shape[1] != 10:
        raise AdapterFileError(
            f"{path.name}: RAM is {tuple(ram.shape)} and SAM {tuple(sam.shape)}; expected ({_ROWS}, 10) for both."
        )
    _check_finite(path, ram, sam)
    column = _named(_RESPODIFF_COLUMNS, concept, path) if concept else None
    column = column or _column_of_path(path) or _trained(path, ram)
    _refuse_untrained(path, ram, column, _RESPODIFF_COLUMNS, _RESPODIFF_UNTRAINED)
    return [ModuleConcept(column.info, _module(ram, column.index), _module(sam, column.index))]


def _check_finite(path: Path, *weights: torch.Tensor) -> None:
    if not all(bool(one.isfinite().all()) for one in weights):
        raise AdapterFileError(f"{path.name} has NaN or infinite numbers: its training diverged, or it is damaged.")


def _is_trained(ram: torch.Tensor, column: _Column, initial: float) -> bool:
    return bool(ram[:, column.index].abs().max() > initial)


def _refuse_untrained(
    path: Path, ram: torch.Tensor, column: _Column, columns: tuple[_Column, ...], initial: float
) -> None:
    """Raise AdapterFileError if the column has only the noise that training starts from, whatever named it."""
    if _is_trained(ram, column, initial):
        return
    trained = [one.info.name for one in columns if _is_trained(ram, one, initial)]
    others = f"; those of {', '.join(trained)} are" if trained else ", and neither is any other"
    raise AdapterFileError(f"{path.name}: the numbers for {column.info.name} are not trained{others}.")


def _named(columns: tuple[_Column, ...], concept: str, path: Path) -> _Column:
    for column in columns:
        if concept in (column.info.name, column.original_name):
            return column
    known = ", ".join(column.info.name for column in columns)
    raise UnknownConceptError(f"{path.name} has no column for {concept!r}. Its columns are: {known}.")


def _column_of_path(path: Path) -> _Column | None:
    """The column named by the config.yaml next to the file, or else by the nearest parent folder; None if neither does.

    The reference scripts write to `.../<concept>/<seed>/unet.pth`.
    """
    name = _concept_in(path.parent / "config.yaml")
    for column in _RESPODIFF_COLUMNS:
        if name == column.original_name:
            return column
    for folder in list(path.resolve().parents)[:2]:
        for column in _RESPODIFF_COLUMNS:
            if folder.name in (column.original_name, column.info.name):
                return column
    return None


def _concept_in(config: Path) -> str | None:
    """The (first) concept in a config.yaml of the reference code: `concept: [old]`, or on the next line."""
    if not config.is_file():
        return None
    lines = iter(_text(config).splitlines())
    for line in lines:
        if line.startswith("concept:"):
            name = line.removeprefix("concept:").strip() or next(lines, "")
            return name.strip("[]-'\" ")
    return None


def _text(path: Path) -> str:
    """The beginning of a text file next to the weights."""
    with open(path, "rb") as file:
        return file.read(_TEXT_LIMIT).decode("utf-8", "replace")


def _trained(path: Path, ram: torch.Tensor) -> _Column:
    """The only column that exceeds the initial range. Raises AdapterFileError if there is not exactly one."""
    trained = (ram.abs().amax(dim=0) > _RESPODIFF_UNTRAINED).nonzero().flatten().tolist()
    fitting = [column for column in _RESPODIFF_COLUMNS if column.index in trained]
    if len(trained) == 1 and len(fitting) == 1:
        return fitting[0]
    names = ", ".join(column.info.name for column in (fitting or _RESPODIFF_COLUMNS))
    found = f"columns {trained} look trained" if trained else "no column looks trained"
    raise AdapterFileError(f"{path.name}: {found}, so its concept is unclear. Name it: one of {names}.")


def _from_sdisc(path: Path, ram: torch.Tensor, concept: str | None) -> list[Concept]:
    _check_finite(path, ram)
    columns = _sdisc_columns(path, ram)
    if concept:
        named = _named(columns, concept, path)
        _refuse_untrained(path, ram, named, columns, _SDISC_UNTRAINED)
        columns = (named,)
    else:
        columns = tuple(column for column in columns if _is_trained(ram, column, _SDISC_UNTRAINED))
        if not columns:
            raise AdapterFileError(f"{path.name}: none of its concepts is trained.")
    zero = Transform.of({"": torch.zeros(_H_SHAPE)})
    return [ModuleConcept(column.info, _module(ram, column.index), zero) for column in columns]


def _sdisc_columns(path: Path, ram: torch.Tensor) -> tuple[_Column, ...]:
    if ram.shape[1] == len(_SDISC_COLUMNS):
        return _SDISC_COLUMNS
    listing = path.parent / "concept_dict.json"
    if not listing.is_file():
        raise AdapterFileError(
            f"{path.name} has {ram.shape[1]} columns, but their concepts are unknown: put the concept_dict.json of its "
            "training next to it."
        )
    named = _listing(listing, ram.shape[1])
    return tuple(_Column(index, name, _fairness(name, name)) for name, index in named.items())


def _listing(path: Path, columns: int) -> dict[str, int]:
    """Column numbers by concept, for existing columns. Raises AdapterFileError if a column has several names."""
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

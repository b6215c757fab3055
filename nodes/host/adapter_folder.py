"""The model folder `respodiff`: finds adapter files, reads them and their headers."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path

import folder_paths

from ...respodiff_core.adapter.adapter import Adapter, AdapterHeader, peek, read
from ...respodiff_core.adapter.importers import import_weights
from ...respodiff_core.errors import AdapterFileError, RespoDiffError
from ...respodiff_core.names import SUFFIX
from ...respodiff_core.plain_text import quoted
from . import file_names

FOLDER = "respodiff"
PUBLISHED_SUFFIX = ".pth"  # of the weights that the authors of RespoDiff and SDisc publish
NO_FILE = "(choose a file)"  # always an option, so that templates are no errors where there is no file
_LONGEST_NAME = 200  # bytes; with the suffix and the temporary name below the 255 that file systems allow

logger = logging.getLogger("respodiff")


def register() -> None:
    """Register models/respodiff as a model folder, in addition to those in extra_model_paths.yaml."""
    default = os.path.join(folder_paths.models_dir, FOLDER)
    os.makedirs(default, exist_ok=True)
    folder_paths.add_model_folder_path(FOLDER, default)
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    # For an unknown model folder ComfyUI lists files of any type; list only adapters.
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {SUFFIX, PUBLISHED_SUFFIX})


def adapter_files() -> list[str]:
    """Names of all adapter files, those of the authors' code included, as shown in the drop-down list."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if file_names.shows(name)]


def resolve(name: str) -> Path:
    """The path of an adapter by the name in the list or workflow. Raises AdapterFileError if it does not exist."""
    path = _find(name)
    if path is None:
        where = " or ".join(folder_paths.get_folder_paths(FOLDER))
        if name == NO_FILE:
            raise AdapterFileError(
                f"No adapter is chosen. Choose one of those in {where}. To make one without leaving ComfyUI, connect "
                "RespoDiff Instant Concept in place of Load RespoDiff Adapter, or save one of RespoDiff Train Concept "
                "with Save RespoDiff Adapter and press R."
            )
        raise AdapterFileError(
            f"There is no adapter {quoted(name)} in {where}. Put the file there and press R to refresh, or choose "
            "another file."
        )
    return path


def load(name: str) -> Adapter:
    """The adapter by the name in the list or workflow. Raises AdapterFileError."""
    path = resolve(name)
    return import_weights(path) if path.suffix.casefold() == PUBLISHED_SUFFIX else read(path)


def _find(name: str) -> Path | None:
    """The file with that name. None if it does not exist or the name is not allowed, such as '../x'."""
    if not (file_names.shows(name) and file_names.stays_below(name)):
        return None
    path = folder_paths.get_full_path(FOLDER, name)
    return None if path is None else Path(path)


def new_file(name: str, suffix: str) -> Path:
    """The path in models/respodiff for a new adapter. Raises AdapterFileError for a name outside this folder."""
    home = Path(folder_paths.models_dir, FOLDER).resolve()
    bare = name.removesuffix(suffix)
    if file_names.shows(bare) and file_names.stays_below(bare) and file_names.can_be_written(bare, _LONGEST_NAME):
        path = (home / f"{bare}{suffix}").resolve()
        if path.is_relative_to(home):  # a symbolic link may point outside the folder
            return path
    raise AdapterFileError(
        f"{quoted(name)} is not a valid name for a file in {home}: use a short name such as 'gender' or 'my/gender', "
        "without '..', control characters or any of :*?\"<>|."
    )


def fingerprint(name: str) -> str:
    """A string that changes with the file, so that an adapter retrained in place is loaded again."""
    path = _find(name)
    return "missing" if path is None else _state(path)


def _state(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:  # it was deleted in the meantime
        return "missing"
    return f"{path}:{stat.st_size}:{stat.st_mtime_ns}"


def headers() -> dict[str, AdapterHeader]:
    """The header of every readable .safetensors adapter, by file name. Unreadable files are logged once and skipped."""
    found = {}
    for name in (name for name in adapter_files() if name.casefold().endswith(SUFFIX)):
        path = _find(name)  # None for a broken link
        header = None if path is None else _header(str(path), _state(path))
        if header is not None:
            found[name] = header
    return found


def concept_names() -> list[str]:
    """The names of the concepts in all readable files."""
    names = {name for header in headers().values() for name in header.concepts}
    for file in adapter_files():
        path = _find(file)
        if path is not None and path.suffix.casefold() == PUBLISHED_SUFFIX:
            names.update(_published_names(str(path), _state(path)))
    return sorted(names)


@lru_cache(maxsize=64)
def _published_names(path: str, _fingerprint: str) -> tuple[str, ...]:
    try:
        return tuple(import_weights(path).concepts)
    except RespoDiffError as error:
        logger.warning("RespoDiff: %s", error)
        return ()


@lru_cache(maxsize=1024)
def _header(path: str, _fingerprint: str) -> AdapterHeader | None:
    try:
        return peek(path)
    except RespoDiffError as error:
        logger.warning("RespoDiff: %s", error)
        return None

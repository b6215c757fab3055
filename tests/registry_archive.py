"""What the Comfy Registry's archive of the pack holds, by the rules of `comfy node pack`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from comfy_hosts import PACK
from pathspec import PathSpec

_LISTS = (PACK / ".gitignore", PACK / ".comfyignore")
_IGNORED = PathSpec.from_lines(
    "gitignore", ["/.git", *(line for file in _LISTS for line in file.read_text("utf-8").splitlines())]
)


def archived_files(folder: Path = PACK) -> Iterator[Path]:
    """Paths within the pack of all files that neither .gitignore nor .comfyignore leaves out."""
    for entry in sorted(folder.iterdir()):
        path = entry.relative_to(PACK)
        if entry.is_dir():
            if not _IGNORED.match_file(f"{path}/"):
                yield from archived_files(entry)
        elif not _IGNORED.match_file(path):
            yield path

"""What the Comfy Registry's archive of the pack holds, by the rules of `comfy node pack`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from comfy_hosts import PACK
from pathspec import GitIgnoreSpec

_RULES = [line for name in (".gitignore", ".comfyignore") for line in (PACK / name).read_text("utf-8").splitlines()]
_IGNORED = GitIgnoreSpec.from_lines(["/.git", *_RULES])


def archived_files(folder: Path = PACK) -> Iterator[Path]:
    """Paths within the pack of all files that neither .gitignore nor .comfyignore leaves out."""
    for entry in sorted(folder.iterdir()):
        path = entry.relative_to(PACK)
        if entry.is_dir():
            if not _IGNORED.match_file(f"{path}/"):
                yield from archived_files(entry)
        elif not _IGNORED.match_file(path):
            yield path

"""Downloading adapters from the Hub: files are checked before they are saved, and their origin is recorded."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi
from huggingface_hub.errors import SafetensorsParsingError
from huggingface_hub.hf_api import RepoSibling

from ...respodiff_core.adapter.adapter import Adapter, read
from ...respodiff_core.atomic import replacing
from ...respodiff_core.hashes import sha256_of
from ...respodiff_core.names import SUFFIX
from ...respodiff_core.unfinished import temporary_folder
from ..base.spec import HubId
from ..support.interrupts import shielded
from ..support.output_file import refuse_to_replace
from ..support.untrusted_text import one_line
from .hub import COMMIT, SHA256, TIMEOUT, SharingError, base_name, check_file_name, hub_errors

_TENSOR = re.compile(r"[^.]+\.(ram|sam)(\..+)?")


@dataclass(frozen=True)
class Origin:
    """The origin of a file: address of the Hub, repository, commit (40 hex digits), name of the file there, and sha256.
    Written beside the file.
    """

    hub: str
    repo: str
    revision: str
    file: str
    sha256: str

    @property
    def pinned(self) -> str:
        """The Hub id of exactly this version."""
        return f"{self.repo}@{self.revision}"


@dataclass(frozen=True)
class Pulled:
    """A downloaded adapter; `is_new` is False if the same file already existed."""

    path: Path
    origin: Origin
    adapter: Adapter
    is_new: bool


@dataclass(frozen=True)
class Listing:
    """The chosen adapters of one commit, and the names of its .safetensors files that are not adapters."""

    revision: str
    chosen: tuple[RepoSibling, ...]
    left_out: tuple[str, ...]


def record_of(path: Path) -> Path:
    """The record `gender.hub.json` beside `gender.safetensors`."""
    return path.with_suffix(".hub.json")


def pull(
    api: HfApi,
    hub_id: HubId,
    destination: Path,
    *,
    files: Sequence[str] = (),
    sha256: str | None = None,
    force: bool = False,
) -> tuple[list[Pulled], tuple[str, ...]]:
    """Download the adapters of a repository, or only `files`, to `destination`: a folder, or for a single adapter a
    .safetensors file. Files are saved only if all of them are valid.

    Also returns the names of the skipped .safetensors files, which are not adapters. Raises SharingError if the Hub
    fails or a file differs from the Hub's hash or from `sha256`, AdapterFileError for files that are damaged or not
    adapters, and RespoDiffError if another file exists under the name (unless `force`).
    """
    if sha256 is not None and not SHA256.fullmatch(sha256 := sha256.lower()):
        raise SharingError("--sha256 must be the 64 hex digits of a file's sha256.")
    with hub_errors(api.endpoint, hub_id):
        listing = _listing(api, hub_id, files)
    targets = _targets(listing.chosen, destination)
    if sha256 is not None and len(targets) > 1:
        raise SharingError(f"--sha256 is for a single file: choose one with --file. {_list(listing.chosen)}")
    for sibling in listing.chosen:
        _check_hash(sibling, sha256, sibling.lfs.sha256 if sibling.lfs else None)
    existing = {sibling.rfilename for sibling, path in targets if not force and _is_same(sibling, path)}
    for sibling, path in targets:
        is_kept = sibling.rfilename in existing
        if not is_kept:
            refuse_to_replace(path, force=force)
        if not is_kept or _recorded(path) is None:
            refuse_to_replace(record_of(path), force=force)

    with temporary_folder("respodiff-pull-") as folder:
        pulled = []
        for sibling, path in targets:
            source = path
            if sibling.rfilename not in existing:
                with hub_errors(api.endpoint, hub_id):
                    source = Path(
                        api.hf_hub_download(hub_id.repo, sibling.rfilename, revision=listing.revision, local_dir=folder)
                    )
            found = sha256_of(source)
            _check_hash(sibling, sibling.lfs.sha256 if sibling.lfs else None, found)
            _check_hash(sibling, sha256, found)
            origin = Origin(api.endpoint, hub_id.repo, listing.revision, sibling.rfilename, found)
            pulled.append((source, Pulled(path, origin, read(source), source != path)))
        _place(pulled)
    return [one for _, one in pulled], listing.left_out


def _listing(api: HfApi, hub_id: HubId, files: Sequence[str]) -> Listing:
    info = api.model_info(hub_id.repo, revision=hub_id.revision, files_metadata=True, timeout=TIMEOUT)
    revision = info.sha or ""
    if not COMMIT.fullmatch(revision):
        raise SharingError(
            f"{api.endpoint} does not report the commit of {hub_id.repo}, so the download cannot be pinned."
        )
    if hub_id.revision and COMMIT.fullmatch(hub_id.revision) and revision != hub_id.revision:
        raise SharingError(f"{api.endpoint} returned commit {revision} instead of the requested {hub_id.revision}.")
    candidates = [one for one in info.siblings or () if PurePosixPath(one.rfilename).suffix == SUFFIX]
    for one in candidates:
        check_file_name(one.rfilename)
    if not candidates:
        raise SharingError(f"{hub_id.repo} has no adapter: there is no {SUFFIX} file in it.")
    if files:
        unknown = set(files) - {one.rfilename for one in candidates}
        if unknown:
            raise SharingError(f"{hub_id.repo} has no {', '.join(sorted(unknown))}. {_list(candidates)}")
        candidates = [one for one in candidates if one.rfilename in files]
    chosen = tuple(one for one in candidates if _is_adapter(api, hub_id.repo, revision, one.rfilename))
    left_out = tuple(one.rfilename for one in candidates if one not in chosen)
    if not chosen or (files and left_out):
        raise SharingError(
            f"{hub_id.repo} has no adapter in {_names(left_out)}: the tensors are not those of an adapter, or "
            "the file is damaged."
        )
    return Listing(revision, chosen, left_out)


def _is_adapter(api: HfApi, repo: str, revision: str, name: str) -> bool:
    """Decided by the file's header, so that checkpoints are not downloaded."""
    try:
        header = api.parse_safetensors_file_metadata(repo, name, revision=revision)
    except (SafetensorsParsingError, TypeError, AttributeError, ValueError, KeyError, RecursionError):
        return False  # huggingface_hub does not validate the entries of a header
    return bool(header.tensors) and all(_TENSOR.fullmatch(tensor) for tensor in header.tensors)


def _targets(chosen: Sequence[RepoSibling], destination: Path) -> list[tuple[RepoSibling, Path]]:
    if destination.suffix == SUFFIX:
        if len(chosen) > 1:
            raise SharingError(
                f"{destination} is a single file, but there are {len(chosen)} adapters: choose one with --file, or "
                f"name a folder. {_list(chosen)}"
            )
        return [(chosen[0], destination)]
    targets = [(one, destination / base_name(one.rfilename)) for one in chosen]
    if len({path for _, path in targets}) < len(targets):
        raise SharingError(
            f"Several adapters have the same name in different folders: choose one with --file. {_list(chosen)}"
        )
    return targets


def _is_same(sibling: RepoSibling, path: Path) -> bool:
    """Whether the file already exists, by the Hub's sha256."""
    if sibling.lfs is None or not path.is_file():
        return False
    return sha256_of(path) == sibling.lfs.sha256


def _recorded(path: Path) -> Origin | None:
    """The origin recorded beside a file; None if there is no valid record."""
    try:
        return Origin(**json.loads(record_of(path).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _check_hash(sibling: RepoSibling, expected: str | None, found: str | None) -> None:
    if expected and found and expected != found:
        raise SharingError(
            f"{sibling.rfilename} has sha256 {found}, expected {expected}: it is another file, or it was damaged "
            "during the download. It was not saved."
        )


def _place(pulled: Sequence[tuple[Path, Pulled]]) -> None:
    """Save all files and their records; they are renamed into place at the end, one right after the other."""
    with ExitStack() as renames:
        for source, one in pulled:
            if not one.is_new and _recorded(one.path) == one.origin:
                continue
            one.path.parent.mkdir(parents=True, exist_ok=True)
            record = renames.enter_context(replacing(record_of(one.path)))
            record.write_text(json.dumps(asdict(one.origin), indent=1) + "\n", "utf-8")
            if one.is_new:
                shutil.copyfile(source, renames.enter_context(replacing(one.path)))
        with shielded():
            renames.close()


def _list(siblings: Sequence[RepoSibling]) -> str:
    return f"There are: {_names([one.rfilename for one in siblings])}."


def _names(names: Sequence[str]) -> str:
    return ", ".join(one_line(name) for name in names)

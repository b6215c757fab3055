"""Publishing an adapter on the Hub with its model card, in one commit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import ModelInfo

from ...respodiff_core.adapter.adapter import read
from ...respodiff_core.atomic import replacing
from ...respodiff_core.names import SUFFIX
from ...respodiff_core.unfinished import temporary_folder
from ..base.spec import HubId
from ..support.extras import import_optional
from ..support.interrupts import stop_message
from ..support.output_file import check_suffix, refuse_to_replace
from .card import Subject, card, is_untouched, licence_of
from .hub import TIMEOUT, SharingError, check_file_name, hub_errors, parse_hub_id

CARD = "README.md"
_IMAGES = "card/"


@dataclass(frozen=True)
class Package:
    """The files to publish, by their name in the repository: the adapter `file`, its card and images."""

    repo: str
    file: str
    sha256: str
    files: Mapping[str, bytes]

    def write(self, folder: Path, *, force: bool) -> None:
        """Write the files to a folder for inspection. Raises RespoDiffError if one already exists, unless `force`."""
        for name in self.files:
            refuse_to_replace(folder / name, force=force)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                partial.write_bytes(content)


@dataclass(frozen=True)
class Pushed:
    """The page and the commit of a published adapter."""

    url: str
    revision: str


def package(
    file: Path, repo: str, licence: str | None, evaluations: Sequence[Path] = (), with_images: bool = False
) -> Package:
    """An adapter with its card. Raises RespoDiffError if the file is invalid, has no licence, or was not the one
    evaluated.
    """
    hub_id = parse_hub_id(repo)
    if hub_id.revision is not None:
        raise SharingError(f"Adapters are pushed to the main branch: write {hub_id.repo} without a revision.")
    check_suffix(file)
    check_file_name(file.name)
    adapter = read(file)
    content = file.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    chosen = licence_of(adapter, licence)
    shown = []
    if evaluations:
        for module in ("matplotlib", "scipy"):
            import_optional(module)
        from .card_evaluation import evaluation_of

        shown = [evaluation_of(one, sha256, n, with_images) for n, one in enumerate(evaluations, 1)]
    text = card(Subject(adapter, file.name, len(content), sha256, repo), chosen, shown)
    images = {image.name: image.content for one in shown for image in one.images}
    return Package(repo, file.name, sha256, {file.name: content, CARD: text.encode(), **images})


def push(
    api: HfApi, ready: Package, *, private: bool = False, keep_readme: bool = False, force: bool = False
) -> Pushed:
    """Upload everything in one commit; the repository is created if it does not exist.

    With `keep_readme` only the adapter is uploaded. Raises SharingError, without `force` also if the README was written
    or changed by hand, or if the repository has other adapters that the new card would not describe.
    """
    hub_id = HubId(ready.repo)
    with hub_errors(api.endpoint, hub_id, writing=True):
        info = _existing(api, ready.repo)
        if info is None:
            api.create_repo(ready.repo, private=private)
        elif private and not info.private:
            raise SharingError(
                f"{ready.repo} already exists and is public: --private only applies to a new repository. Make it "
                f"private at {api.endpoint}/{ready.repo}/settings, or push without --private."
            )
        files = {ready.file: ready.files[ready.file]} if keep_readme else ready.files
        names = [one.rfilename for one in info.siblings or ()] if info else []
        if info and not keep_readme and not force:
            _check_others(ready, names)
            _check_card(api, ready.repo, info)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(name, content) for name, content in files.items()
        ]
        if not keep_readme:
            stale = [name for name in names if name.startswith(_IMAGES) and name not in files]
            operations += [CommitOperationDelete(name) for name in stale]
        commits = f"{api.endpoint}/{ready.repo}/commits/main"
        with stop_message(f"Stopped during the upload. Either all files were published or none: see {commits}."):
            done = api.create_commit(
                ready.repo,
                operations,
                commit_message=f"Add {ready.file}",
                parent_commit=info.sha if info else None,
            )
    return Pushed(f"{api.endpoint}/{ready.repo}", done.oid)


def _existing(api: HfApi, repo: str) -> ModelInfo | None:
    try:
        return api.model_info(repo, timeout=TIMEOUT)
    except RepositoryNotFoundError:
        return None


def _check_others(ready: Package, names: Sequence[str]) -> None:
    others = [name for name in names if name.endswith(SUFFIX) and name != ready.file]
    if others:
        raise SharingError(
            f"{ready.repo} also has {', '.join(others)}, which the new card would not describe. Push to a separate "
            "repository, merge the adapters with `respodiff merge`, upload only the adapter with --keep-readme, or "
            "replace the card with --force."
        )


def _check_card(api: HfApi, repo: str, info: ModelInfo) -> None:
    if CARD not in [one.rfilename for one in info.siblings or ()]:
        return
    with temporary_folder("respodiff-push-") as folder:
        path = Path(api.hf_hub_download(repo, CARD, revision=info.sha, local_dir=folder))
        text = path.read_bytes().decode("utf-8", "replace")
    if not is_untouched(text):
        raise SharingError(
            f"The {CARD} of {repo} was written or changed by hand. Upload only the adapter with --keep-readme, or "
            "replace the card with --force; --dry-run writes the new card to a folder for comparison."
        )

"""What pull and push both need of the Hub: names of models, and its errors in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from huggingface_hub import get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ...respodiff_core.errors import RespoDiffError, reason_of
from ...respodiff_core.names import NAME_FORBIDS
from ..base.spec import HubId
from ..support.untrusted_text import one_line

TIMEOUT = 30.0
"""Seconds after which a silent Hub counts as out of reach."""
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")

_LOG_IN = "log in with `hf auth login`"
# The errors of the HTTP library below, which is another one from version to version of huggingface_hub.
_OF_HTTP: tuple[type[Exception], ...] = tuple(
    one
    for one in HfHubHTTPError.__mro__
    if one is not HfHubHTTPError and issubclass(one, Exception) and one.__module__ != "builtins"
)
_ERRORS: tuple[type[Exception], ...] = (*_OF_HTTP, OSError, RuntimeError, ValueError)


class SharingError(RespoDiffError):
    """An adapter cannot be pulled or pushed; the message says why and what to do."""


SharingError.__module__ = "respodiff"


def parse_hub_id(text: str) -> HubId:
    """The repository that `owner/name` or `owner/name@revision` names. Raises SharingError."""
    found = HubId.match(text)
    if found is None:
        raise SharingError(f"{one_line(text)!r} is not a Hub id: write owner/name or owner/name@revision.")
    return found


def check_file_name(name: str) -> None:
    """Raise SharingError unless a file of that name stays where it is put, on every system."""
    bad = any(part in ("", ".", "..") for part in name.split("/")) or not name.isprintable()
    if bad or set(name) & (NAME_FORBIDS - {".", "/"}) or name != name.strip():
        raise SharingError(
            f"The file name {one_line(name)!r} is refused: it could lead out of the folder, or no file can have it "
            "everywhere."
        )


def base_name(name: str) -> str:
    """A file's name without the folders before it."""
    return PurePosixPath(name).name


@contextmanager
def in_words(hub: str, of: HubId, writing: bool = False) -> Iterator[None]:
    """Turn whatever goes wrong between here and the Hub into a SharingError that says what to do."""
    try:
        yield
    except RespoDiffError:
        raise
    except _ERRORS as error:
        raise SharingError(_without_token(_explain(error, hub, of, writing))) from error


def _explain(error: BaseException, hub: str, of: HubId, writing: bool) -> str:
    repo = of.repo
    cause = error.__cause__
    # What huggingface_hub says of an upload or a download that failed on the way, rather than of an answer.
    wrapped = isinstance(error, LocalEntryNotFoundError) or not isinstance(error, HfHubHTTPError)
    if wrapped and cause is not None and isinstance(cause, (*_OF_HTTP, OfflineModeIsEnabled)):
        error = cause
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not asked: unset it to share adapters."
    if isinstance(error, GatedRepoError):
        return f"{repo} is gated: ask for access at {hub}/{repo}, and {_LOG_IN}."
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision {of.revision or 'main'}: name a branch, a tag or a commit of it."
    if isinstance(error, EntryNotFoundError):
        return f"A file of {repo} is not there any more ({_reason(error)}): try again."
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if writing and status in (401, 403):
        return (
            f"You may not write to {repo} on {hub}: {_LOG_IN}, with a token that may write, and check the spelling "
            "of the owner."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no model {repo} on {hub}, or you may not see it: check the spelling, and if it is private, "
            f"{_LOG_IN}."
        )
    if status in (401, 403):
        return f"{hub} refuses access to {repo} ({_reason(error)}): {_LOG_IN} again."
    if status in (409, 412):
        return f"{repo} was changed by someone else meanwhile: look at it, then push again."
    if status is not None:
        return f"{hub} could not do it ({_reason(error)}): try again later."
    if isinstance(error, _OF_HTTP) and not isinstance(error, HfHubHTTPError):
        return f"{hub} could not be reached ({_reason(error)}): check the network, and HF_ENDPOINT if it is set."
    return f"It did not work with {repo} on {hub} ({_reason(error)})."


def _reason(error: BaseException) -> str:
    """The first line that says something; the Hub's own words where there are any."""
    said = getattr(error, "server_message", None) or str(error)
    return one_line(next((line for line in said.splitlines() if line.strip()), reason_of(error))).rstrip(".")


def _without_token(text: str) -> str:
    """Some libraries quote the headers that they cannot send."""
    token = get_token()
    return text.replace(token, "(token)") if token else text

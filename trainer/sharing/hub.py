"""Hub ids, file names and the Hub's error messages, for pull and push."""

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
"""Seconds after which a Hub that does not answer counts as unreachable."""
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")

_LOG_IN = "log in with `hf auth login`"
# The errors of the HTTP library below huggingface_hub, which depends on its version.
_HTTP_ERRORS: tuple[type[Exception], ...] = tuple(
    one
    for one in HfHubHTTPError.__mro__
    if one is not HfHubHTTPError and issubclass(one, Exception) and one.__module__ != "builtins"
)
_ERRORS: tuple[type[Exception], ...] = (*_HTTP_ERRORS, OSError, RuntimeError, ValueError)


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
    """Raise SharingError unless the name is valid on every system and stays inside its folder."""
    bad = any(part in ("", ".", "..") for part in name.split("/")) or not name.isprintable()
    if bad or set(name) & (NAME_FORBIDS - {".", "/"}) or name != name.strip():
        raise SharingError(
            f"The file name {one_line(name)!r} is refused: it leads out of the folder, or it is not valid on every "
            "system."
        )


def base_name(name: str) -> str:
    """A file's name without its folders."""
    return PurePosixPath(name).name


@contextmanager
def hub_errors(hub: str, hub_id: HubId, writing: bool = False) -> Iterator[None]:
    """Turn errors of the Hub, the network and the file system into a SharingError that says what to do."""
    try:
        yield
    except RespoDiffError:
        raise
    except _ERRORS as error:
        raise SharingError(_without_token(_explain(error, hub, hub_id, writing))) from error


def _explain(error: BaseException, hub: str, hub_id: HubId, writing: bool) -> str:
    repo = hub_id.repo
    cause = error.__cause__
    # huggingface_hub wraps the errors of uploads and downloads that failed before there was a response.
    wrapped = isinstance(error, LocalEntryNotFoundError) or not isinstance(error, HfHubHTTPError)
    if wrapped and cause is not None and isinstance(cause, (*_HTTP_ERRORS, OfflineModeIsEnabled)):
        error = cause
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set, so the Hub is not accessed: unset it to share adapters."
    if isinstance(error, GatedRepoError):
        return f"{repo} is gated: request access at {hub}/{repo}, and {_LOG_IN}."
    if isinstance(error, RevisionNotFoundError):
        return f"{repo} has no revision {hub_id.revision or 'main'}: name one of its branches, tags or commits."
    if isinstance(error, EntryNotFoundError):
        return f"A file of {repo} no longer exists ({_reason(error)}): try again."
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if writing and status in (401, 403):
        return (
            f"You may not write to {repo} on {hub}: {_LOG_IN}, using a token with write access, and check the spelling "
            "of the owner."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"There is no model {repo} on {hub}, or you have no access to it: check the spelling, and if it is "
            f"private, {_LOG_IN}."
        )
    if status in (401, 403):
        return f"{hub} refuses access to {repo} ({_reason(error)}): {_LOG_IN} again."
    if status in (409, 412):
        return f"{repo} was changed by someone else during the push: look at the change, then push again."
    if status is not None and 400 <= status < 500 and status not in (408, 429):
        return f"{hub} refuses the request for {repo} ({_reason(error)})."
    if status is not None:
        return f"{hub} could not complete the request ({_reason(error)}): try again later."
    if isinstance(error, _HTTP_ERRORS) and not isinstance(error, HfHubHTTPError):
        return f"{hub} could not be reached ({_reason(error)}): check the network, and HF_ENDPOINT if it is set."
    return f"Accessing {repo} on {hub} failed ({_reason(error)})."


def _reason(error: BaseException) -> str:
    """The first non-empty line of the error; the Hub's message if there is one."""
    message = getattr(error, "server_message", None) or str(error)
    return one_line(next((line for line in message.splitlines() if line.strip()), reason_of(error))).rstrip(".")


def _without_token(text: str) -> str:
    """The text without the user's token: some libraries quote request headers in their errors."""
    token = get_token()
    return text.replace(token, "(token)") if token else text

"""Errors with messages for users: what is wrong, and what to do about it."""

from __future__ import annotations

from .plain_text import plain

_LONGEST = 4000  # maximum number of characters in a line


class RespoDiffError(ValueError):
    """Base class of all errors with a message for users. The message is understandable without a traceback.

    It is a single line unless `lines` is true, and safe to print even if it contains names from untrusted files and
    workflows.
    """

    def __init__(self, message: str, *, lines: bool = False) -> None:
        parts = message.split("\n") if lines else [message]
        super().__init__("\n".join(plain(part, _LONGEST) for part in parts))


class AdapterFileError(RespoDiffError):
    """The file cannot be used as an adapter: it is missing, damaged, not safetensors or has invalid content."""


class UnknownConceptError(RespoDiffError):
    """The requested concept is not in the adapter."""


class ModelMismatchError(RespoDiffError):
    """The adapter does not fit the model."""


class StrengthError(RespoDiffError):
    """An invalid strength, window or mask, for example a negative strength of a safety concept."""


class BatchSizeError(RespoDiffError):
    """A plan made for one batch size is used with another."""


class ShareError(RespoDiffError):
    """Target shares or groups that cannot be assigned to images."""


class ContrastError(RespoDiffError):
    """Contrast concepts that cannot be computed on this model with these words."""


class TrainingDiverged(RespoDiffError):
    """A loss became NaN or infinite."""


class ClassifierError(RespoDiffError):
    """Classes, images or a CLIP model that cannot be used for classification."""


def reason_of(error: BaseException) -> str:
    """The reason of an error as part of a sentence: the first line of its message, or else the name of its class."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


# ComfyUI shows the module of an error before its message, and in a node pack that is a long path.
for _error in (RespoDiffError, *RespoDiffError.__subclasses__()):
    _error.__module__ = "respodiff"

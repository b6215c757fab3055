"""Errors whose text is written for the person at the screen: what is wrong, and what to do about it."""

from __future__ import annotations

from .plain_text import plain

_LONGEST = 4000  # characters of a line


class RespoDiffError(ValueError):
    """Base of everything this project refuses; the message stands on its own.

    It is one line, unless `lines` says that its line breaks are meant, and safe to print, whatever names of
    strangers' files and workflows went into it.
    """

    def __init__(self, message: str, *, lines: bool = False) -> None:
        parts = message.split("\n") if lines else [message]
        super().__init__("\n".join(plain(part, _LONGEST) for part in parts))


class AdapterFileError(RespoDiffError):
    """The file cannot be used as an adapter (missing, damaged, not safetensors, invalid content)."""


class UnknownConceptError(RespoDiffError):
    """A concept was asked for that the adapter does not hold."""


class ModelMismatchError(RespoDiffError):
    """The adapter and the model do not belong together."""


class StrengthError(RespoDiffError):
    """A strength or window outside its meaning (for one, a negative strength of a safety concept)."""


class BatchSizeError(RespoDiffError):
    """A plan for the images of one batch meets a batch of another size."""


class ShareError(RespoDiffError):
    """Target shares or groups that no batch can be given by."""


class ClassifierError(RespoDiffError):
    """Classes, pictures or a CLIP by which no picture can be told apart."""


def reason_of(error: BaseException) -> str:
    """What an error says, as a part of a sentence: its first line, or its kind where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


# ComfyUI shows an error's module before its text, and a pack's is a long path.
for _error in (RespoDiffError, *RespoDiffError.__subclasses__()):
    _error.__module__ = "respodiff"

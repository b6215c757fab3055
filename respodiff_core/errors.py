"""Errors whose text is written for the person at the screen: what is wrong, and what to do about it."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable

_MOST_LISTED = 20
_shortened = reprlib.Repr()
_shortened.maxstring = _shortened.maxother = 80


class RespoDiffError(ValueError):
    """Base of everything this project refuses; the message stands on its own.

    What a stranger's file put into it cannot steer the terminal or page that shows it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


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


def printable(text: str) -> str:
    """The text with what would move a cursor or turn the reading direction spelled out; line ends stay."""
    return "".join(one if one == "\n" or one.isprintable() else ascii(one)[1:-1] for one in text)


def short(value: object) -> str:
    """A value from a file as messages show it: not long nor deep, on one line, unprintable characters spelled out."""
    return _shortened.repr(value)


def listed(names: Iterable[str]) -> str:
    """Names after each other; of very many, the first and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


# ComfyUI shows an error's module before its text, and a pack's is a long path.
for _error in (RespoDiffError, *RespoDiffError.__subclasses__()):
    _error.__module__ = "respodiff"

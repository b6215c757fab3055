"""Strength sweeps: a batch with a different strength of one or two concepts for each image."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..adapter.concept import Concept
from ..errors import StrengthError
from .steering import Steering, Term

_RANGE = re.compile(r"(?P<first>\S+)\s+to\s+(?P<last>\S+)\s+in\s+(?P<count>\d+)")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")
_STRONGEST = 10
MOST = 256


@dataclass(frozen=True)
class Axis:
    """One concept and its strengths, in display order."""

    concept: Concept
    strengths: tuple[float, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"{strength:.3g}" for strength in self.strengths)


@dataclass(frozen=True)
class Sweep:
    """Images in rows: the strength of x changes along a row, that of y (if given) from row to row.

    Raises StrengthError for more than 256 images.
    """

    x: Axis
    y: Axis | None = None

    def __post_init__(self) -> None:
        if self.images > MOST:
            raise StrengthError(f"The sweep has {self.images} images, at most {MOST} are allowed: use fewer strengths.")

    @property
    def columns(self) -> int:
        return len(self.x.strengths)

    @property
    def rows(self) -> int:
        return len(self.y.strengths) if self.y else 1

    @property
    def images(self) -> int:
        return self.columns * self.rows

    def plan(self) -> Steering:
        """The steering plan for the batch. Raises StrengthError for a negative strength of a safety concept."""
        terms = [Term.of(self.x.concept, 1.0, images=self.x.strengths * self.rows)]
        if self.y:
            strengths = tuple(strength for strength in self.y.strengths for _ in range(self.columns))
            terms.append(Term.of(self.y.concept, 1.0, images=strengths))
        return Steering(tuple(terms))


def parse_strengths(text: str) -> tuple[float, ...]:
    """Parse a list ("-1, 0, 1") or a range ("0 to 2 in 5", both ends included). Raises StrengthError."""
    written = text.strip()
    found = _RANGE.fullmatch(written)
    parts = [found["first"], found["last"]] if found else [part for part in re.split(r"[,;\s]+", written) if part]
    if not parts or len(parts) > MOST or not all(map(_NUMBER.fullmatch, parts)):
        raise StrengthError(
            f"{text!r} is not a list of strengths, or has more than {MOST}: write a list such as '-1, 0, 1' or a range "
            "such as '0 to 2 in 5'."
        )
    strengths = tuple(map(float, parts))
    if max(map(abs, strengths)) > _STRONGEST:
        raise StrengthError(f"{text!r} is out of range: strengths must be between {-_STRONGEST} and {_STRONGEST}.")
    return _spaced(strengths[0], strengths[1], int(found["count"])) if found else strengths


def _spaced(first: float, last: float, count: int) -> tuple[float, ...]:
    if not 2 <= count <= MOST:
        raise StrengthError(f"A range must have 2 to {MOST} strengths, not {count}.")
    return tuple(round(first + (last - first) * i / (count - 1), 6) for i in range(count))

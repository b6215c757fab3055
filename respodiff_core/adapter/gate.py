"""The gate of an axis: whether a prompt already names one of its groups, read from the tokens of its text encoding.

EquiSteer (arXiv 2607.01147) reads it from an early cross-attention layer. The text encoder's output tells both kinds of
prompts apart more surely (docs/contrast.md), does not depend on the image, and is known before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..errors import AdapterFileError
from ..names import MOST_GROUPS

TENSORS = ("gate.center", "gate.reading", "gate.level")
"""Names in the file, after `<concept>.`."""


@dataclass(frozen=True, eq=False)
class Gate:
    """Reads text encodings of width C for G groups: `center` (C,), `reading` (G, C), `level` (G,).

    The response of a prompt to a group is level + the largest <reading, t> over its tokens t, centered and of norm 1.
    It is about -1 for prompts that leave the axis open and 1 for those that name the group in the fitted words.
    """

    center: torch.Tensor
    reading: torch.Tensor
    level: torch.Tensor

    def __eq__(self, other: object) -> bool:
        """Whether both decide the same, so that the groups of one axis share a decision."""
        return isinstance(other, Gate) and all(map(torch.equal, self.tensors.values(), other.tensors.values()))

    def __hash__(self) -> int:
        return hash(self.reading.shape)

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors, by their names in the file after `<concept>.`."""
        return dict(zip(TENSORS, (self.center, self.reading, self.level), strict=True))

    def responses(self, tokens: torch.Tensor) -> torch.Tensor:
        """The response of each prompt to each group (prompts, G), from text encodings (prompts, tokens, C)."""
        return likeness(tokens, self.center.to(tokens), self.reading.to(tokens)) + self.level.to(tokens.device)

    def is_open(self, tokens: torch.Tensor) -> torch.Tensor:
        """Whether the images of each prompt may be steered (prompts,); stays on the device of the tokens.

        Open for all if they are not of this gate's width, as of another text encoder.
        """
        if tokens.shape[-1] != len(self.center):
            return torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
        return self.responses(tokens).amax(1) < THRESHOLD


THRESHOLD = 0.4
"""Nearer to the group's own words: words that were not among those it was fitted to fall in between."""


def likeness(tokens: torch.Tensor, center: torch.Tensor, reading: torch.Tensor) -> torch.Tensor:
    """The largest <reading, t> over the tokens t, centered and of norm 1: (prompts, G) in fp32."""
    unit = torch.nn.functional.normalize((tokens - center).float(), dim=-1)
    return (unit @ reading.float().mT).amax(1)


def check_gate(shapes: Mapping[str, tuple[int, ...]], owner: str) -> None:
    """Raise AdapterFileError unless tensors of these names and shapes make a gate."""
    if shapes.keys() != set(TENSORS):
        raise AdapterFileError(f"{owner} has only {' and '.join(sorted(shapes))} of a gate.")
    center, reading, level = (shapes[name] for name in TENSORS)
    groups = level[0] if len(level) == 1 else 0
    if len(center) != 1 or not 1 <= groups <= MOST_GROUPS or reading != (groups, *center):
        raise AdapterFileError(
            f"{owner} has a gate of the shapes {center}, {reading} and {level}; expected (C,), (G, C) and (G,) for G "
            f"groups (at most {MOST_GROUPS})."
        )

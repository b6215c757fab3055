"""The settings of a contrast concept's computation, each declared once. Does not import torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ..names import MOST_GROUPS, MOST_SCALES, Category, Operation, Site, check_axis, check_name
from .settings import setting

OVER_GUIDANCE: Mapping[float, float] = {1.0: 2.5, 2.0: 2.0, 4.0: 1.35, 7.5: 1.0, 12.0: 0.75}
"""Factors on the strength over the guidance scale (docs/contrast.md says where they were measured)."""
_VOWELS = "aeiouAEIOU"
_ARTICLE = re.compile(r"\b([Aa])n? +\{\}")


@dataclass(frozen=True)
class ContrastSettings:
    """The groups of one axis and how their vectors are computed. Raises ValueError if they cannot be contrasted.

    With the operation "move" the groups are contrasted with each other; with "add" each is contrasted with the neutral
    words alone, and steered away from if the category is safety. `parts` is the number of parts of the schedule with
    vectors of their own.
    """

    groups: Mapping[str, str] = setting(
        description="Group, as 'NAME: WORDS', such as 'woman: a woman'; the words stand for the neutral ones.",
        notes={"flag": "--group", "separator": ":"},
    )
    neutral: str = setting("a person", "Words that leave the axis open.")
    contexts: tuple[str, ...] = setting(
        ("a photo of {}", "a painting of {}", "{} indoors", "{} outdoors"),
        "Prompt in which the words are contrasted, with {} in their place.",
        min_length=1,
    )
    axis: str = setting(
        "", "Axis that the groups belong to, such as gender, by which Fair Batch, Prompt Guard and evaluation go."
    )
    category: Category = setting(
        "fairness", "Category: fairness, safety (steers away from the groups' words; no negative strengths) or other."
    )
    operation: Operation = setting(
        None,
        "What the concept does: move (exchange a group for another) or add; if left out, move with several groups, "
        "else add.",
    )
    strength: float = setting(1.0, "Recommended strength.", gt=0, le=100)
    strength_at_guidance: Mapping[float, float] = setting(
        OVER_GUIDANCE,
        "Factor on the strength at a guidance scale (CFG) of the images, as SCALE=FACTOR; replaces the default ones.",
    )
    seeds: int = setting(4, "Number of start noises in each context.", ge=1, le=64)
    seed: int = setting(0, "Seed of the first start noise.", ge=0, lt=2**62)
    schedule_steps: int = setting(25, "DDIM steps from noise to image.", ge=2, le=500, notes={"flag": "--steps"})
    guidance: float = setting(5.0, "Guidance scale (CFG) of the neutral images on the way.")
    site: Site = setting("cross-attention", "Where in the UNet the concept acts.")
    places: int = setting(
        1,
        "Height and width of a grid of places with vectors of their own, for subjects that always stand in the same "
        "place; with 1 each token is read by itself, wherever the subject stands.",
        ge=1,
        le=64,
    )
    parts: int = setting(1, "Parts of the schedule with vectors of their own.", ge=1, le=16)
    ridge: float = setting(0.01, "Regularization of the fit, relative to the mean variance of a channel.", gt=0)

    def __post_init__(self) -> None:
        check_axis(self.axis)
        for name, words in self.groups.items():
            check_name(name)
            if not words.strip():
                raise ValueError(f"the words of group {name!r} are empty: describe the group, such as 'a woman'")
        if not self.groups:
            raise ValueError("there is no group: name the groups to steer towards, such as woman and man")
        if len(self.groups) > MOST_GROUPS:
            raise ValueError(f"there are {len(self.groups)} groups; at most {MOST_GROUPS} are possible")
        if self.operation is None:
            several = len(self.groups) > 1 and self.category != "safety"
            object.__setattr__(self, "operation", "move" if several else "add")
        if self.operation == "move" and len(self.groups) < 2:
            raise ValueError("there is only one group: name those that it is contrasted with as well")
        if self.operation == "move" and self.category == "safety":
            raise ValueError("safety concepts are added: use operation = 'add'")
        over = self.strength_at_guidance
        if len(over) > MOST_SCALES or not all(
            0 < scale <= 100 and 0 <= factor <= 100 for scale, factor in over.items()
        ):
            raise ValueError(
                f"strength_at_guidance: give at most {MOST_SCALES} guidance scales, above 0 and up to 100, with "
                "factors up to 100"
            )
        if self.parts > self.schedule_steps:
            raise ValueError(f"the schedule has {self.schedule_steps} steps, fewer than {self.parts} parts")
        if any("{}" not in context for context in self.contexts) or not self.contexts:
            raise ValueError("a context has no {}, where the words of the groups go")
        for context in self.contexts:
            texts = self.texts(context)
            if len(set(texts)) < len(texts):
                raise ValueError(f"the prompts must all differ: {', '.join(map(repr, texts))}")

    def texts(self, context: str) -> list[str]:
        """The neutral prompt and those of the groups in this context."""
        return [in_context(context, words) for words in (self.neutral, *self.groups.values())]

    @property
    def evaluations(self) -> int:
        """UNet evaluations, one of one latent each."""
        return len(self.contexts) * self.schedule_steps * self.seeds * (2 + len(self.groups))


def in_context(context: str, words: str) -> str:
    """The context with these words, with the right article before them and no double spaces."""

    def article(found: re.Match[str]) -> str:
        return found[1] + ("n {}" if words[:1] in _VOWELS and words else " {}")

    return " ".join(_ARTICLE.sub(article, context).replace("{}", words).split())

"""The settings of training, each declared once with its default, limits and help text. Does not import torch.

Defaults are those of the paper (arXiv 2509.15257, appendix) where it gives them; docs/training.md lists the others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from ..names import Category, Kind, Rollout, Update, check_axis, check_name

FAIRNESS_GUIDANCE, SAFETY_GUIDANCE = 4.0, 12.0
_HIDDEN_SHARE = 4
_USUAL_POOL = 16


def setting(
    default: Any = dataclasses.MISSING,
    description: str = "",
    notes: Mapping[str, Any] = MappingProxyType({}),
    **limits: Any,
) -> Any:
    """A settings field. `limits` have pydantic's names (ge, gt, le, min_length ...) and are used to validate recipes
    and flags. `notes` are for programs: "may_change" if an interrupted training may be resumed with another value.
    """
    metadata = {"description": description, "json_schema_extra": dict(notes), **limits}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_MAY_CHANGE = {"may_change": True}


@dataclass(frozen=True)
class ConceptSettings:
    """One concept: what to steer towards (`target`) or away from (`negative`), and how its modules are trained.

    `category` and `guidance` follow from the prompts if they are not given: a concept with only a negative prompt is a
    safety concept. Raises ValueError and AdapterFileError for invalid settings.
    """

    name: str = setting(
        description="Name of the concept, as displayed in ComfyUI; if left out, that of the preset or the output file."
    )
    target: str = setting("", "Prompt to steer towards, such as 'a woman'; left out for safety concepts.")
    neutral: tuple[str, ...] = setting(
        ("a person",),
        "Prompt that is steered in training; with several, one is chosen at random for each trajectory.",
        min_length=1,
    )
    negative: str = setting("", "Prompt to steer away from, such as 'violence'.")
    category: Category = setting(
        None,
        "Category: fairness, safety (refuses negative strengths) or other; if left out, safety for a concept with "
        "only a negative prompt, else fairness.",
    )
    axis: str = setting(
        "",
        "Axis that the group belongs to, such as age, by which Fair Batch, Prompt Guard and evaluation go; if left "
        "out, that of the preset, or none.",
    )
    synonyms: tuple[str, ...] = setting((), "Other words for the group, for Prompt Guard.")
    guidance: float = setting(
        None,
        f"Guidance scale of the training target ({FAIRNESS_GUIDANCE:g} for fairness and {SAFETY_GUIDANCE:g} for safety "
        "if left out).",
        gt=0,
    )
    ram_rate: float = setting(1e-2, "Learning rate of RAM, the module that adds the concept.", gt=0, notes=_MAY_CHANGE)
    sam_rate: float = setting(
        1e-3,
        "Learning rate of SAM, the module that preserves the rest of the image; 0 trains only RAM. If it is too high, "
        "SAM undoes RAM.",
        ge=0,
        notes=_MAY_CHANGE,
    )
    sam_weight: float = setting(
        1.0, "Weight of SAM's loss (lambda in the paper); almost without effect with Adam.", gt=0
    )
    steps: int = setting(1200, "Training steps of each concept.", ge=1, notes=_MAY_CHANGE)

    def __post_init__(self) -> None:
        safety = not self.target and bool(self.negative)
        self._fill("category", "safety" if safety else "fairness")
        self._fill("guidance", SAFETY_GUIDANCE if safety else FAIRNESS_GUIDANCE)
        check_name(self.name)
        check_axis(self.axis)
        if not self.target and not self.negative:
            raise ValueError("it has no prompts: set target (to steer towards) or negative (to steer away from)")
        if not self.neutral:
            raise ValueError("there is no neutral prompt: describe an ordinary image, such as 'a person'")
        if any(not neutral for neutral in self.neutral):
            raise ValueError("a neutral prompt is empty: describe an ordinary image, such as 'a person'")

    def _fill(self, name: str, value: Any) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class TrainingSettings:
    """How concepts are trained, the same for all of a run. Raises ValueError for values that exclude each other."""

    batch: int = setting(4, "Batch size: samples per step. Lower it first if memory is short.", ge=1)
    pool: int = setting(
        None,
        "Number of rollout trajectories; a multiple of the batch size (the nearest to 16 if left out).",
        ge=1,
    )
    kind: Kind = setting(
        "constant",
        "Kind of module for RAM and SAM: constant (a value per channel and place, the paper's), channel (a value per "
        "channel), or mlp and conv (small networks that read the bottleneck).",
    )
    hidden: int | None = setting(
        None, "Hidden width of mlp and conv modules; a quarter of the bottleneck's channels if left out.", ge=1
    )
    update: Update = setting(
        "sequential",
        "Order of updates: RAM, then SAM (sequential, the paper's), both in one pass (joint), or one module for both "
        "losses (shared).",
    )
    rollout: Rollout = setting(
        "pool", "Source of training states: pool, or reference (the paper's loop, at twelve times the cost)."
    )
    rollout_guidance: float = setting(3.0, "Guidance scale of the rollout trajectories.")
    schedule_steps: int = setting(50, "DDIM steps of a rollout trajectory.", ge=2, le=500)
    seed: int = setting(0, "Seed of all random numbers.", ge=0, lt=2**63)

    def __post_init__(self) -> None:
        if self.pool is None:
            object.__setattr__(self, "pool", self.batch * max(round(_USUAL_POOL / self.batch), 1))
        if self.pool % self.batch:
            raise ValueError(f"the pool ({self.pool}) must be a multiple of the batch size ({self.batch})")
        if self.rollout == "reference" and self.update == "joint":
            raise ValueError("update = 'joint' is not possible with the reference rollout: use update = 'sequential'")

    @property
    def states(self) -> int:
        """Number of states that are trained on: all of the schedule but the last (arXiv 2509.15257, section 5)."""
        return self.schedule_steps - 1

    def hidden_width(self, channels: int) -> int:
        """Hidden width of mlp and conv modules for an h with `channels` channels."""
        return self.hidden or max(channels // _HIDDEN_SHARE, 1)


def training_facts(
    concept: ConceptSettings, training: TrainingSettings, steps: int, processes: int = 1
) -> dict[str, Any]:
    """How a concept was trained for `steps` steps, for its metadata, without the seed; `batch` is the total of all
    processes.
    """
    return {
        "guidance": concept.guidance,
        "steps": steps,
        "batch": training.batch * processes,
        "ram_rate": concept.ram_rate,
        "sam_rate": concept.sam_rate,
        "sam_weight": concept.sam_weight,
        "update": training.update,
        "rollout": training.rollout,
    }

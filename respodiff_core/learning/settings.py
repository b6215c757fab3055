"""All that shapes a training, each setting declared once: its default, its limits and what it means. Loads no torch.

Defaults are the paper's (arXiv 2509.15257, appendix) where it gives them; docs/training.md says which are not.
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
    """A field of settings. `limits` have pydantic's names (ge, gt, le, min_length ...), for whoever checks what people
    write. `notes` are for programs: "may_change" where an interrupted training may be resumed with another value.
    """
    metadata = {"description": description, "json_schema_extra": dict(notes), **limits}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


_MAY_CHANGE = {"may_change": True}


@dataclass(frozen=True)
class ConceptSettings:
    """One concept: what to steer towards (`target`) or away from (`negative`), and how its modules are learned.

    `category` and `guidance` follow from the prompts where they are not given: a concept with a negative prompt alone
    is for safety. Raises ValueError and AdapterFileError for what cannot be trained.
    """

    name: str = setting(description="Name of the concept, as ComfyUI's sliders show it.")
    target: str = setting("", "Prompt to steer towards: 'a woman'. Leave it out for safety.")
    neutral: tuple[str, ...] = setting(
        ("a person",), "Prompt that is steered while training; with several, each trajectory draws one.", min_length=1
    )
    negative: str = setting("", "Prompt to steer away from: 'violence'.")
    category: Category = setting(
        None, "fairness, safety (refuses negative strengths) or other; follows from the prompts if left out."
    )
    axis: str = setting("", "What the groups of one kind have in common, such as age; Prompt Guard uses it.")
    synonyms: tuple[str, ...] = setting((), "Other words for the group, for Prompt Guard.")
    guidance: float = setting(
        None,
        f"Guidance scale of the target: how far it lies from the neutral prediction ({FAIRNESS_GUIDANCE:g} for "
        f"fairness, {SAFETY_GUIDANCE:g} for safety).",
        gt=0,
    )
    ram_rate: float = setting(1e-2, "Learning rate of RAM, which brings the concept about.", gt=0, notes=_MAY_CHANGE)
    sam_rate: float = setting(
        1e-3,
        "Learning rate of SAM, which preserves the rest: too high, and it undoes RAM; 0 trains RAM alone.",
        ge=0,
        notes=_MAY_CHANGE,
    )
    sam_weight: float = setting(1.0, "Weight of SAM's loss (the paper's lambda); Adam hardly notices it.", gt=0)
    steps: int = setting(1200, "Training steps.", ge=1, notes=_MAY_CHANGE)

    def __post_init__(self) -> None:
        safety = not self.target and bool(self.negative)
        self._fill("category", "safety" if safety else "fairness")
        self._fill("guidance", SAFETY_GUIDANCE if safety else FAIRNESS_GUIDANCE)
        check_name(self.name)
        check_axis(self.axis)
        if not self.target and not self.negative:
            raise ValueError("it is empty: give it a target to steer towards, or a negative to steer away from")
        if any(not neutral for neutral in self.neutral):
            raise ValueError("a neutral prompt is empty; describe an ordinary picture, such as 'a person'")

    def _fill(self, name: str, value: Any) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class TrainingSettings:
    """How concepts are learned, the same for all of a run. Raises ValueError where values do not fit together."""

    batch: int = setting(4, "Batch size: samples per step. The first thing to lower when memory is short.", ge=1)
    pool: int = setting(
        None,
        "Rollout trajectories kept in flight; a multiple of the batch size (the nearest to 16 if left out).",
        ge=1,
    )
    kind: Kind = setting("constant", "Kind of module that RAM and SAM are.")
    hidden: int | None = setting(
        None, "Hidden width of mlp and conv modules (a fourth of h's channels if left out).", ge=1
    )
    update: Update = setting(
        "sequential",
        "Order of updates: RAM, then SAM (sequential, the paper's), both in one pass (joint), or one module for both "
        "losses (shared).",
    )
    rollout: Rollout = setting(
        "pool", "Where training states come from: pool, or reference, the paper's loop, with ten times the cost."
    )
    rollout_guidance: float = setting(3.0, "Guidance scale of the trajectories that are trained on.")
    schedule_steps: int = setting(50, "DDIM steps of a trajectory.", ge=2, le=500)
    seed: int = setting(0, "Seed of all random numbers.", ge=0, lt=2**63)

    def __post_init__(self) -> None:
        if self.pool is None:
            object.__setattr__(self, "pool", self.batch * max(round(_USUAL_POOL / self.batch), 1))
        if self.pool % self.batch:
            raise ValueError(f"the pool ({self.pool}) must be a multiple of the batch ({self.batch})")
        if self.rollout == "reference" and self.update == "joint":
            raise ValueError("the reference rollout keeps the paper's order of updates: use update = 'sequential'")

    @property
    def states(self) -> int:
        """States of the schedule that are trained on: all but the last (paper, section 5)."""
        return self.schedule_steps - 1

    def hidden_width(self, channels: int) -> int:
        """Hidden width of mlp and conv modules for h of this many channels."""
        return self.hidden or max(channels // _HIDDEN_SHARE, 1)


def training_facts(
    concept: ConceptSettings, training: TrainingSettings, steps: int, processes: int = 1
) -> dict[str, Any]:
    """How a concept was trained for `steps` steps, for its metadata, but for the seed; `batch` is that of all processes
    together.
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

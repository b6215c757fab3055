"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer


class DType(str, Enum):
    """How numbers are stored in a file."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


Output = Annotated[Path, typer.Option("--output", "-o", help="The adapter to write (.safetensors).")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it is there.")]


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The flags that were given: neither None nor an empty list."""
    return {name: value for name, value in flags.items() if value is not None and value != []}

"""Options that several commands share."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class DType(str, Enum):
    """How numbers are stored in a file."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


Output = Annotated[Path, typer.Option("--output", "-o", help="The adapter to write (.safetensors).")]
Force = Annotated[bool, typer.Option("--force", help="Replace the output if it is there.")]

"""Imported before torch: lets waiting threads sleep, as the command line does, and makes `tools` importable."""

import os
import sys
from pathlib import Path

from respodiff.trainer.support.threads import passive_waiting

os.environ |= passive_waiting()
sys.path.append(str(Path(__file__).parents[1] / "tools"))

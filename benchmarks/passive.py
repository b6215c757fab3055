"""Imported before torch: threads that wait sleep, as in the command line; and the tools' modules can be imported."""

import os
import sys
from pathlib import Path

from respodiff.trainer.support.threads import passive_waiting

os.environ |= passive_waiting()
sys.path.append(str(Path(__file__).parents[1] / "tools"))

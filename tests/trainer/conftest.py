"""A folder in which to run `respodiff train`."""

from __future__ import annotations

from pathlib import Path

import pytest
from trainer_runs import Trainer


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(tmp_path)

"""What tests of several folders share, made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from respodiff.trainer.support.threads import passive_waiting

os.environ |= passive_waiting()  # here, before anything loads torch, and in all processes that tests start


@pytest.fixture(scope="session")
def hazard_adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ToyWorld's safety adapter, trained by its preset."""
    from toyworld_graph import train_adapter

    return train_adapter(tmp_path_factory.mktemp("hazard") / "hazard.safetensors", ["hazard"])

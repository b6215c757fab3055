"""A folder in which to run `respodiff train`, and a stand-in for the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_stand_in import TOKEN, Hub, hub_stand_in
from sharing_commands import OFF
from trainer_runs import Trainer


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """As the commands run with in processes of their own: sums of more threads differ in the last digit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def trainer(tmp_path: Path) -> Trainer:
    return Trainer(tmp_path)


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_stand_in() as hub:
        yield hub


@pytest.fixture
def online(hub, tmp_path, monkeypatch) -> Hub:
    """This process talks to the stand-in, with nobody logged in."""
    for name in OFF:
        monkeypatch.delenv(name, raising=False)
    settings = {"ENDPOINT": hub.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
    settings["HUGGINGFACE_CO_URL_TEMPLATE"] = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    settings |= {"HF_TOKEN_PATH": str(tmp_path / "token"), "HF_HUB_CACHE": str(tmp_path / "cache")}
    settings["AGENT_HARNESSES_PATH"] = str(tmp_path / "harnesses.json")
    for name, value in settings.items():
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", value, raising=False)  # some versions lack some
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return hub


@pytest.fixture
def logged_in(online, monkeypatch) -> Hub:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return online

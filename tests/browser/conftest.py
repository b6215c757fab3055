"""ComfyUI's page in a headless Chromium, on a real server with the pack and a small checkpoint.

A browser that cannot be had is an error, never a skip; RESPODIFF_HOSTS=none leaves these tests out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from comfy_hosts import NEWEST, YOURS, hosts, make_server, source_of
from comfy_page import SCREENSHOTS, ComfyPage, browser, open_page, prepare
from playwright.sync_api import Browser
from respodiff.trainer.comfyui.server import ComfyServer
from workflow_models import put_adapters, put_models

collect_ignore_glob = [] if hosts() else ["*"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    source = source_of(YOURS if hosts() == [YOURS] else NEWEST)
    base = tmp_path_factory.mktemp("comfyui-page")
    comfy = make_server(source, base)
    put_models(comfy)
    prepare(comfy)
    with comfy:
        yield comfy


@pytest.fixture(scope="session")
def chrome() -> Iterator[Browser]:
    with browser() as chrome:
        yield chrome


@pytest.fixture
def adapters(server: ComfyServer) -> Path:
    """models/respodiff with the adapters that the shipped workflows name."""
    folder = server.base_directory / "models" / "respodiff"
    for file in folder.glob("*"):
        file.unlink()
    put_adapters(folder)
    return folder


@pytest.fixture
def opening(
    adapters: Path, chrome: Browser, server: ComfyServer, request: pytest.FixtureRequest
) -> Callable[[], AbstractContextManager[ComfyPage]]:
    """Opens the page, which reads the adapters then; what it shows in the end is kept as a screenshot."""

    @contextmanager
    def kept() -> Iterator[ComfyPage]:
        with open_page(chrome, server) as opened:
            yield opened
            opened.screenshot(SCREENSHOTS / f"{request.node.name.removeprefix('test_')}.png")

    return kept


@pytest.fixture
def page(opening: Callable[[], AbstractContextManager[ComfyPage]]) -> Iterator[ComfyPage]:
    with opening() as opened:
        yield opened

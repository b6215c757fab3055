"""ComfyUI's page in a headless Chromium, on a real server with the pack and a small checkpoint.

Four kinds of page: ComfyUI's own and the newest, each drawn on the canvas and with Nodes 2.0. A browser that cannot be
had is an error, never a skip; RESPODIFF_HOSTS=none leaves these tests out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from comfy_frontend import NEWEST_FRONTEND, newest_frontend
from comfy_hosts import NEWEST, YOURS, hosts, make_server, source_of
from comfy_page import SCREENSHOTS, ComfyPage, browser, open_page, prepare
from playwright.sync_api import Browser
from respodiff.trainer.comfyui.server import ComfyServer
from workflow_models import put_adapters, put_models

collect_ignore_glob = [] if hosts() else ["*"]


class Kind(NamedTuple):
    """Which page, and how it draws nodes."""

    is_newest: bool
    nodes_2: bool

    def __str__(self) -> str:
        page = f"page {NEWEST_FRONTEND}" if self.is_newest else "own page"
        return f"{page}, {'Nodes 2.0' if self.nodes_2 else 'canvas'}"


# One server after the other; what one drawing has run, the other need not sample again.
KINDS = [Kind(is_newest, nodes_2) for is_newest in (False, True) for nodes_2 in (False, True)]


@pytest.fixture(scope="session", params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bool], ComfyServer]]:
    """The server of a page, by whether that is the newest; started when first asked for."""
    started: dict[bool, ComfyServer] = {}
    with ExitStack() as running:

        def server(is_newest: bool) -> ComfyServer:
            if is_newest not in started:
                source = source_of(YOURS if hosts() == [YOURS] else NEWEST)
                comfy = make_server(source, tmp_path_factory.mktemp("comfyui-page"))
                if is_newest:
                    comfy.extra_args += ("--front-end-root", str(newest_frontend()))
                put_models(comfy)
                prepare(comfy)
                started[is_newest] = running.enter_context(comfy)
            return started[is_newest]

        yield server


@pytest.fixture
def server(kind: Kind, servers: Callable[[bool], ComfyServer]) -> ComfyServer:
    return servers(kind.is_newest)


@pytest.fixture(scope="session")
def chrome() -> Iterator[Browser]:
    with browser() as chrome:
        yield chrome


@pytest.fixture(scope="session")
def made_adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the adapters that the shipped workflows name."""
    folder = tmp_path_factory.mktemp("adapters")
    put_adapters(folder)
    return folder


@pytest.fixture
def adapters(server: ComfyServer, made_adapters: Path) -> Path:
    """models/respodiff with just those; files and their times are the same in every test."""
    folder = server.base_directory / "models" / "respodiff"
    for file in folder.glob("*"):
        file.unlink()
    shutil.copytree(made_adapters, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture
def opening(
    adapters: Path, chrome: Browser, server: ComfyServer, kind: Kind, request: pytest.FixtureRequest
) -> Callable[[], AbstractContextManager[ComfyPage]]:
    """Opens a page anew, which reads the adapters then; what it shows in the end is kept as a screenshot."""

    @contextmanager
    def kept() -> Iterator[ComfyPage]:
        with open_page(chrome, server, nodes_2=kind.nodes_2) as opened:
            yield opened
            opened.screenshot(screenshot_of(request))

    return kept


@pytest.fixture(scope="session")
def pages(servers: Callable[[bool], ComfyServer], chrome: Browser) -> Iterator[Callable[[Kind], ComfyPage]]:
    """The open page of a kind; one at a time, since each tells its server how it draws."""
    with ExitStack() as opened:
        shown: dict[Kind, ComfyPage] = {}

        def page(kind: Kind) -> ComfyPage:
            if kind not in shown:
                opened.close()
                shown.clear()
                shown[kind] = opened.enter_context(open_page(chrome, servers(kind.is_newest), nodes_2=kind.nodes_2))
            return shown[kind]

        yield page


@pytest.fixture
def page(
    adapters: Path, pages: Callable[[Kind], ComfyPage], kind: Kind, request: pytest.FixtureRequest
) -> Iterator[ComfyPage]:
    """A page with an empty graph that knows the adapters; tests share it."""
    shared = pages(kind)
    shared.clear()
    shared.page.keyboard.press("Escape")  # a dialog of the test before
    shared.refresh()
    shared.console.clear()
    yield shared
    shared.screenshot(screenshot_of(request))


def screenshot_of(request: pytest.FixtureRequest) -> Path:
    return SCREENSHOTS / f"{request.node.name.removeprefix('test_')}.png"

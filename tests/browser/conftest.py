"""ComfyUI's page in a headless Chromium, on a real server with the pack and a small checkpoint.

Four kinds of page: ComfyUI's own and the newest, each drawn on the canvas and with Nodes 2.0. A browser that cannot be
had is an error, never a skip; RESPODIFF_HOSTS=none leaves these tests out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from comfy_frontend import NEWEST_FRONTEND, newest_frontend
from comfy_hosts import NEWEST, YOURS, hosts, make_server, source_of
from comfy_page import SCREENSHOTS, ComfyPage, adapters_of, browser, open_page, prepare
from playwright.sync_api import Browser, BrowserContext, Error
from respodiff.trainer.comfyui.server import ComfyServer
from respodiff.trainer.toyworld.host import TOYWORLD_PACK, TOYWORLD_PACK_NAME
from workflow_models import put_adapters, put_models

collect_ignore_glob = [] if hosts() else ["*"]


class Kind(NamedTuple):
    """Which page, and how it draws nodes."""

    is_newest: bool
    nodes_2: bool

    def __str__(self) -> str:
        page = f"page {NEWEST_FRONTEND}" if self.is_newest else "own page"
        return f"{page}, {'Nodes 2.0' if self.nodes_2 else 'canvas'}"


# What one drawing has run, the other, which comes next, need not sample again. By itself ComfyUI keeps one graph's.
KEPT_RESULTS = ("--cache-lru", "1000")
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
                comfy.extra_args += KEPT_RESULTS
                if is_newest:
                    comfy.extra_args += ("--front-end-root", str(newest_frontend()))
                put_models(comfy)
                comfy.link_node_pack(TOYWORLD_PACK, TOYWORLD_PACK_NAME)
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
    folder = adapters_of(server)
    for file in folder.glob("*"):
        file.unlink()
    shutil.copytree(made_adapters, folder, dirs_exist_ok=True)
    return folder


class Pages:
    """One page is open at a time: each tells its server how it draws, and all have one place for what a browser keeps.

    Files are loaded once, which is most of the time that an opening takes.
    """

    def __init__(self, servers: Callable[[bool], ComfyServer], context: BrowserContext) -> None:
        self._servers = servers
        self._context = context
        self._shared: dict[Kind, ComfyPage] = {}
        self._open = ExitStack()

    def shared(self, kind: Kind) -> ComfyPage:
        """The page of a kind, opened where it is not open."""
        if kind not in self._shared:
            self._shared[kind] = self._open.enter_context(self.anew(kind))
        return self._shared[kind]

    def anew(self, kind: Kind) -> AbstractContextManager[ComfyPage]:
        """A page opened now, which reads the adapters that are there; the shared one is closed."""
        self.close()
        return open_page(self._context, self._servers(kind.is_newest), nodes_2=kind.nodes_2)

    def close(self) -> None:
        self._shared.clear()
        self._open.close()


@pytest.fixture(scope="session")
def pages(servers: Callable[[bool], ComfyServer], chrome: Browser) -> Iterator[Pages]:
    context = chrome.new_context()
    pages = Pages(servers, context)
    yield pages
    pages.close()
    context.close()


@pytest.fixture
def page(adapters: Path, pages: Pages, kind: Kind) -> ComfyPage:
    """A page with an empty graph that knows the adapters; tests share it."""
    shared = pages.shared(kind)
    shared.reset()
    return shared


def screenshot_of(item: pytest.Item) -> Path:
    return SCREENSHOTS / f"{item.name.removeprefix('test_')}.png"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    """What the page shows when a test fails is kept as a screenshot."""
    report = yield
    if report.when == "call" and report.failed:
        for page in getattr(item, "funcargs", {}).values():
            if isinstance(page, ComfyPage):
                with suppress(Error):  # else the test's own failure would not be seen
                    page.page.screenshot(path=screenshot_of(item))
    return report

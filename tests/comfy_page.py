"""ComfyUI's page in a real, headless Chromium, and what tests do in it."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright
from respodiff.trainer.comfyui.server import ComfyServer

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
SIZE = (1600, 900)
EMPTY = {"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "version": 0.4, "extra": {}}
SCREENSHOTS = Path(__file__).parents[1] / "out" / "screenshots"
# On a first visit every page opens an empty graph, with the dialog of templates over it; on later ones a graph whose
# models it looks for on the web for as long as that takes, with errors in the console.
FIRST_VISIT = {"Comfy.TutorialCompleted": False, "Comfy.RightSidePanel.IsOpen": False}
FORGET = "localStorage.clear(); sessionStorage.clear()"
# The graph lies open, and the page listens to what is selected; from 1.50 on it does so from the start.
READY = """() => document.elementFromPoint(innerWidth / 2, innerHeight / 2) === app.canvas.canvas
    && !!(app.canvas.onSelectionChange || Number(__COMFYUI_FRONTEND_VERSION__.split(".")[1]) >= 50)"""
# With Nodes 2.0 each node is an element.
DRAWN = """() => app.graph._nodes.every((node) => document.querySelector(`[data-node-id="${node.id}"]`))"""
QUIET_TIMEOUT = 60.0  # seconds
SETTINGS = {"Comfy.Minimap.Visible": False, "Comfy.Graph.CanvasInfo": False}


class NoBrowser(RuntimeError):
    """There is no Chromium to open the page with; the message says what to do."""


def chromium() -> str:
    """The path of Chromium: CHROMIUM, or the one on the PATH. Raises NoBrowser."""
    if named := os.environ.get("CHROMIUM"):
        if not Path(named).is_file():
            raise NoBrowser(f"CHROMIUM={named} does not exist: set it to a Chromium's path.")
        return named
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        raise NoBrowser(
            "No Chromium found: install one (Debian: apt-get install chromium), or set CHROMIUM to its path."
        )
    return found


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        try:
            yield chrome
        finally:
            chrome.close()


def prepare(server: ComfyServer, **settings: Any) -> None:
    """Before the server starts: the settings of its page."""
    path = server.base_directory / "user" / "default" / "comfy.settings.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(SETTINGS | settings))


def adapters_of(server: ComfyServer) -> Path:
    return server.base_directory / "models" / "respodiff"


@contextmanager
def open_page(
    chrome: Browser | BrowserContext, server: ComfyServer, size: tuple[int, int] = SIZE, nodes_2: bool = False
) -> Iterator[ComfyPage]:
    """The page with an empty graph, drawn on the canvas or with Nodes 2.0.

    In a context only the page's files are kept from one opening to the next.
    """
    for name, value in {**FIRST_VISIT, "Comfy.VueNodes.Enabled": nodes_2}.items():
        server.post_json(f"/settings/{name}", value)
    page = chrome.new_page()
    try:
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.add_init_script(FORGET)
        opened = ComfyPage(page, server, nodes_2)
        page.goto(server.url)
        dialog = page.get_by_role("dialog").first
        dialog.wait_for(timeout=60_000)
        page.keyboard.press("Escape")
        dialog.wait_for(state="detached")
        page.wait_for_function(READY, timeout=60_000)
        opened.quiet()  # what it asks for when it opens, and does not get, is ComfyUI's own
        yield opened
    finally:
        page.close()


@dataclass
class ComfyPage:
    """The open page. Nodes are named by their ids in the graph."""

    page: Page
    server: ComfyServer
    nodes_2: bool = False
    console: list[str] = field(default_factory=list)
    _asked: set[Request] = field(default_factory=set)
    _adapters: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._adapters = self._adapters_now()
        self.page.on("request", lambda request: self._asked.add(request))
        self.page.on("requestfinished", lambda request: self._asked.discard(request))
        self.page.on("requestfailed", lambda request: self._asked.discard(request))
        self.page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.console.append(f"error: {error}"))

    def js(self, function: str, *arguments: Any) -> Any:
        """Call a JavaScript function with arguments; promises are awaited."""
        return self.page.evaluate(f"(all) => ({function})(...all)", list(arguments))

    def clear(self) -> None:
        """Open an empty graph; one that is only emptied would give its old nodes' values to new ones of their ids."""
        self.load({**EMPTY, "id": str(uuid.uuid4())})
        self.js("() => { app.canvas.ds.scale = 1; app.canvas.ds.offset = [0, 0] }")

    def reset(self) -> None:
        """As it opened, for the next test."""
        self.page.keyboard.press("Escape")  # a menu or dialog
        self.js("() => app.extensionManager.setting.set('Comfy.RightSidePanel.IsOpen', false)")
        self.clear()
        self.read_adapters()
        self.console.clear()

    def read_adapters(self) -> None:
        """Press R, if other adapters lie in models/respodiff than the page has read."""
        if (now := self._adapters_now()) != self._adapters:
            self.js("() => app.refreshComboInNodes()")
            self._adapters = now

    def _adapters_now(self) -> dict[str, int]:
        return {file.name: file.stat().st_mtime_ns for file in adapters_of(self.server).glob("*")}

    def add(self, type_: str, at: tuple[float, float] = (100, 100), **values: Any) -> int:
        """Add a node as the page's menu does and set its widgets; its id."""
        node = self.js(
            """(type, at) => {
                const node = LiteGraph.createNode(type)
                if (!node) throw new Error(`the page knows no ${type}`)
                node.pos = at
                app.graph.add(node)
                return node.id
            }""",
            type_,
            at,
        )
        for name, value in values.items():
            self.set(node, name, value)
        return node

    def connect(self, source: int, output: int, target: int, name: str) -> None:
        """Connect an output, by number, with an input, by name."""
        self.js(
            """(source, output, target, name) => {
                const to = app.graph.getNodeById(target)
                const link = app.graph.getNodeById(source).connect(output, to, to.findInputSlot(name))
                if (!link) throw new Error(`could not connect ${name}`)
            }""",
            source,
            output,
            target,
            name,
        )

    def is_connected(self, node: int, name: str) -> bool:
        """Whether an input of a node, by name, has a link."""
        linked = "(id, name) => app.graph.getNodeById(id).inputs.some((one) => one.name === name && one.link != null)"
        return bool(self.js(linked, node, name))

    def set(self, node: int, name: str, value: Any) -> None:
        self.js(
            """(id, name, value) => {
                const node = app.graph.getNodeById(id)
                const widget = node.widgets.find((w) => w.name === name)
                if (!widget) throw new Error(`${node.type} has no ${name}`)
                widget.value = value
                widget.callback?.(value, app.canvas, node)
            }""",
            node,
            name,
            value,
        )

    def widgets(self, node: int) -> list[dict[str, Any]]:
        """Name, label, type, value and options of each widget, in the order shown."""
        return self.js(
            """(id) => (app.graph.getNodeById(id).widgets ?? []).map((w) => ({
                name: w.name, label: w.label ?? w.name, type: w.type, value: w.value ?? null,
                options: JSON.parse(JSON.stringify(w.options ?? {})) }))""",
            node,
        )

    def values(self, node: int) -> dict[str, Any]:
        return {widget["name"]: widget["value"] for widget in self.widgets(node)}

    def save(self) -> dict[str, Any]:
        """The workflow as the page saves it."""
        return json.loads(self.js("() => JSON.stringify(app.graph.serialize())"))

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a workflow in place of the graph, with nothing left of what ran before."""
        self.js(
            """async (workflow) => {
                await app.loadGraphData(workflow)
                const { workflow: tabs } = app.extensionManager
                const others = tabs.openWorkflows.filter(({ path }) => path !== tabs.activeWorkflow.path)
                for (const tab of others) await tabs.closeWorkflow(tab)
                app.lastExecutionError = null
                app.nodeOutputs = {}
            }""",
            workflow,
        )
        self.drawn()

    def open_template(self, pack: str, name: str) -> None:
        """Choose a node pack's template in the page's dialog, with the mouse."""
        dialog = self.page.get_by_role("dialog").first
        if not dialog.is_visible():
            self.page.get_by_role("button", name="Templates").first.click()
        dialog.get_by_text(pack, exact=True).click()
        dialog.get_by_role("heading", name=name, exact=True).click()
        dialog.wait_for(state="detached")
        self.drawn()

    def choose(self, node: int, name: str, value: str) -> None:
        """Choose a value in a node's list, with the mouse."""
        if self.nodes_2:
            list_ = self.page.locator(f'[data-node-id="{node}"]').get_by_role("combobox", name=name)
            list_.click()
            self.page.get_by_role("option", name=value, exact=True).click()
        else:
            x, y = self.js(
                """(id, name) => {
                    const node = app.graph.getNodeById(id)
                    const { y } = node.widgets.find((w) => w.name === name)
                    const { scale, offset } = app.canvas.ds
                    const area = app.canvas.canvas.getBoundingClientRect()
                    const middle = node.pos[0] + node.size[0] / 2
                    return [area.x + (middle + offset[0]) * scale, area.y + (node.pos[1] + y + 10 + offset[1]) * scale]
                }""",
                node,
                name,
            )
            self.page.mouse.click(x, y)
            self.page.locator(".litemenu-entry").get_by_text(value, exact=True).click()
        self.wait(f"app.graph.getNodeById({node}).widgets.find((w) => w.name === '{name}').value === '{value}'")

    def drawn(self) -> None:
        """Wait until the page has drawn the graph as it is: only then do widgets have their places."""
        self.js(
            """() => {
                app.canvas.setDirty(true, true)
                return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))
            }"""
        )
        if self.nodes_2:
            self.page.wait_for_function(DRAWN)

    def quiet(self) -> None:
        """Wait until the page has drawn what it has, and has an answer to all that it asked the server."""
        end = time.monotonic() + QUIET_TIMEOUT
        calm = 0
        while calm < 2:  # what an answer brings with it is drawn, and may ask again
            if time.monotonic() > end:
                raise TimeoutError(f"still asked for: {[request.url for request in self._asked]}")
            self.drawn()
            calm = 0 if self._asked else calm + 1

    def fit(self) -> None:
        """The whole graph in view, nothing selected."""
        self.js(
            """() => {
                app.canvas.deselectAll()
                const boxes = [
                    ...app.graph._groups.map((g) => [...g.pos, ...g.size]),
                    ...app.graph._nodes.map((n) => [...n.pos, ...n.size]),
                ]
                const right = Math.max(...boxes.map(([x, y, w]) => x + w))
                const bottom = Math.max(...boxes.map(([x, y, w, h]) => y + h))
                const [left, top, margin] = [60, 100, 16]  // the page's own bars
                const [width, height] = [innerWidth - left - 2 * margin, innerHeight - top - 2 * margin]
                const scale = Math.min(width / right, height / bottom)
                const x = (left + (innerWidth - left - right * scale) / 2) / scale
                const y = (top + (innerHeight - top - bottom * scale) / 2) / scale
                app.canvas.ds.scale = scale
                app.canvas.ds.offset = [x, y]
            }"""
        )
        self.page.mouse.move(800, 70)  # over nothing
        self.drawn()

    def boxes(self) -> dict[int, list[float]]:
        """x, y, width and height of each node with its title, as it is drawn; the whole graph must be in view."""
        self.quiet()
        self.js("() => document.fonts.ready.then(() => {})")
        boxes, before = self._boxes(), None
        while boxes != before:  # an element takes its size in steps
            self.drawn()
            boxes, before = self._boxes(), boxes
        return boxes

    def _boxes(self) -> dict[int, list[float]]:
        found = self.js(
            """(elements) => app.graph._nodes.map((node) => {
                const title = LiteGraph.NODE_TITLE_HEIGHT
                if (!elements) return [node.id, [node.pos[0], node.pos[1] - title, node.size[0], node.size[1] + title]]
                const element = document.querySelector(`[data-node-id="${node.id}"]`)
                const { x, y, width, height } = element.getBoundingClientRect()
                const { scale, offset } = app.canvas.ds
                const area = app.canvas.canvas.getBoundingClientRect()
                const [left, top] = [(x - area.x) / scale - offset[0], (y - area.y) / scale - offset[1]]
                return [node.id, [left, top, width / scale, height / scale]]
            })""",
            self.nodes_2,
        )
        return dict(found)

    def nodes(self, type_: str) -> list[int]:
        return self.js("(type) => app.graph._nodes.filter((n) => n.type === type).map((n) => n.id)", type_)

    def shrink(self, pixels: int, steps: int) -> None:
        """Make the graph's pictures small and soon done."""
        for latent in self.nodes("EmptyLatentImage"):
            self.set(latent, "width", pixels)
            self.set(latent, "height", pixels)
        for node in (*self.nodes("KSampler"), *self.nodes("RespoDiffTrainConcept")):
            self.set(node, "steps", steps)
        for instant in self.nodes("RespoDiffInstantConcept"):
            self.set(instant, "steps", steps)
            self.set(instant, "contexts", "a photo of {}\n{} outdoors")
            self.connect(self.nodes("EmptyLatentImage")[0], 0, instant, "latent")

    def queue(self) -> bool:
        """Press Run; whether the server accepted the graph."""
        return bool(self.js("() => app.queuePrompt(0)"))

    def wait(self, condition: str, timeout: float = 120) -> None:
        """Wait until a JavaScript expression is true."""
        self.page.wait_for_function(f"() => !!({condition})", timeout=1000 * timeout)

    def watch_for_the_end(self) -> None:
        """`window.ended` tells of the end of the next run."""
        self.js(
            """() => {
                window.ended = false
                for (const end of ["execution_success", "execution_error", "execution_interrupted"])
                    app.api.addEventListener(end, () => { window.ended = true }, { once: true })
            }"""
        )

    def pictures(self, node: int) -> list[dict[str, Any]]:
        """What a node shows, as ComfyUI names files."""
        return self.js("(id) => app.nodeOutputs[id]?.images ?? []", node)

    def run(self, node: int) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        """Press Run and wait for the end of all nodes: the error, if any, and the pictures that a node shows."""
        self.watch_for_the_end()
        assert self.queue(), "the server did not accept the graph"
        self.wait("window.ended")
        return self.js("() => app.lastExecutionError ?? null"), self.pictures(node)

    def screenshot(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.drawn()
        self.page.screenshot(path=path)
        return path

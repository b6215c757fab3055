"""Layout of a workflow in ComfyUI's page: nodes and groups in columns, links, and a note."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from comfy_page import ComfyPage

_GAP = 20  # between columns, and around nodes in a group
_TITLE_BOX = 30  # height of a node's title, above its box
_TITLE = _TITLE_BOX + 4
_GROUP_TITLE = 44
_LOWEST = 1000  # of a note below the first column: what is lower makes the page show everything smaller
WINDOW = (1920, 1000)
COLOURS = {"model": "#3f789e", "prompt": "#88AA88", "steer": "#b58b2a", "image": "#7b5ea7", "look": "#88AAAA"}


@dataclass(frozen=True)
class Node:
    """A node; links refer to it by `key`. `height` is its minimum height, if the page's own is too small, and `labels`
    are those of inputs by their names.
    """

    key: str
    type: str
    values: dict[str, Any] = field(default_factory=dict)
    title: str | None = None
    height: int = 0
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A titled group of nodes, one below the other."""

    title: str
    colour: str
    nodes: Sequence[Node]


@dataclass(frozen=True)
class Column:
    """A column of groups with the same width."""

    width: int
    groups: Sequence[Group]


@dataclass(frozen=True)
class App:
    """What ComfyUI's app mode shows of a workflow: inputs as "node.widget", and nodes with images."""

    inputs: Sequence[str]
    outputs: Sequence[str]

    def linear_data(self, ids: Mapping[str, int]) -> dict[str, Any]:
        """As ComfyUI's page saves it, in the workflow's `extra`."""
        inputs = [(str(ids[node]), widget) for node, widget in (one.split(".", 1) for one in self.inputs)]
        return {"inputs": inputs, "outputs": [str(ids[node]) for node in self.outputs]}


@dataclass(frozen=True)
class Workflow:
    """`links` go from "node.output number" to "node.input name"; `note` is placed below the first column, or below the
    shortest one if it would be too low there. With an `app` it opens as a page of these inputs ("node.widget") and of
    the images of these nodes.
    """

    name: str
    note: str
    columns: Sequence[Column]
    links: Sequence[tuple[str, str]]
    note_height: int = 240
    app: App | None = None


def draw(page: ComfyPage, workflow: Workflow, heights: Mapping[str, float] | None = None) -> dict[str, int]:
    """Create the workflow in an empty graph; returns the ids of the nodes by their keys.

    `heights` are minimum heights of nodes with their titles, by key, measured in pages in which nodes may be higher.
    """
    ids: dict[str, int] = {}
    lefts = []
    left = 0
    for column in workflow.columns:
        lefts.append(left)
        for group in column.groups:
            for node in group.nodes:
                ids[node.key] = _add(page, node)
        left += column.width + 3 * _GAP
    for source, target in workflow.links:
        (one, output), (other, name) = source.split("."), target.split(".", 1)
        page.connect(ids[one], int(output), ids[other], name)
    bottoms = [_stack(page, column, x, ids, heights or {}) for column, x in zip(workflow.columns, lefts, strict=True)]
    under = 0 if bottoms[0] + workflow.note_height < _LOWEST else bottoms.index(min(bottoms))
    note = page.add("MarkdownNote", (lefts[under], bottoms[under] + _GAP + _TITLE))
    page.set(note, page.widgets(note)[0]["name"], workflow.note)
    page.js(
        """(id, size) => {
            const node = app.graph.getNodeById(id)
            node.setSize(size)
            node.title = 'What to do'
        }""",
        note,
        (workflow.columns[under].width + 2 * _GAP, workflow.note_height),
    )
    return ids


def _add(page: ComfyPage, node: Node) -> int:
    id_ = page.add(node.type, (0, 0), **node.values)
    page.js("(id, title) => { if (title) app.graph.getNodeById(id).title = title }", id_, node.title)
    page.js(
        """(id, labels) => {
            const { widgets, inputs } = app.graph.getNodeById(id)
            for (const [name, label] of Object.entries(labels)) {
                widgets.find((one) => one.name === name).label = label
                inputs.find(({ widget }) => widget?.name === name).label = label
            }
        }""",
        id_,
        node.labels,
    )
    return id_


def node_heights(page: ComfyPage, workflow: Workflow) -> dict[str, float]:
    """The height of each node in this page, with its title, by its key."""
    page.clear()
    ids = draw(page, workflow)
    page.fit()
    boxes = page.boxes()
    return {key: boxes[node][3] for key, node in ids.items()}


def _stack(page: ComfyPage, column: Column, left: int, ids: dict[str, int], heights: Mapping[str, float]) -> int:
    """Place the nodes of a column below each other, with their groups; returns the bottom of the column."""
    top = 0
    for group in column.groups:
        y = top + _GROUP_TITLE + _TITLE
        for node in group.nodes:
            height = page.js(
                """(id, pos, width, least) => {
                    const node = app.graph.getNodeById(id)
                    node.pos = pos
                    node.setSize([width, Math.max(least, node.computeSize()[1])])
                    return node.size[1]
                }""",
                ids[node.key],
                (left + _GAP, y),
                column.width,
                node.height,
            )
            y += max(int(height) + _TITLE, round(heights.get(node.key, 0)) + _TITLE - _TITLE_BOX) + _GAP
        page.js(
            """(title, color, [x, y, width, height]) => {
                const group = new LiteGraph.LGraphGroup(title)
                Object.assign(group, { color, pos: [x, y], size: [width, height] })
                app.graph.add(group)
            }""",
            group.title,
            COLOURS[group.colour],
            (left, top, column.width + 2 * _GAP, y - top - _TITLE),
        )
        top = y - _TITLE + _GAP
    return top - _GAP
